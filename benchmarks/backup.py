"""What a backup costs: its time against the same by hand, and what clients notice of it. Members are on this machine.

    python -m benchmarks.backup [--rounds 5] [--megabytes 100 1000]

In turns: a backup into a folder against `etcdctl snapshot save` and `sha256sum`; the way of its file into an S3 server
against `rclone copyto`; writes while backups are made against writes while none is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import cast

from benchmarks.ratios import table
from etcd_cluster.backup.files import MemberPlace, Schedule, set_up_variables, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from tests.lab import object_store
from tests.lab.hosts import Lab
from tests.lab.writes import writing
from tests.local.checkout import Checkout
from tests.local.test_backups import Here, access

FOLDER_WANTED, UPLOAD_WANTED = 1.3, 1.2
MEGABYTE = 10**6
WRITE_SECONDS = 20.0
S3_PORT = 17070
MEMBER, TOKEN = "etcd-1", "a" * 32
GIVEN = {
    "endpoint": f"http://127.0.0.1:{S3_PORT}",
    "access_key": object_store.ACCESS_KEY,
    "secret_key": object_store.SECRET_KEY,
}
NO_TEST = Schedule(3600, last=2, daily=0, weekly=0, test="never", append_only=False)
IDLE, DURING = "no backup", "during backups"


class Member:
    """The first member's machine, as its timer runs a backup there."""

    def __init__(self, checkout: Checkout, store: str, given: dict[str, str]) -> None:
        port = int(checkout.local["basePort"])
        self.layout = Layout.below(str(checkout.members / MEMBER))
        place, url = MemberPlace(MEMBER, self.layout, Ports(port, port + 1, port + 2)), StoreUrl.of(store, given)
        own = variables("benchmark/dev/etcd", TOKEN, place, url, store, NO_TEST)
        self.program = render.script("backup", self.layout, own)
        self.store = own["backup_store"]
        self.snapshot = checkout.members.parent / "by-hand.db"
        self.folder = Path(self.layout.configuration, "backup")
        set_up = set_up_variables(place, own, url, given, TOKEN, "1h")
        set_up |= {"rclone_placed": shutil.which("rclone") or "rclone", "role_seconds": "0"}
        self._run(render.script("backup_setup", self.layout, set_up), "backup_setup")

    def back_up(self) -> None:
        self._run(self.program, "backup", "now=yes")

    def send(self, name: str) -> None:
        """The local copy of that name to the store, with its manifest: what a backup does after its snapshot."""
        functions, _, _ = self.program.rpartition('\nanswer "$@"')
        self._run(f"{functions}\nspec[member]={MEMBER}\nbackup_folder=$volume_path/backups\nsend {name}\nexit\n")

    def _run(self, program: str, *words: str) -> None:
        line = ["bash", "-s", "--", words[0], f"member={MEMBER}", *words[1:]] if words else ["bash"]
        done = subprocess.run(line, input=program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000], help="of data (default: 100 1000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as checkout, server(Path(name)) as bucket:
        held = 0
        for megabytes in sorted(options.megabytes):
            fill(checkout, held, megabytes)
            held = megabytes
            print(f"\n{megabytes} MB, {options.rounds} rounds", flush=True)
            print(table(folder(checkout, Path(name, "store"), options.rounds), "by hand", {"ours": FOLDER_WANTED}))
            print(table(upload(checkout, bucket, options.rounds), "rclone copyto", {"ours": UPLOAD_WANTED}), flush=True)
            p99, longest = writes(checkout, Path(name, "store"), options.rounds)
            for what, seconds in (("p99 of writes", p99), ("longest write", longest)):
                print(f"{what}\n{table(seconds, IDLE, digits=3)}", flush=True)


@contextlib.contextmanager
def cluster(folder: Path) -> Generator[Checkout]:
    """Three members without TLS, so that a hand needs no certificates either."""
    checkout = Checkout(folder / "cluster")
    checkout.use_free_ports()
    text = checkout.stack_file.read_text().replace("tls: true", "tls: false")
    checkout.stack_file.write_text(text + "  etcd-cluster:etcd: {quota-backend-bytes: 4294967296}\n")
    checkout.script("up")
    try:
        yield checkout
    finally:
        checkout.script("down", "--delete-data")


