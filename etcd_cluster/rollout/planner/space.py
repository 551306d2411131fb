"""Makes room in databases: the remedy of etcd's alarm NOSPACE. Nothing that clients stored and did not replace goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from etcd_cluster.etcd.options import QUOTA_LIMIT_BYTES
from etcd_cluster.etcd.sizes import MIB
from etcd_cluster.member.lines import Apply, Compact
from etcd_cluster.rollout.observed import FULL, Host
from etcd_cluster.rollout.planner import alarms, quorum, rolling_restart
from etcd_cluster.rollout.planner.actions import (
    SYNC_SECONDS,
    Action,
    ActionKind,
    Blocked,
    Details,
    HostStep,
    Refusal,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.alarms import ROOM
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError

KEPT_REVISIONS = 10_000
"""The newest revisions that the first compaction keeps: watches of clients that are behind go on with them.

Only if that leaves a database full, the rest of the history goes as well.
"""
UNKNOWN_SECONDS = 15
COPY_FACTOR = 1.1
"""Space that a defragmentation takes, of what is in use: etcd leaves room in the pages that it writes."""


def make_room(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next step that ends the alarm NOSPACE; None if it does not stand, or if a larger quota ends it.

    The order: compact the history, defragment the members whose databases are crowded, one at a time and the leader
    last, and disarm once every database has room in the quota that its member runs with. If a larger quota is desired,
    only that much is done as the larger one needs.

    Preconditions: every voter is healthy, and answers how large its database is. The alarm itself does not count.

    Raises:
        RefusedError: The keys alone take more than their share of the quota.
    """
    if not alarms.of_kind(view, FULL) or len(alarms.kinds(view)) > 1:
        return None
    waiting = rolling_restart.await_voters(view, Blocked.SPACE)
    if waiting:
        return waiting
    voters = view.observation.voters
    unknown = [voter.name or voter.peer_url for voter in voters if not _is_measured(view, voter.name)]
    if unknown:
        return WaitFor(WaitReason.DATABASES_UNKNOWN, UNKNOWN_SECONDS, unknown[0], {"names": unknown})
    cramped = [name for name in view.voting() if alarms.database(view, name) > ROOM * _quota_in_the_end(view, name)]
    if not cramped:
        return None if alarms.crowded(view) else alarms.disarm(view, ActionKind.DISARM_NOSPACE)
    history = _history(view)
    if history > KEPT_REVISIONS:
        return _compact(view, cramped, KEPT_REVISIONS)
    full = [name for name in cramped if _is_as_defragmented(view.hosts[name])]
    if not full:
        return defragment(view, cramped)
    if history:
        return _compact(view, full, 0)
    raise _still_full(view, max(full, key=lambda name: alarms.database(view, name)))


def _is_measured(view: ClusterView, name: str) -> bool:
    host = view.observation.hosts.get(name)
    return bool(host and host.live and host.live.database_bytes and host.live.revision)


def _history(view: ClusterView) -> int:
    """Returns the number of revisions before the last one that are kept."""
    live = view.hosts[quorum.known(view, view.observation.status_source)].live
    return live.revision - live.compacted if live else 0


def _quota_in_the_end(view: ClusterView, name: str) -> int:
    return max(alarms.quota(view, name), view.desired.quota)


def _is_as_defragmented(host: Host) -> bool:
    """Returns whether the keys are the same, history included, as after the last defragmentation.

    That is the only measure of what a compaction has freed: until the next write or start, etcd goes on to report freed
    pages as in use (3.4.9 to 3.6.16, members of a cluster), and under the alarm nothing is written.
    """
    live, then = host.live, host.defragmented
    if live is None or then is None:
        return False
    return (live.revision, live.compacted) == (then.revision, then.compacted)


def defragment(view: ClusterView, names: Sequence[str], kind: ActionKind = ActionKind.DEFRAGMENT) -> Action | WaitFor:
    """Returns the restart of one of the given members, during which its database is defragmented, or a wait.

    See `rolling_restart.one_of`: followers first, the leader last, after it has handed leadership over.
    """
    targets = {name: rolling_restart.target_now(view, name) for name in names}
    action = rolling_restart.one_of(view, targets, Blocked.ANY_RESTART, kind)
    if isinstance(action, WaitFor) or action.kind is not kind:
        return action
    (step,) = action.steps
    return replace(action, steps=[with_defragmentation(view, step)], details=sizes(view, step.member))


