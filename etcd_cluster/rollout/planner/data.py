"""Data that are not to be seen are not data that are gone: what has to be true of disks before they decide anything."""

from __future__ import annotations

from etcd_cluster.rollout.observed import History, MemberEntry
from etcd_cluster.rollout.planner import messages
from etcd_cluster.rollout.planner.actions import HEALTH_SECONDS, LEADER_SECONDS, RefusedError, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView


def require_visible(view: ClusterView) -> WaitFor | None:
    """Raises `RefusedError` where a member runs whose data are not at their path, and where something is mounted in
    their place: they may be below, whole. A process that does not answer yet may just be making its data."""
    for name, host in view.hosts.items():
        if host.owner not in ("", name) and (host.data or host.history != History()):
            raise RefusedError(
                f"{name}: its disk holds the data of member {host.owner}. Nothing more was changed; give each member "
                "its own disk back, then run again"
            )
        may_mount_again = host.missing and not host.mounted_over and name not in view.context.prepared
        if host.data or may_mount_again:
            continue
        path = view.wanted.members[name].layout.data
        if host.pid:
            reason = WaitReason.DATA_HIDDEN if host.mounted_over else WaitReason.DATA_DELETED
            details = {"name": name, "path": path, "mounted_over": host.mounted_over}
            if host.live:
                raise RefusedError(messages.text(reason, details))
            return WaitFor(reason, LEADER_SECONDS, name, details)
        if host.mounted_over:
            raise RefusedError(
                f"{name}: {host.mounted_over} is mounted where its data belong, and may hide them. Nothing more was "
                "changed; unmount it, and take it out of /etc/fstab, then run again. If it is the new file system for "
                f"them, take {view.wanted.members[name].layout.state}/mounted-at away there"
            )
    return None


def require_in_place(view: ClusterView) -> None:
    """Raises `RefusedError` where members have no data, and those of theirs are on a machine that was theirs before."""
    left = {
        host.owner: host
        for name, host in view.observation.hosts.items()
        if name not in view.wanted.members and host.owner in view.hosts and host.data
    }
    empty = [name for name in left if not view.hosts[name].data and view.hosts[name].machine != left[name].machine]
    if view.context.forming and empty:
        raise RefusedError(
            f"{', '.join(sorted(empty))}: another machine or folder by now, and the one before holds data of this "
            "cluster, whose first `up` did not end well. A second cluster is never formed beside them, and nothing "
            "more was changed. Put it back and run `pulumi up`; or run `pulumi destroy`, then `pulumi up`"
        )


def require_one_cluster(view: ClusterView) -> None:
    """Raises `RefusedError` where a member that does not run would start with data of another cluster than others have,
    such as those from before a snapshot was restored, or runs with them and has no leader. Those of a membership that
    has ended never start again. Where one serves in another cluster, `quorum.await_one_cluster` tells."""
    having = {name: host for name, host in view.observation.hosts.items() if host.data and host.data_of}
    stopped = [name for name in having if name in view.hosts and not having[name].pid and not view.was_removed(name)]
    waiting = [name for name in having if name in view.hosts and having[name].live and not having[name].may_serve]
    counted = {name: host.data_of for name, host in having.items() if host.pid or name in stopped}
    if (stopped or waiting) and len(set(counted.values())) > 1:
        found = "; ".join(f"{name}: {of}" for name, of in counted.items())
        raise RefusedError(
            f"the data of these members are of different clusters, by etcd's own logs ({found}), as if one were "
            "restored beside older ones. Put those of all but one out of the way (docs/recover.md), then run "
            "again. Nothing more was changed"
        )


def runs(view: ClusterView, listed: MemberEntry) -> bool:
    """Whether that member runs, as far as anybody can tell: it is healthy or connected, a process says that it is that
    member, or the process on its machine does not say which it is."""
    if listed.id in view.observation.healthy | view.observation.unknown or any(
        host.live and host.live.id == listed.id for host in view.observation.hosts.values()
    ):
        return True
    host = view.observation.hosts.get(listed.name)
    return bool(host and host.pid and host.live is None)


def await_majority_without(view: ClusterView, listed: MemberEntry) -> WaitFor | None:
    """Precondition of every removal: those that are left, and take part by their own account or by the leader's, are a
    majority of the voters that are left. So the last one with data is never removed."""
    left = [voter for voter in view.observation.voters if voter.id != listed.id]
    following = {host.live.id for host in view.observation.hosts.values() if host.live and host.live.has_leader}
    taking_part = [
        voter for voter in left if voter.id in view.observation.healthy | view.observation.connected | following
    ]
    if len(taking_part) > len(left) // 2:
        return None
    down = [voter.name or voter.peer_url for voter in left if voter not in taking_part]
    details = {"name": listed.name or listed.peer_url, "down": down or "nobody else"}
    return WaitFor(WaitReason.NO_MAJORITY_WITHOUT, HEALTH_SECONDS, details=details)
