"""Whether the cluster can agree on anything, and what to say where it cannot."""

from __future__ import annotations

from etcd_cluster.rollout.plan.acts import RefusedError
from etcd_cluster.rollout.plan.situation import Situation


def is_gone(now: Situation) -> bool:
    """By what was noted of the members, a majority has no data any more. Restarting the others does not help."""
    noted = [len(host.history.members.split(",")) for host in now.seen.hosts.values() if host.data]
    may_hold = sum(host.data for host in now.seen.hosts.values()) + len(now.seen.silent)
    return may_hold <= max(noted, default=0) // 2


def why_none(now: Situation) -> str:
    following = now.following()
    if following:
        return (
            f"{', '.join(following)} have a leader, but `etcdctl member list` and `etcdctl endpoint health` get no "
            "answer on their machines. Look there, and at their logs (journalctl -u etcd), then run again"
        )
    leaving = [name for name, host in now.seen.hosts.items() if name not in now.hosts and host.data and not host.pid]
    if leaving:
        return (
            f"no quorum: {', '.join(leaving)} is to leave, and does not run. Start it (systemctl start etcd), or "
            "put it back into the stack, and run again"
        )
    lost = [name for name, host in now.hosts.items() if not host.data]
    if not lost:
        return (
            "no member leads: a majority of them cannot reach one another. Look at their logs (journalctl -u etcd) "
            "and at the network between their peer ports, then run again"
        )
    return (
        f"quorum is lost: the data of {', '.join(lost)} are gone ({len(lost)} of {len(now.hosts)} members), so "
        "the others cannot agree on anything. Nothing was changed. Bring a lost disk back, and run again; or "
        "restore a snapshot into a new cluster: docs/recover.md has the steps"
    )


def known(now: Situation, name: str | None) -> str:
    """The teller, or the leader: after `starting.await_leader`, whoever asks for it knows that it is there."""
    if name is None:
        raise RefusedError(why_none(now))
    return name
