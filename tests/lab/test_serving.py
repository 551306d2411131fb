"""An `up` ends well only where the cluster serves: behind a firewall that lets only clients to 2379, with a quota that
the database passes, and with etcd's own authentication on. Three members, formed behind that firewall."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import faults
from tests.lab.changes import assert_settled, change, changing, configure
from tests.lab.clusters import Cluster
from tests.lab.faults import followers
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Stack, host_config


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    return lab.hosts(4, disk_gib=1)


@pytest.fixture(scope="module")
def cluster(
    lab: Lab, hosts: list[Host], mirror_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    config = host_config(hosts[:3], mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts[:3], Stack(lab, tmp_path_factory.mktemp("serving"), config))
    with faults.clients_only(*hosts):
        cluster.up()
        yield cluster


# --- 2379 for clients only ---


def test_members_never_ask_one_another_at_the_client_port(cluster: Cluster, hosts: list[Host]) -> None:
    reach = "timeout 1 bash -c ': > /dev/tcp/{}/2379'"
    assert hosts[0].run(reach.format(hosts[1].address), check=False).returncode
    assert_settled(cluster)
    change(cluster, etcd={"max-txn-ops": 200})


def test_a_host_is_swapped_for_another_behind_that_firewall(cluster: Cluster, hosts: list[Host]) -> None:
    old = followers(cluster)[-1]
    together = [host for host in hosts if host is not old]
    with changing(cluster, restarts=()):
        configure(cluster, hosts=host_config(together, "")["hosts"])
        cluster.hosts = together
        cluster.up()
