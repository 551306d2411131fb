"""ed25519 SSH key pairs as Pulumi resources: to log in with, and as host keys that are known before a machine boots."""

from __future__ import annotations

import pulumi
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from pulumi.dynamic import CreateResult, ReadResult, Resource

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.providers import SshKeyPairProvider


class SshKeyPairLifecycle(Lifecycle):
    """Makes a key pair once. Nothing ever changes it; `pulumi up --replace` makes another."""

    def create(self, props: Properties) -> CreateResult:
        key = Ed25519PrivateKey.generate()
        public_key = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        private_key = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return CreateResult(public_key.split()[1][-16:], {"public_key": public_key, "private_key": private_key})

    def read(self, id_: str, props: Properties) -> ReadResult:
        return ReadResult(id_, props, {})


class SshKeyPair(Resource, module="ssh", name="SshKeyPair"):
    """An ed25519 key pair.

    public_key: one line, as in authorized_keys. private_key: OpenSSH's own format, unencrypted; secret.
    """

    public_key: pulumi.Output[str]
    private_key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        properties = {"public_key": None, "private_key": None}
        super().__init__(SshKeyPairProvider(), name, properties, pulumi.ResourceOptions.merge(opts, secret))


def public_half(private_key: str) -> str:
    """The line for authorized_keys that belongs to an unencrypted private key, in OpenSSH's format or PEM.

    Raises `ConfigurationError`, which shows nothing of the key. A preview may lack the key's text, and gets none here.
    """
    if not private_key and pulumi.runtime.is_dry_run():
        return ""
    text = private_key.strip().encode() + b"\n"
    load = load_ssh_private_key if b"OPENSSH" in text.partition(b"\n")[0] else load_pem_private_key
    try:
        public_key = load(text, password=None).public_key()
        return public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            "ssh.privateKey", "(not shown)", "not an unencrypted SSH private key", "give the text of one"
        ) from None
