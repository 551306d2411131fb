"""A running cluster changed one member at a time: ours against a hand-run perfect roll, in turns, each on a cluster of
its own under continuous writes. How long the change takes, and how long no write was acknowledged meanwhile.

    python -m benchmarks.rolling [--rounds 5] [--change NAME ...] [--engine embedded|pulumi ...]

Target: within 1.5 times the time of the hand-run roll, and no longer stalls than its own. Before another version, both
take and check a snapshot. For the hand-run roll, its programs are on the hosts already; ours puts them there by itself,
which weighs on members where all hosts share one machine. So that is measured by hand as well, in a row of its own.
Ours defragments a database that is free but for its rest; the hand-run roll then restarts members with such a database,
and leaves it as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engines import NAMES, add_engines, chosen_engines, clean_stack
from benchmarks.forming import MEMBERS, USER
from benchmarks.ratios import table
from tests.lab import binaries
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Engine, host_config
from tests.lab.writes import Result, continuous_writes

FIRST_VERSION, PATCH, MINOR = "3.6.14", "3.6.16", "3.7.3"
SETTING = "max-txn-ops"
FIRST_VALUE, OTHER_VALUE = 256, 512
BY_HAND = Path(__file__).with_name("roll_by_hand.sh")
BY_HAND_NAME = "by hand"
WITH_PROGRAMS_NAME = "by hand, programs too"
TARGET_TOTAL, TARGET_STALL = 1.5, 1.0
SETTLED_WRITES = 50
FREE_MB = 100
FRAGMENT = """
. /etc/profile.d/etcd.sh
head -c 1000000 /dev/urandom | base64 -w 0 | head -c 1000000 > /tmp/value
for number in $(seq {mb}); do etcdctl put free/$number < /tmp/value > /dev/null; done
etcdctl del --prefix free/ > /dev/null
revision=$(etcdctl get free/ -w fields | sed -n 's/^"Revision" : //p')
etcdctl compact --physical "$revision" > /dev/null
"""


@dataclass(frozen=True)
class Change:
    """What is asked for: a key of the stack's config with its new value."""

    name: str
    key: str
    value: Any

    @property
    def title(self) -> str:
        if self.key == "defragment":
            return f"databases without {FREE_MB} MB that are free"
        return f"{SETTING}: {OTHER_VALUE}" if self.key == "etcd" else f"etcd {self.value}"