@contextlib.contextmanager
def server(folder: Path) -> Generator[str]:
    """An S3 server on loopback; the folder of its bucket."""
    (folder / "s3" / "backups").mkdir(parents=True)
    environment = {**os.environ, "ROOT_ACCESS_KEY": object_store.ACCESS_KEY, "ROOT_SECRET_KEY": object_store.SECRET_KEY}
    command: list[str | Path] = [object_store.program(), "--port", f"127.0.0.1:{S3_PORT}", "--region", "us-east-1"]
    command += ["posix", folder / "s3"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield "s3://backups/etcd"
        finally:
            process.kill()


def fill(checkout: Checkout, held: int, megabytes: int) -> None:
    """Random data: neither a file system nor a transport makes it smaller."""
    put = "head -c 750000 /dev/urandom | base64 -w 0 | etcdctl put data/{} >/dev/null"
    checkout.shell(f"seq {held + 1} {megabytes} | xargs -P 4 -I {{}} sh -c '{put}'")


def in_turns(rounds: int, contestants: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in (contestants, list(contestants)[::-1])[number % 2]:
            began = time.monotonic()
            contestants[name]()
            seconds[name].append(time.monotonic() - began)
    return seconds


def folder(checkout: Checkout, store: Path, rounds: int) -> dict[str, list[float]]:
    store.mkdir(exist_ok=True)
    member = Member(checkout, str(store), {})
    hand = Path(store, "by-hand.db")

    def by_hand() -> None:
        etcdctl = f"'{member.layout.binaries}/etcdctl' --endpoints http://127.0.0.1:{checkout.local['basePort']}"
        line = f"{etcdctl} snapshot save '{hand}' && sha256sum '{hand}' >'{hand}.sum'"
        subprocess.run(["sh", "-ec", line], check=True, capture_output=True)

    return in_turns(rounds, {"by hand": by_hand, "ours": member.back_up})


def upload(checkout: Checkout, to: str, rounds: int) -> dict[str, list[float]]:
    member = Member(checkout, to, GIVEN)
    copies = Path(member.layout.volume, "backups")
    copies.mkdir(exist_ok=True)
    source = next(checkout.members.parent.parent.glob("**/snap/db"))
    name = "20261127T100000Z-7-etcd-1"
    shutil.copyfile(source, copies / f"{name}.db")
    (copies / f"{name}.json").write_text("{}\n")
    rclone: Sequence[str | Path] = [member.folder / "rclone", "--config", member.folder / "rclone.conf"]

    def by_rclone() -> None:
        # A name of its own: what is there already is not sent again.
        target = f"{member.store}/{time.monotonic()}.db"
        subprocess.run([*rclone, "copyto", copies / f"{name}.db", target], check=True, capture_output=True)

    seconds = in_turns(rounds, {"rclone copyto": by_rclone, "ours": lambda: member.send(name)})
    shutil.rmtree(copies)
    return seconds


def writes(checkout: Checkout, store: Path, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """In each round, seconds that 99 of 100 writes took at most, and seconds of the longest."""
    member = Member(checkout, str(store), {})
    p99: dict[str, list[float]] = {IDLE: [], DURING: []}
    longest: dict[str, list[float]] = {IDLE: [], DURING: []}
    for number in range(rounds):
        for what in ((IDLE, DURING), (DURING, IDLE))[number % 2]:
            with writing(cast("Lab", Here()), access(checkout)) as written:
                began = time.monotonic()
                while time.monotonic() - began < WRITE_SECONDS:
                    if what == DURING:
                        member.back_up()
                    else:
                        time.sleep(0.1)
            written.assert_nothing_lost()
            p99[what].append(written.result.p99_write_seconds)
            longest[what].append(written.result.longest_write_seconds)
    return p99, longest


if __name__ == "__main__":
    main()
