"""Three new hosts to a healthy cluster: ours against a hand-written parallel script, in turns on fresh hosts.

    python -m benchmarks.forming [--rounds 5] [--engine embedded|pulumi ...] [--steps]

Target: within 1.3 times the script without the Pulumi CLI, within 1.7 with it.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.engines import NAMES, add_engines, chosen_engines, clean_stack
from benchmarks.ratios import aligned, table
from tests.lab import binaries
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Engine, host_config

VERSION = "3.6.16"
MEMBERS = 3
USER = "admin"
BY_HAND = Path(__file__).with_name("by_hand.sh")
BY_HAND_NAME = "by hand"
WANTED = {NAMES[Engine.EMBEDDED]: 1.3, NAMES[Engine.PULUMI]: 1.7}

_CREATED = re.compile(r"^ *\+ \S+ (\S+): created \(([\d.]+) s\)$", re.MULTILINE)

Steps = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--steps", action="store_true", help="also print where the embedded engine spends the time")
    add_engines(parser)
    options = parser.parse_args()
    engines = chosen_engines(options)
    steps: Steps = defaultdict(list)
    seconds: dict[str, list[float]] = {BY_HAND_NAME: [], **{NAMES[engine]: [] for engine in engines}}
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        mirror_url = lab.mirror(binaries.mirror(Path(folder, "mirror"), [VERSION]))
        contestants: dict[str, Callable[[list[Host]], float]] = {
            BY_HAND_NAME: lambda hosts: by_hand(lab, hosts, mirror_url),
            **{NAMES[engine]: _by_engine(lab, engine, mirror_url, steps) for engine in engines},
        }
        for number in range(options.rounds):
            for name, contestant in contestants.items():
                with fresh_hosts(lab) as hosts:
                    seconds[name].append(contestant(hosts))
                print(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s", flush=True)
    print(f"\n{MEMBERS} fresh hosts to healthy, {options.rounds} rounds")
    print(table(seconds, BY_HAND_NAME, WANTED))
    if options.steps and steps:
        print(f"\nWhere the time of {NAMES[Engine.EMBEDDED]} goes (certificates are made beside the checks)")
        print(step_table(steps, median(seconds[NAMES[Engine.EMBEDDED]])))


@contextmanager
def fresh_hosts(lab: Lab) -> Generator[list[Host]]:
    """Newly booted hosts with blank disks, taken away afterwards."""
    hosts = lab.hosts(MEMBERS)
    try:
        yield hosts
    finally:
        for host in hosts:
            host.remove()


def by_hand(lab: Lab, hosts: Sequence[Host], mirror_url: str) -> float:
    """Seconds that the hand-written script takes."""
    members = [f"{host.name}={host.address}" for host in hosts]
    start = time.monotonic()
    lab.run([BY_HAND, lab.ssh_config_file, USER, hosts[0].device or "", mirror_url, VERSION, *members], timeout=300)
    return time.monotonic() - start


def _by_engine(lab: Lab, engine: Engine, mirror_url: str, steps: Steps) -> Callable[[list[Host]], float]:
    def measure(hosts: list[Host]) -> float:
        config = host_config(hosts, mirror_url, user=USER, version=VERSION, allowUndersized=True)
        with clean_stack(lab, config, engine) as stack:
            run = stack.up()
        if engine is Engine.EMBEDDED:
            for step, took in durations(run.output, [host.name for host in hosts]).items():
                steps[step].append(took)
        return run.seconds

    return measure


def durations(output: str, members: Sequence[str]) -> dict[str, float]:
    """Step -> seconds, in order of completion, from what the embedded engine prints. Members work side by side, so the
    slowest counts; only rolling is done in turns, and adds up."""
    seconds: dict[str, float] = {}
    for name, took in _CREATED.findall(output):
        step = re.sub("|".join(map(re.escape, members)), "*", name)
        before = seconds.get(step, 0.0)
        seconds[step] = before + float(took) if step.endswith("-roll") else max(before, float(took))
    return seconds


def step_table(steps: Steps, whole: float) -> str:
    rows = [("step", "median", "of the whole")]
    rows += [(step, f"{median(took):.1f} s", f"{100 * median(took) / whole:.0f} %") for step, took in steps.items()]
    return aligned(rows)


if __name__ == "__main__":
    main()
