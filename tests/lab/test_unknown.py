"""What `up` does where it cannot see: files that are lost on all hosts, looks that get no answer, credentials that are
gone. Members move one at a time or not at all, under continuous writes. One cluster of three goes through it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

from tests.lab import faults
from tests.lab.changes import changing, configure, started, steps
from tests.lab.clusters import Cluster, eventually
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Run, Stack, host_config

CONFIGURATION = "/etc/etcd/etcd.yaml"
UNIT = "/etc/systemd/system/etcd.service"
QUOTE = rf"""sed -i -E "s|^(listen-metrics-urls\|advertise-client-urls): (.*)|\1: '\2'|" {CONFIGURATION}"""

_settings = count(2000)


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Tests leave it healthy."""
    hosts = lab.hosts(3, disk_gib=None)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("unknown"), config))
    cluster.up()
    return cluster


@contextmanager
def without_loopback(host: Host) -> Iterator[None]:
    """Nothing on the host reaches the member by 127.0.0.1; clients and the other members do, as before."""
    host.run("ip address del 127.0.0.1/8 dev lo")
    try:
        yield
    finally:
        host.run("ip address add 127.0.0.1/8 dev lo")


def assert_in_turn(run: Run, cluster: Cluster) -> None:
    """Each member was restarted by a step of its own."""
    restarted = [step.partition(":")[0] for step in steps(run) if ": restarting" in step]
    assert sorted(restarted) == [host.name for host in cluster.hosts], run.output
    assert "restarting as it should be" not in run.output


def test_configuration_that_is_gone_from_all_hosts_comes_back_in_turn(cluster: Cluster) -> None:
    with changing(cluster):
        cluster.each_host(f"rm {CONFIGURATION} {UNIT}")
        run = cluster.up()
    assert_in_turn(run, cluster)


def test_where_no_member_can_be_asked_none_is_restarted_and_all_are_named(cluster: Cluster) -> None:
    """The files differ on all of them, by a value that somebody quoted; they serve all the same."""
    with changing(cluster):
        before = started(cluster)
        cluster.each_host(QUOTE)
        assert cluster.each_host(f'grep -c "\'http" {CONFIGURATION}') == {host.name: "2\n" for host in cluster.hosts}
        with ExitStack() as blind:
            for host in cluster.hosts:
                blind.enter_context(without_loopback(host))
            refused = cluster.stack.up(check=False)
        assert refused.returncode != 0
        assert "it cannot be told whether a majority of the members serves, so none is restarted: " in refused.output
        for host in cluster.hosts:
            assert re.search(rf"{host.name}: its process does not tell its metrics within 3 seconds", refused.output)
        assert started(cluster) == before
        run = cluster.up()
    assert_in_turn(run, cluster)


def test_members_that_all_hang_for_a_while_are_waited_for_and_then_restarted_in_turn(cluster: Cluster) -> None:
    configure(cluster, etcd={"max-txn-ops": next(_settings)})
    with changing(cluster, expect_downtime=True):
        with ExitStack() as hanging:
            for host in cluster.hosts:
                hanging.enter_context(faults.frozen(host))
            operator = Operator(cluster.stack)
            asked = "ss -Htn 'sport = :2381' | grep -c . || true"
            eventually(lambda: "0\n" not in cluster.each_host(asked).values(), "all metrics asked")
        run = operator.wait(120)
    assert run.returncode == 0, run.output
    assert_in_turn(run, cluster)
