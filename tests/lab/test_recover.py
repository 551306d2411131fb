"""The ways out of a lost quorum that docs/recover.md shows, by the very commands that stand there."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.lab.changes import assert_converged, steps
from tests.lab.clusters import Cluster
from tests.lab.faults import followers, leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import PROJECT, Stack, host_config

PAGE = (PROJECT / "docs" / "recover.md").read_text()
VERSION = "3.6.16"
KEYS = 20


def commands(holding: str) -> str:
    """The one block of shell commands on the page that holds this text."""
    (block,) = (block for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if holding in block)
    return block


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members with some keys. Tests lose most of them, and get them back."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("recover"), config))
    cluster.up()
    for number in range(KEYS):
        cluster.etcdctl("put", f"key-{number}", "value")
    return cluster


def assert_recovered(cluster: Cluster, alone: Host, joined: Sequence[Host], said: Sequence[str]) -> None:
    for host in joined:
        assert f"{host.name}: joining as a learner with etcd {VERSION}" in said
        assert f"{alone.name}: promoting {host.name}, once it has all data" in said
    assert len(cluster.cluster_ids()) == 1
    assert cluster.etcdctl("get", "--prefix", "key-", "--keys-only").split() == sorted(f"key-{n}" for n in range(KEYS))
    assert_converged(cluster)


def test_without_most_members_up_refuses_and_names_the_page(cluster: Cluster) -> None:
    lost = [leader(cluster), followers(cluster)[0]]
    for host in lost:
        host.run(commands("data.lost"))
    run = cluster.stack.up(check=False)
    names = ", ".join(sorted(host.name for host in lost))
    assert run.returncode != 0
    assert f"quorum is lost: the data of {names} are gone (2 of 3 members)" in run.output
    assert "docs/recover.md" in run.output
    assert all(not host.run("pgrep -x etcd", check=False).stdout for host in lost), "none of them may start anew"


def test_a_member_that_is_left_goes_on_alone_and_the_others_join_it(cluster: Cluster) -> None:
    """Goes on where the test before ended."""
    (alone,) = (host for host in cluster.hosts if host.run("pgrep -x etcd", check=False).stdout)
    ids = alone.run("grep -v series /data/etcd/history").stdout
    alone.run(commands("force-new-cluster"))
    run = cluster.up()
    assert_recovered(cluster, alone, [host for host in cluster.hosts if host is not alone], steps(run))
    assert alone.run("grep -v series /data/etcd/history").stdout != ids, "the members are others"


def test_a_snapshot_becomes_a_cluster_again(cluster: Cluster) -> None:
    alone = cluster.hosts[0]
    alone.run(". /etc/profile.d/etcd.sh; etcdctl snapshot save /root/backup.db")
    for host in cluster.hosts:
        host.run(f"rm -rf /data/etcd/data.lost; {commands('data.lost')}")
    restore = commands("etcdutl snapshot restore")
    assert f"/opt/etcd/versions/{VERSION}" in restore
    alone.run(restore.replace("host-1", alone.name).replace("10.77.0.11", alone.address))
    run = cluster.up()
    assert f"{alone.name}: starting with etcd {VERSION}" in steps(run)
    assert_recovered(cluster, alone, cluster.hosts[1:], steps(run))
