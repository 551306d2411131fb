"""One member at a time: what it is to be next, and its restart into that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from etcd_cluster.etcd.versions import Version
from etcd_cluster.member.lines import Apply, ApplyAction, Membership, MembershipChange, Until
from etcd_cluster.member.render import Security, Transport
from etcd_cluster.rollout.planner import ca_trust, quorum
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    MEMBER_SECONDS,
    Action,
    ActionKind,
    Blocked,
    Details,
    HostStep,
    RefusedError,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.wanted import File


@dataclass(frozen=True)
class Target:
    """What a member is to be next. trust: PEM of authorities. leaves: certificates and keys to put there with it."""

    version: str
    security: Security
    trust: Mapping[Transport, Sequence[str]]
    leaves: Sequence[File]


def unhealthy_first(view: ClusterView) -> Action | WaitFor | None:
    """A member that is not healthy is restarted as it should be, if it is not; or the cluster is told where it is, as
    after a restart by somebody else, before the one for which the cluster was told of another URL. Else it is waited
    for, and then the run stops there. Precondition of either: every other voter is healthy."""
    unhealthy = [name for name in view.voting() if not view.observation.is_healthy(name)]
    if not unhealthy:
        return None
    name = unhealthy[0]
    target = target_now(view, name)
    # Of two, the other one is healthy only while this one serves, whatever could be seen of it.
    is_needed = len(view.observation.voters) == 2 and view.hosts[name].may_serve
    if len(unhealthy) == 1 and view.hosts[name].data:
        if is_stale(view, name, target) and not is_needed:
            return _turn(view, name, target)
        change = update_peer_url(view, name, target.version, target.security)
        if change:
            return change
    return WaitFor(WaitReason.MEMBER_UNHEALTHY, HEALTH_SECONDS, name, {"name": name})


def roll(view: ClusterView) -> Action | WaitFor | None:
    """All that a restart brings: settings, unit, program."""
    targets = {
        name: replace(target_now(view, name), version=view.wanted.version, security=view.wanted.security)
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
    """Followers in order, those first whose process may be older than their files; the leader last. Precondition,
    checked here: every voter is healthy. One that may lead comes last, too."""
    waiting = await_voters(view, blocked)
    if waiting:
        return waiting
    order = sorted(
        targets, key=lambda name: (name == view.observation.leader or view.may_lead(name), not view.hosts[name].pending)
    )
    name = order[0]
    return _turn(view, name, targets[name], kind, details, **overrides)


def await_voters(view: ClusterView, blocked: Blocked) -> WaitFor | None:
    down = [member.name for member in view.observation.voters if member.id not in view.observation.healthy]
    if not down:
        return None
    connected = [member.name for member in view.observation.voters if member.id in view.observation.connected]
    reason = WaitReason.VOTERS_NOT_ASKED if connected == down else WaitReason.VOTERS_UNHEALTHY
    source, version = view.observation.status_source, view.wanted.version
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
    """A restart into `target`. A leader hands over first, and the cluster learns of a new peer URL.

    Preconditions (the caller's): every other voter is healthy. Checked here: it is known who leads, if it may be this
    one.
    """
    if view.may_lead(name) and len(view.observation.voters) > 1:
        return await_leader_known(view, name, Blocked.RESTART)
    if name == view.observation.leader and len(view.observation.voters) > 1:
        return hand_over(view, {view.leader_id()})
    change = update_peer_url(view, name, target.version, target.security)
    step = restart_step(view, name, Until.SERVING, target, **overrides)
    return change or Action(kind, [step], details or {})


def await_leader_known(view: ClusterView, name: str, blocked: Blocked) -> WaitFor:
    """As it would hand over first, if it leads."""
    reasons = list(view.observation.hosts[name].unknown.values())
    details = {"name": name, "blocked": blocked, "unknown": reasons}
    return WaitFor(WaitReason.LEADER_UNKNOWN, HEALTH_SECONDS, name, details)


def restart_step(
    view: ClusterView, name: str, until: Until, target: Target | None = None, **overrides: object
) -> HostStep:
    chosen = target or target_now(view, name)
    line = apply_line(view, name, ApplyAction.RESTART, chosen.version, until)
    return HostStep(name, line, files_for(view, name, chosen, **overrides))


def apply_line(view: ClusterView, name: str, action: ApplyAction, version: str, until: Until) -> Apply:
    return Apply(
        action,
        version=version,
        until=until,
        timeout_seconds=MEMBER_SECONDS,
        index=view.observation.index,
        peer_port=view.wanted.members[name].ports.peer,
    )


def files_for(view: ClusterView, name: str, target: Target, **overrides: object) -> list[File]:
    spec = view.spec(name, target.version, target.security, **overrides)
    return [*target.leaves, *view.wanted.other_files(name, spec), *view.wanted.start_files(name, spec, target.trust)]


def update_peer_url(view: ClusterView, name: str, version: str, security: Security) -> Action | None:
    """Before a member starts at another one."""
    listed, url = view.listed(name), view.spec(name, version, security).peer_url
    if listed is None or listed.peer_url == url:
        return None
    line = Membership(MembershipChange.UPDATE, CHANGE_SECONDS, id=listed.id, url=url)
    return change_members(view, ActionKind.UPDATE_PEER_URL, line, {"member": name, "url": url})


def change_members(view: ClusterView, kind: ActionKind, line: Membership, details: Details) -> Action:
    """One change of the list of members. A leader that is to be removed hands over first."""
    is_removal = line.change is MembershipChange.REMOVE
    if is_removal and line.id == view.leader_id() and len(view.observation.voters) > 1:
        return hand_over(view, {line.id})
    return Action(kind, [HostStep(quorum.known(view, view.observation.status_source), line)], details)


def hand_over(view: ClusterView, not_to: Iterable[str]) -> Action:
    """Preconditions: those of `quorum.successor`."""
    leader = quorum.known(view, view.observation.leader)
    successor = quorum.successor(view.observation, view.wanted.members, not_to)
    if successor is None:
        raise RefusedError(
            f"{leader} leads, and no other member is healthy to take over; fix one, then run `pulumi up` again"
        )
    line = Membership(MembershipChange.MOVE_LEADER, CHANGE_SECONDS, id=successor.id)
    return Action(ActionKind.MOVE_LEADER, [HostStep(leader, line)], {"successor": successor.name})


def target_now(view: ClusterView, name: str) -> Target:
    """As it should be, but at the version and in the security that it has: what a restart in between brings."""
    host = view.hosts[name]
    return Target(
        _version_now(view, name),
        host.security or ca_trust.least_security(view),
        ca_trust.trust_now(view, name),
        ca_trust.leaves_now(view, name),
    )


def _version_now(view: ClusterView, name: str) -> str:
    """What it runs or would run; the wanted one where it has nothing yet, or where an upgrade was given up."""
    host, wanted = view.hosts[name], view.wanted.version
    current = host.running or host.programs
    if not current or current not in host.versions or Version.parse(wanted) < Version.parse(current):
        return wanted
    return current


def version_of_others(view: ClusterView, name: str) -> str:
    """The oldest that runs beside it."""
    running = [host.running for other, host in view.observation.hosts.items() if other != name and host.running]
    oldest = min(running, key=Version.parse, default=view.wanted.version)
    return oldest if oldest in view.hosts[name].versions else view.wanted.version


def is_stale(view: ClusterView, name: str, target: Target) -> bool:
    """Whether what runs is not `target`: by its files, its program, or as its process may be older than they."""
    host = view.hosts[name]
    spec = view.spec(name, target.version, target.security)
    files = view.wanted.start_files(name, spec, target.trust)
    return (
        host.pending
        or host.programs != target.version
        or (bool(host.running) and host.running != target.version)
        or any(view.content(host, file) != file.content for file in files)
    )
