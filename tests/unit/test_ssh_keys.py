"""SSH key pairs as resources: made once, readable by OpenSSH, and never in plain state."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pulumi
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key

from etcd_cluster import ConfigurationError
from etcd_cluster.ssh.key_lifecycle import SshKeyPairLifecycle
from etcd_cluster.ssh.keys import SshKeyPair, public_half
from tests.unit.recording import record


@pytest.fixture(scope="module")
def pair() -> dict[str, str]:
    created = SshKeyPairLifecycle().create({})
    assert created.outs is not None
    return created.outs


def test_the_private_key_is_ed25519_in_openssh_format(pair: dict[str, str]) -> None:
    key = load_ssh_private_key(pair["private_key"].encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    assert pair["private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert pair["private_key"].endswith("\n"), "OpenSSH refuses a key without its last line end"


def test_openssh_finds_the_same_public_half(pair: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.touch(mode=0o600)
    file.write_text(pair["private_key"])
    done = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == pair["public_key"] == public_half(pair["private_key"])
    assert pair["public_key"].startswith("ssh-ed25519 ")


def test_every_pair_is_another(pair: dict[str, str]) -> None:
    other = SshKeyPairLifecycle().create({})
    assert other.outs is not None
    assert other.outs["private_key"] != pair["private_key"]
    assert other.id not in pair["private_key"]


def test_nothing_ever_changes_a_pair(pair: dict[str, str]) -> None:
    difference = SshKeyPairLifecycle().diff("id", pair, {})
    assert difference.changes is False
    assert not difference.replaces
    assert SshKeyPairLifecycle().read("id", pair).outs == pair


def test_the_private_key_is_a_secret_output() -> None:
    resource = record(lambda: SshKeyPair("pair")).resources["pair"]
    assert resource.type == "pulumi-python:dynamic/ssh:SshKeyPair"
    assert list(resource.request.additionalSecretOutputs) == ["private_key"]


def test_options_of_the_caller_are_kept() -> None:
    resource = record(lambda: SshKeyPair("pair", pulumi.ResourceOptions(protect=True))).resources["pair"]
    assert resource.request.protect
    assert list(resource.request.additionalSecretOutputs) == ["private_key"]


def test_an_encrypted_or_mangled_key_is_refused_without_showing_it(pair: dict[str, str]) -> None:
    for key in ("hunter2", pair["private_key"].replace("A", "B"), _in_pem(pair["private_key"])[:-80]):
        with pytest.raises(ConfigurationError) as refused:
            public_half(key)
        assert key[40:60] not in str(refused.value) or len(key) < 40


def test_a_key_in_pem_has_a_public_half_too(pair: dict[str, str]) -> None:
    assert public_half(_in_pem(pair["private_key"])) == pair["public_key"]


def _in_pem(private_key: str) -> str:
    key = load_ssh_private_key(private_key.encode(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