CHANGES = (
    Change("setting", "etcd", {SETTING: OTHER_VALUE}),
    Change("patch", "version", PATCH),
    Change("minor", "version", MINOR),
    Change("defragment", "defragment", {"free": 0.5, "atLeastMib": FREE_MB // 2}),
)


@dataclass
class Figures:
    """Of one change, contestant -> one figure a round."""

    total_seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    stall_seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    results: dict[str, list[Result]] = field(default_factory=dict[str, list[Result]])

    def add(self, name: str, *parts: tuple[float, Result]) -> None:
        """parts: seconds and writes of each."""
        self.total_seconds.setdefault(name, []).append(sum(seconds for seconds, _ in parts))
        self.stall_seconds.setdefault(name, []).append(max(result.longest_stall_seconds for _, result in parts))
        self.results.setdefault(name, []).extend(result for _, result in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    names = [change.name for change in CHANGES]
    parser.add_argument("--change", action="append", choices=names, help="may be given again (default: all)")
    add_engines(parser)
    options = parser.parse_args()
    engines = chosen_engines(options)
    changes = [change for change in CHANGES if not options.change or change.name in options.change]
    figures = {change.name: Figures() for change in changes}
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        mirror_url = lab.mirror(binaries.mirror(Path(folder, "mirror"), [FIRST_VERSION, PATCH, MINOR]))
        for number in range(options.rounds):
            with fresh_clusters(lab, mirror_url, engines) as clusters:
                for change in changes:
                    # Each is first as often as the others.
                    names = list(clusters)
                    for name in names[number % len(names) :] + names[: number % len(names)]:
                        measure(clusters[name], name, change, mirror_url, figures[change.name])
                        print(
                            f"round {number + 1}: {change.name}, {name}: {_line(figures[change.name], name)}",
                            flush=True,
                        )
    for change in changes:
        print(f"\n{report(change, figures[change.name], options.rounds)}")


@contextmanager
def fresh_clusters(lab: Lab, mirror_url: str, engines: Sequence[Engine]) -> Generator[dict[str, Cluster]]:
    """Contestant -> a new cluster, all formed alike by our stack, on hosts that are taken away afterwards."""
    contestants = {BY_HAND_NAME: engines[0], **{NAMES[engine]: engine for engine in engines}}
    hosts: list[Host] = lab.hosts(MEMBERS * len(contestants))
    with contextlib.ExitStack() as stacks:
        clusters: dict[str, Cluster] = {}
        try:
            for number, (name, engine) in enumerate(contestants.items()):
                own = hosts[number * MEMBERS : (number + 1) * MEMBERS]
                settings = {"version": FIRST_VERSION, "etcd": {SETTING: FIRST_VALUE}, "allowUndersized": True}
                config = host_config(own, mirror_url, user=USER, **settings)
                stack = stacks.enter_context(clean_stack(lab, config, engine))
                clusters[name] = Cluster(lab, own, stack, engine)
                clusters[name].up()
            yield clusters
        finally:
            for host in hosts:
                host.remove()


def measure(cluster: Cluster, name: str, change: Change, mirror_url: str, figures: Figures) -> None:
    """Carries a change out under writes. Raises where the cluster is not as asked afterwards."""
    if change.key == "defragment":
        cluster.hosts[0].run(FRAGMENT.format(mb=FREE_MB), timeout=300)
    if name != BY_HAND_NAME:
        figures.add(name, _under_writes(cluster, lambda: _by_engine(cluster, change)))
    elif change.key == "version":
        programs = _under_writes(cluster, lambda: _by_hand(cluster, "stage", change.value, mirror_url))
        roll = _under_writes(cluster, lambda: _by_hand(cluster, "version", change.value))
        figures.add(name, roll)
        figures.add(WITH_PROGRAMS_NAME, programs, roll)
    else:
        figures.add(name, _under_writes(cluster, lambda: _by_hand(cluster, "setting", SETTING, str(OTHER_VALUE))))
    if change.key == "version":
        assert cluster.versions() == {f'"{change.value}"'}
    elif change.key == "defragment":
        are_small = [size < FREE_MB * 10**6 // 2 for size in cluster.database_bytes()]
        assert are_small == [name != BY_HAND_NAME] * MEMBERS
    else:
        expected = f"{SETTING}: {OTHER_VALUE}\n"
        assert set(cluster.each_host(f"grep ^{SETTING} /etc/etcd/etcd.yaml").values()) == {expected}
    cluster.await_health()


def _under_writes(cluster: Cluster, act: Callable[[], float]) -> tuple[float, Result]:
    with continuous_writes(cluster) as writes:
        seconds = act()
        writes.await_more(SETTLED_WRITES)
    return seconds, writes.result


def _by_engine(cluster: Cluster, change: Change) -> float:
    cluster.stack.config[change.key] = change.value
    return cluster.stack.up().seconds


def _by_hand(cluster: Cluster, *arguments: str) -> float:
    """Seconds that the hand-written script takes."""
    members = [f"{host.name}={host.address}" for host in cluster.hosts]
    start = time.monotonic()
    cluster.lab.run([BY_HAND, cluster.lab.ssh_config_file, USER, *arguments, *members], timeout=300)
    return time.monotonic() - start


def report(change: Change, figures: Figures, rounds: int) -> str:
    contestants = [name for name in figures.total_seconds if name not in (BY_HAND_NAME, WITH_PROGRAMS_NAME)]
    lines = [f"{change.name}: {MEMBERS} members to {change.title} under writes, {rounds} rounds: whole change"]
    lines += [table(_by_hand_first(figures.total_seconds), BY_HAND_NAME, dict.fromkeys(contestants, TARGET_TOTAL))]
    lines += ["Longest time without an acknowledged write"]
    stalls = _by_hand_first(figures.stall_seconds)
    lines += [table(stalls, BY_HAND_NAME, dict.fromkeys(contestants, TARGET_STALL), digits=3)]
    for name, results in figures.results.items():
        acknowledged, lost, failed, retried = (
            sum(counts)
            for counts in zip(*((r.acknowledged, len(r.lost), len(r.failed), r.retried) for r in results), strict=True)
        )
        lines += [f"{name}: {acknowledged} writes acknowledged, {lost} lost, {failed} failed, {retried} retried"]
    return "\n".join(lines)


def _by_hand_first(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    first = (BY_HAND_NAME, WITH_PROGRAMS_NAME)
    return {**{name: seconds[name] for name in first if name in seconds}, **seconds}


def _line(figures: Figures, name: str) -> str:
    result = figures.results[name][-1]
    return (
        f"{figures.total_seconds[name][-1]:.2f} s, longest stall {result.longest_stall_seconds:.3f} s"
        f" at {result.stall_at_seconds:.1f} s (clients held up by the machine: {result.own_delay_seconds:.3f} s)"
    )


if __name__ == "__main__":
    main()
