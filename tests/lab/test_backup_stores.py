"""The same road into other stores than S3: made, listed, read back, proven, thinned, and restored, also encrypted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.changes import configure
from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.hosts import Host, Lab
from tests.lab.object_store import GoogleStore
from tests.lab.stack import STACK, Stack, host_config

PASSWORD = "lab-encryption-password-9c41"
FOLDER = "/srv/backups"


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """One member: what is tried here is the store."""
    hosts = lab.hosts(1, disk_gib=2)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("stores"), config))
    cluster.up()
    return cluster


@pytest.fixture(scope="module")
def google(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> GoogleStore:
    store = GoogleStore(lab, tmp_path_factory.mktemp("google") / "objects")
    store.start()
    return store


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Host]:
    """A machine whose SSH server is the store."""
    host = lab.host("store-1", disk_gib=None)
    host.run(f"mkdir -p {FOLDER}")
    yield host
    host.remove()


def command(cluster: Cluster, *words: str) -> Any:
    """Runs `etcd-cluster backup`, and returns its JSON."""
    done = cluster.lab.run(
        [sys.executable, "-m", "etcd_cluster.cli", "--stack", STACK, "backup", *words, "--output", "json"],
        cwd=cluster.stack.folder,
        env=cluster.stack.environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def whole_road(cluster: Cluster, backup: dict[str, Any]) -> list[str]:
    """From `backup.to` to the restored key; returns the names of the backups that were made."""
    thin = {"last": 1, "daily": 0, "weekly": 0}
    configure(cluster, backup={**backup, "every": "24h", "keep": thin, "test": "never"})
    cluster.up()
    assert changes_nothing(cluster.up())
    first = command(cluster, "now")
    assert (first["made"], first["tested"]) == (True, False)
    cluster.etcdctl("put", "key", backup["to"])
    second = command(cluster, "now", "--test")
    assert (second["made"], second["tested"]) == (True, True)
    (listed,) = command(cluster, "list")["clusters"]
    (kept,) = listed["backups"]
    assert (kept["name"], kept["test"], kept["problem"]) == (second["backup"], "passed", None)
    assert command(cluster, "verify", "latest")["whole"] is True
    ids = cluster.cluster_ids()
    configure(cluster, deleteData=True)
    cluster.up()
    cluster.stack.destroy()
    configure(cluster, deleteData=None, restoreFrom="latest")
    assert f"restored {second['backup']}" in cluster.up().output
    assert cluster.etcdctl("get", "key", "--print-value-only").strip() == backup["to"]
    assert cluster.cluster_ids() != ids
    configure(cluster, restoreFrom=None)
    return [first["backup"], second["backup"]]


@pytest.mark.exhaustive
def test_google_cloud_storage_with_the_key_of_a_service_account(cluster: Cluster, google: GoogleStore) -> None:
    to = {"to": f"gs://{google.bucket}/etcd", "endpoint": google.url, "secretKey": google.key}
    _, newest = whole_road(cluster, to)
    (data,) = google.folder.rglob(f"{newest}.db")
    assert len(data.read_bytes()) % 512 == 32, "the object is etcd's own snapshot"


def test_an_sftp_server_which_sees_names_and_no_content_of_encrypted_backups(cluster: Cluster, server: Host) -> None:
    to = {
        "to": f"sftp://root@{server.address}{FOLDER}",
        "privateKey": server.private_key_file.read_text(),
        "hostKey": server.host_key,
        "encryptionPassword": PASSWORD,
    }
    _, newest = whole_road(cluster, to)
    found = server.run(f"cd {FOLDER} && find . -type f").stdout.split()
    assert f"{newest}.db" in {Path(name).name for name in found}
    for name in found:
        assert server.run(f"head -c 6 {FOLDER}/{name}").stdout == "RCLONE"
    member = cluster.hosts[0]
    places = "/etc /opt /var/lib /run /var/log /tmp /proc/*/cmdline /proc/*/environ"
    assert member.run(f"grep -rlF -f - {places}", check=False, stdin=PASSWORD).stdout == ""
    assert not [path for path in cluster.state_files() if PASSWORD.encode() in path.read_bytes()]
