"""Finds members whose data differ from the majority's, under etcd's alarm CORRUPT. membership.py replaces them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from etcd_cluster.rollout.observed import CORRUPT, MemberEntry
from etcd_cluster.rollout.planner import alarms
from etcd_cluster.rollout.planner.actions import HEALTH_SECONDS, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


def await_hashes(view: ClusterView) -> WaitFor | None:
    """Returns a wait until every member's hash can be compared with the others'; None if all can.

    No member is judged before: one that gives no answer may be the one that is right. Under the alarm nothing is
    written, so all come to the same revision.
    """
    members, hashes = view.observation.members, view.observation.hashes
    without_hash = [member.name or member.peer_url for member in members if member.id not in hashes]
    if without_hash:
        return WaitFor(WaitReason.HASHES_UNKNOWN, HEALTH_SECONDS, without_hash[0], {"names": without_hash})
    if len({(each.revision, each.compact_revision) for each in hashes.values()}) > 1:
        found = {
            member.name: f"{hashes[member.id].revision}, {hashes[member.id].compact_revision}" for member in members
        }
        return WaitFor(WaitReason.HASHES_OF_OTHER_REVISIONS, HEALTH_SECONDS, None, {"found": found})
    return None


def differing(view: ClusterView) -> Sequence[MemberEntry]:
    """Returns the members that hold other data than the majority of the voters.

    etcd's own word on which one is corrupt does not count: 3.4 and 3.5 name none.

    Precondition: `await_hashes` has no wait.

    Raises:
        RefusedError: No majority holds the same data, so nobody can tell which data are right.
    """
    hashes, voters = view.observation.hashes, view.observation.voters
    if len(voters) == 1 and _names_only_removed_members(view):
        return []
    (hash_, count), *_ = Counter(hashes[voter.id].hash for voter in voters).most_common()
    if count < 2 or count <= len(voters) // 2:
        found = {voter.name: f"{hashes[voter.id].hash:08x}" for voter in voters}
        raise RefusedError(Refusal.ALARM_CORRUPT_WITHOUT_MAJORITY, {"found": found})
    return [member for member in view.observation.members if hashes[member.id].hash != hash_]


def _names_only_removed_members(view: ClusterView) -> bool:
    current = {member.id for member in view.observation.members}
    return all(alarm.id and alarm.id not in current for alarm in alarms.of_kind(view, CORRUPT))
