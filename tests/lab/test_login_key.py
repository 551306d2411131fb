"""Another key to log in with, over real SSH: let in beside the one before, on machines that run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.hosts import Host, Lab, LabError

CHANGE = """
import json, sys
from etcd_cluster.ssh.login_key_lifecycle import LoginKeyLifecycle
given = json.load(sys.stdin)
LoginKeyLifecycle().update("login-key", given["olds"], given["news"])
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    return lab.host("login", disk_gib=None)


def new_key(folder: Path, name: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return folder / name


def properties(host: Host, key: Path, public: str) -> dict[str, object]:
    connection = {"host": host.address, "user": "admin", "hostKey": host.host_key, "privateKey": key.read_text()}
    return {"public_key": public, "connections": {"etcd-1": connection}, "replace_member": None}


def change(host: Host, before: Path, after: Path) -> None:
    public = Path(f"{after}.pub").read_text()
    given = json.dumps({"olds": properties(host, before, ""), "news": properties(host, after, public)})
    host.lab.run([sys.executable, "-c", CHANGE], input=given, timeout=300)


def opens(host: Host, key: Path) -> bool:
    """Whether a key, and no other, logs in."""
    options = ["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    known = ["-o", "UserKnownHostsFile=/dev/null", "-o", "ControlPath=none", "-i", key]
    return host.lab.run(["ssh", *options, *known, f"admin@{host.address}", "true"], check=False).returncode == 0


def test_another_key_is_let_in_once_beside_the_one_before(host: Host, tmp_path: Path) -> None:
    first, second = host.private_key_file, new_key(tmp_path, "second")
    assert not opens(host, second)
    for _ in range(2):
        change(host, first, second)
        assert opens(host, first)
        assert opens(host, second)
    public = Path(f"{second}.pub").read_text().strip()
    assert host.run("cat ~admin/.ssh/authorized_keys").stdout.count(public) == 1


def test_a_key_that_opens_nothing_lets_no_other_in(host: Host, tmp_path: Path) -> None:
    lost, new = new_key(tmp_path, "lost"), new_key(tmp_path, "new")
    with pytest.raises(LabError, match="the new login key was not let in"):
        change(host, lost, new)
    assert not opens(host, new)
