"""Members in a folder whose name means something to shells, awk, sed, YAML, JSON and systemd: to us it is a name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.checkout import NOT_SET_UP, SET_UP, Checkout

pytestmark = pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP)

FOLDER = 'it\'s "a" $HOME `touch ran-1` $(touch ran-2); touch ran-3 & key=value 100% *\\n é #'


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path / "words")
    checkout.use_free_ports(checkout.home / FOLDER)
    yield checkout
    checkout.script("down", "--delete-data")


def test_a_folder_of_any_name_holds_a_member_that_is_changed_like_any_other(checkout: Checkout) -> None:
    with checkout.stack_file.open("a") as file:
        file.write("  etcd-cluster:members: 1\n")
    checkout.script("up")
    checkout.shell("etcdctl put greeting hello; command -v etcdctl")
    assert "1 member, healthy, no drift" in checkout.script("status").stdout
    processes = checkout.processes()

    with checkout.stack_file.open("a") as file:
        file.write("  etcd-cluster:etcd: {heartbeat-interval: 200, election-timeout: 2000}\n")
    changed = checkout.script("up")
    said = changed.stdout + changed.stderr
    assert said.count(": restarting") == 1, said
    assert not set(checkout.processes().values()) & set(processes.values())

    down = checkout.script("down")
    assert f"The data stays in {checkout.members}" in down.stdout
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if FOLDER.encode() in _read(path)]
    checkout.script("up")
    assert checkout.shell("etcdctl get greeting --print-value-only").stdout == "hello\n"

    checkout.script("down", "--delete-data")
    assert not checkout.members.exists()
    assert not list(checkout.home.rglob("ran-*")), "the name of a folder ran as a command"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
