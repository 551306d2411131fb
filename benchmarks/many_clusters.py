"""What a program costs that has many clusters: constructed and previewed against a monitor that only says yes, so that
nothing but the program and Pulumi's SDK is measured. Processor time, in turns.

    python -m benchmarks.many_clusters [--rounds 5] [--clusters 1 10 50]

Target: a cluster among fifty costs at most 1.1 times what it costs alone. Beside it, as many bare resources as the
clusters have. Twice: with Python's garbage collector, whose full passes over all that lives weigh on whatever is many,
bare resources as well; and without it, which shows what the component itself does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, cast

from pulumi.runtime import mocks, settings
from pulumi.runtime.proto.resource_pb2 import RegisterResourceResponse
from pulumi.runtime.stack import run_in_stack
from pulumi_command import local

from benchmarks.ratios import aligned
from etcd_cluster import EtcdCluster, EtcdClusterArgs, Host, HostMachines

WANTED = 1.1
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43

Program = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--clusters", type=int, nargs="+", default=[1, 10, 50], help="default: 1 10 50")
    options = parser.parse_args()
    for collector in (True, False):
        print(f"\n{'With' if collector else 'Without'} Python's garbage collector, {options.rounds} rounds")
        print(table(measure(options.clusters, options.rounds, collector)), flush=True)


def measure(counts: Sequence[int], rounds: int, collector: bool) -> dict[tuple[str, int], list[float]]:
    """(what, clusters) -> seconds a cluster of each round."""
    resources = previewed(clusters(1)) - 1  # without the stack
    programs: dict[tuple[str, int], Program] = {}
    for count in counts:
        programs["clusters", count] = clusters(count)
        programs["bare resources", count] = bare_resources(count * resources)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in programs}
    for _ in range(rounds):
        for (what, count), program in programs.items():
            # One cluster alone is too quick to be measured alone.
            repeat = max(1, max(counts) // count // 5)
            gc.collect()
            if not collector:
                gc.disable()
            start = time.process_time()
            for _ in range(repeat):
                previewed(program)
            seconds[what, count].append((time.process_time() - start) / repeat / count)
            gc.enable()
    return seconds


def table(seconds: dict[tuple[str, int], list[float]]) -> str:
    """Each ratio is to the first of the same kind in the same round, and of clusters to as many bare resources."""
    rows = [["", "a cluster", "ratio to the first", "ratio to bare resources", "target"]]
    first: dict[str, int] = {}
    for (what, count), own in seconds.items():
        reference = seconds[what, first.setdefault(what, count)]
        bare = seconds["bare resources", count]
        rows.append(
            [
                f"{count} {what}" if what == "clusters" else f"{count} times as many {what}",
                f"{median(own) * 1000:.0f} ms",
                f"{_ratio(own, reference):.2f}",
                f"{_ratio(own, bare):.2f}" if what == "clusters" else "",
                f"<= {WANTED}" if what == "clusters" and count != first[what] else "",
            ]
        )
    return aligned(rows)


def _ratio(own: Sequence[float], reference: Sequence[float]) -> float:
    return median(mine / its for mine, its in zip(own, reference, strict=True))


def clusters(count: int) -> Program:
    """A program with that many clusters of three hosts."""

    def program() -> None:
        for number in range(count):
            hosts = {
                f"host-{index}": Host(f"10.{number}.0.{index}", f"{HOST_KEY}{index}", device="/dev/nvme1n1")
                for index in (1, 2, 3)
            }
            EtcdCluster(f"etcd-{number}", EtcdClusterArgs(machines=HostMachines(hosts)))

    return program


def bare_resources(count: int) -> Program:
    """A program with that many Commands that hang together in no way."""

    def program() -> None:
        for number in range(count):
            local.Command(f"command-{number}", local.CommandArgs(create="true"))

    return program


class Yes(mocks.MockMonitor):
    """Registers everything, keeps and answers nothing: all outputs are unknown, as in a first preview."""

    registered = 0

    def __init__(self) -> None:
        super().__init__(cast(mocks.Mocks, None))

    def RegisterResource(self, request: Any) -> RegisterResourceResponse:
        self.registered += 1
        return RegisterResourceResponse(urn=self.make_urn(request.parent, request.type, request.name))


def previewed(program: Program) -> int:
    """The number of resources."""
    monitor = Yes()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    settings.configure(
        settings.Settings("etcd-cluster", "test", dry_run=True, monitor=monitor, engine=mocks.MockEngine(None))
    )
    loop.run_until_complete(run_in_stack(program))
    loop.close()
    return monitor.registered


if __name__ == "__main__":
    main()
