"""Folders and ports of a running cluster on this machine, changed: data are never left behind, and nobody is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.checkout import NOT_SET_UP, PORTS, SET_UP, Checkout, _is_free

pytestmark = [pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP), pytest.mark.exhaustive]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A cluster that is up, with something in it."""
    checkout = Checkout(tmp_path / "paths")
    checkout.use_free_ports()
    checkout.script("up")
    checkout.shell("etcdctl put greeting hello")
    yield checkout
    checkout.script("down", "--delete-data")


def base_port(checkout: Checkout) -> int:
    return int(checkout.local["basePort"])


def cluster_ids(checkout: Checkout) -> set[str]:
    answers = json.loads(checkout.shell("etcdctl endpoint status --cluster --write-out json").stdout)
    return {answer["Status"]["header"]["cluster_id"] for answer in answers}


def refused(checkout: Checkout, text: str) -> None:
    """By the preview, and no process is touched."""
    before = checkout.processes()
    assert len(before) == 3
    up = checkout.script("up", check=False)
    assert up.returncode != 0
    assert text in " ".join((up.stdout + up.stderr).split())
    assert checkout.processes() == before


def test_members_move_to_other_ports_one_at_a_time_and_to_none_that_another_one_has(checkout: Checkout) -> None:
    ids, old = cluster_ids(checkout), base_port(checkout)
    checkout.configure_local({"basePort": old + 10})
    refused(checkout, f"ports: etcd-1: {old + 10}, {old + 11}, {old + 12} at 127.0.0.1 is in use by etcd-2")
    new = next(base for base in range(old + 100, old + 900, 100) if all(_is_free(base + each) for each in range(PORTS)))
    checkout.configure_local({"basePort": new})
    up = checkout.script("up")
    said = re.findall(r"telling the cluster that (etcd-\d) is at|(etcd-\d): restarting", up.stdout + up.stderr)
    names = [announced or restarted for announced, restarted in said]
    assert names[::2] == names[1::2], "each is announced, then restarted"
    assert len(names) == 6
    assert cluster_ids(checkout) == ids
    assert checkout.shell("etcdctl get greeting --print-value-only").stdout == "hello\n"
    assert "3 members, all healthy, no drift" in checkout.script("status").stdout
    peers = checkout.shell("etcdctl member list").stdout
    assert sorted(map(int, re.findall(r"https://127\.0\.0\.1:(\d+), https", peers))) == [new + 1, new + 11, new + 21]


def test_members_are_not_begun_anew_in_another_folder_and_move_there_with_their_data(checkout: Checkout) -> None:
    ids = cluster_ids(checkout)
    elsewhere = checkout.home / "elsewhere"
    checkout.configure_local({**checkout.local, "directory": str(elsewhere)})
    refused(checkout, f"directory: etcd-1, etcd-2, etcd-3: etcd's data is in {checkout.members}/etcd-1")
    checkout.script("down")
    elsewhere.mkdir()
    shutil.move(checkout.members, elsewhere / "etcd")
    checkout.script("up")
    assert cluster_ids(checkout) == ids
    assert checkout.shell("etcdctl get greeting --print-value-only").stdout == "hello\n"
    assert "3 members, all healthy, no drift" in checkout.script("status").stdout
