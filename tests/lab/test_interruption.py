"""A first `up` that is cut short, by whatever and wherever, and is run again: one healthy cluster, formed once.

Every test breaks one run off and runs `up` again, twice: the first has to converge, the second to find nothing to do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.hosts import Host, Lab
from tests.lab.observed import assert_converges, file_systems, on_all, write_key
from tests.lab.operator import Operator
from tests.lab.stack import Stack, host_config

MEMBERS = 3
STARTING = ": starting with etcd"
INTERRUPTION_SECONDS = 50
LOST_CONNECTION_SECONDS = 300
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
    assert not list(lab.folder.glob("etcd-ssh-*")), "an ssh key was left behind"


# The operator's side is killed


def rows(names: str, table: Mapping[str, Sequence[object]], usual: Collection[str]) -> pytest.MarkDecorator:
    """Name -> values, one row each; rows that are not `usual` are exhaustive."""
    marks = {name: () if name in usual else (pytest.mark.exhaustive,) for name in table}
    return pytest.mark.parametrize(
        names.split(), [pytest.param(*values, id=name, marks=marks[name]) for name, values in table.items()]
    )


def kills(*table: tuple[str, str, int], usual: Collection[str]) -> pytest.MarkDecorator:
    """Rows of: what the kill hits, the line of output after which it comes, and how many of them."""
    return rows("pattern count", {row[0]: row[1:] for row in table}, usual)


@kills(
    ("program-begun", "Updating stack", 1),
    ("first-checked", "-check: created", 1),
    ("all-checked", "-check: created", MEMBERS),
    ("forming", "-formation: creating", 1),
    ("forming-recorded", "-formation: created", 1),
    ("first-downloading", "downloading", 1),
    ("all-downloading", "downloading", MEMBERS),
    ("first-formatting", "formatting", 1),
    ("all-formatting", "formatting", MEMBERS),
    ("first-ready", ": ready", 1),
    ("all-prepared", "-prepare: created", MEMBERS),
    ("rolling-out", "-rollout: creating", 1),
    ("first-starting", STARTING, 1),
    ("second-starting", STARTING, 2),
    usual=["all-checked", "forming-recorded", "all-formatting", "first-starting"],
)
def test_killed_while_forming(scene: Scene, pattern: str, count: int) -> None:
    operator = Operator(scene.stack)
    operator.wait_for(pattern, count)
    operator.kill()
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("pattern", "seconds"), [("downloading", 0.3), ("downloading", 0.6), ("formatting", 0.3)])
def test_killed_between_two_lines(scene: Scene, pattern: str, seconds: float) -> None:
    operator = Operator(scene.stack)
    operator.wait_for(pattern, MEMBERS)
    time.sleep(seconds)  # the point of time is what is tested
    operator.kill()
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))


@kills(
    ("all-starting", STARTING, MEMBERS),
    ("rolled-out", "-rollout: created", 1),
    ("all-healthy", "members are healthy", 1),
    usual=["all-starting"],
)
def test_killed_with_data_in_the_cluster(scene: Scene, pattern: str, count: int) -> None:
    operator = Operator(scene.stack)
    operator.wait_for(pattern, count)
    operator.freeze()
    write_key(scene.hosts[1])
    operator.kill()
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts), key_written=True)


@pytest.mark.parametrize("pattern", [pytest.param("downloading", marks=pytest.mark.exhaustive), "formatting"])
def test_killed_alone_while_its_ssh_goes_on(scene: Scene, pattern: str) -> None:
    """The steps of the killed run are still at work on the hosts when the next run comes."""
    operator = Operator(scene.stack)
    operator.wait_for(pattern, MEMBERS)
    operator.kill(leave_ssh=True)
    assert_converges(scene.stack, scene.hosts, {})


def test_interrupted_by_hand(scene: Scene) -> None:
    operator = Operator(scene.stack)
    operator.wait_for("downloading", MEMBERS)
    interrupted = time.monotonic()
    operator.interrupt()
    run = operator.wait()
    assert run.returncode != 0
    assert time.monotonic() - interrupted < INTERRUPTION_SECONDS
    assert "run again" in run.output
    assert scene.stack.recorded("etcd-formation")
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))


# The host's side is killed

TRAP = """
trap=/usr/local/sbin/{program}
real=$(command -v {program})
cat > "$trap" << END
#!/bin/sh
case "\\$*" in *'{arguments}'*) ;; *) exec "$real" "\\$@" ;; esac
rm -f "$trap"
{call}
{end}
END
chmod 755 "$trap"
"""
"""In the place of a program that the steps call: it springs once, at the call whose arguments match."""

NO_CALL = ""
CALL = '"$real" "\\$@"'
CUT_SHORT = f"{CALL}; printf '\\\\001' | dd of=/dev/xvdf bs=1 seek=126 conv=notrunc,fsync 2> /dev/null"
"""A finished XFS whose superblock says again that mkfs is at work."""

KILL_STEP = "pkill -9 -f '^bash -s -- '; exit 137"
FREEZE_STEP = "touch /run/trapped; exec sleep infinity"


@dataclass(frozen=True)
class Trap:
    """A call of a program by a step: it is the step's last."""

    program: str
    arguments: str
    call: str

    def set(self, host: Host, end: str) -> None:
        host.run(TRAP.format(program=self.program, arguments=self.arguments, call=self.call, end=end))


