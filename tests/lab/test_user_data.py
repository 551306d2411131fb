"""User data of the caller's beside the cluster's own, run by the real cloud-init: neither disturbs the other."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from etcd_cluster.machines import user_data
from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from tests.lab.hosts import Host, Lab

SCRIPT = "#!/bin/sh\n# é\nid -u >/root/ran-as\n"
CONFIG = """\
#cloud-config
write_files:
  - path: /etc/theirs
    content: é
runcmd:
  - touch /root/ran
users_groups_note: unknown keys are only warned of
"""
HOSTILE = """\
#cloud-config
users: [{name: theirs}]
disable_root: false
ssh_pwauth: true
ssh_deletekeys: false
ssh_keys: {ed25519_private: broken, ed25519_public: broken}
write_files: []
"""
"""Keys that are refused: what cloud-init makes of them, were they not."""


class Keys:
    """A host key pair and a login key."""

    def __init__(self) -> None:
        pair = Ed25519PrivateKey.generate()
        self.private = pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        self.public = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def boot(lab: Lab, name: str, additional: str) -> tuple[Host, Keys]:
    keys = Keys()
    own = cloud_config(authorized_key=keys.public, host_private_key=keys.private, host_public_key=keys.public)
    host = lab.host(name, disk_gib=None, user_data=user_data.joined(own, additional))
    host.run("cloud-init status --wait", check=False, timeout=300)
    return host, keys


def has_the_cluster_s_own(host: Host, keys: Keys) -> None:
    assert host.run(f"sudo -u {OPERATOR} sudo -n id -u").stdout == "0\n"
    assert host.read(f"/home/{OPERATOR}/.ssh/authorized_keys").strip() == keys.public
    assert host.run("ls /etc/ssh/ssh_host_*_key").stdout == "/etc/ssh/ssh_host_ed25519_key\n"
    assert host.run("ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key").stdout.strip() == keys.public
    assert "set_host_keys = false" in host.read("/etc/default/instance_configs.cfg")
    assert "passwordauthentication no" in host.run("sshd -T").stdout


def test_a_script_runs_after_the_cluster_s_own(lab: Lab) -> None:
    host, keys = boot(lab, "scripted", SCRIPT)
    has_the_cluster_s_own(host, keys)
    assert host.read("/root/ran-as") == "0\n"
    assert json.loads(host.read("/run/cloud-init/result.json"))["v1"]["errors"] == []
    host.remove()


def test_a_cloud_config_is_joined_with_the_cluster_s_own(lab: Lab) -> None:
    host, keys = boot(lab, "configured", CONFIG)
    has_the_cluster_s_own(host, keys)
    assert host.read("/etc/theirs") == "é"
    assert host.run("ls /root/ran").stdout == "/root/ran\n"
    host.remove()


def test_a_script_that_fails_is_told(lab: Lab) -> None:
    """By the status that `check` waits for and reads."""
    host, keys = boot(lab, "failing", "#!/bin/sh\nexit 3\n")
    has_the_cluster_s_own(host, keys)
    assert host.run("cloud-init status --wait", check=False).returncode == 1
    host.remove()


def test_even_keys_that_are_refused_would_not_replace_the_cluster_s_own(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_data, "require_user_data", lambda *_: None)
    host, keys = boot(lab, "hostile", HOSTILE)
    has_the_cluster_s_own(host, keys)
    host.remove()
