"""Databases that are full, fragmented or differ: `up` makes room, and replaces who differs, while clients write.

Three members with the smallest quota that a history of a few dozen values fills.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.changes import assert_converged, change, changing, configure, steps
from tests.lab.clusters import Cluster, eventually
from tests.lab.faults import leader
from tests.lab.hosts import Lab
from tests.lab.object_store import ObjectStore
from tests.lab.stack import STACK, Stack, host_config
from tests.lab.test_backup import backup_config
from tests.lab.test_crash_points import Kill, Scene, kill_the_operator, kill_the_step
from tests.lab.writes import Access, writing

MIB = 1024**2
QUOTA_MIB = 64
OVERWRITE = """
. /etc/profile.d/etcd.sh
head -c 900000 /dev/urandom | base64 -w 0 | head -c 900000 > /tmp/value
for number in $(seq {count}); do etcdctl put {key} < /tmp/value > /dev/null 2>&1 || break; done
"""

CHANGE_BY_HAND = """
systemctl stop etcd-cluster
sed -i s/by-nobody/by-a-hand/g /data/etcd/data/member/snap/db
chown etcd: /data/etcd/data/member/snap/db
systemctl start etcd-cluster
grep -c by-a-hand /data/etcd/data/member/snap/db
"""


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    hosts = lab.hosts(3, disk_gib=1)
    config = host_config(hosts, mirror_url, allowUndersized=True, etcd={"quota-backend-bytes": QUOTA_MIB * MIB})
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("space"), config))
    cluster.up()
    yield cluster
    for host in hosts:
        host.remove()


def fill_with_history(cluster: Cluster) -> None:
    """One key, written until etcd refuses every write."""
    cluster.hosts[0].run(OVERWRITE.format(count=2 * QUOTA_MIB, key="filling/history"), timeout=300)
    eventually(lambda: "NOSPACE" in cluster.etcdctl("alarm", "list"), "the alarm NOSPACE")


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(None, id="undisturbed"),
        pytest.param(kill_the_operator, id="kill_the_operator", marks=pytest.mark.exhaustive),
        pytest.param(kill_the_step, id="kill_the_step", marks=pytest.mark.exhaustive),
    ],
)
def test_a_database_full_of_history_takes_writes_again(cluster: Cluster, kill: Kill | None) -> None:
    takes_writes_again(cluster, kill)


def takes_writes_again(cluster: Cluster, kill: Kill | None = None) -> None:
    """Clients wait through the alarm. What they had an answer to is there afterwards, and so is every key."""
    identity = cluster.cluster_ids()
    cluster.etcdctl("put", "kept", "as it was")
    with writing(cluster.lab, Access.of(cluster.outputs), give_up_seconds=600) as writes:
        fill_with_history(cluster)
        done = Scene(cluster, [], kill).kill_every_step() if kill else set(steps(cluster.up()))
        writes.await_more()
    writes.assert_nothing_lost()
    said = " ".join(done)
    for text in ("compacting the whole history", "to defragment its database", "ending the alarm NOSPACE"):
        assert text in said, done
    assert cluster.etcdctl("alarm", "list") == ""
    assert cluster.etcdctl("get", "kept", "--print-value-only").strip() == "as it was"
    assert cluster.cluster_ids() == identity
    assert_converged(cluster)


LEASES = 6
LEASE_SECONDS = 5


@contextmanager
def kept_leases(cluster: Cluster) -> Iterator[None]:
    """Clients that know all endpoints keep short leases while the block lasts. None may run out."""
    ids = [cluster.etcdctl("lease", "grant", str(LEASE_SECONDS)).split()[1] for _ in range(LEASES)]
    keepers = [
        cluster.lab.popen([*cluster.etcdctl_command(), "lease", "keep-alive", each], stdout=subprocess.DEVNULL)
        for each in ids
    ]
    try:
        yield
        assert set(ids) <= set(cluster.etcdctl("lease", "list").split())
        assert [keeper.poll() for keeper in keepers] == [None] * LEASES
    finally:
        for keeper in keepers:
            keeper.kill()
            keeper.wait(10)


def test_a_fragmented_database_is_defragmented_and_clients_do_not_notice(cluster: Cluster) -> None:
    is_defragmented(cluster)


def is_defragmented(cluster: Cluster) -> None:
    """No write fails, no lease is lost, and a further `up` finds nothing to do."""
    for number in range(4):
        cluster.hosts[0].run(OVERWRITE.format(count=10, key=f"free/{number}/$number"), timeout=120)
    cluster.etcdctl("del", "--prefix", "free/")
    revision = json.loads(cluster.etcdctl("get", "free", "-w", "json"))["header"]["revision"]
    cluster.etcdctl("compact", str(revision))
    configure(cluster, defragment={"free": 0.5, "atLeastMib": 16})
    with kept_leases(cluster), changing(cluster) as judged:
        judged.writes.await_more()
        done = steps(cluster.up())
    assert sum("to defragment its database" in each for each in done) == len(cluster.hosts), done
    assert max(cluster.database_bytes()) < 16 * MIB


@pytest.mark.parametrize(
    "start", [True, pytest.param(False, marks=pytest.mark.exhaustive)], ids=["systemd starts it", "stopped"]
)
def test_a_member_that_ends_at_start_as_its_data_were_changed_is_replaced(cluster: Cluster, start: bool) -> None:
    """etcd's own check ends it, before it serves anybody, so no alarm stands. Its data stay under another name."""
    cluster.etcdctl("put", "changed", "by-nobody")
    member = leader(cluster)
    identity = cluster.cluster_ids()
    with writing(cluster.lab, Access.of(cluster.outputs), give_up_seconds=600) as writes:
        member.run(CHANGE_BY_HAND, timeout=120)
        if start:
            eventually(lambda: int(member.run("systemctl show -P NRestarts etcd-cluster").stdout) > 2, "three restarts")
        else:
            member.run("systemctl stop etcd-cluster")
        done = steps(cluster.up())
        writes.await_more()
    writes.assert_nothing_lost()
    for text in (f"removing {member.name}, whose data differ", f"promoting {member.name}"):
        assert any(text in each for each in done), done
    assert "CORRUPT" not in " ".join(done)
    assert int(member.run("cat /data/etcd/data.removed-*/member/snap/db | grep -ac by-a-hand").stdout)
    for url in cluster.outputs["endpoints"]:
        assert cluster.etcdctl("--endpoints", url, "get", "changed", "--print-value-only").strip() == "by-nobody"
    assert cluster.cluster_ids() == identity
    assert_converged(cluster)


