"""Backups of each minor version of etcd, while clients write and keep leases: what they cost, and what they hold."""

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
def lease(checkout: Checkout) -> Iterator[None]:
    """A client with all endpoints keeps a lease of five seconds. A key tells at the end whether it did."""
    granted = checkout.shell(f"etcdctl lease grant {LEASE_SECONDS}").stdout
    found = re.search(r"lease ([0-9a-f]+) granted", granted)
    assert found, granted
    keep = f'eval "$("$1/scripts/env")"; exec etcdctl lease keep-alive {found[1]}'
    command = ["sh", "-ec", keep, "sh", str(checkout.project)]
    with subprocess.Popen(command, env=checkout.environment, stdout=subprocess.DEVNULL) as keeper:
        try:
            checkout.shell(f"etcdctl put leased yes --lease {found[1]}")
            yield
            assert checkout.shell("etcdctl get leased --print-value-only").stdout == "yes\n", "the lease was lost"
        finally:
            keeper.kill()


def keys(checkout: Checkout) -> dict[str, str]:
    """All keys of the writing clients."""
    said = checkout.shell("etcdctl get writes/ --prefix --order ASCEND").stdout.splitlines()
    return dict(zip(said[::2], said[1::2], strict=True))


def test_backups_and_their_tests_lose_and_fail_nothing_and_bring_all_keys_back(checkout: Checkout) -> None:
    with lease(checkout), writing(cast("Lab", Here()), access(checkout)) as writes:
        before = keys(checkout)
        made = [checkout.script("backup", "now", "--test").stdout for _ in range(2)]
        writes.await_more()
    writes.assert_nothing_lost(expect_downtime=False)
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
