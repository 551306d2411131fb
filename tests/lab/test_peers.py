"""Healthy means that members reach one another: behind firewalls that let in clients, and on second addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.answers import framed_answer
from etcd_cluster.member.layout import Layout
from etcd_cluster.rollout.reports import PeerTest
from tests.lab.changes import assert_converged, changing, configure, started
from tests.lab.clusters import Cluster, eventually
from tests.lab.faults import followers, leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Stack, host_config
from tests.lab.test_status import status
from tests.lab.writes import Access

OLD, NEW = "3.5.35", "3.6.16"
"""The first cannot be told from which address to connect."""
MIRROR_VERSIONS = [OLD, NEW]
BEAT = {"heartbeat-interval": 200, "election-timeout": 2000}
ACTIVE = "curl -fsS http://127.0.0.1:2381/metrics | grep -c '^etcd_network_active_peers.* [1-9]' || true"


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members, which tests leave healthy."""
    hosts = lab.hosts(3, disk_gib=1)
    formed = Cluster(
        lab, hosts, Stack(lab, tmp_path_factory.mktemp("peers"), host_config(hosts, mirror_url, allowUndersized=True))
    )
    formed.up()
    return formed


@contextmanager
def firewall(host: Host) -> Iterator[None]:
    """Lets in new connections of SSH and clients alone; those from before stay, as firewalls have it."""
    table = f"table bridge peers{host.address.rpartition('.')[2]}"
    rules = [
        f"add {table}",
        f"add chain {table.removeprefix('table ')} forward {{ type filter hook forward priority 1; }}",
        f"add rule {table.removeprefix('table ')} forward ip daddr {host.address} tcp dport 1-32767 "
        "tcp dport != { 22, 2379 } tcp flags & (fin | syn | rst | ack) == syn drop",
    ]
    host.lab.run(["nft", "-f", "-"], input="\n".join(rules) + "\n")
    try:
        yield
    finally:
        host.lab.run(["nft", "-f", "-"], input=f"delete {table}\n")


def active_peers(cluster: Cluster) -> dict[str, int]:
    return {name: int(printed) for name, printed in cluster.each_host(ACTIVE).items()}


def await_all_active(cluster: Cluster) -> None:
    eventually(lambda: set(active_peers(cluster).values()) == {2}, "every pair is active both ways", 60)


@pytest.mark.parametrize("config", [{}, {"etcd": BEAT}], ids=["nothing", "settings"])
def test_nothing_moves_while_a_firewall_lets_in_ssh_and_clients_alone(cluster: Cluster, config: dict[str, Any]) -> None:
    before, closed, was_leader = cluster.stack.config, followers(cluster)[0], leader(cluster)
    others = [host.name for host in cluster.hosts if host is not closed]
    with firewall(closed):
        closed.run("systemctl restart etcd-cluster")  # no connection is left that was there before
        processes = started(cluster)
        eventually(lambda: {active_peers(cluster)[name] for name in others} == {1}, "the others have noticed", 60)
        configure(cluster, **config)
        run = cluster.stack.up(check=False)
        shown = status(cluster)
    assert run.returncode != 0, run.output
    for name in others:
        assert f"{name} does not reach {closed.name}" in run.output
        assert re.search(rf"{name}, on {closed.name}: .*(i/o timeout|deadline exceeded)", run.output), run.output
        assert f"{name} does not reach {closed.name} at its peer port" in shown.printed
    assert shown.returncode == 1
    assert started(cluster) == processes
    assert leader(cluster) is was_leader
    await_all_active(cluster)
    cluster.up()
    cluster.stack.config = before
    cluster.up()
    assert_converged(cluster)


