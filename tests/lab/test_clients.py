"""Clients that others wrote, with the exported files: they connect, work, and live through a roll and a CA rotation.

docs/clients.md has the table of what is tried here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.lab.changes import change
from tests.lab.clients import ApiServer, Client, CoreDns, Files, Patroni, PythonClient
from tests.lab.clusters import Cluster, eventually
from tests.lab.hosts import Lab
from tests.lab.stack import STACK, Stack, host_config

pytestmark = pytest.mark.exhaustive

CLIENTS: tuple[type[Client], ...] = (CoreDns, PythonClient, Patroni, ApiServer)


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("clients"), config))
    cluster.up()
    return cluster


def written(cluster: Cluster, folder: Path) -> Files:
    """The files as `etcd-cluster kubeadm` writes them, and the endpoints that it prints."""
    command = [sys.executable, "-m", "etcd_cluster.cli", "--stack", STACK, "kubeadm", "--write", str(folder)]
    stack = cluster.stack
    done = cluster.lab.run(command, cwd=stack.folder, env=stack.environment, stdin=subprocess.DEVNULL)
    external = yaml.safe_load(done.stdout)["etcd"]["external"]
    files = Files(external["endpoints"], folder)
    for key, path in (("caFile", files.ca), ("certFile", files.certificate), ("keyFile", files.key)):
        assert external[key] == f"/etc/kubernetes/pki/{path.relative_to(folder)}"
    return files


@pytest.fixture
def clients(lab: Lab, cluster: Cluster) -> Iterator[list[Client]]:
    """Those that this machine can run. What the others lack is printed.

    Not in pytest's own folder: PostgreSQL does not run as root, and each pytest that starts closes that to others.
    """
    with TemporaryDirectory(prefix="clients-of-etcd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = [kind(lab, folder / kind.__name__, cluster.etcdctl) for kind in CLIENTS if not kind.missing()]
        for kind in CLIENTS:
            if kind.missing():
                print(f"not tried: {kind.__name__}, which needs {kind.missing()}")
        yield found
        for client in found:
            client.stop()


def all_work(clients: list[Client], when: str) -> None:
    for client in clients:
        try:
            eventually(client.works, f"{type(client).__name__} works {when}", 300)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{client.log()}") from None


def test_clients_live_through_a_roll_and_a_rotation(cluster: Cluster, clients: list[Client], tmp_path: Path) -> None:
    assert clients
    files = written(cluster, tmp_path / "pki")
    for client in clients:
        client.start(files)
    all_work(clients, "from the start")
    change(cluster, etcd={"max-txn-ops": 300})
    all_work(clients, "after a roll")
    change(cluster, caRotation=1)
    all_work(clients, "in the overlap, with the pair of before")
    assert json.loads(cluster.etcdctl("endpoint", "health", "--write-out", "json"))
    files = written(cluster, tmp_path / "pki")
    for client in clients:
        client.start(files)
    all_work(clients, "in the overlap, with the new files")
    change(cluster, caOverlapHours=0)
    all_work(clients, "without the old CA")
    print("tried:", ", ".join(type(client).__name__ for client in clients))
