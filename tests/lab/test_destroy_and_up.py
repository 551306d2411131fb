"""Destroyed, and up again: with all data, with some of them lost, from a snapshot; and resources that are replaced.

One cluster goes through all of it. No acknowledged write is lost, and there is never a second cluster.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.changes import assert_converged, changing, configure, steps
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.observed import on_all
from tests.lab.stack import PROJECT, Stack, host_config
from tests.lab.writes import Access, writing

VERSION = "3.6.16"
# For a while after its start, a member does nothing.
SLOW_START = "until pgrep -x etcd; do sleep 0.02; done; pkill -STOP -x etcd; sleep 15; pkill -CONT -x etcd"


MEMBERS_ENDS_SECONDS = 300


@contextlib.contextmanager
def refused(*hosts: Host) -> Iterator[None]:
    """The log-in to these hosts is refused, as without the agent that holds the key."""
    for host in hosts:
        host.run("mv ~admin/.ssh/authorized_keys ~admin/.ssh/kept")
    yield
    for host in hosts:
        host.run("mv ~admin/.ssh/kept ~admin/.ssh/authorized_keys")


def runs(host: Host) -> bool:
    return host.run("pgrep -x etcd", check=False).returncode == 0


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    program = PROJECT / "tests" / "lab" / "replaced_program.py"
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("destroy"), config, program=program))
    cluster.stack.environment |= {"REPLACES": "", "REPLACED": "0"}
    cluster.up()
    return cluster


@pytest.mark.parametrize(
    "replaced",
    [
        pytest.param("cluster:Rollout", marks=pytest.mark.exhaustive),
        pytest.param("cluster:HostRecord", marks=pytest.mark.exhaustive),
        "cluster:Rollout cluster:HostRecord",
    ],
)
def test_a_resource_that_is_replaced_stops_nothing_and_deletes_nothing(cluster: Cluster, replaced: str) -> None:
    configure(cluster, deleteData=True)
    cluster.stack.environment |= {"REPLACES": replaced}
    cluster.up()
    cluster.stack.environment |= {"REPLACED": replaced}
    with changing(cluster, restarts=()):
        run = cluster.up()
    assert "replac" in run.output
    cluster.stack.environment |= {"REPLACES": ""}
    configure(cluster, deleteData=None)
    cluster.up()


@pytest.mark.parametrize("forgotten", [pytest.param("", marks=pytest.mark.exhaustive), "host-1,host-2,host-3"])
def test_a_destroy_that_may_not_log_in_stops_nothing_and_keeps_the_stack(cluster: Cluster, forgotten: str) -> None:
    ids = cluster.cluster_ids()
    ca = cluster.stack.outputs()["caCertificate"]
    cluster.stack.environment |= {"ETCD_CLUSTER_FORGET": forgotten}
    with changing(cluster, restarts=()):
        with refused(*cluster.hosts):
            run = cluster.stack.destroy(check=False)
        cluster.stack.environment |= {"ETCD_CLUSTER_FORGET": ""}
        assert run.returncode != 0
        for host in cluster.hosts:
            assert re.search(rf"{host.name}: its etcd was not stopped: \S+ refused the key", run.output)
        cluster.up()
    assert cluster.cluster_ids() == ids
    assert cluster.stack.outputs()["caCertificate"] == ca
    assert_converged(cluster)


def test_a_destroy_passes_over_a_dead_host_once_it_is_named(cluster: Cluster) -> None:
    ids = cluster.cluster_ids()
    cluster.etcdctl("put", "before", "destroy")
    dead, *others = cluster.hosts
    dead.kill()
    run = cluster.stack.destroy(check=False)
    assert run.returncode != 0
    assert run.seconds < MEMBERS_ENDS_SECONDS, run.output
    assert f"if it is gone for good, set ETCD_CLUSTER_FORGET={dead.name}" in run.output
    for host in others:
        assert f"{host.name}: stopped; the data stays in /data/etcd" in run.output
        assert host.run("pgrep -x etcd; ls -d /data/etcd/data/member", check=False).stdout == "/data/etcd/data/member\n"

    cluster.stack.environment |= {"ETCD_CLUSTER_FORGET": dead.name}
    run = cluster.stack.destroy()
    cluster.stack.environment |= {"ETCD_CLUSTER_FORGET": ""}
    assert re.search(rf"warning: {dead.name}: its etcd was not stopped.*disable --now etcd-cluster", run.output)

    dead.start()
    again = cluster.stack.up(check=False)
    assert again.returncode != 0
    assert re.search(rf"{dead.name}: a member of this cluster runs there already", again.output)
    dead.run("systemctl disable --quiet --now etcd-cluster")
    assert not runs(dead)

    cluster.up()
    assert cluster.cluster_ids() == ids
    assert cluster.etcdctl("get", "--print-value-only", "before") == "destroy\n"
    assert_converged(cluster)


def test_with_two_of_three_data_folders_lost_up_refuses_and_with_them_back_all_is_there(cluster: Cluster) -> None:
    ids, lost = cluster.cluster_ids(), cluster.hosts[1:]
    with writing(cluster.lab, Access.of(cluster.outputs), give_up_seconds=300) as writes:
        cluster.stack.destroy()
        on_all(lost, lambda host: host.run("mv /data/etcd/data /data/etcd/kept"))
        refused = cluster.stack.up(check=False)
        assert refused.returncode != 0
        assert "host-2, host-3" in refused.output
        assert "nothing was changed on any machine" in refused.output
        assert not any(on_all(cluster.hosts, runs))
        on_all(lost, lambda host: host.run("rm -rf /data/etcd/data; mv /data/etcd/kept /data/etcd/data"))
        cluster.up()
        writes.use(Access.of(cluster.outputs))
    writes.assert_nothing_lost(expect_downtime=True)
    assert cluster.cluster_ids() == ids
    assert_converged(cluster)


def test_with_one_of_three_lost_and_another_slow_to_start_nothing_is_lost(cluster: Cluster) -> None:
    ids, (_, lost, slow) = cluster.cluster_ids(), cluster.hosts
    with writing(cluster.lab, Access.of(cluster.outputs), give_up_seconds=300) as writes:
        cluster.stack.destroy()
        lost.run("rm -r /data/etcd/data")
        slow.run(f"systemd-run --quiet --collect sh -c '{SLOW_START}'")
        cluster.up()
        writes.use(Access.of(cluster.outputs))
    writes.assert_nothing_lost(expect_downtime=True)
    assert cluster.cluster_ids() == ids
    assert_converged(cluster)


def test_a_restored_snapshot_after_destroy_becomes_one_cluster(cluster: Cluster, tmp_path: Path) -> None:
    cluster.etcdctl("put", "greeting", "hello")
    etcdctl = cluster.etcdctl_command(cluster.outputs["endpoints"][:1])  # a snapshot is one member's
    cluster.lab.run([*etcdctl, "snapshot", "save", tmp_path / "backup.db"])
    cluster.stack.destroy()
    # As docs/destroy.md says, "Start empty".
    emptied = "cd /data/etcd; mv data data.lost; rm -f history /var/lib/etcd-cluster/formed"
    on_all(cluster.hosts, lambda host: host.run(emptied))
    configure(cluster, restoreFrom=str(tmp_path / "backup.db"))
    run = cluster.up()
    assert sum(f"joining as a learner with etcd {VERSION}" in line for line in steps(run)) == len(cluster.hosts) - 1
    assert len(cluster.cluster_ids()) == 1
    assert cluster.etcdctl("get", "greeting", "--print-value-only") == "hello\n"
    assert_converged(cluster)
