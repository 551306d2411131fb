"""A running cluster on this machine, changed: what is edited in the stack file, and what that does to the machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.checkout import NOT_SET_UP, SET_UP, Checkout

pytestmark = pytest.mark.skipif(not SET_UP, reason=NOT_SET_UP)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A cluster that is up, with something in it."""
    checkout = Checkout(tmp_path / "changes")
    checkout.use_free_ports()
    checkout.script("up")
    checkout.shell("etcdctl put greeting hello")
    yield checkout
    checkout.script("down", "--delete-data")


def configure(checkout: Checkout, **values: str) -> None:
    with checkout.stack_file.open("a") as file:
        file.writelines(f"  etcd-cluster:{key}: {value}\n" for key, value in values.items())


def require_well(checkout: Checkout, members: int) -> None:
    assert checkout.shell("etcdctl get greeting --print-value-only").stdout == "hello\n"
    status = checkout.script("status").stdout
    assert (f"{members} members, all healthy, no drift" if members > 1 else "1 member, healthy, no drift") in status


def test_after_a_reboot_every_member_is_started_again_with_its_data(checkout: Checkout) -> None:
    before = checkout.processes()
    subprocess.run(["kill", "-KILL", *before.values()], check=True)
    up = checkout.script("up")
    assert "etcd-1: starting" in up.stdout + up.stderr
    after = checkout.processes()
    assert not set(after.values()) & set(before.values())
    require_well(checkout, 3)


def test_settings_and_the_number_of_members_change_one_member_at_a_time(checkout: Checkout) -> None:
    before = checkout.processes()
    configure(checkout, etcd="{heartbeat-interval: 200, election-timeout: 2000}")
    up = checkout.script("up")
    steps = re.findall(r"(etcd-\d): (restarting|handing)", up.stdout + up.stderr)
    assert [step for _, step in steps] == ["restarting", "restarting", "handing", "restarting"]
    assert steps[2][0] == steps[3][0], "the leader comes last, and hands over first"
    assert not set(checkout.processes().values()) & set(before.values())
    require_well(checkout, 3)

    configure(checkout, members="1")
    checkout.script("up")
    require_well(checkout, 1)
    assert not Path("/proc", checkout.processes().get("etcd-3", "none")).exists()
    assert (checkout.members / "etcd-3" / "volume" / "data" / "member").is_dir(), "data of those that left stays"

    checkout.stack_file.write_text(checkout.stack_file.read_text().replace("members: 1\n", "members: 3\n"))
    checkout.script("up")
    require_well(checkout, 3)
    assert list((checkout.members / "etcd-3" / "volume").glob("data.removed-*")), (
        "and is moved away when they come back"
    )


def test_after_down_with_most_members_lost_up_refuses_until_they_are_back(checkout: Checkout, tmp_path: Path) -> None:
    """A member's folder is all there is of its machine: data, and what is noted apart from them."""
    checkout.script("down")
    lost = ["etcd-2", "etcd-3"]
    for name in lost:
        (checkout.members / name).rename(tmp_path / name)
    refused = checkout.script("up", check=False)
    assert refused.returncode != 0
    assert "etcd-2, etcd-3: no data" in refused.stdout + refused.stderr
    assert not any(Path("/proc", process).exists() for process in checkout.processes().values())
    for name in lost:
        shutil.rmtree(checkout.members / name)
        (tmp_path / name).rename(checkout.members / name)
    checkout.script("up")
    require_well(checkout, 3)


@pytest.mark.parametrize("by_file", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_a_member_that_is_left_after_a_power_cut_recovers_the_cluster(checkout: Checkout, by_file: bool) -> None:
    """It has started without a quorum, so it answers no client. What it had applied is all there. by_file: the cluster
    goes on with a snapshot instead, and that nobody can back up what is there is no reason to end."""
    members = checkout.shell("etcdctl member list --write-out json").stdout
    cluster = f"{json.loads(members)['header']['cluster_id']:x}"
    checkout.shell("for key in $(seq 50); do etcdctl put key-$key value; done")
    time.sleep(2)  # with the next heartbeat, followers learn what is committed
    file = checkout.home / "snapshot.db"
    checkout.shell(f"ETCDCTL_ENDPOINTS=${{ETCDCTL_ENDPOINTS%%,*}} etcdctl snapshot save '{file}'")
    before = checkout.processes()
    subprocess.run(["kill", "-KILL", *before.values()], check=True)
    for name in ("etcd-1", "etcd-3"):
        shutil.rmtree(checkout.members / name / "volume" / "data")
    refused = checkout.script("up", check=False)
    assert "quorum is lost" in refused.stdout + refused.stderr
    configure(checkout, recover=json.dumps({"cluster": cluster, **({"from": str(file)} if by_file else {})}))
    up = checkout.script("up")
    assert f"testing a restore of {file if by_file else 'the data of etcd-2'}" in up.stdout + up.stderr
    require_well(checkout, 3)
    assert checkout.shell("etcdctl get key- --prefix --keys-only | grep -c key").stdout == "50\n"
    assert list((checkout.members / "etcd-2" / "volume").glob("data.removed-*"))
