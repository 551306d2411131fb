"""Members come and go while clients write: hosts listed and unlisted, machines, disks and data lost and made anew.

One cluster goes through all of it, from one member to five and back. Hosts have the names of their members.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.lab.changes import Change, assert_converged, changing, configure, started, steps
from tests.lab.clusters import Cluster
from tests.lab.faults import followers, leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Run, Stack, host_config
from tests.lab.writes import Access

UNREACHABLE_SECONDS = 300
"""Within which an `up` ends, on a busy machine, although a host that is no longer listed does not answer."""

ON_A_REMOVED_HOST = """
systemctl is-active etcd-cluster
ls /etc/etcd/pki /etc/systemd/system/etcd-cluster.service 2> /dev/null
ls -d /data/etcd/data/member
"""


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    return lab.hosts(5, disk_gib=1)


@pytest.fixture(scope="module")
def cluster(lab: Lab, hosts: list[Host], mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """One member. Tests change who is one, and leave it healthy."""
    config = host_config(hosts[:1], mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts[:1], Stack(lab, tmp_path_factory.mktemp("membership"), config))
    cluster.up()
    return cluster


def up_with(cluster: Cluster, hosts: Sequence[Host], judged: Change | None = None) -> Run:
    """An `up` with these hosts listed. Writes go to all that were and to all that will be members, as they come."""
    list_hosts(cluster, hosts)
    cluster.hosts = list(hosts)
    run = cluster.up()
    if judged is not None:
        judged.writes.use(Access.of(cluster.outputs))
    return run


def list_hosts(cluster: Cluster, hosts: Sequence[Host]) -> None:
    listed: dict[str, Any] = host_config(hosts, "")["hosts"]
    configure(cluster, hosts=listed)


def listed(cluster: Cluster) -> list[str]:
    """Names of the members, and what they are: "host-1 started false" (no learner)."""
    printed = cluster.etcdctl("member", "list").splitlines()
    return sorted(" ".join(line.split(", ")[number] for number in (2, 1, -1)) for line in printed)


def all_voters(hosts: Sequence[Host]) -> list[str]:
    return [f"{host.name} started false" for host in hosts]


def joining(*names: str) -> list[str]:
    """What an `up` says of members that join, one after the other; "STATUS SOURCE" for who was asked."""
    return [
        step
        for name in names
        for step in (
            f"STATUS SOURCE: adding {name} as a learner",
            f"{name}: joining as a learner with etcd 3.6.16",
            f"STATUS SOURCE: promoting {name}, once it has all data",
        )
    ]


def said(run: Run) -> list[str]:
    """Its steps on members, without whom it asked to change the membership, and without the check at the end."""
    asked = r"^[\w-]+: (?=adding|promoting|removing|handing)"
    found = [re.sub(asked, "STATUS SOURCE: ", step) for step in steps(run)]
    others = re.compile(r"members are healthy|: (ready|downloading|formatting|archived the data)")
    return [step for step in found if not others.search(step)]


# --- hosts listed and unlisted ---


@pytest.mark.parametrize("count", [3, 5])
def test_hosts_that_are_listed_join_one_at_a_time_and_nobody_restarts(
    cluster: Cluster, hosts: list[Host], count: int
) -> None:
    there = cluster.hosts
    coming = hosts[len(there) : count]
    with changing(cluster, restarts=()) as judged:
        run = up_with(cluster, hosts[:count], judged)
    assert said(run) == joining(*(host.name for host in coming))
    assert listed(cluster) == all_voters(hosts[:count])


def test_a_preview_says_who_joins_and_who_leaves(cluster: Cluster, hosts: list[Host]) -> None:
    before = cluster.stack.config
    try:
        list_hosts(cluster, hosts[2:])
        run = cluster.stack.preview()
    finally:
        cluster.stack.config = before
    for name in ("host-1", "host-2"):
        assert f"{name} leaves the cluster (leadership moves away first), and is stopped; its data stays" in run.output


def test_unlisted_hosts_leave_the_leader_last_and_keep_their_data(cluster: Cluster, hosts: list[Host]) -> None:
    led = leader(cluster)
    follower = followers(cluster)[-1]
    leaving = [follower, led]
    staying = [host for host in hosts if host not in leaving]
    with changing(cluster, restarts=()) as judged:
        run = up_with(cluster, staying, judged)
    found = said(run)
    assert found[:3] == [
        f"STATUS SOURCE: removing {follower.name}",
        f"STATUS SOURCE: handing leadership over to {staying[0].name}",
        f"STATUS SOURCE: removing {led.name}",
    ]
    assert set(found[3:]) == {f"{host.name}: stopped; the data stays in /data/etcd" for host in leaving}
    assert listed(cluster) == all_voters(staying)
    for host in leaving:
        assert host.run(ON_A_REMOVED_HOST, check=False).stdout == "inactive\n/data/etcd/data/member\n"


def test_of_three_members_one_can_stay(cluster: Cluster, hosts: list[Host]) -> None:
    staying = followers(cluster)[:1]
    with changing(cluster, restarts=()) as judged:
        run = up_with(cluster, staying, judged)
    assert f"STATUS SOURCE: handing leadership over to {staying[0].name}" in said(run)
    assert listed(cluster) == all_voters(staying)


def test_a_host_that_was_a_member_joins_anew_and_its_old_data_is_kept(cluster: Cluster, hosts: list[Host]) -> None:
    there = cluster.hosts[0]
    again = [host for host in hosts if host is not there][:2]
    together = sorted([there, *again], key=lambda host: host.name)
    with changing(cluster, restarts=()) as judged:
        run = up_with(cluster, together, judged)
    assert listed(cluster) == all_voters(together)
    for host in again:
        assert f"{host.name}: archived the data of its earlier membership as /data/etcd/data.removed-" in run.output
        host.run("test -d /data/etcd/data.removed-*/member/wal")


def test_a_host_is_swapped_for_another_which_comes_when_the_old_one_has_gone(
    cluster: Cluster, hosts: list[Host]
) -> None:
    old = leader(cluster)
    new = next(host for host in hosts if host not in cluster.hosts)
    together = [new if host is old else host for host in cluster.hosts]
    with changing(cluster, restarts=()) as judged:
        run = up_with(cluster, together, judged)
    found = said(run)
    assert found.index(f"STATUS SOURCE: removing {old.name}") < found.index(
        f"STATUS SOURCE: adding {new.name} as a learner"
    )
    assert f"{old.name}: stopped; the data stays in /data/etcd" in found
    assert sorted(listed(cluster)) == sorted(all_voters(together))


# --- machines, disks and data lost ---


def first(cluster: Cluster) -> Host:
    return cluster.hosts[0]


def follower(cluster: Cluster) -> Host:
    return next(host for host in followers(cluster) if host is not first(cluster))


def rejoins(name: str) -> list[str]:
    return [f"STATUS SOURCE: removing the old membership of {name}, whose data are gone", *joining(name)]


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(follower, id="follower", marks=pytest.mark.exhaustive),
        pytest.param(first, id="first", marks=pytest.mark.exhaustive),
        pytest.param(leader, id="leader"),
    ],
)
def test_a_lost_machine_is_made_anew_at_its_address(cluster: Cluster, lost: Any, lab: Lab, hosts: list[Host]) -> None:
    """Another machine, with another host key and an empty disk: it is not taken for the one that formed the cluster."""
    old: Host = lost(cluster)
    position, known = cluster.hosts.index(old), hosts.index(old)
    others = [host for host in cluster.hosts if host is not old]
    with changing(cluster, restarts=[old.name]) as judged:
        old.kill()
        old.remove()
        new = hosts[known] = lab.host(old.name, address=old.address, disk_gib=1)
        assert new.host_key != old.host_key
        run = up_with(cluster, [*others[:position], new, *others[position:]], judged)
    assert said(run) == rejoins(new.name)
    assert sorted(listed(cluster)) == sorted(all_voters(cluster.hosts))


ANOTHER_DISK = (
    "systemctl stop etcd-cluster data-etcd.mount; dd if=/dev/zero of=/dev/xvdf bs=1M count=64 conv=fsync status=none"
)
WITHOUT_DATA = "systemctl stop etcd-cluster; rm -r /data/etcd/data"
WITHOUT_A_LOG = "systemctl stop etcd-cluster; rm -r /data/etcd/data/member/wal"


@pytest.mark.parametrize(
    ("lose", "whose"),
    [(ANOTHER_DISK, follower), (WITHOUT_DATA, follower), (WITHOUT_A_LOG, leader)],
    ids=["a new disk", "the data directory", "the log of a leader"],
)
def test_a_member_whose_data_is_gone_joins_anew(cluster: Cluster, lose: str, whose: Any) -> None:
    host: Host = whose(cluster)
    with changing(cluster, restarts=[host.name]):
        host.run(lose)
        run = cluster.up()
    assert f"STATUS SOURCE: removing the old membership of {host.name}, whose data are gone" in said(run)
    assert said(run)[-3:] == joining(host.name)
    assert sorted(listed(cluster)) == sorted(all_voters(cluster.hosts))


def test_a_dead_host_that_is_no_longer_listed_is_not_waited_for(cluster: Cluster, hosts: list[Host]) -> None:
    dead = leader(cluster)
    new = next(host for host in hosts if host not in cluster.hosts)
    together = [new if host is dead else host for host in cluster.hosts]
    with changing(cluster, restarts=()) as judged:
        dead.kill()
        run = up_with(cluster, together, judged)
    assert run.seconds < UNREACHABLE_SECONDS, run.output
    found = said(run)
    assert found[0] == f"STATUS SOURCE: removing {dead.name}, which does not answer"
    assert found[1:4] == joining(new.name)
    assert re.search(rf"warning: {dead.name}: its etcd was not stopped.*disable --now etcd-cluster", run.output)
    assert sorted(listed(cluster)) == sorted(all_voters(together))
    # Should it come back, it is no member, and no cluster of its own.
    dead.start()
    dead.run(
        "until systemctl show -P ActiveState etcd-cluster | grep -qE 'failed|inactive'; do sleep 0.2; done", timeout=600
    )
    assert_converged(cluster)


def test_two_lost_of_three_are_refused_with_the_way_out(cluster: Cluster, lab: Lab, hosts: list[Host]) -> None:
    """Last: nothing but a restored snapshot helps this cluster."""
    survivor, *lost = cluster.hosts
    before, data = started(cluster)[survivor.name], survivor.run("stat -c %i /data/etcd/data/member").stdout
    for host in lost:
        host.kill()
        host.remove()
    anew = [lab.host(host.name, address=host.address, disk_gib=1) for host in lost]
    list_hosts(cluster, [survivor, *anew])
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    names = ", ".join(host.name for host in lost)
    assert re.search(rf"quorum is lost: the data of {names} are gone \(2 of 3 members\).*docs/recover", run.output)
    cluster.hosts = [survivor]
    assert started(cluster)[survivor.name] == before
    assert survivor.run("stat -c %i /data/etcd/data/member").stdout == data
    for host in anew:
        assert host.run("pgrep -x etcd; ls -A /data/etcd/data", check=False).stdout == ""
