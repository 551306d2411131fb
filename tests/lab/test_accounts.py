"""Hosts as somebody left them, with accounts, owners and a clock unlike a new machine's, and nothing to do by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.changes import assert_converged
from tests.lab.clusters import Cluster
from tests.lab.hosts import Lab
from tests.lab.stack import Stack, host_config

LEFT = {
    "host-1": "groupadd --system --gid 990 etcd",
    "host-2": "useradd --system --no-create-home --gid adm etcd",
    # The host of this container keeps the clock.
    "host-3": "systemctl mask --quiet --now chrony.service && umask 077 && mkdir -p /data/lost",
}


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3)
    for host in hosts:
        host.run(f"{LEFT[host.name]}; chmod 755 /data 2> /dev/null || true")
    config = host_config(hosts, mirror_url, allowUndersized=True)
    return Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("accounts"), config))


def test_a_cluster_is_formed_with_groups_users_and_clocks_as_they_are(cluster: Cluster) -> None:
    cluster.up()
    assert cluster.healthy()
    assert cluster.hosts[0].run("id -gn etcd").stdout == "etcd\n"
    assert cluster.hosts[1].run("id -gn etcd").stdout == "adm\n", "the user stays as it is"
    assert_converged(cluster)


def test_data_of_the_number_that_etcd_had_before_are_etcds_again(cluster: Cluster) -> None:
    """As after another image with a kept disk, and after a restore by root."""
    cluster.etcdctl("put", "before", "1")
    host = cluster.hosts[1]
    host.run("systemctl stop etcd-cluster && userdel etcd && useradd --system --uid 912 --gid etcd etcd")
    cluster.hosts[2].run("systemctl stop etcd-cluster && chown -R root: /data/etcd/data")
    cluster.up()
    assert cluster.healthy()
    for each in cluster.hosts:
        assert each.run("find /data/etcd/data ! -user etcd").stdout == "", each.name
    assert host.run("stat -c %u /data/etcd/data/member/snap/db").stdout == "912\n"
    assert_converged(cluster)


def test_what_the_package_manager_says_is_passed_on(lab: Lab, mirror_url: str, tmp_path: Path) -> None:
    """The host has no way out, so nothing can be installed there."""
    (host,) = lab.hosts(1)
    stack = Stack(lab, tmp_path, host_config([host], mirror_url, allowUndersized=True))
    host.run("dpkg --purge --force-depends curl")
    run = stack.up(check=False)
    assert re.search(rf"error: {host.name}: cannot install curl: apt-get says: \S.*; install them by hand", run.output)
