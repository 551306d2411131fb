"""Backups of each minor version of etcd, while clients write and keep leases: what they cost, and what they hold. A
snapshot that etcdctl saved forms a cluster as well."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.lab import binaries
from tests.lab.hosts import Lab
from tests.lab.writes import Access, writing
from tests.local.checkout import NOT_SET_UP, SET_UP, Checkout
from tests.local.test_users import cluster_id, configure

pytestmark = pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP)

LEASE_SECONDS = 5


class Here:
    """In place of the lab: clients run beside members on this machine."""

    @staticmethod
    def popen(*words: Any, **named: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(*words, **named)


@pytest.fixture(
    params=[
        "3.4.9",
        pytest.param("3.5.35", marks=pytest.mark.exhaustive),
        pytest.param("3.6.16", marks=pytest.mark.exhaustive),
        "3.7.3",
    ]
)
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checkout]:
    """With programs of one minor version that were built before, or are built now."""
    version: str = request.param
    if reasons := binaries.requirements():
        pytest.skip(reasons[0])
    checkout = Checkout(tmp_path / "minor")
    checkout.use_free_ports()
    install = {"from": "archive", "archive": str(binaries.archive(version))}
    with checkout.stack_file.open("a") as file:
        file.write(f"  etcd-cluster:version: {version}\n  etcd-cluster:install: {json.dumps(install)}\n")
        file.write("  etcd-cluster:allowUnsafeVersion: true\n")
    checkout.script("up")
    yield checkout
    checkout.script("down", "--delete-data")


def access(checkout: Checkout) -> Access:
    folder = checkout.state / "client" / "dev" / "etcd"
    endpoints = checkout.shell('printf %s "$ETCDCTL_ENDPOINTS"').stdout.split(",")
    files = [folder / name for name in ("ca.crt", "client.crt", "client.key")]
    return Access(tuple(endpoints), *(path.read_text() for path in files if path.exists()))


@contextmanager
def lease(checkout: Checkout) -> Iterator[list[str]]:
    """A client with all endpoints keeps a lease of five seconds. What it says is told at the end: a lease that was lost
    has another word than those that were kept."""
    grant = f"etcdctl lease grant {LEASE_SECONDS} | sed 's/^lease \\([0-9a-f]*\\) .*/\\1/'"
    keep = f'eval "$("$1/scripts/env")"; id=$({grant}); exec etcdctl lease keep-alive $id'
    command = ["sh", "-ec", keep, "sh", str(checkout.project)]
    said: list[str] = []
    with subprocess.Popen(command, env=checkout.environment, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        said.append(keeper.stdout.readline())
        try:
            yield said
        finally:
            keeper.terminate()
            said += keeper.stdout.readlines()


def keys(checkout: Checkout) -> dict[str, str]:
    """All keys of the writing clients."""
    said = checkout.shell("etcdctl get writes/ --prefix --order ASCEND").stdout.splitlines()
    return dict(zip(said[::2], said[1::2], strict=True))


def test_backups_and_their_tests_lose_and_fail_nothing_and_bring_all_keys_back(checkout: Checkout) -> None:
    with lease(checkout) as kept, writing(cast("Lab", Here()), access(checkout)) as writes:
        before = keys(checkout)
        made = [checkout.script("backup", "now", "--test").stdout for _ in range(2)]
        writes.await_more()
    writes.assert_nothing_lost(expect_downtime=False)
    if writes.result.own_delay_seconds < LEASE_SECONDS / 3:  # else the machine kept all clients from running
        assert len(kept) > 1, "it was kept again and again"
        assert all("keepalived with TTL" in each for each in kept), kept
    assert all("it passed a restore" in each for each in made)
    after = keys(checkout)

    checkout.script("down", "--delete-data")
    with checkout.stack_file.open("a") as file:
        file.write("  etcd-cluster:restoreFrom: latest\n")
    restored = checkout.script("up")
    assert f"etcd-1: restored {made[-1].split()[0]}" in restored.stdout + restored.stderr
    held = keys(checkout)
    assert before.items() <= held.items() <= after.items()
    assert len(held) > len(before), "what was written between the two backups is there"


# --- the latest, days later ---

BEHIND = """#!/bin/sh
case " $* " in *" -d "*) exec /usr/bin/date "$@" ;; esac
exec /usr/bin/date -d "-30 minutes" "$@"
"""


def test_what_latest_meant_in_a_run_that_was_refused_is_not_restored_once_there_is_a_newer_backup(
    tmp_path: Path,
) -> None:
    """The run has found the backup, and is refused then: nothing has begun, and clients go on for days."""
    if reasons := binaries.requirements():
        pytest.skip(reasons[0])
    checkout = Checkout(tmp_path / "latest")
    checkout.use_free_ports()
    store, programs = tmp_path / "the store", tmp_path / "programs"
    for folder in (store, programs):
        folder.mkdir()
    (programs / "date").write_text(BEHIND)
    (programs / "date").chmod(0o755)
    install = {"from": "archive", "archive": str(binaries.archive("3.6.16"))}
    configure(checkout, version="3.6.16", install=install, members=1, backup={"to": str(store), "test": "never"})
    try:
        checkout.script("up")
        found = back_up(checkout, store, "monday")
        configure(checkout, restoreInPlace={"from": "latest", "cluster": cluster_id(checkout)})
        path = checkout.environment["PATH"]
        checkout.environment["PATH"] = f"{programs}:{path}"
        refused = checkout.script("up", check=False)
        said = refused.stdout + refused.stderr
        assert "Expected: clocks that are at most 5 s apart. Nothing more was changed" in said
        checkout.environment["PATH"] = path
        newer = back_up(checkout, store, "friday")
        processes = checkout.processes()
        refused = checkout.script("up", check=False)
        said = refused.stdout + refused.stderr
        assert refused.returncode == 1, said
        assert re.search(rf"latest was \S+/{found}, dated .* and the newest backup is \S+/{newer}, dated ", said), said
        assert checkout.processes() == processes, "nothing has begun"
        configure(checkout, restoreInPlace={"from": found, "cluster": cluster_id(checkout)})
        checkout.script("up")
        assert checkout.shell("etcdctl get day --print-value-only").stdout == "monday\n"
    finally:
        checkout.script("down", "--delete-data")


def back_up(checkout: Checkout, store: Path, value: str) -> str:
    """Writes, and makes a backup; returns its name."""
    before = {path.stem for path in store.rglob("*.json")}
    checkout.shell(f"etcdctl put day {value}")
    checkout.script("backup", "now")
    (name,) = {path.stem for path in store.rglob("*.json")} - before
    return name


# --- a file ---


def test_a_file_is_proven_without_a_cluster_and_forms_one_of_another_size(tmp_path: Path) -> None:
    """One member's snapshot, once that member is gone with its data; three members go on with it."""
    checkout = Checkout(tmp_path / "file")
    checkout.use_free_ports()
    stack_file = checkout.stack_file.read_text()
    try:
        checkout.stack_file.write_text(stack_file.replace("members: 3", "members: 1"))
        checkout.script("up")
        file = checkout.home / "back up.db"
        put = "for number in $(seq 20); do etcdctl put key-$number value >/dev/null; done"
        checkout.shell(f"{put}; etcdctl snapshot save '{file}'")
        content = file.read_bytes()
        checkout.script("down", "--delete-data")
        document = json.loads(checkout.command("restore", str(file), "--dry-run", "--output", "json").stdout)
        assert (document["restores"], document["keys"], document["problem"]) == (True, 20, None)

        restored_from = f"  etcd-cluster:restoreFrom: {json.dumps(str(file))}\n"
        checkout.stack_file.write_text(stack_file.rstrip("\n") + "\n" + restored_from)
        up = checkout.script("up")
        assert "is up, all 3 members healthy" in up.stdout
        keys = checkout.shell("etcdctl get key- --prefix --keys-only").stdout.split()
        assert len(keys) == 20
        assert checkout.shell("etcdctl endpoint health --cluster").stdout.count("is healthy") == 3
        assert file.read_bytes() == content
        processes = checkout.processes()
        file.unlink()
        checkout.script("up")
        assert checkout.processes() == processes, "a file that was read is not needed again"
    finally:
        checkout.script("down", "--delete-data")
