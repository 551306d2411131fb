"""A stack and a component that get other names: the cluster goes on, and no member restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.changes import changing
from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.hosts import Lab
from tests.lab.stack import Engine, Stack, host_config

MIRROR_VERSIONS = ["3.6.16"]
PROGRAM = Path(__file__).with_name("renamed_program.py")


@pytest.fixture
def cluster(lab: Lab, mirror_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """Three members with TLS."""
    hosts = lab.hosts(3)
    stack = Stack(lab, tmp_path, host_config(hosts, mirror_url, allowUndersized=True), Engine.PULUMI, PROGRAM)
    formed = Cluster(lab, hosts, stack, Engine.PULUMI)
    formed.up()
    yield formed
    for host in hosts:
        host.remove()


def test_a_stack_and_its_component_are_renamed(cluster: Cluster) -> None:
    with changing(cluster, restarts=()):
        cluster.stack.rename("production")
        cluster.up()
        assert changes_nothing(cluster.stack.preview())
    markers = cluster.each_host("cat /data/etcd/etcd-cluster.json").values()
    assert all('"cluster": "etcd-cluster/production/etcd"' in marker for marker in markers)

    with changing(cluster, restarts=()):
        cluster.stack.environment |= {"COMPONENT": "database", "COMPONENT_BEFORE": "etcd"}
        cluster.up()
        assert changes_nothing(cluster.stack.preview())
    del cluster.stack.environment["COMPONENT_BEFORE"]
    assert changes_nothing(cluster.stack.preview())

    cluster.stack.destroy()
    assert set(cluster.each_host("pgrep -x etcd; ls /etc/etcd; true").values()) == {""}
