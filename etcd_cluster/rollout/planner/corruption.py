"""Finds members whose data differ from the majority's. membership.py replaces them.

Under etcd's alarm CORRUPT, running members tell the hash of their keys. A member that starts with such data ends at
once, because etcd compares them with the others' first. Its log alone says so, and text decides nothing: so a copy of
its data, started apart, tells the hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from etcd_cluster.member.lines import HashData, HashKeys
from etcd_cluster.rollout.observed import CORRUPT, MemberEntry
from etcd_cluster.rollout.planner import alarms
from etcd_cluster.rollout.planner.actions import (
    HASH_SECONDS,
    HEALTH_SECONDS,
    Action,
    ActionKind,
    HostStep,
    Refusal,
    WaitFor,
    WaitReason,
)
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


def majority_agrees(view: ClusterView) -> bool:
    """Returns whether a majority of all voters has told the same hash: what the others hold decides nothing then."""
    hashes, voters = view.observation.hashes, view.observation.voters
    told = Counter(hashes[voter.id] for voter in voters if voter.id in hashes)
    return any(count > len(voters) // 2 for count in told.values())


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


def may_judge(view: ClusterView, name: str) -> bool:
    """Returns whether, if a member ends after its start, its data may be compared with the others'. Once a run."""
    return name not in view.context.hashes_of_data and _judged_by_others(view, name) is not None


def ended(view: ClusterView, name: str) -> MemberEntry | None:
    """Returns a member that this run has started, and that does not run; None if it runs, or may not be judged."""
    if name not in view.context.may_have_ended or view.hosts[name].pid:
        return None
    return _judged_by_others(view, name)


def _judged_by_others(view: ClusterView, name: str) -> MemberEntry | None:
    """Returns a voter whose data are those of that member of this cluster; None unless all others are healthy.

    With fewer than two others, nobody could tell which data are right. All run the version that a copy of its data is
    started by: releases do not promise one another's hashes.
    """
    host, listed, source = view.hosts[name], view.observation.of(name), view.observation.status_source
    if source is None or listed is None or listed.learner or not host.data or host.history.id != listed.id:
        return None
    if host.data_of != view.observation.hosts[source].data_of:
        return None
    others = _others(view, name)
    are_there = all(other.name in view.hosts and other.id in view.observation.healthy for other in others)
    if not are_there or len(others) < 2:
        return None
    return listed if {view.hosts[other.name].running for other in others} == {view.desired.version} else None


def ask(view: ClusterView, name: str) -> Action | None:
    """Returns the next question about the data of such a member, first on its own machine; None if all were asked.

    The others take writes meanwhile, so they are asked for its last revision.
    """
    if name not in view.context.hashes_of_data:
        return Action(ActionKind.ASK_HASH_OF_DATA, [HostStep(name, HashData())])
    own = view.context.hashes_of_data[name]
    if own is None:
        return None
    missing = [other.name for other in _others(view, name) if (other.name, own.revision) not in view.context.hashes]
    steps = [HostStep(other, HashKeys(HASH_SECONDS, own.revision)) for other in missing]
    return Action(ActionKind.ASK_HASHES, steps, {"member": name}) if steps else None


def differs_from_majority(view: ClusterView, name: str) -> bool:
    """Returns whether a majority of all voters holds the same keys, and that member others. False if nobody can tell.

    Only hashes with the same compacted history can be compared. etcd compares no others either.

    Precondition: `ask` has no question.
    """
    own = view.context.hashes_of_data[name]
    if own is None:
        return False
    found = [view.context.hashes[other.name, own.revision] for other in _others(view, name)]
    hashes = Counter(each.hash for each in found if each and each.compact_revision == own.compact_revision)
    return any(hash_ != own.hash and count > len(view.observation.voters) // 2 for hash_, count in hashes.items())


def _others(view: ClusterView, name: str) -> list[MemberEntry]:
    return [voter for voter in view.observation.voters if voter.name != name]
