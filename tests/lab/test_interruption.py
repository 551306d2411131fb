"""A first `up` that is cut short, by whatever and wherever, and is run again: one healthy cluster, formed once.

Every test breaks one run off and runs `up` again, twice: the first has to converge, the second to find nothing to do.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Failed, Stack, host_config

MEMBERS = 3
KEY, VALUE = "written-before", "the-interruption"
LOST_CONNECTION_SECONDS = 40
"""ssh gives a silent machine 15 seconds; the rest is the engine's end, and a busy test machine."""


@dataclass(frozen=True)
class Scene:
    """A stack that has never been up, and its fresh hosts."""

    stack: Stack
    hosts: Sequence[Host]


@pytest.fixture(scope="module")
def batches(lab: Lab) -> Iterator[Callable[[], list[Host]]]:
    """Fresh hosts, booted while the test before runs."""
    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(lab.hosts, MEMBERS)]

        def take() -> list[Host]:
            coming.append(thread.submit(lab.hosts, MEMBERS))
            return coming.pop(0).result()

        yield take


@pytest.fixture
def scene(lab: Lab, mirror_url: str, batches: Callable[[], list[Host]], tmp_path: Path) -> Iterator[Scene]:
    hosts = batches()
    stack = Stack(lab, tmp_path, host_config(hosts, mirror_url, allowUndersized=True))
    stack.environment["XDG_RUNTIME_DIR"] = str(lab.folder)  # where a killed run leaves its ssh key
    yield Scene(stack, hosts)
    on_all(hosts, lambda host: host.remove())


