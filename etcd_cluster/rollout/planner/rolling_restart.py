"""Restarts one member at a time, and decides which version, security and CAs it has next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from etcd_cluster.etcd.versions import Version
from etcd_cluster.member.lines import Apply, ApplyAction, Membership, MembershipChange, Until
from etcd_cluster.member.render import Security, Transport
from etcd_cluster.rollout.desired import File
from etcd_cluster.rollout.planner import ca_trust, data_version, quorum
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    MEMBER_SECONDS,
    Action,
    ActionKind,
    Blocked,
    Details,
    HostStep,
    Refusal,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError


@dataclass(frozen=True)
class Target:
    """What a member is to be after its next restart.

    Args:
        version: Version of etcd.
        security: How it speaks.
        trust: Transport -> the CAs that it trusts, PEM.
        certificates: Certificates and keys that are written with the restart.
    """

    version: str
    security: Security
    trust: Mapping[Transport, Sequence[str]]
    certificates: Sequence[File]


def unhealthy_first(view: ClusterView) -> Action | WaitFor | None:
    """Returns a restart, a change of the peer URL, or a wait for an unhealthy voter; None if all voters are healthy.

    A restart comes first, if the member does not run in the desired state. Else the member list gets its peer URL, if
    that differs: somebody else may have restarted the member before the restart for which the list was changed. Else
    the run waits for the member, and ends there.

    Precondition of a restart and of a changed URL: every other voter is healthy.
    """
    unhealthy = [name for name in view.voting() if not view.observation.is_healthy(name)]
    if not unhealthy:
        return None
    name = unhealthy[0]
    target = target_now(view, name)
    # Of two voters, the other one is healthy only while this one serves, whatever was observed of this one.
    is_needed = len(view.observation.voters) == 2 and view.hosts[name].may_serve
    if len(unhealthy) == 1 and view.hosts[name].data:
        if is_stale(view, name, target) and not is_needed:
            return _turn(view, name, target)
        change = update_peer_url(view, name, target.version, target.security)
        if change:
            return change
    pairs = [pair for pair in view.observation.broken_pairs if name in (pair.member, pair.peer)]
    if pairs:
        return WaitFor(WaitReason.BROKEN_PAIRS, HEALTH_SECONDS, name, {"pairs": pairs}, pairs)
    return WaitFor(WaitReason.MEMBER_UNHEALTHY, HEALTH_SECONDS, name, {"name": name})


def roll(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next restart for new settings, another unit or another version; None if no member needs one."""
    targets = {
        name: replace(target_now(view, name), version=view.desired.version, security=view.desired.security)
        for name in view.voting()
    }
    stale = {name: target for name, target in targets.items() if is_stale(view, name, target)}
    return one_of(view, stale, Blocked.ANY_RESTART) if stale else None


def one_of(
    view: ClusterView,
    targets: Mapping[str, Target],
    blocked: Blocked,
    kind: ActionKind = ActionKind.RESTART,
    details: Details | None = None,
    **overrides: object,
) -> Action | WaitFor:
    """Returns the restart of one of the given members, or a wait.

    Followers come first, in order, starting with members whose process may be older than their files. The leader comes
    last, and so does a member that may lead.

    Precondition, checked here: every voter is healthy.

    Args:
        view: The cluster.
        targets: Member -> what it is to be.
        blocked: What is not done while the run waits.
        kind: The kind of the action.
        details: Name -> value in the text.
        **overrides: Server options for this restart only.
    """
    waiting = await_voters(view, blocked)
    if waiting:
        return waiting
    order = sorted(
        targets, key=lambda name: (name == view.observation.leader or view.may_lead(name), not view.hosts[name].pending)
    )
    name = order[0]
    return _turn(view, name, targets[name], kind, details, **overrides)


def await_voters(view: ClusterView, blocked: Blocked) -> WaitFor | None:
    """Returns a wait if a voter is not healthy; None if all are."""
    down = [member.name for member in view.observation.voters if member.id not in view.observation.healthy]
    if not down:
        return None
    connected = [member.name for member in view.observation.voters if member.id in view.observation.connected]
    reason = WaitReason.VOTERS_NOT_ASKED if connected == down else WaitReason.VOTERS_UNHEALTHY
    source, version = view.observation.status_source, view.desired.version
    details = {"blocked": blocked, "down": down, "source": source, "version": version}
    return WaitFor(reason, HEALTH_SECONDS, down[0] if down[0] in view.hosts else None, details)


def _turn(
    view: ClusterView,
    name: str,
    target: Target,
    kind: ActionKind = ActionKind.RESTART,
    details: Details | None = None,
    **overrides: object,
) -> Action | WaitFor:
    """Returns the restart of one member into `target`, or what has to precede it.

    A leader hands over first, and the member list gets a new peer URL first.

    Precondition, for the caller to check: every other voter is healthy. Checked here: if this member may lead, it is
    known who does.
    """
    if view.may_lead(name) and len(view.observation.voters) > 1:
        return await_leader_known(view, name, Blocked.RESTART)
    if name == view.observation.leader and len(view.observation.voters) > 1:
        return hand_over(view, {view.leader_id()})
    change = update_peer_url(view, name, target.version, target.security)
    step = restart_step(view, name, Until.SERVING, target, **overrides)
    return change or Action(kind, [step], details or {})


