"""Faults are what their names say, and are over afterwards."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.lab import faults
from tests.lab.clusters import Cluster, eventually
from tests.lab.hosts import Host, Lab, LabError
from tests.lab.stack import Stack, host_config
from tests.lab.writes import continuous_writes

HEALTHY = "curl -fsS --max-time 2 http://127.0.0.1:2381/health"


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members. Tests leave it healthy."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("faults"), config))
    cluster.up()
    return cluster


@pytest.fixture(autouse=True)
def _healthy_afterwards(cluster: Cluster) -> None:
    cluster.await_health()


def seconds_ahead(host: Host) -> float:
    return float(host.run("sudo -n date +%s", user="admin").stdout) - time.time()


def test_a_clock_is_off(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    for minutes in (7, -7):
        with faults.clock_ahead(host, minutes):
            assert seconds_ahead(host) == pytest.approx(60 * minutes, abs=3)
        assert seconds_ahead(host) == pytest.approx(0, abs=3)


def test_a_full_disk_takes_no_byte_and_has_its_room_back(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    free = "df --output=avail --block-size=1 /data/etcd | tail -n 1"
    before = int(host.run(free).stdout)
    write = "echo something | sudo -u etcd tee /data/etcd/data/something"
    with faults.full_disk(host):
        assert "No space left on device" in host.run(write, check=False).stderr
    host.run(write)
    host.run("rm /data/etcd/data/something")
    assert int(host.run(free).stdout) > 0.9 * before
    host.run("systemctl restart etcd-cluster")


def test_a_disk_that_is_this_machines_own_is_never_filled(cluster: Cluster) -> None:
    with (
        pytest.raises(LabError, match="/etc has no file system of its own"),
        faults.full_disk(cluster.hosts[0], "/etc"),
    ):
        pass


def test_a_partition_is_between_members_only(cluster: Cluster) -> None:
    cut_off = faults.leader(cluster)
    others = [host for host in cluster.hosts if host is not cut_off]
    reach = "timeout 1 bash -c ': > /dev/tcp/{}/2380'"
    with continuous_writes(cluster) as writes, faults.partitioned(cut_off, *others):
        assert cut_off.run("echo reached").stdout == "reached\n"
        for host in others:
            assert cut_off.run(reach.format(host.address), check=False).returncode
            assert host.run(reach.format(cut_off.address), check=False).returncode
        eventually(lambda: cut_off.run(HEALTHY, check=False).returncode, "the leader has lost its quorum")
        writes.await_more(50)
    writes.assert_nothing_lost()
    assert cut_off.run(reach.format(others[0].address)).returncode == 0


def test_a_restarted_sshd_breaks_a_command_off_which_runs_on(cluster: Cluster) -> None:
    host = cluster.hosts[1]
    answers: list[subprocess.CompletedProcess[str]] = []
    command = "touch /tmp/began; until [ -e /tmp/go ]; do sleep 0.1; done; touch /tmp/ended"
    caller = threading.Thread(target=lambda: answers.append(host.run(command, user="admin", check=False)))
    caller.start()
    eventually(lambda: host.run("test -e /tmp/began", check=False).returncode == 0, "the command runs")
    faults.restart_sshd(host)
    caller.join(60)
    assert answers[0].returncode == 255
    # The first call may still find the connection that was broken off.
    eventually(lambda: host.run("touch /tmp/go", check=False).returncode == 0, "the host answers again")
    eventually(lambda: host.run("test -e /tmp/ended", check=False).returncode == 0, "the command ends")
    assert host.run("echo again", user="admin").stdout == "again\n"


@pytest.mark.parametrize("fault", [faults.stopped, faults.frozen], ids=["stopped", "frozen"])
def test_a_follower_is_down(cluster: Cluster, fault: Callable[[Host], AbstractContextManager[None]]) -> None:
    host = faults.followers(cluster)[0]
    with continuous_writes(cluster) as writes:
        with fault(host):
            assert host.run(HEALTHY, check=False).returncode
            writes.await_more(100)
            assert host not in [faults.leader(cluster), *faults.followers(cluster)]
        cluster.await_health()
    writes.assert_nothing_lost()


def test_the_leader_is_killed_and_another_one_leads(cluster: Cluster) -> None:
    killed = faults.leader(cluster)
    before = cluster.pids()
    with continuous_writes(cluster) as writes:
        faults.kill_etcd(killed)
        writes.await_more(100)
        assert faults.leader(cluster) is not killed
        eventually(lambda: cluster.pids()[killed.name] not in ("0", before[killed.name]), "systemd starts it again")
        cluster.await_health()
    writes.assert_nothing_lost()
    assert len(faults.followers(cluster)) == 2