def defragment_as_desired(view: ClusterView) -> Action | WaitFor | None:
    """Returns a restart that defragments a database of which as much is free as the stack says; None if none is.

    Not of the only member, which would be away for that alone. Not while an alarm stands: NOSPACE has its own remedy,
    and with another one no member is restarted.
    """
    names = [name for name in view.voting() if _is_fragmented(view, name)]
    if not names or len(view.observation.voters) == 1 or view.observation.alarms is None or view.observation.alarms:
        return None
    return defragment(view, names, ActionKind.DEFRAGMENT_FREE)


def while_restarting(view: ClusterView, action: Action | WaitFor | None) -> Action | WaitFor | None:
    """Returns a restart that is due anyway, and defragments the member's database if the stack says so.

    Not if it brings another version: its data then are as the one before left them.
    """
    if not isinstance(action, Action) or action.kind is not ActionKind.RESTART:
        return action
    (step,) = action.steps
    is_same = isinstance(step.line, Apply) and step.line.version == view.hosts[step.member].running
    if not is_same or not _is_fragmented(view, step.member):
        return action
    return replace(action, steps=[with_defragmentation(view, step)])


def _is_fragmented(view: ClusterView, name: str) -> bool:
    """Returns whether a defragmentation gives back as much as the stack says.

    What was free even after the last one does not count: such a database would be defragmented in each `up`.
    """
    desired, host = view.desired.defragment, view.hosts[name]
    if desired is None or host.live is None or not host.live.used_bytes:
        return False
    left = host.defragmented.free_bytes if host.defragmented else 0
    free = host.live.database_bytes - host.live.used_bytes - left
    return free >= max(desired.at_least_bytes, desired.free * host.live.database_bytes)


def with_defragmentation(view: ClusterView, step: HostStep) -> HostStep:
    """Returns a restart that defragments the database while the member is stopped."""
    live = view.hosts[step.member].live
    used = (live.used_bytes or live.database_bytes) if live else alarms.database(view, step.member)
    if not isinstance(step.line, Apply):
        return step
    return replace(step, line=replace(step.line, defragment_mib=math.ceil(used * COPY_FACTOR / MIB)))


def sizes(view: ClusterView, name: str) -> Details:
    """Returns the sizes of a member's database, for texts."""
    live = view.hosts[name].live
    database, used = alarms.database(view, name), live.used_bytes if live else 0
    return {
        "member": name,
        "database": alarms.mib(database),
        "used": alarms.mib(used or database),
        "free": alarms.mib(max(database - (used or database), 0)),
        "quota": alarms.mib(alarms.quota(view, name)),
    }


def _compact(view: ClusterView, names: Sequence[str], kept: int) -> Action:
    kind = ActionKind.COMPACT if kept else ActionKind.COMPACT_ALL
    largest = max(names, key=lambda name: alarms.database(view, name))
    step = HostStep(quorum.known(view, view.observation.status_source), Compact(kept, SYNC_SECONDS))
    return Action(kind, [step], {**sizes(view, largest), "kept": f"{kept:,}"})


def _still_full(view: ClusterView, name: str) -> RefusedError:
    """Returns the refusal that names the next larger quota in which the database has room."""
    live = view.hosts[name].live
    used = (live.used_bytes if live else 0) or alarms.database(view, name)
    quota = _quota_in_the_end(view, name)
    larger = quota
    while larger * ROOM < used or larger <= quota:
        larger *= 2
    details = {**sizes(view, name), "quota": alarms.mib(quota), "larger_bytes": larger, "larger": alarms.mib(larger)}
    if quota >= QUOTA_LIMIT_BYTES or used > ROOM * QUOTA_LIMIT_BYTES:
        return RefusedError(Refusal.ALARM_NOSPACE_AT_LIMIT, {**details, "limit": alarms.mib(QUOTA_LIMIT_BYTES)})
    if larger > QUOTA_LIMIT_BYTES:
        details |= {"larger_bytes": QUOTA_LIMIT_BYTES, "larger": alarms.mib(QUOTA_LIMIT_BYTES)}
    return RefusedError(Refusal.ALARM_NOSPACE, details)
