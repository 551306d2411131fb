"""A first `up` that did not end well: what is left of it can be destroyed, made anew, or goes on. Tests go on from one
another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.changes import assert_converged, configure
from tests.lab.clusters import Cluster, eventually
from tests.lab.hosts import Host, Lab
from tests.lab.observed import on_all
from tests.lab.operator import Operator
from tests.lab.stack import Stack, host_config

# What no longer is as it was on a machine that was installed anew, with a new disk.
REINSTALL = """
pkill -9 -f '^bash -s -- ' # what the run that was killed had begun
while pgrep 'mkfs|mount|systemctl' > /dev/null; do sleep 0.1; done # and what that had
systemctl stop etcd-cluster data-etcd.mount
while mountpoint --quiet /data/etcd; do umount /data/etcd; sleep 0.1; done
dd if=/dev/zero of=/dev/xvdf bs=1M count=64 conv=fsync status=none
rm -rf /etc/etcd /opt/etcd /var/lib/etcd-cluster /data /etc/systemd/system/*etcd* /etc/machine-id
rm -f /etc/systemd/system/multi-user.target.wants/*etcd*
systemctl daemon-reload
systemd-machine-id-setup
"""
MISSING_KEY = "jwt,sign-method=RS256,pub-key=/etc/etcd/none.pem,priv-key=/etc/etcd/none.pem"
LEFT = """
pgrep -x etcd
find /etc/etcd /etc/systemd/system{,/multi-user.target.wants}/etcd*.service 2> /dev/null
"""


def runs(host: Host) -> bool:
    return host.run("pgrep -x etcd", check=False).returncode == 0


def left(host: Host) -> str:
    """Processes, keys and configuration."""
    return host.run(LEFT, check=False).stdout


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Not up yet."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    return Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("first"), config))


def test_machines_that_were_reinstalled_since_form_the_cluster(cluster: Cluster) -> None:
    operator = Operator(cluster.stack)
    operator.wait_for("-prepare: created")
    operator.kill()
    on_all(cluster.hosts, lambda host: host.run(REINSTALL, check=False))
    for host in cluster.hosts:
        host.drop_traffic(*(other for other in cluster.hosts if other is not host))
    operator = Operator(cluster.stack)
    eventually(lambda: all(on_all(cluster.hosts, runs)), "etcd runs on all hosts")
    operator.kill()


def test_destroy_stops_all_and_leaves_no_keys_but_the_data(cluster: Cluster) -> None:
    """Goes on where the test before ended: nobody has come to lead."""
    cluster.stack.destroy()
    assert on_all(cluster.hosts, left) == ["", "", ""]
    on_all(cluster.hosts, lambda host: host.run("test -d /data/etcd/data/member/wal"))


def test_members_that_were_founding_go_on_with_their_data(cluster: Cluster) -> None:
    for host in cluster.hosts:
        host.restore_traffic()
    cluster.up()
    assert len(cluster.cluster_ids()) == 1
    assert_converged(cluster)


def test_a_host_that_is_unlisted_after_its_joining_was_cut_short_keeps_no_keys(cluster: Cluster) -> None:
    three = cluster.stack.config["hosts"]
    one = {"host-1": three["host-1"]}
    configure(cluster, hosts=one)
    cluster.up()
    configure(cluster, hosts=three)
    operator = Operator(cluster.stack)
    operator.wait_for("joining as a learner")
    operator.kill()
    assert any(on_all(cluster.hosts[1:], left))
    configure(cluster, hosts=one)
    cluster.up()
    assert on_all(cluster.hosts[1:], left) == ["", ""]
    cluster.hosts = cluster.hosts[:1]
    assert_converged(cluster)


def test_after_settings_that_only_a_start_refuses_the_next_up_forms_the_cluster(
    lab: Lab, mirror_url: str, tmp_path: Path
) -> None:
    """etcd ends after it has begun its log."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True, etcd={"auth-token": MISSING_KEY})
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path, config))
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert "none.pem" in run.output, "etcd's own words"
    configure(cluster, etcd={})
    cluster.up()
    assert_converged(cluster)
    for host in hosts:
        host.remove()
