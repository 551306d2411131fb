"""Checks and does what has to be done before the first member moves to another version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etcd_cluster.etcd.sizes import MIB
from etcd_cluster.etcd.versions import Version, unsupported_change
from etcd_cluster.member.lines import Apply, ApplyAction, Snapshot, Until, V2Store
from etcd_cluster.rollout.desired import series
from etcd_cluster.rollout.planner import data_version, rolling_restart
from etcd_cluster.rollout.planner.actions import (
    MEMBER_SECONDS,
    SYNC_SECONDS,
    Action,
    ActionKind,
    Blocked,
    HostStep,
    Refusal,
    WaitFor,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import V2Data

FLUSHED_EVERY = 1
"""etcd's snapshot-count while its log is flushed: a snapshot as soon as anything is applied."""


def before_another_version(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next step that precedes the move of the first member to another version; None if there is none.

    Preconditions of an upgrade: every voter is healthy; etcd supports the pair of versions; a snapshot is taken and
    checked; and, for another minor version, every member has a log that the new version can start from.
    """
    desired = view.desired.version
    behind = [name for name, host in view.hosts.items() if host.running and host.running != desired]
    if not behind:
        return None
    _require_a_supported_step(view, behind)
    waiting = rolling_restart.await_voters(view, Blocked.UPGRADE)
    if waiting:
        return waiting
    # A member that has just joined never ran another version, so it has not moved.
    none_moved = all(name in behind or not host.history.id for name, host in view.hosts.items())
    if none_moved and not view.context.snapshot_taken and _is_upgrade(view, behind):
        return _snapshot(view)
    if not _is_upgrade(view, behind) or series(desired) in {series(view.hosts[name].running) for name in behind}:
        return None
    return _know_history(view, behind) or _flush(view, behind) or _check_v2store(view, behind)


def _is_upgrade(view: ClusterView, behind: Sequence[str]) -> bool:
    return all(Version.parse(view.hosts[name].running) < Version.parse(view.desired.version) for name in behind)


def _require_a_supported_step(view: ClusterView, behind: Sequence[str]) -> None:
    """Raises `RefusedError` if etcd does not support the move from a member's version to the desired one.

    Going back is for an upgrade that was given up before all members had moved: etcd refuses it later.
    """
    for name in behind:
        host, desired = view.hosts[name], view.desired.version
        if Version.parse(host.running) < Version.parse(desired):
            if (unsupported := unsupported_change(host.running, desired)) is not None:
                raise RefusedError(*unsupported)
        else:
            data_version.require_not_older(view, name, desired)


def _snapshot(view: ClusterView) -> Action:
    """Takes the snapshot on a follower, so that the leader goes on undisturbed."""
    names = [name for name in view.hosts if name != view.observation.leader] or list(view.hosts)
    live = view.hosts[names[0]].live
    line = Snapshot(
        file=f"{view.hosts[names[0]].running}-to-{view.desired.version}.db",
        version=view.desired.version,
        database_mib=(live.database_bytes if live else 0) // MIB + 1,
        timeout_seconds=SYNC_SECONDS,
    )
    return Action(ActionKind.SNAPSHOT, [HostStep(names[0], line)])


def _know_history(view: ClusterView, behind: Sequence[str]) -> Action | None:
    """Records the log position of members without a recorded history. Up to there, their log counts as old."""
    unknown = [name for name in behind if view.recorded(name) != view.hosts[name].history]
    steps = [HostStep(name, Apply(ApplyAction.FILES), history=view.recorded(name)) for name in unknown]
    return Action(ActionKind.NOTE_LOG_POSITION, steps) if steps else None


def _flush(view: ClusterView, behind: Sequence[str]) -> Action | WaitFor | None:
    """Restarts members once, one at a time, with a snapshot due at every entry.

    These are the members whose newest snapshot is older than the last change of the membership, or than the running
    minor version.
    """
    targets = {
        name: rolling_restart.target_now(view, name)
        for name in behind
        if view.hosts[name].snapshot_index < _flushed_at(view, name)
    }
    if not targets:
        return None
    details = {"series": series(view.desired.version)}
    action = rolling_restart.one_of(
        view, targets, Blocked.UPGRADE, ActionKind.RESTART_TO_FLUSH_LOG, details, snapshot_count=FLUSHED_EVERY
    )
    if isinstance(action, WaitFor):
        return action
    step = action.steps[0]
    if not isinstance(step.line, Apply):
        return action
    index = max(_flushed_at(view, step.member), view.observation.index)
    return replace(action, steps=[replace(step, line=replace(step.line, until=Until.FLUSHED, index=index))])


def _flushed_at(view: ClusterView, name: str) -> int:
    history = view.hosts[name].history
    found, index = view.context.v2store.get(name, (V2Data.CLEAN, 0))
    return max(history.series_index, history.members_index, index if found is V2Data.LOG else 0)


def _check_v2store(view: ClusterView, behind: Sequence[str]) -> Action | None:
    """Checks members for data of the v2 API. Only 3.5 can hold data that 3.6 refuses to start from.

    Precondition: the log is flushed.
    """
    if {series(view.hosts[name].running) for name in behind} != {"3.5"}:
        return None
    found = {name: answer for name, (answer, _) in view.context.v2store.items()}
    for name in behind:
        if found.get(name) is V2Data.STORE:
            raise RefusedError(Refusal.V2_KEYS, {"member": name})
    steps = [HostStep(name, V2Store(MEMBER_SECONDS)) for name in behind if found.get(name) is not V2Data.CLEAN]
    return Action(ActionKind.CHECK_V2STORE, steps) if steps else None
