"""Derives facts from the running members that do not reach one another, and waits for them. Changes nothing."""

from __future__ import annotations

from collections import Counter

from etcd_cluster.rollout.planner.actions import LEADER_SECONDS, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView


def suspects(view: ClusterView) -> list[str]:
    """Returns the members that most others do not reach or are not reached by; none if all members reach one another.

    A member whose firewall or certificate is wrong is part of every broken pair; the other members are part of one.
    """
    pairs = {frozenset((pair.member, pair.peer)) for pair in view.observation.broken_pairs}
    counts = Counter(name for pair in pairs for name in pair)
    return [name for name, count in counts.items() if count == max(counts.values())]


def await_every_pair(view: ClusterView) -> WaitFor | None:
    """Returns a wait if a running member does not reach another one; None if every pair is active both ways.

    This is a precondition of every restart, change of the membership and hand-over, and of the end of a run. Exempt is
    what may reconnect the members: see reconnect.py. A connection that was just lost is made again within a second.
    """
    pairs = view.observation.broken_pairs
    return WaitFor(WaitReason.BROKEN_PAIRS, LEADER_SECONDS, details={"pairs": pairs}, pairs=pairs) if pairs else None
