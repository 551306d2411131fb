"""What `etcd-cluster status` says of members on real hosts: healthy ones, changed ones, and those that are gone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.answers import framed_answer
from etcd_cluster.member.layout import Layout
from tests.lab.clusters import Cluster, private_keys, traces, watched_processes
from tests.lab.faults import leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import STACK, Engine, Stack, host_config

UNREACHABLE_SECONDS = 300.0
"""Two attempts of five seconds each, and what a busy test machine adds."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.EMBEDDED


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url)
    formed = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("status"), config, engine), engine)
    formed.up()
    return formed


@dataclass(frozen=True)
class Status:
    """What the command answered, and how long that took."""

    returncode: int
    printed: str
    errors: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.printed)
        return document

    def member(self, host: Host) -> dict[str, Any]:
        member: dict[str, Any] = self.document["members"][host.name]
        return member


def status(cluster: Cluster, *options: str) -> Status:
    stack, began = cluster.stack, time.monotonic()
    done = cluster.lab.run(
        [sys.executable, "-m", "etcd_cluster.cli", "--stack", STACK, "status", *options],
        cwd=stack.folder,
        env=stack.environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Status(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def test_a_healthy_cluster_is_well_and_looking_at_it_changes_nothing(cluster: Cluster) -> None:
    pids, files = cluster.pids(), written(cluster)
    leads = leader(cluster).name
    shown = status(cluster, "--output", "json")
    assert (shown.returncode, shown.errors) == (0, "")
    document = shown.document
    assert (document["ok"], document["leader"], document["next"], document["alarms"]) == (True, leads, [], [])
    assert document["id"] == f"{int(cluster.cluster_ids().pop()):x}"
    for host in cluster.hosts:
        member = shown.member(host)
        assert (member["well"], member["version"], member["drift"]) == (True, "3.6.16", [])
        assert member["databaseBytes"] > 0
        assert 0 < member["diskUsedBytes"] < member["diskBytes"]
    assert (cluster.pids(), written(cluster)) == (pids, files)

    table = status(cluster)
    assert table.returncode == 0
    assert f"etcd 3.6.16, {len(cluster.hosts)} members, all healthy, no drift" in table.printed
    assert max(map(len, table.printed.splitlines())) <= 120


def written(cluster: Cluster) -> dict[str, str]:
    """Every file of the member that this package writes, with its time and mode."""
    return cluster.each_host(
        "find /etc/etcd /opt/etcd /var/lib/etcd-cluster /data/etcd -maxdepth 2 -printf '%p %T@ %m\\n'"
    )


def test_no_key_is_shown_or_handed_to_a_process(cluster: Cluster) -> None:
    keys = {*cluster.private_keys_in_state(), *private_keys(cluster.hosts[0].private_key_file.read_text())}
    with watched_processes() as processes:
        shown, table = status(cluster, "--output", "json"), status(cluster)
    said = [text.encode() for text in (shown.printed, shown.errors, table.printed, table.errors)]
    for trace in (trace.encode() for key in keys for trace in traces(key)):
        assert not any(trace in text for text in (*said, *processes))


def test_what_was_changed_by_hand_is_named_and_the_next_up_puts_it_back(cluster: Cluster) -> None:
    edited, stopped, opened = cluster.hosts
    edited.run("echo '# by hand' >>/etc/etcd/etcd.yaml")
    stopped.run("systemctl disable --now etcd-cluster")
    opened.run("chmod 644 /etc/etcd/pki/server.key")
    shown = status(cluster, "--output", "json")
    assert shown.returncode == 1
    assert shown.member(edited)["drift"] == ["/etc/etcd/etcd.yaml differs"]
    assert shown.member(stopped)["state"] == "down"
    assert shown.member(stopped)["drift"] == ["it does not start on boot"]
    assert shown.member(opened)["drift"] == ["/etc/etcd/pki/server.key is 644 etcd, not 400 etcd"]
    repaired = f"{opened.name}: repairing certificates, without a restart"
    assert shown.document["next"] == [repaired], "the first of several"
    table = status(cluster).printed
    assert f"2 of them healthy, drift on {edited.name}, {stopped.name}, {opened.name}" in table

    cluster.up()
    assert status(cluster).returncode == 0


@pytest.mark.parametrize(("gone", "back"), [(Host.pause, Host.resume), (Host.kill, Host.start)], ids=["hung", "dead"])
def test_a_machine_that_does_not_answer_is_not_waited_for_long(
    cluster: Cluster, gone: Callable[[Host], None], back: Callable[[Host], None]
) -> None:
    host = leader(cluster)
    gone(host)
    try:
        table = status(cluster)
        shown = status(cluster, "--output", "json")
    finally:
        back(host)
    cluster.await_health()
    assert (shown.returncode, table.returncode) == (1, 1)
    assert max(shown.seconds, table.seconds) < UNREACHABLE_SECONDS
    member = shown.member(host)
    assert member["state"] == "unreachable"
    assert host.address in member["unreachable"]
    others = [each for each in cluster.hosts if each is not host]
    assert {shown.member(each)["state"] for each in others} == {"leader", "follower"}
    assert f"unreachable {host.name}: cannot reach {host.address}" in table.printed


def test_running_members_send_bytes_to_the_leader_and_a_dead_one_does_not(cluster: Cluster) -> None:
    """etcd's own metric of active peers may name a dead member for good; what arrives from a member does not."""
    names = {host.name: host for host in cluster.hosts}
    ids = {
        names[word[2]]: word[0]
        for word in (line.split(", ") for line in cluster.etcdctl("member", "list").splitlines())
    }
    asked = leader(cluster)
    others = [host for host in cluster.hosts if host is not asked]
    assert sending(asked, [*ids.values(), "f00"]) == {ids[host] for host in others}
    dead, left = others
    dead.kill()
    try:
        assert sending(asked, list(ids.values())) == {ids[left]}
    finally:
        dead.start()
    cluster.await_health()


def sending(host: Host, ids: Sequence[str]) -> set[str]:
    script = render.script("health", Layout.system(), render.port_variables(Ports()))
    line = render.command_line("health", {"urls": "https://127.0.0.1:2379", "peers": ",".join(ids)})
    done = host.run(line, stdin=script, timeout=600)
    facts = dict(line.split("=", 1) for line in framed_answer(done.stdout, "health").splitlines())
    return set(facts["sending"].split(",")) - {""}


def test_a_stack_that_is_down_cannot_be_told_of(cluster: Cluster) -> None:
    """Last: it takes the cluster down."""
    cluster.stack.destroy()
    shown = status(cluster)
    assert (shown.returncode, shown.printed) == (2, "")
    assert f"stack {STACK} is not up" in shown.errors
