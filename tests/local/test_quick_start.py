"""The README's quick start, as a newcomer runs it: real members on this machine, by each engine that is here."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.clusters import eventually
from tests.local.checkout import NOT_SET_UP, SET_UP, Checkout

pytestmark = pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP)


def _missing(engine: str) -> str | None:
    if engine == "embedded":
        return None
    if shutil.which("pulumi") is None:
        return "there is no Pulumi CLI on PATH"
    plugins = subprocess.run(["pulumi", "plugin", "ls"], check=False, capture_output=True, text=True).stdout
    return None if "command" in plugins else "the Pulumi CLI lacks its plugin: pulumi plugin install resource command"


@pytest.fixture(params=["embedded", "pulumi"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checkout]:
    """With a space in its path, as homes have. Whatever a test does, no member outlives it."""
    engine: str = request.param
    if reason := _missing(engine):
        pytest.skip(reason)
    checkout = Checkout(tmp_path / "quick start", engine)
    checkout.use_free_ports()
    yield checkout
    checkout.script("down", "--delete-data")


def test_up_use_again_down_up_again_back_up_down_for_good_and_back(checkout: Checkout) -> None:
    stack_file = checkout.stack_file.read_text()
    up = checkout.script("up")
    assert "is up, all 3 members healthy" in up.stdout

    healthy = checkout.shell("etcdctl endpoint health --cluster; etcdctl put greeting hello; env")
    assert healthy.stdout.count("is healthy") == 3
    assert "PRIVATE KEY" not in healthy.stdout + up.stdout + up.stderr
    key = checkout.state / "client" / "dev" / "etcd" / "client.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700

    processes = checkout.processes()
    # From the shell that was just set up: etcdctl takes no flag beside a variable of the same name.
    again = checkout.shell('"$1/scripts/up" && "$1/scripts/status"')
    assert "3 members, all healthy, no drift" in again.stdout
    assert checkout.processes() == processes

    down = checkout.script("down")
    assert f"The data stays in {checkout.members}" in down.stdout
    assert not key.exists()
    assert checkout.script("env", check=False).stdout == "false\n"

    checkout.script("up")
    assert checkout.shell("etcdctl get greeting --print-value-only").stdout == "hello\n"

    made = checkout.script("backup", "now").stdout
    backups = checkout.home / ".local" / "share" / "etcd-cluster-backups"
    assert f"is in {backups}; it passed a restore" in made
    ids = checkout.shell("etcdctl member list").stdout
    checkout.script("down", "--delete-data")
    assert not checkout.members.exists()
    assert checkout.stack_file.read_text() == stack_file, "the checkout stays as it was"

    with checkout.stack_file.open("a") as file:
        file.write("  etcd-cluster:restoreFrom: latest\n")
    restored = checkout.script("up")
    assert f"etcd-1: restored {made.split()[0]}" in restored.stdout + restored.stderr
    assert checkout.shell("etcdctl get greeting --print-value-only").stdout == "hello\n"
    assert checkout.shell("etcdctl member list").stdout != ids, "another cluster"
    status = " ".join(checkout.script("status").stdout.split())
    assert f"backups {backups}, by hand; none yet; next: `etcd-cluster backup now`" in status
    processes = checkout.processes()
    checkout.script("up")
    assert checkout.processes() == processes, "the backup counts no more"
    assert not list(checkout.home.rglob("rclone")), "a folder needs no program"


def runs(process: str) -> bool:
    """False for a process that has ended, also where nobody has asked for its exit code yet."""
    try:
        return bool(Path("/proc", process, "cmdline").read_bytes())
    except OSError:
        return False


def test_status_says_how_members_are_and_what_was_changed_by_hand(checkout: Checkout) -> None:
    assert "stack dev is not up" in checkout.script("status", check=False).stderr
    checkout.script("up")
    well = checkout.script("status")
    assert "3 members, all healthy, no drift" in well.stdout
    assert well.stdout.count("follower") == 2

    processes = checkout.processes()
    subprocess.run(["kill", "-KILL", processes["etcd-2"]], check=True)
    (checkout.members / "etcd-1" / "pki" / "server.key").chmod(0o644)
    eventually(lambda: "no leader" not in checkout.script("status", check=False).stdout, "they have elected one", 60)
    changed = checkout.script("status", check=False)
    assert changed.returncode == 1
    assert "2 of them healthy, drift on etcd-1" in changed.stdout
    assert "next up     etcd-1: repairing certificates, without a restart" in changed.stdout
    assert "PRIVATE KEY" not in well.stdout + changed.stdout + changed.stderr
    assert checkout.processes() == processes, "it looks, and starts nothing"
    assert not runs(processes["etcd-2"])

    checkout.script("up")
    assert checkout.script("status").returncode == 0
    assert {**checkout.processes(), "etcd-2": ""} == {**processes, "etcd-2": ""}, "the others were not restarted"


def test_what_is_refused_is_refused_before_anything_is_touched(checkout: Checkout) -> None:
    checkout.script("up")
    processes, programs = checkout.processes(), sorted(checkout.members.glob("*/versions/*"))
    checkout.stack_file.write_text(checkout.stack_file.read_text() + "  etcd-cluster:version: 3.4.9\n")
    refused = checkout.script("up", check=False)
    assert refused.returncode != 0
    assert (
        "version: 3.4.9: this cluster runs 3.6.16, and going back to 3.4 is not supported"
        in refused.stdout + refused.stderr
    )
    assert sorted(checkout.members.glob("*/versions/*")) == programs
    assert checkout.processes() == processes


def test_without_tls_env_clears_what_an_earlier_stack_left(checkout: Checkout) -> None:
    checkout.stack_file.write_text(checkout.stack_file.read_text().replace("tls: true", "tls: false"))
    checkout.script("up")
    checkout.environment["ETCDCTL_KEY"] = "/of/another/stack"
    assert checkout.shell("etcdctl endpoint health --cluster").stdout.count("is healthy") == 3


def test_down_with_delete_data_works_for_members_that_died(checkout: Checkout) -> None:
    checkout.script("up")
    for process in checkout.processes().values():
        subprocess.run(["kill", "-KILL", process], check=True)
    checkout.script("down", "--delete-data")
    assert not checkout.members.exists()