def await_leader_known(view: ClusterView, name: str, blocked: Blocked) -> WaitFor:
    """Returns a wait until it is known whether a member leads: a leader hands over before it restarts or leaves."""
    reasons = list(view.observation.hosts[name].unknown.values())
    details = {"name": name, "blocked": blocked, "unknown": reasons}
    return WaitFor(WaitReason.LEADER_UNKNOWN, HEALTH_SECONDS, name, details)


def restart_step(
    view: ClusterView, name: str, until: Until, target: Target | None = None, **overrides: object
) -> HostStep:
    """Returns the step that restarts a member into `target`.

    Args:
        view: The cluster.
        name: Name of the member.
        until: What the restart waits for.
        target: What the member is to be; None for `target_now`.
        **overrides: Server options for this restart only.
    """
    chosen = target or target_now(view, name)
    line = apply_line(view, name, ApplyAction.RESTART, chosen.version, until)
    return HostStep(name, line, files_for(view, name, chosen, **overrides))


def apply_line(view: ClusterView, name: str, action: ApplyAction, version: str, until: Until) -> Apply:
    """Returns the line that writes files and starts or restarts a member."""
    return Apply(
        action,
        version=version,
        until=until,
        timeout_seconds=MEMBER_SECONDS,
        index=view.observation.index,
        peer_port=view.desired.members[name].ports.peer,
    )


def files_for(view: ClusterView, name: str, target: Target, **overrides: object) -> list[File]:
    """Returns all files of a member for `target`.

    Args:
        view: The cluster.
        name: Name of the member.
        target: What the member is to be.
        **overrides: Server options for this restart only.
    """
    spec = view.spec(name, target.version, target.security, **overrides)
    return [
        *target.certificates,
        *view.desired.other_files(name, spec),
        *view.desired.start_files(name, spec, target.trust),
    ]


def update_peer_url(view: ClusterView, name: str, version: str, security: Security) -> Action | None:
    """Returns the action that changes a member's peer URL in the member list; None if it is the same.

    It comes before the start of the member at that URL.
    """
    listed, url = view.listed(name), view.spec(name, version, security).peer_url
    if listed is None or listed.peer_url == url:
        return None
    line = Membership(MembershipChange.UPDATE, CHANGE_SECONDS, id=listed.id, url=url)
    return change_members(view, ActionKind.UPDATE_PEER_URL, line, {"member": name, "url": url})


def change_members(view: ClusterView, kind: ActionKind, line: Membership, details: Details) -> Action:
    """Returns the action that makes one change of the member list. A leader that is to be removed hands over first."""
    is_removal = line.change is MembershipChange.REMOVE
    if is_removal and line.id == view.leader_id() and len(view.observation.voters) > 1:
        return hand_over(view, {line.id})
    return Action(kind, [HostStep(quorum.known(view, view.observation.status_source), line)], details)


def hand_over(view: ClusterView, not_to: Iterable[str]) -> Action:
    """Returns the action that moves leadership to another member. See `quorum.successor`.

    Args:
        view: The cluster.
        not_to: Ids of members that must not lead.

    Raises:
        RefusedError: The leader is unknown, or no other member is healthy and reached by all others.
    """
    leader = quorum.known(view, view.observation.leader)
    successor = quorum.successor(view.observation, view.desired.members, not_to)
    if successor is None:
        raise RefusedError(Refusal.NO_SUCCESSOR, {"leader": leader})
    line = Membership(MembershipChange.MOVE_LEADER, CHANGE_SECONDS, id=successor.id)
    return Action(ActionKind.MOVE_LEADER, [HostStep(leader, line)], {"successor": successor.name})


def target_now(view: ClusterView, name: str) -> Target:
    """Returns the desired state of a member at its present version and security: what a restart in between brings."""
    host = view.hosts[name]
    return Target(
        _version_now(view, name),
        host.security or ca_trust.least_security(view),
        ca_trust.trust_now(view, name),
        ca_trust.certificates_now(view, name),
    )


def _version_now(view: ClusterView, name: str) -> str:
    """Returns the version that a member runs or would start.

    It is the desired version if the member has no programs yet, or if an upgrade was given up. It is never older than
    its data: see data_version.py.
    """
    host, desired = view.hosts[name], view.desired.version
    current = host.running or host.programs
    if not current or current not in host.versions or Version.parse(desired) < Version.parse(current):
        current = desired
    return data_version.version_for_data(view, name, current)


def version_of_others(view: ClusterView, name: str) -> str:
    """Returns the oldest version that runs on other members.

    It is the desired version if none runs, or if the machine of `name` has no programs of that version.
    """
    running = [host.running for other, host in view.observation.hosts.items() if other != name and host.running]
    oldest = min(running, key=Version.parse, default=view.desired.version)
    return oldest if oldest in view.hosts[name].versions else view.desired.version


def is_stale(view: ClusterView, name: str, target: Target) -> bool:
    """Returns whether a member differs from `target`: by its files, its program, or a process older than its files."""
    host = view.hosts[name]
    spec = view.spec(name, target.version, target.security)
    files = view.desired.start_files(name, spec, target.trust)
    return (
        host.pending
        or host.programs != target.version
        or (bool(host.running) and host.running != target.version)
        or any(view.content(host, file) != file.content for file in files)
    )
