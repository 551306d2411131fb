"""Checks data directories before any decision relies on them: data that are not visible are not necessarily gone."""

from __future__ import annotations

from etcd_cluster.rollout.observed import History, MemberEntry
from etcd_cluster.rollout.planner.actions import HEALTH_SECONDS, LEADER_SECONDS, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


def require_visible(view: ClusterView) -> WaitFor | None:
    """Returns a wait if a starting member shows no data yet; None if all data directories can be relied on.

    Raises:
        RefusedError: A member runs without data at their path, or something is mounted in their place: the data may be
            below it, intact. Or the disk holds data of another member.
    """
    for name, host in view.hosts.items():
        if host.owner not in ("", name) and (host.data or host.history != History()):
            raise RefusedError(Refusal.DATA_OF_ANOTHER_MEMBER, {"member": name, "owner": host.owner})
        may_mount_again = host.missing and not host.mounted_over and name not in view.context.prepared
        if host.data or may_mount_again:
            continue
        path = view.desired.members[name].layout.data
        if host.pid:
            reason = WaitReason.DATA_HIDDEN if host.mounted_over else WaitReason.DATA_DELETED
            details = {"name": name, "path": path, "mounted_over": host.mounted_over}
            if host.live:
                raise RefusedError(reason, details)
            return WaitFor(reason, LEADER_SECONDS, name, details)
        if host.mounted_over:
            state = view.desired.members[name].layout.state
            details = {"member": name, "mounted_over": host.mounted_over, "state": state}
            raise RefusedError(Refusal.MOUNTED_OVER, details)
    return None


def require_in_place(view: ClusterView) -> None:
    """Raises `RefusedError` if members have no data, and a former machine of theirs holds data."""
    left = {
        host.owner: host
        for name, host in view.observation.hosts.items()
        if name not in view.desired.members and host.owner in view.hosts and host.data
    }
    empty = [name for name in left if not view.hosts[name].data and view.hosts[name].machine != left[name].machine]
    if view.context.forming and empty:
        raise RefusedError(Refusal.DATA_ON_FORMER_MACHINE, {"members": sorted(empty)})


def require_one_cluster(view: ClusterView) -> None:
    """Raises `RefusedError` if members hold data of different clusters, and one of them does not serve.

    Such a member is stopped and would start with data of another cluster than the others have (such as data from before
    a snapshot was restored), or runs with them and has no leader. Data of a removed member do not count: that member
    never starts again. A member that serves in another cluster is reported by `quorum.await_one_cluster`.
    """
    having = {name: host for name, host in view.observation.hosts.items() if host.data and host.data_of}
    stopped = [name for name in having if name in view.hosts and not having[name].pid and not view.was_removed(name)]
    waiting = [name for name in having if name in view.hosts and having[name].live and not having[name].may_serve]
    counted = {name: host.data_of for name, host in having.items() if host.pid or name in stopped}
    if (stopped or waiting) and len(set(counted.values())) > 1:
        raise RefusedError(Refusal.DATA_OF_DIFFERENT_CLUSTERS, {"found": counted})


def runs(view: ClusterView, listed: MemberEntry) -> bool:
    """Returns whether a listed member runs, as far as anybody can tell.

    It does if it is healthy or connected, if a process reports its id, or if the process on its machine reports no id.
    """
    if listed.id in view.observation.healthy | view.observation.unknown or any(
        host.live and host.live.id == listed.id for host in view.observation.hosts.values()
    ):
        return True
    host = view.observation.hosts.get(listed.name)
    return bool(host and host.pid and host.live is None)


def await_majority_without(view: ClusterView, listed: MemberEntry) -> WaitFor | None:
    """Returns a wait if no majority would be left without the member; None if it may be removed.

    This is a precondition of every removal. Of the voters that are left, a majority has to take part, by their own
    report or by the leader's. So the last member with data is never removed.
    """
    left = [voter for voter in view.observation.voters if voter.id != listed.id]
    following = {host.live.id for host in view.observation.hosts.values() if host.live and host.live.has_leader}
    taking_part = [
        voter for voter in left if voter.id in view.observation.healthy | view.observation.connected | following
    ]
    if len(taking_part) > len(left) // 2:
        return None
    down = [voter.name or voter.peer_url for voter in left if voter not in taking_part]
    reason = WaitReason.NO_MAJORITY_WITHOUT if down else WaitReason.LAST_VOTER
    details = {"name": listed.name or listed.peer_url, "down": down}
    return WaitFor(reason, HEALTH_SECONDS, details=details)
