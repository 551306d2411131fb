"""Makes an SSH key pair. The resource itself is in keys."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pulumi.dynamic import CreateResult, ReadResult

from etcd_cluster.lifecycle import Lifecycle, Properties


class SshKeyPairLifecycle(Lifecycle):
    """Makes a key pair once. Nothing ever changes it; `pulumi up --replace` makes another."""

    def create(self, props: Properties) -> CreateResult:
        """Makes the key pair."""
        key = Ed25519PrivateKey.generate()
        public_key = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        private_key = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return CreateResult(public_key.split()[1][-16:], {"public_key": public_key, "private_key": private_key})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns what is stored; there are no inputs."""
        return ReadResult(id_, props, {})
