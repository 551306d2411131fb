"""A snapshot in the place of a running cluster's data, until all three members are healthy: `up` with restoreInPlace
against restore_by_hand.sh, in turns. Members are on this machine.

    python -m benchmarks.restoring [--rounds 3] [--megabytes 200]

By hand, all three restore the same snapshot at once, and no data go from one to another. Ours proves the snapshot
first, and backs up what is there; the second row does so by hand as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.backup import cluster, fill, in_turns
from benchmarks.ratios import table
from tests.local.checkout import Checkout

BY_HAND = Path(__file__).with_name("restore_by_hand.sh")
PLAIN, CAREFUL, OURS = "by hand", "by hand, with a test and a backup", "ours"
WANTED = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--megabytes", type=int, default=200, help="of data (default: 200)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        cluster(Path(name, "ours")) as ours,
        cluster(Path(name, "hand")) as hand,
    ):
        snapshot = Path(name, "snapshot.db")
        fill(ours, 0, options.megabytes)
        ours.shell(f"ETCDCTL_ENDPOINTS=${{ETCDCTL_ENDPOINTS%%,*}} etcdctl snapshot save '{snapshot}'")
        by_hand(hand, snapshot, "plain")
        contestants = {
            PLAIN: partial(by_hand, hand, snapshot, "plain"),
            CAREFUL: partial(by_hand, hand, snapshot, "careful"),
            OURS: partial(by_up, ours, snapshot),
        }
        seconds = in_turns(options.rounds, contestants)
        for checkout in (ours, hand):
            keys = checkout.shell("etcdctl get data/ --prefix --keys-only").stdout.split()
            assert len(keys) == options.megabytes
        print(f"{options.megabytes} MB, {options.rounds} rounds, until all are healthy")
        print(table(seconds, PLAIN, {OURS: WANTED}))
        print(f"\nagainst a hand that tests and backs up as well\n{table(without_first(seconds), CAREFUL)}")


def without_first(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: own for name, own in seconds.items() if name != PLAIN}


def by_hand(checkout: Checkout, snapshot: Path, how: str) -> None:
    members = [checkout.members / name for name in sorted(checkout.processes())]
    subprocess.run([BY_HAND, snapshot, how, *members], check=True)


def by_up(checkout: Checkout, snapshot: Path) -> None:
    answer = json.loads(checkout.shell("etcdctl endpoint status --write-out json").stdout)
    identity = f"{answer[0]['Status']['header']['cluster_id']:x}"
    kept = [line for line in checkout.stack_file.read_text().splitlines() if "restoreInPlace" not in line]
    asked = json.dumps({"from": str(snapshot), "cluster": identity})
    checkout.stack_file.write_text("\n".join([*kept, f"  etcd-cluster:restoreInPlace: {asked}", ""]))
    checkout.script("up")


if __name__ == "__main__":
    main()
