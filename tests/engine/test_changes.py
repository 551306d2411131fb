"""Changes of a running cluster by the real Pulumi CLI: what the lab's tests promise, and what a reviewer reads before.

The whole table of changes runs in tests/lab, by the embedded engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.changes import change, changing, configure
from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.hosts import Lab
from tests.lab.operator import Operator
from tests.lab.stack import Engine, Stack, host_config

MIRROR_VERSIONS = ["3.5.35", "3.6.16"]


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members with TLS, on 3.5."""
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, version="3.5.35", allowUndersized=True)
    stack = Stack(lab, tmp_path_factory.mktemp("changes"), config, Engine.PULUMI)
    formed = Cluster(lab, hosts, stack, Engine.PULUMI)
    formed.up()
    yield formed
    for host in hosts:
        host.remove()


def test_a_setting(cluster: Cluster) -> None:
    configure(cluster, etcd={"max-txn-ops": 300})
    preview = cluster.stack.preview(diff=True).output
    assert (
        '"host-1, host-2, host-3: restarted for max-txn-ops, one at a time, followers first, the leader last"'
        in preview
    )
    change(cluster, etcd={"max-txn-ops": 300})


def test_a_change_by_hand_is_found_by_up_and_not_by_a_preview(cluster: Cluster) -> None:
    cluster.hosts[1].run("echo '# by hand' >> /etc/etcd/etcd.yaml")
    assert changes_nothing(cluster.stack.preview())
    with changing(cluster, restarts=["host-2"]):
        cluster.up()


def test_an_upgrade_that_is_killed_half_way(cluster: Cluster, tmp_path: Path) -> None:
    configure(cluster, version="3.6.16")
    preview = cluster.stack.preview(diff=True).output
    assert '"a snapshot is taken and checked before the first member moves"' in preview
    assert "3.5.35 -> 3.6.16, one at a time, followers first, the leader last" in preview
    with changing(cluster):
        operator = Operator(cluster.stack)
        operator.wait_for("restarting with etcd 3.6.16")
        operator.kill()
        cluster.stack.unlock()
        cluster.up()
        # What the kill left pending is a warning until the update has gone through.
        cluster.up()
    assert cluster.versions() == {'"3.6.16"'}


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        ({"version": "3.5.35"}, "going back to 3.5 is not supported"),
        ({"tls": False}, "this cluster uses TLS"),
    ],
    ids=["an older minor", "no TLS"],
)
def test_what_is_refused_is_refused_by_the_preview(cluster: Cluster, config: dict[str, object], refusal: str) -> None:
    before = dict(cluster.stack.config)
    configure(cluster, **config)
    run = cluster.stack.preview(check=False)
    cluster.stack.config = before
    assert run.returncode != 0
    assert refusal in run.output


def test_fewer_members(cluster: Cluster) -> None:
    only = {"host-2": cluster.stack.config["hosts"]["host-2"]}
    configure(cluster, hosts=only)
    leaving = [host for host in cluster.hosts if host.name != "host-2"]
    cluster.hosts[:] = [host for host in cluster.hosts if host.name == "host-2"]
    with changing(cluster, restarts=()):
        cluster.up()
    for host in leaving:
        host.run("! systemctl is-active etcd-cluster && [ -d /data/etcd/data/member ]")