SPOIL = {
    "database cut short": ("cp {db} /tmp/db; truncate -s 8192 {db}", "cp /tmp/db {db}"),
    "program ends": ("cp {etcd} /tmp/etcd; printf '#!/bin/sh\nexit 3\n' > {etcd}", "cp /tmp/etcd {etcd}"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("spoilt", SPOIL)
def test_a_member_that_ends_at_start_for_another_reason_stays_a_member(cluster: Cluster, spoilt: str) -> None:
    """The run fails, with its log. Its data stay, and it goes on once somebody has put that right."""
    member, ids = leader(cluster), cluster.etcdctl("member", "list")
    paths = {"db": "/data/etcd/data/member/snap/db", "etcd": "$(readlink -f /opt/etcd/bin)/etcd"}
    break_it, mend = (each.format(**paths) for each in SPOIL[spoilt])
    member.run(f"systemctl stop etcd-cluster; {break_it}")
    run = cluster.stack.up(check=False)
    assert run.returncode != 0, run.output
    assert f"{member.name}: asking what its data hold" in run.output, run.output
    assert "removing" not in run.output, run.output
    assert cluster.etcdctl("member", "list") == ids
    member.run(f"systemctl stop etcd-cluster; {mend}")
    cluster.up()
    assert_converged(cluster)


def test_a_member_whose_data_were_changed_by_hand_is_found_and_replaced(cluster: Cluster) -> None:
    differing_leader_is_replaced(cluster)


def differing_leader_is_replaced(cluster: Cluster) -> None:
    """By the hash of its keys, which the others do not share. Its data stay on its disk under another name."""
    gates = "CompactHashCheck=true,InitialCorruptCheck=false"  # with the latter, it would not start with such data
    check = {"feature-gates": gates, "compact-hash-check-time": "1s"}
    configure(cluster, etcd={**cluster.stack.config["etcd"], **check})
    cluster.up()
    identity = cluster.cluster_ids()
    cluster.etcdctl("put", "changed", "by-nobody")
    member = leader(cluster)  # the harder case
    with writing(cluster.lab, Access.of(cluster.outputs), give_up_seconds=600) as writes:
        member.run(CHANGE_BY_HAND, timeout=120)
        eventually(cluster.healthy, "every member healthy")
        revision = json.loads(cluster.etcdctl("get", "changed", "-w", "json"))["header"]["revision"]
        cluster.etcdctl("compact", str(revision))
        eventually(lambda: "CORRUPT" in cluster.etcdctl("alarm", "list"), "the alarm CORRUPT")
        run = cluster.up()
        writes.await_more()
    writes.assert_nothing_lost()
    done = steps(run)
    for text in (f"removing {member.name}, whose data differ", "ending the alarm CORRUPT", f"promoting {member.name}"):
        assert any(text in each for each in done), done
    assert member.run("ls -d /data/etcd/data.removed-*/member").stdout
    for url in cluster.outputs["endpoints"]:
        assert cluster.etcdctl("--endpoints", url, "get", "changed", "--print-value-only").strip() == "by-nobody"
    assert cluster.cluster_ids() == identity
    assert_converged(cluster)


@pytest.mark.exhaustive
def test_all_of_it_goes_on_with_users_and_a_backup_of_them_passes_its_test(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = ObjectStore(cluster.lab, tmp_path_factory.mktemp("store") / "objects")
    store.start()
    backup = backup_config(store, every="24h")
    change(cluster, restarts=(), users={"app": {"roles": ["root"]}}, backup=backup, defragment=None)
    takes_writes_again(cluster)
    is_defragmented(cluster)
    differing_leader_is_replaced(cluster)
    command = [sys.executable, "-m", "etcd_cluster.cli", "--stack", STACK, "backup", "now", "--test"]
    stack = cluster.stack
    made = cluster.lab.run(command, cwd=stack.folder, env=stack.environment, stdin=subprocess.DEVNULL, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert store.objects(".tested")
    assert "Authentication Status: true" in cluster.etcdctl("auth", "status")
    store.stop()