def test_a_machine_reaches_the_peer_ports_that_its_member_reaches(cluster: Cluster) -> None:
    """By the member's certificate and from its address; another certificate, as clients have it, is let in nowhere."""
    asking, asked = cluster.hosts[0], cluster.hosts[1]
    script = render.script("reach", Layout.system(), render.port_variables(Ports()))
    line = render.command_line(
        "reach", {"member": "host-1", "urls": f"https://{asked.address}:2380", "source": asking.address}
    )

    def tested(script: str) -> PeerTest:
        said = asking.run(f"{line} <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT").stdout
        return PeerTest.parse(framed_answer(said, "reach"))

    nothing, url = frozenset[str](), frozenset([f"https://{asked.address}:2380"])
    assert tested(script) == PeerTest(url, nothing)
    assert tested(script.replace("./peer.crt", "./server.crt").replace("./peer.key", "./server.key")) == PeerTest(
        nothing, nothing
    )
    without_curl = script.replace("command -v curl", "command -v no-curl")
    assert tested(without_curl) == PeerTest(nothing, nothing)
    with firewall(asked):
        assert tested(script) == tested(without_curl) == PeerTest(nothing, url)


def test_a_firewall_that_cuts_no_connection_is_noticed_after_the_first_restart(cluster: Cluster) -> None:
    """The members that reach the closed one by a connection from before go on counting it."""
    before, closed, was_leader, processes = (
        cluster.stack.config,
        followers(cluster)[0],
        leader(cluster),
        started(cluster),
    )
    with firewall(closed):
        configure(cluster, etcd=BEAT)
        run = cluster.stack.up(check=False)
    assert run.returncode != 0, run.output
    assert f"does not reach {closed.name}" in run.output
    assert [name for name, process in started(cluster).items() if process != processes[name]] == [closed.name]
    assert leader(cluster) is was_leader
    await_all_active(cluster)
    cluster.stack.config = before
    cluster.up()
    assert_converged(cluster)


def second_address(host: Host) -> str:
    """Gives the machine one more, 100 above its own."""
    *net, last = host.address.split(".")
    address = ".".join([*net, str(int(last) + 100)])
    host.run(f"ip address add {address}/24 dev host0")
    return address


def test_members_move_to_second_addresses_one_after_the_other(cluster: Cluster) -> None:
    for host in cluster.hosts:
        hosts: dict[str, Any] = cluster.stack.config["hosts"]
        moved = {**hosts[host.name], "address": second_address(host), "sshAddress": host.address}
        configure(cluster, hosts={**hosts, host.name: moved})
        staying = Access.of(cluster.outputs)
        with changing(cluster, restarts=[host.name], access=staying) as judged:
            cluster.up()
            judged.writes.use(Access.of(cluster.outputs))
        await_all_active(cluster)
        assert status(cluster).returncode == 0


def test_a_cluster_is_formed_on_second_addresses(
    lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Or refused in the preflight, where the version cannot be told; the route's source helps there."""
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True, version=OLD)
    for host in hosts:
        config["hosts"][host.name] |= {"address": second_address(host), "sshAddress": host.address}
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("second"), config))
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    for host in hosts:
        assert re.search(rf"{host.name}: connections to the member at \S+ come from {host.address}", run.output), (
            run.output
        )
    assert "restarting" not in run.output
    assert not any(cluster.each_host("pgrep -x etcd || true").values())
    configure(cluster, version=NEW)
    cluster.up()
    await_all_active(cluster)
    assert_converged(cluster)


def test_a_move_to_a_second_address_is_refused_where_the_version_cannot_be_told(
    lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True, version=OLD)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("old"), config))
    cluster.up()
    host, processes = hosts[1], started(cluster)
    address = second_address(host)
    blocks: dict[str, Any] = config["hosts"]
    configure(
        cluster, hosts={**blocks, host.name: {**blocks[host.name], "address": address, "sshAddress": host.address}}
    )
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert f"come from {host.address}" in run.output
    assert started(cluster) == processes
    host.run(f"ip route replace 10.77.0.0/24 dev host0 proto kernel scope link src {address}")
    cluster.up()
    await_all_active(cluster)
    assert_converged(cluster)
