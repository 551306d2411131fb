"""Starts members that do not run: members that form the cluster, and members that stopped."""

from __future__ import annotations

from dataclasses import replace

from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.lines import ApplyAction, Restore, Until
from etcd_cluster.rollout.desired import series
from etcd_cluster.rollout.observed import History
from etcd_cluster.rollout.planner import corruption, forming, quorum, rights, rolling_restart
from etcd_cluster.rollout.planner.actions import (
    LEADER_SECONDS,
    Action,
    ActionKind,
    HostStep,
    Refusal,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


def start(view: ClusterView) -> Action | None:
    """Starts members that do not run, all at once: a start takes nothing away from a quorum.

    Precondition of a start with data: the cluster has not removed that member. If the cluster cannot be asked, no
    running member reports a leader: then this member is no loss to a majority of others, and may be the one that a
    majority lacks. Precondition of a start without data: see forming.py.
    """
    if (restoring := _restore(view)) is not None:
        return restoring
    steps: list[HostStep] = []
    nobody_leads = not view.following() and not quorum.may_be_held(view, by_those_asked=True)
    for name, host in view.hosts.items():
        if host.pid:
            continue
        if host.data and not view.was_removed(name) and (view.observation.status_source or nobody_leads):
            steps.append(_start_call(view, name))
        elif not host.data and forming.may_form(view, name):
            steps.append(_form_call(view, name))
    return Action(ActionKind.START, steps) if steps else None


def _restore(view: ClusterView) -> Action | None:
    """Returns the restore that a new cluster starts with, instead of forming; None once it is done.

    Precondition: nothing of a member is on any machine. The restored member then is a cluster of one, and the others
    join it.

    Raises:
        RefusedError: There were data before: which of the two should count is for people to say.
    """
    restored = view.desired.restored
    if not view.context.forming or restored is None:
        return None
    having = {name: host for name, host in view.hosts.items() if host.data}
    with_other_data = [
        name
        for name, host in having.items()
        if host.history.members == FOUNDING or host.restored not in ("", restored.label)
    ]
    if with_other_data or not any(member.founder for member in view.desired.members.values()):
        raise RefusedError(Refusal.RESTORING_WITH_DATA, {"members": with_other_data or [*having]})
    if not all(forming.may_form(view, name) for name in view.desired.members):
        return None
    version = view.desired.version
    url = view.spec(restored.member, version, view.desired.security).peer_url
    members, latest = rights.required_in_data(view.desired), view.context.key_of_latest("restoreFrom")
    line = Restore(restored.backup, url, version, members=members, latest=latest)
    if restored.file is not None:
        path = restored.file.place(view.desired.members[restored.member].layout.volume)
        line = replace(line, backup="", file=path, sha256=restored.file.sha256, bare=restored.file.bare)
    source = restored.backup or (restored.file.path if restored.file else "")
    return Action(ActionKind.RESTORE, [HostStep(restored.member, line)], {"backup": source})


def _form_call(view: ClusterView, name: str) -> HostStep:
    desired, version = view.desired, view.desired.version
    spec = view.spec(name, version, desired.security)
    urls = {each: view.spec(each, version, desired.security).peer_url for each in desired.members}
    return HostStep(
        name,
        rolling_restart.apply_line(view, name, ApplyAction.START, version, Until.LISTENING),
        [
            *desired.certificate_files(name),
            *desired.other_files(name, spec),
            desired.bootstrap_file(name, spec, "new", urls),
            *desired.start_files(name, spec, desired.trust),
        ],
        History(series(version), 0, FOUNDING, 0),
    )


def _start_call(view: ClusterView, name: str) -> HostStep:
    target = rolling_restart.target_now(view, name)
    _require_own_series(view, name, target.version)
    line = rolling_restart.apply_line(view, name, ApplyAction.START, target.version, Until.LISTENING)
    line = replace(line, may_end=corruption.may_judge(view, name))
    return HostStep(name, line, rolling_restart.files_for(view, name, target))


def _require_own_series(view: ClusterView, name: str, version: str) -> None:
    """Raises `RefusedError` if a stopped member would start with another minor version.

    Only an upgrade of a running cluster takes data to another minor version.
    """
    host = view.hosts[name]
    before = host.history.series
    if before and series(version) not in (before, host.data_version) and not host.programs:
        details = {"member": name, "series": before, "version": version}
        raise RefusedError(Refusal.STOPPED_AT_ANOTHER_MINOR, details)


def await_leader(view: ClusterView) -> Action | WaitFor | None:
    """Returns a wait, or restarts, while no leader can answer: nothing else is decided then. None if one can.

    Running members whose files differ from the desired ones are restarted, all at once. Precondition: so many members
    report that they have no leader, or do not run, that there is no quorum to lose. No answer does not count as such a
    report.

    Raises:
        RefusedError: The cluster is to be formed, and may not be.
    """
    if view.observation.status_source is not None:
        return None
    forming.require_possible(view)
    reason, details = quorum.why_no_leader(view)
    if quorum.is_gone(view):
        return WaitFor(reason, LEADER_SECONDS, details=details)
    pairs = view.observation.broken_pairs if reason is WaitReason.NO_LEADER_AND_BROKEN_PAIRS else ()
    wait = WaitFor(reason, 2 * LEADER_SECONDS, details=details, pairs=pairs)
    if view.context.waited.get(wait.limit, 0.0) < LEADER_SECONDS or quorum.may_be_held(view):
        return wait
    stale = [
        name
        for name, host in view.hosts.items()
        if host.pid and rolling_restart.is_stale(view, name, rolling_restart.target_now(view, name))
    ]
    if stale:
        steps = [rolling_restart.restart_step(view, name, Until.LISTENING) for name in stale]
        return Action(ActionKind.RESTART_STALE, steps)
    return wait