def on_all(hosts: Sequence[Host], do: Callable[[Host], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(hosts)) as threads:
        return list(threads.map(do, hosts))


# What is there, seen on the hosts themselves

LOOK = """
file_system() {
    [ -e /var/lib/etcd-cluster/formatting ] || blkid -p -s UUID -o value /dev/xvdf
}
etcd() { . /etc/profile.d/etcd.sh && etcdctl --command-timeout 5s "$@" 2> /dev/null; }
left_over() {
    find /etc/etcd /opt/etcd /var/lib/etcd-cluster /data/etcd -maxdepth 3 -name '.new-*'
    find /var/lib/etcd-cluster -name pending -o -name formatting
    [ -e /var/lib/etcd-cluster/formed ] || echo not marked as formed
    flock --nonblock /var/lib/etcd-cluster/lock true || echo locked
}
"""


@dataclass(frozen=True)
class Member:
    """What one host says of itself and of the cluster."""

    file_system: str
    process: str
    token: str
    cluster: int
    started: frozenset[str]
    value: str
    left_over: str


def look(host: Host) -> Member:
    """Raises where the member does not answer for itself."""
    command = f"""{LOOK}
    file_system
    systemctl show --property MainPID --value etcd.service
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
        value="there" if json.loads(key).get("kvs") else "",
        left_over=" ".join(left_over),
    )


def file_systems(hosts: Sequence[Host]) -> dict[str, str]:
    """Those that are complete, by host."""
    found = on_all([host for host in hosts if host.running], lambda host: host.run(f"{LOOK} file_system", check=False))
    return {host.name: done.stdout.strip() for host, done in zip(hosts, found, strict=False) if done.stdout.strip()}


def write_key(host: Host) -> None:
    host.run(f"{LOOK} until etcd put {KEY} {VALUE} > /dev/null; do sleep 0.1; done", timeout=30)


def assert_converges(scene: Scene, before: Mapping[str, str], *, key_written: bool = False) -> None:
    """`before`: the file systems that were there when the run was broken off."""
    up = scene.stack.up(check=False)
    if up.returncode != 0:
        raise Failed(up.output)
    members = on_all(scene.hosts, look)
    names = frozenset(host.name for host in scene.hosts)

    (cluster,) = {member.cluster for member in members}
    assert all(member.started == names for member in members)
    scene.hosts[0].run(f"{LOOK} etcd endpoint health --cluster")
    assert scene.stack.recorded("etcd-formation")["id"] == {member.token for member in members}.pop()
    assert len({member.token for member in members}) == 1
    assert scene.stack.recorded(f"etcd-{scene.hosts[0].name}-health")["outputs"]["stdout"] == str(cluster)
    assert [member.left_over for member in members] == [""] * MEMBERS
    assert {**{host.name: member.file_system for host, member in zip(scene.hosts, members, strict=True)}, **before} == {
        host.name: member.file_system for host, member in zip(scene.hosts, members, strict=True)
    }, "a file system was made twice"
    if key_written:
        assert all(member.value for member in members), "what was written before is gone"
    assert not list(scene.hosts[0].lab.folder.glob("etcd-ssh-*")), "an ssh key was left behind"

    again = scene.stack.up()
    assert "nothing changed" in again.output
    assert on_all(scene.hosts, look) == members


# The operator's side is killed

STEPS = (
    # id, the line of output after which the kill comes, and how many of them
    ("at-once", "Updating stack", 1),
    ("first-checked", "-check: created", 1),
    ("all-checked", "-check: created", MEMBERS),
    ("forming", "-formation: creating", 1),
    ("formed-record", "-formation: created", 1),
    ("downloading", "downloading", 1),
    ("all-downloading", "downloading", MEMBERS),
    ("first-formatting", "formatting", 1),
    ("all-formatting", "formatting", MEMBERS),
    ("first-starting", "starting etcd", 1),
    ("second-starting", "starting etcd", 2),
    ("all-starting", "starting etcd", MEMBERS),
    ("first-ready", ": ready", 1),
)


@pytest.mark.parametrize(("pattern", "count"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_killed_while_forming(scene: Scene, pattern: str, count: int) -> None:
    operator = Operator(scene.stack)
    operator.wait_for(pattern, count)
    operator.kill()
    assert_converges(scene, file_systems(scene.hosts))


WITH_QUORUM = (
    ("all-prepared", "-prepare: created", MEMBERS),
    ("first-rolled", "-roll: created", 1),
    ("last-healthy", ": healthy, etcd", MEMBERS),
    ("checking-health", "-health: creating", 1),
    ("all-healthy", "members are healthy", 1),
)


@pytest.mark.parametrize(("pattern", "count"), [each[1:] for each in WITH_QUORUM], ids=[each[0] for each in WITH_QUORUM])
def test_killed_with_data_in_the_cluster(scene: Scene, pattern: str, count: int) -> None:
    operator = Operator(scene.stack)
    operator.wait_for(pattern, count)
    operator.freeze()
    write_key(scene.hosts[1])
    operator.kill()
    assert_converges(scene, file_systems(scene.hosts), key_written=True)


@pytest.mark.parametrize(("pattern", "seconds"), [("all-downloading", 0.3), ("all-downloading", 0.6), ("formatting", 0.3)])
def test_killed_some_time_after(scene: Scene, pattern: str, seconds: float) -> None:
    """Between the lines."""
    operator = Operator(scene.stack)
    operator.wait_for(pattern.removeprefix("all-"), MEMBERS)
    time.sleep(seconds)
    operator.kill()
    assert_converges(scene, file_systems(scene.hosts))


@pytest.mark.parametrize("pattern", ["downloading", "formatting", "starting etcd"])
def test_killed_alone_while_its_ssh_goes_on(scene: Scene, pattern: str) -> None:
    """The steps of the killed run are still at work on the hosts when the next run comes."""
    operator = Operator(scene.stack)
    operator.wait_for(pattern, MEMBERS)
    operator.kill(leave_ssh=True)
    assert_converges(scene, {})


@pytest.mark.parametrize("pattern", ["downloading", ": ready"])
def test_interrupted_by_hand(scene: Scene, pattern: str) -> None:
    operator = Operator(scene.stack)
    operator.wait_for(pattern)
    interrupted = time.monotonic()
    operator.interrupt()
    run = operator.wait()
    assert run.returncode != 0
    assert time.monotonic() - interrupted < 5
    assert "run again" in run.output
    assert scene.stack.recorded("etcd-formation")
    assert_converges(scene, file_systems(scene.hosts))


# The host's side is killed

TRAP = """
trap=/usr/local/sbin/{program}
real=$(command -v {program})
cat > "$trap" << END
#!/bin/sh
case "\\$*" in *'{arguments}'*) ;; *) exec "$real" "\\$@" ;; esac
rm -f "$trap"
{before}
{end}
END
chmod 755 "$trap"
"""
"""In the place of a program that the steps call: it springs once, at the call whose arguments match."""

KILL_STEP = "pkill -9 -f '^bash -s -- '; exit 137"
FREEZE_STEP = "touch /run/trapped; exec sleep infinity"
CALL = '"$real" "\\$@"'
HALF = CALL + "; printf '\\\\001' | dd of=/dev/xvdf bs=1 seek=126 conv=notrunc,fsync 2> /dev/null"  # "mkfs in progress"

CALLS = (
    # id, program, part of its arguments, what the call still does
    ("unpacked", "tar", "-xzf", CALL),
    ("before-mkfs", "mkfs.xfs", "", ""),
    ("during-mkfs", "mkfs.xfs", "", HALF),
    ("after-mkfs", "mkfs.xfs", "", CALL),
    ("before-mount", "systemctl", "start data-etcd.mount", ""),
    ("after-mount", "systemctl", "start data-etcd.mount", CALL),
    ("before-start", "systemctl", "start --no-block", ""),
    ("after-start", "systemctl", "start --no-block", CALL),
)


def set_trap(host: Host, program: str, arguments: str, before: str, end: str) -> None:
    host.run(TRAP.format(program=program, arguments=arguments, before=before, end=end))


@pytest.mark.parametrize(("program", "arguments", "before"), [call[1:] for call in CALLS], ids=[call[0] for call in CALLS])
def test_step_killed_on_a_host(scene: Scene, program: str, arguments: str, before: str) -> None:
    set_trap(scene.hosts[1], program, arguments, before, KILL_STEP)
    assert scene.stack.up(check=False).returncode != 0
    assert_converges(scene, file_systems(scene.hosts))


CRASHES = [call for call in CALLS if call[0] in ("during-mkfs", "after-mount", "after-start")]


@pytest.mark.parametrize(("program", "arguments", "before"), [call[1:] for call in CRASHES], ids=[call[0] for call in CRASHES])
def test_machine_crashes(scene: Scene, program: str, arguments: str, before: str) -> None:
    host = scene.hosts[2]
    set_trap(host, program, arguments, before, FREEZE_STEP)
    operator = Operator(scene.stack)
    host.run("until [ -e /run/trapped ]; do sleep 0.05; done", timeout=30)
    host.kill()
    host.start()
    run = operator.wait(LOST_CONNECTION_SECONDS)
    assert run.returncode != 0
    assert host.address in run.output
    assert_converges(scene, file_systems(scene.hosts))


# What a machine may lack for a while


def test_connection_lost_in_mid_step(scene: Scene) -> None:
    host = scene.hosts[0]
    operator = Operator(scene.stack)
    operator.wait_for("downloading", MEMBERS)
    host.drop_traffic()
    run = operator.wait(LOST_CONNECTION_SECONDS)
    host.restore_traffic()
    assert run.returncode != 0
    assert re.search(f"the connection to {host.address}:22 was lost while a command ran there", run.output), run.output
    assert_converges(scene, file_systems(scene.hosts))


@pytest.mark.parametrize("folder", ["/opt", "/etc/etcd", "/var/lib/etcd-cluster"])
def test_disk_full(scene: Scene, folder: str) -> None:
    host = scene.hosts[1]
    host.run(f"mkdir -p {folder} && mount -t tmpfs -o size=8m tmpfs {folder} && cat /dev/zero > {folder}/full || true")
    run = scene.stack.up(check=False)
    assert run.returncode != 0
    assert re.search(rf"error: {host.name}: .*{folder}.* full", run.output), run.output
    host.run(f"rm {folder}/full && mount -o remount,size=1g {folder}")
    assert_converges(scene, file_systems(scene.hosts))