def traps(*usual: str, **table: Trap) -> pytest.MarkDecorator:
    return rows("trap", {name: [trap] for name, trap in table.items()}, usual)


@traps(
    "during_mkfs",
    "after_start",
    unpacked=Trap("tar", "--extract", CALL),
    during_mkfs=Trap("mkfs.xfs", "", CUT_SHORT),
    after_mkfs=Trap("mkfs.xfs", "", CALL),
    before_mount=Trap("systemctl", "start data-etcd.mount", NO_CALL),
    after_mount=Trap("systemctl", "start data-etcd.mount", CALL),
    after_start=Trap("systemctl", "start --no-block", CALL),
)
def test_step_killed_on_a_host(scene: Scene, trap: Trap) -> None:
    trap.set(scene.hosts[1], KILL_STEP)
    assert scene.stack.up(check=False).returncode != 0
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))


def test_another_disk_in_the_place_of_a_half_formatted_one(scene: Scene) -> None:
    """That a formatting was cut short is no licence to format whatever is there now."""
    host = scene.hosts[1]
    Trap("mkfs.xfs", "", CUT_SHORT).set(host, KILL_STEP)
    assert scene.stack.up(check=False).returncode != 0
    host.run("wipefs -qa /dev/xvdf && mkfs.ext4 -q -L precious /dev/xvdf")
    refused = scene.stack.up(check=False)
    assert refused.returncode != 0
    assert "it carries ext4 precious; only a blank device is formatted" in refused.output
    assert host.run("blkid -p -s LABEL -o value /dev/xvdf").stdout == "precious\n"


@traps(
    "after_start",
    during_mkfs=Trap("mkfs.xfs", "", CUT_SHORT),
    after_start=Trap("systemctl", "start --no-block", CALL),
)
def test_machine_crashes(scene: Scene, trap: Trap) -> None:
    host = scene.hosts[2]
    trap.set(host, FREEZE_STEP)
    operator = Operator(scene.stack)
    host.run("until [ -e /run/trapped ]; do sleep 0.05; done", timeout=300)
    host.kill()
    host.start()
    run = operator.wait(LOST_CONNECTION_SECONDS)
    assert run.returncode != 0
    assert f"the connection to {host.address}:22 was lost" in run.output
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))


# What a machine may lack for a while


def test_connection_lost_in_mid_step(scene: Scene) -> None:
    host = scene.hosts[0]
    operator = Operator(scene.stack)
    operator.wait_for("downloading", MEMBERS)
    host.drop_traffic()
    run = operator.wait(LOST_CONNECTION_SECONDS)
    host.restore_traffic()
    assert run.returncode != 0
    assert f"the connection to {host.address}:22 was lost while a command ran there" in run.output
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))


@pytest.mark.parametrize("folder", ["/opt", pytest.param("/etc/etcd", marks=pytest.mark.exhaustive)])
def test_disk_full(scene: Scene, folder: str) -> None:
    host = scene.hosts[1]
    host.run(f"mkdir -p {folder} && mount -t tmpfs -o size=8m tmpfs {folder} && cat /dev/zero > {folder}/full || true")
    run = scene.stack.up(check=False)
    assert run.returncode != 0
    said = rf"error: {host.name}: {folder}.*: \d+ MiB free, but \d+ MiB are needed there"
    assert re.search(said, run.output), run.output
    host.run(f"rm {folder}/full && mount -o remount,size=1g {folder}")
    assert_converges(scene.stack, scene.hosts, file_systems(scene.hosts))
