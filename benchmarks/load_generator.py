"""What etcd's `benchmark` takes of a processor for sending requests, against what etcd takes for answering them.

    python -m benchmarks.load_generator [--rounds 3] [--seconds 10]

One member on loopback, plaintext, the load of `small` and five times that. No target: it says how much of a member's
machine a load check that is generated there takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
from pathlib import Path

from etcd_cluster.etcd.sizes import SIZES
from etcd_cluster.install.load_generator import benchmark_for
from etcd_cluster.install.sources import this_architecture
from etcd_cluster.load_check.load import Load
from tests.local.test_load_check import member

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--seconds", type=int, default=10, help="length of a load (default: 10)")
    options = parser.parse_args()
    print(f"{'size':8}{'requests/s':>12}{'benchmark':>12}{'etcd':>8}{'ratio':>8}   parts of one processor")
    for name in ("small", "medium"):
        load = Load.of(SIZES[name], options.seconds)
        shares = [measure(load) for _ in range(options.rounds)]
        generator, server = (statistics.median(share[index] for share in shares) for index in (0, 1))
        print(f"{name:8}{load.requests:>12,}{generator:>12.3f}{server:>8.3f}{generator / server:>8.2f}", flush=True)


def measure(load: Load) -> tuple[float, float]:
    """Parts of one processor that `benchmark` and etcd took."""
    program = str(benchmark_for(this_architecture()))
    with tempfile.TemporaryDirectory() as folder:
        members = member("3.6.16", Path(folder, "member"))
        one = next(members)
        one.client("put", "value", "x" * load.value_bytes)
        etcd = int(Path(one.layout.state, "etcd.pid").read_text())
        clients = ["--conns", str(load.clients // 2), "--clients", str(load.clients // 2), "--endpoints", one.url]
        kinds = (
            ["put", "--key-size", "64", "--val-size", str(load.value_bytes), "--rate", str(load.writes)],
            ["range", "value", "--rate", str(load.reads)],
        )
        before, children = ticks(etcd), resource.getrusage(resource.RUSAGE_CHILDREN)
        running = [
            subprocess.Popen(
                [program, *clients, *kind, "--total", str(load.requests // 2 * load.seconds)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for kind in kinds
        ]
        for each in running:
            each.wait()
        after, now = ticks(etcd), resource.getrusage(resource.RUSAGE_CHILDREN)
        members.close()
    spent = now.ru_utime + now.ru_stime - children.ru_utime - children.ru_stime
    return spent / load.seconds, (after - before) / TICKS / load.seconds


def ticks(pid: int) -> int:
    """Processor time of a process."""
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    main()
