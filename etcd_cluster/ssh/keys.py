"""Defines ed25519 SSH key pairs as Pulumi resources: to log in with, and as host keys known before a machine boots."""

from __future__ import annotations

import pulumi
from pulumi.dynamic import Resource

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.providers import SshKeyPairProvider


class SshKeyPair(Resource, module="ssh", name="SshKeyPair"):
    """An ed25519 key pair.

    Attributes:
        public_key: One line, as in authorized_keys.
        private_key: OpenSSH's own format, unencrypted; secret.
    """

    public_key: pulumi.Output[str]
    private_key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        properties = {"public_key": None, "private_key": None}
        super().__init__(SshKeyPairProvider(), name, properties, pulumi.ResourceOptions.merge(opts, secret))


def public_half(private_key: str) -> str:
    """Returns the authorized_keys line of an unencrypted private key, which is in OpenSSH's format or PEM.

    In a preview the key's text may be missing; then the line is "".

    Raises:
        ConfigurationError: It is no such key. The text shows nothing of it.
    """
    if not private_key and pulumi.runtime.is_dry_run():
        return ""
    # Lazily: cryptography takes longer to import than everything else that a preview needs.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
        load_ssh_private_key,
    )

    text = private_key.strip().encode() + b"\n"
    load = load_ssh_private_key if b"OPENSSH" in text.partition(b"\n")[0] else load_pem_private_key
    try:
        public_key = load(text, password=None).public_key()
        return public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            "ssh.privateKey", "(not shown)", "not an unencrypted SSH private key", "give the text of one"
        ) from None
