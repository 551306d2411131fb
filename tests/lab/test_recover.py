"""A lost quorum, and restores in the place of a cluster's data, where there is no store of backups."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.lab.changes import assert_converged, configure, steps
from tests.lab.clusters import Cluster
from tests.lab.faults import followers, leader
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Stack, host_config
from tests.lab.writes import Access, writing

MIRROR_VERSIONS = ["3.4.9", "3.6.16"]
KEYS = sorted(f"key-{number}" for number in range(20))
LOSE = "systemctl stop etcd-cluster; rm -rf /data/etcd/* /var/lib/etcd-cluster/formed"
"""The disk is new."""
STEP = re.compile(r"(?:^|\s)(host-\d+: [^\n]+)")


@pytest.fixture(scope="module", params=["3.6.16", pytest.param("3.4.9", marks=pytest.mark.exhaustive)])
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Any:
    """Three members with some keys. Tests lose most of them, and get them back."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, version=request.param, allowUndersized=True, allowUnsafeVersion=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("recover"), config))
    cluster.up()
    for key in KEYS:
        cluster.etcdctl("put", key, "value")
    yield cluster
    for host in hosts:
        host.remove()


def cluster_id(cluster: Cluster) -> str:
    """As `etcd-cluster status` shows it: hexadecimal."""
    (found,) = cluster.cluster_ids()
    return f"{int(found):x}"


def keys(cluster: Cluster) -> list[str]:
    return sorted(cluster.etcdctl("get", "--prefix", "key-", "--keys-only").split())


def archived(host: Host) -> int:
    return len(host.run("ls -d /data/etcd/data.removed-* 2>/dev/null || true").stdout.split())


def assert_recovered(cluster: Cluster, old: str, alone: Host, said: Collection[str]) -> None:
    for host in cluster.hosts:
        if host is not alone:
            assert f"{alone.name}: promoting {host.name}, once it has all data" in said
    assert cluster_id(cluster) != old
    assert keys(cluster) == KEYS
    assert_converged(cluster)


def test_a_quorum_that_is_there_is_not_recovered(cluster: Cluster) -> None:
    configure(cluster, recover={"cluster": cluster_id(cluster)})
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert "recover: the quorum is not known to be lost" in run.output
    configure(cluster, recover=None)
    assert_converged(cluster)


def test_after_two_of_three_disks_and_a_power_cut_the_cluster_goes_on_with_the_data_that_are_left(
    cluster: Cluster,
) -> None:
    old, lost = cluster_id(cluster), [leader(cluster), followers(cluster)[0]]
    (alone,) = (host for host in cluster.hosts if host not in lost)
    for host in lost:
        host.run(LOSE)
    # A member that starts without a quorum answers no client.
    alone.run("systemctl kill --signal KILL etcd-cluster")
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert "quorum is lost" in run.output
    assert "set `recover` as docs/recover.md describes" in run.output
    configure(cluster, recover={"cluster": "1f" + old[2:]})
    refused = cluster.stack.up(check=False)
    assert f"the cluster here has the id {old}" in refused.output
    configure(cluster, recover={"cluster": old})
    assert f"GIVEN UP: the data of cluster {old}" in cluster.stack.preview().output
    run = cluster.up()
    assert f"{alone.name}: testing a restore of the data of {alone.name}; nothing is stopped for that" in steps(run)
    assert archived(alone) == 1
    assert_recovered(cluster, old, alone, steps(run))


def test_an_old_member_that_comes_back_is_put_away_and_joins_anew(cluster: Cluster) -> None:
    """Goes on where the test before ended: with the key that was served, and with the data before on one host."""
    (back,) = (host for host in cluster.hosts if archived(host))
    now = cluster_id(cluster)
    back.run(
        "systemctl stop etcd-cluster; cd /data/etcd; mv data data.new; mv data.removed-* data; "
        "systemctl --no-block start etcd-cluster"
    )
    run = cluster.up()
    assert any("putting the data of cluster" in line for line in steps(run))
    assert cluster_id(cluster) == now
    assert keys(cluster) == KEYS
    assert_converged(cluster)
    configure(cluster, recover=None)
    cluster.up()
    assert_converged(cluster)


def snapshot(cluster: Cluster, folder: Path) -> Path:
    host = followers(cluster)[0]
    host.run(". /etc/profile.d/etcd.sh; export ETCDCTL_API=3; etcdctl snapshot save /root/backup.db")
    encoded = host.run("base64 -w 0 /root/backup.db").stdout
    path = folder / "backup.db"
    path.write_bytes(base64.b64decode(encoded))
    return path


def test_a_snapshot_file_takes_the_place_of_the_data_while_clients_write(cluster: Cluster, tmp_path: Path) -> None:
    """Goes on with the same key left in, which does nothing more; another run is killed at each step."""
    old, file = cluster_id(cluster), snapshot(cluster, tmp_path)
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        writes.await_more()
        cluster.etcdctl("put", "key-later", "value")
        configure(cluster, restoreInPlace={"from": str(file), "cluster": old})
        run = cluster.up()
        writes.await_more()
    assert keys(cluster) == KEYS, "what was written since the snapshot is given up"
    (alone,) = (line.partition(":")[0] for line in steps(run) if "testing a restore" in line)
    host = next(host for host in cluster.hosts if host.name == alone)
    assert host.run(f"ls /data/etcd/snapshots/before-restore-of-{old}.db").stdout, "what was there is kept besides"
    assert host.run("ls /data/etcd/incoming").stdout == ""
    assert all(archived(each) for each in cluster.hosts)
    assert_recovered(cluster, old, host, steps(run))
    file.unlink()
    assert_converged(cluster)


@pytest.mark.exhaustive
def test_a_restore_goes_on_after_each_step_that_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    old, file = cluster_id(cluster), snapshot(cluster, tmp_path)
    cluster.etcdctl("put", "key-later", "value")
    configure(cluster, restoreInPlace={"from": str(file), "cluster": old})
    done: set[str] = set()
    for _ in range(40):
        operator = Operator(cluster.stack)
        if (step := operator.first_new(STEP, done)) is not None:
            done.add(step)
            operator.kill()
        if operator.wait().returncode == 0:
            break
    cluster.up()
    assert len(done) > 5, done
    assert cluster_id(cluster) != old
    assert keys(cluster) == KEYS
    assert_converged(cluster)
