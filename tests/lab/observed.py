"""What is there, seen on the hosts themselves: members, the cluster, its data, the file systems below."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tests.lab.hosts import Host
from tests.lab.stack import Run, Stack

KEY, VALUE = "written-before", "the-change"

Result = TypeVar("Result")

LOOK = """
state=/var/lib/etcd-cluster
file_system() { [ -e $state/formatting ] || blkid -p -s UUID -o value /dev/xvdf; }
etcd() { . /etc/profile.d/etcd.sh && etcdctl --command-timeout 5s "$@" 2> /dev/null; }
left_over() {
    find /etc/etcd /opt/etcd $state /data/etcd -maxdepth 3 -name '.new-*'
    find $state /etc/etcd -name pending -o -name formatting -o -name bootstrap.yaml
    flock --nonblock $state/lock true || echo locked
}
"""


@dataclass(frozen=True)
class Member:
    """What one host says of itself and of the cluster. left_over: traces of a run that was cut short."""

    file_system: str
    process: str
    token: str
    cluster: int
    started: frozenset[str]
    has_key: bool
    left_over: str


def on_all(hosts: Sequence[Host], do: Callable[[Host], Result]) -> list[Result]:
    """What `do` returns, host by host; all at once."""
    with ThreadPoolExecutor(len(hosts)) as threads:
        return list(threads.map(do, hosts))


def look(host: Host) -> Member:
    """Raises where the member does not answer for itself."""
    command = f"""{LOOK}
    file_system
    systemctl show --property MainPID --value etcd-cluster
    sed -n 's/.*"token": "\\([0-9a-f]*\\)".*/\\1/p' /data/etcd/etcd-cluster.json
    etcd endpoint status --write-out json
    etcd member list --write-out json
    etcd get {KEY} --write-out json
    left_over
    """
    file_system, process, token, status, members, key, *left_over = host.run(command).stdout.splitlines()
    return Member(
        file_system=file_system,
        process=process,
        token=token,
        cluster=json.loads(status)[0]["Status"]["header"]["cluster_id"],
        started=frozenset(each["name"] for each in json.loads(members)["members"] if each.get("clientURLs")),
        has_key=bool(json.loads(key).get("kvs")),
        left_over=" ".join(left_over),
    )


def file_systems(hosts: Sequence[Host]) -> dict[str, str]:
    """The UUIDs of those that are complete, by host."""
    found = on_all(hosts, lambda host: host.run(f"{LOOK} file_system", check=False).stdout.strip())
    return {host.name: uuid for host, uuid in zip(hosts, found, strict=True) if uuid}


def write_key(host: Host) -> None:
    host.run(f"{LOOK} until etcd put {KEY} {VALUE} > /dev/null; do sleep 0.1; done", timeout=300)


def assert_one_cluster(stack: Stack, hosts: Sequence[Host]) -> list[Member]:
    """All hosts are healthy members of the one cluster that the state knows, and no step is half done."""
    members = on_all(hosts, look)
    assert len({member.cluster for member in members}) == 1
    (token,) = {member.token for member in members}
    assert all(member.started == {host.name for host in hosts} for member in members)
    hosts[0].run(f"{LOOK} etcd endpoint health --cluster")
    assert stack.recorded("etcd-formation")["id"] == token
    assert [member.left_over for member in members] == [""] * len(hosts)
    return members


def assert_converges(
    stack: Stack, hosts: Sequence[Host], made_before: Mapping[str, str], *, key_written: bool = False
) -> None:
    """One `up` makes all good, another one finds nothing to do. `made_before`: the file systems that were there."""
    stack.up()
    members = assert_one_cluster(stack, hosts)
    file_systems = {host.name: member.file_system for host, member in zip(hosts, members, strict=True)}
    assert file_systems == {**file_systems, **made_before}, "a file system was made twice"
    assert not key_written or all(member.has_key for member in members), "what was written before is gone"

    assert_nothing_changed(stack.up())
    assert on_all(hosts, look) == members


def assert_nothing_changed(run: Run) -> None:
    """As either engine says it."""
    assert "nothing changed" in run.output or re.search(r"^Resources:\n +\d+ unchanged\n", run.output, re.M), run.output
