"""What etcd's authentication costs: seconds for as many writes, and reads, of a user, with it and without it.

    python -m benchmarks.users [--rounds 5] [--requests 15000]

Three members with TLS and users on this machine; etcd's own `benchmark`, with the certificate of a user who has one
role. Authentication is turned off and on again between the rounds, which changes nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from benchmarks.ratios import table
from etcd_cluster.install.load_generator import benchmark_for
from etcd_cluster.install.sources import this_architecture
from tests.local.checkout import Checkout

OFF, ON = "authentication off", "authentication on"
USERS = {"app": {"roles": ["app"]}}
ROLES = {"app": [{"prefix": "", "access": "readwrite"}]}
KINDS = {
    "writes": ["put", "--key-size", "64", "--val-size", "1024", "--sequential-keys", "--key-space-size", "1000"],
    "reads": ["range", "read", "--consistency", "l"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--requests", type=int, default=15_000, help="of a round (default: 15000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as checkout:
        for kind, words in KINDS.items():
            print(f"\n{options.requests} {kind}, {options.rounds} rounds")
            print(table(measure(checkout, words, options.rounds, options.requests), OFF), flush=True)


@contextlib.contextmanager
def cluster(folder: Path) -> Generator[Checkout]:
    checkout = Checkout(folder / "cluster")
    checkout.use_free_ports()
    with checkout.stack_file.open("a") as file:
        file.write(f"  etcd-cluster:users: {json.dumps(USERS)}\n  etcd-cluster:roles: {json.dumps(ROLES)}\n")
    checkout.script("up")
    checkout.shell(f"etcdctl put read {'x' * 1024}")
    try:
        yield checkout
    finally:
        checkout.script("down", "--delete-data")


def measure(checkout: Checkout, words: Sequence[str], rounds: int, requests: int) -> dict[str, list[float]]:
    """Contestant -> seconds of each round; who begins changes from round to round."""
    seconds: dict[str, list[float]] = {OFF: [], ON: []}
    command = _command(checkout, [*words, "--total", str(requests)])
    for number in range(rounds):
        for name in ((OFF, ON), (ON, OFF))[number % 2]:
            checkout.shell(f"etcdctl auth {'enable' if name == ON else 'disable'}")
            began = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.monotonic() - began)
    checkout.shell("etcdctl auth enable")
    return seconds


def _command(checkout: Checkout, words: Sequence[str]) -> list[str]:
    """`benchmark` as the user app."""
    as_user = 'eval "$("$1/scripts/env" --user app)"; '
    names = ("ENDPOINTS", "CACERT", "CERT", "KEY")
    found = checkout.shell(as_user + "".join(f'echo "$ETCDCTL_{name}"; ' for name in names)).stdout.splitlines()
    flags = [word for name, value in zip(names, found, strict=True) for word in (f"--{name.lower()}", value)]
    return [str(benchmark_for(this_architecture())), *flags, "--conns", "8", "--clients", "32", *words]


if __name__ == "__main__":
    main()
