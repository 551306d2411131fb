"""Decides whether the cluster can agree on anything, and what to report where it cannot."""

from __future__ import annotations

from collections.abc import Iterable

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.rollout.observed import Host, MemberEntry, Observation
from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, Details, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError

CAUGHT_UP_ENTRIES = 100
"""Entries of raft's log. A member at most this far behind the newest one counts as caught up."""


def is_gone(view: ClusterView) -> bool:
    """Returns whether a majority has lost its data, by the recorded number of members. No restart helps then."""
    noted = _members_noted(view, [host for host in view.observation.hosts.values() if host.data])
    may_hold = sum(host.data for host in view.observation.hosts.values()) + len(view.observation.unreachable)
    return may_hold <= max(noted, default=0) // 2


def may_be_held(view: ClusterView, *, by_those_asked: bool = False) -> bool:
    """Returns whether a majority may be serving, for all that is known.

    A member counts as not serving only if it reports so itself, or if nothing runs there. A member that gave no answer,
    or was not asked, counts as serving. A single member may be restarted: either it has no majority, or it is the only
    member.

    Args:
        view: The cluster.
        by_those_asked: Only members that were asked count. Recorded members may be older than the last changes of the
            membership, so members that have left by now cannot be asked.
    """
    hosts = [host for host in view.observation.hosts.values() if host.data or host.pid]
    counts = _members_noted(view, hosts)
    fewest, most = min(counts, default=0), max(counts, default=0)
    not_asked = 0 if by_those_asked else max(most - len(hosts), len(view.observation.unreachable))
    return sum(host.may_serve for host in hosts) + not_asked > max(fewest // 2, 1)


def _members_noted(view: ClusterView, hosts: Iterable[Host]) -> list[int]:
    """Returns how many members the cluster had, by each recorded history.

    A member that has joined and has no history yet does not count.
    """
    notes = [host.history.members for host in hosts if host.history.members]
    return [len(view.desired.members) if noted == FOUNDING else len(noted.split(",")) for noted in notes]


def await_one_cluster(view: ClusterView) -> WaitFor | None:
    """Returns a wait if a member of the stack serves in another cluster than the status source's; None otherwise.

    The wait may pass: a member that was just removed ends on its own. If it does not, only people can decide which of
    two clusters has what clients wrote.
    """
    listed = {member.id for member in view.observation.members}
    apart = [
        name for name, host in view.hosts.items() if host.live and host.live.has_leader and host.live.id not in listed
    ]
    if view.observation.status_source is None or not apart:
        return None
    details = {"apart": apart, "source": view.observation.status_source}
    return WaitFor(WaitReason.TWO_CLUSTERS, LEADER_SECONDS, details=details)


def why_no_leader(view: ClusterView) -> tuple[WaitReason, Details]:
    """Returns why no member can answer for the cluster, with the details of the text."""
    following, unknown = view.following(), view.unknown()
    if following:
        reason = WaitReason.FOLLOWERS_UNKNOWN if unknown else WaitReason.NO_ANSWER_FROM_FOLLOWERS
        return reason, {"following": following, "unknown": unknown}
    if unknown and may_be_held(view):
        return WaitReason.MAJORITY_UNKNOWN, {"unknown": unknown}
    leaving = [
        name for name, host in view.observation.hosts.items() if name not in view.hosts and host.data and not host.pid
    ]
    if leaving:
        return WaitReason.LEAVING_MEMBER_DOWN, {"leaving": leaving}
    lost = [name for name, host in view.hosts.items() if not host.data]
    if not lost or not is_gone(view):
        pairs = view.observation.broken_pairs
        return (WaitReason.NO_LEADER_AND_BROKEN_PAIRS, {"pairs": pairs}) if pairs else (WaitReason.NO_LEADER, {})
    return WaitReason.QUORUM_LOST, {"lost": lost, "count": len(lost), "all": len(view.hosts)}


def known(view: ClusterView, name: str | None) -> str:
    """Returns `name`, the status source or the leader. After `start.await_leader` it is there.

    Raises:
        RefusedError: It is None: no member can answer for the cluster.
    """
    if name is None:
        raise RefusedError(*why_no_leader(view))
    return name


def successor(observation: Observation, names: Iterable[str], not_to: Iterable[str]) -> MemberEntry | None:
    """Returns the member that leads next; None if there is no candidate.

    Of the healthy voters among `names`, it is the first that every other running member reaches and is reached by, and
    whose applied index is at most `CAUGHT_UP_ENTRIES` behind the highest one. If there is none, the leader itself may
    be the one that is not reached, as before the restart that reconnects it.

    Args:
        observation: What the machines and the cluster report.
        names: Names of the candidates, in order of preference.
        not_to: Ids of members that must not lead.
    """
    avoided = set(not_to)
    pairs = [{pair.member, pair.peer} for pair in observation.broken_pairs]
    apart = set[str]().union(*(pair for pair in pairs if observation.leader not in pair))
    candidates = [
        listed
        for name in names
        if (listed := observation.of(name)) and not listed.learner and listed.id in observation.healthy - avoided
        if name not in apart
    ]
    candidates.sort(key=lambda candidate: any(candidate.name in pair for pair in pairs))

    def applied(candidate: MemberEntry) -> int:
        host = observation.hosts.get(candidate.name)
        return host.live.applied if host and host.live else 0

    newest = max(map(applied, candidates), default=0)
    return next((each for each in candidates if applied(each) >= newest - CAUGHT_UP_ENTRIES), None)
