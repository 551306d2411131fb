"""One member at a time: what it is to be next, and its restart into that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from etcd_cluster.etcd.versions import Version
from etcd_cluster.member.render import Security, Transport
from etcd_cluster.rollout.observed import MemberEntry
from etcd_cluster.rollout.planner import ca_trust, quorum
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    MEMBER_SECONDS,
    Action,
    HostStep,
    RefusedError,
    WaitFor,
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
    unhealthy = [name for name in view.voting() if not view.seen.is_healthy(name)]
    if not unhealthy:
        return None
    name = unhealthy[0]
    target = target_now(view, name)
    # Of two, the other one is healthy only while this one serves, whatever could be seen of it.
    is_needed = len(view.seen.voters) == 2 and view.hosts[name].may_serve
    if len(unhealthy) == 1 and view.hosts[name].data:
        if is_stale(view, name, target) and not is_needed:
            return _turn(view, name, target)
        told = tell_peer_url(view, name, target.version, target.security)
        if told:
            return told
    problem = f"{name} is not healthy, and nothing else is changed until it is; fix it, then run `pulumi up` again"
    return WaitFor(problem, HEALTH_SECONDS, member=name)


def roll(view: ClusterView) -> Action | WaitFor | None:
    """All that a restart brings: settings, unit, program."""
    targets = {
        name: replace(target_now(view, name), version=view.wanted.version, security=view.wanted.security)
        for name in view.voting()
    }
    stale = {name: target for name, target in targets.items() if is_stale(view, name, target)}
    return one_of(view, stale, "no member is restarted while") if stale else None


def one_of(
    view: ClusterView, targets: Mapping[str, Target], what: str, why: str = "restarting", **overrides: object
) -> Action | WaitFor:
    """Followers in order, those first whose process may be older than their files; the leader last. Precondition,
    checked here: every voter is healthy. One that may lead comes last, too."""
    waiting = await_voters(view, what)
    if waiting:
        return waiting
    order = sorted(
        targets, key=lambda name: (name == view.seen.leader or view.may_lead(name), not view.hosts[name].pending)
    )
    name = order[0]
    return _turn(view, name, targets[name], why, **overrides)


def await_voters(view: ClusterView, what: str) -> WaitFor | None:
    down = [member.name for member in view.seen.voters if member.id not in view.seen.healthy]
    if not down:
        return None
    problem = f"{what} {', '.join(down)} is not healthy; fix it, then run `pulumi up` again"
    connected = [member.name for member in view.seen.voters if member.id in view.seen.connected]
    if connected == down:
        problem = (
            f"{what} nothing is known of {', '.join(connected)} but that it runs: its machine is not asked or does not "
            f"answer, and {view.seen.status_source}'s machine gets no answer at its client port. Stop etcd on it if it "
            "is to leave; else bring its machine back, then run again"
        )
    return WaitFor(problem, HEALTH_SECONDS, member=down[0] if down[0] in view.hosts else None)


def _turn(
    view: ClusterView, name: str, target: Target, why: str = "restarting", **overrides: object
) -> Action | WaitFor:
    """A restart into `target`. A leader hands over first, and the cluster learns of a new peer URL.

    Preconditions (the caller's): every other voter is healthy. Checked here: it is known who leads, if it may be this
    one.
    """
    if view.may_lead(name) and len(view.seen.voters) > 1:
        return await_leader_known(view, name, "restarted")
    if name == view.seen.leader and len(view.seen.voters) > 1:
        return hand_over(view, {view.leader_id()})
    told = tell_peer_url(view, name, target.version, target.security)
    return told or Action(why, [restart_call(view, name, "serving", why, target, **overrides)])


def await_leader_known(view: ClusterView, name: str, done: str) -> WaitFor:
    """As it would hand over first, if it leads. done: what is not done to it, as "restarted"."""
    reasons = ", ".join(view.seen.hosts[name].unknown.values())
    problem = (
        f"it cannot be told whether {name} leads, so it is not {done} ({reasons}); look at its log (journalctl -u "
        "etcd), then run `pulumi up` again"
    )
    return WaitFor(problem, HEALTH_SECONDS, member=name)


def restart_call(
    view: ClusterView, name: str, until: str, why: str, target: Target | None = None, **overrides: object
) -> HostStep:
    chosen = target or target_now(view, name)
    line = apply_line(view, name, "restart", chosen.version, until, why)
    return HostStep(name, "apply", line, files_for(view, name, chosen, **overrides))


def apply_line(view: ClusterView, name: str, action: str, version: str, until: str, why: str) -> dict[str, str]:
    return {
        "why": why,
        "action": action,
        "version": version,
        "await": until,
        "timeout": str(MEMBER_SECONDS),
        "index": str(view.seen.index),
        "peer-port": str(view.wanted.members[name].ports.peer),
    }


def files_for(view: ClusterView, name: str, target: Target, **overrides: object) -> list[File]:
    spec = view.spec(name, target.version, target.security, **overrides)
    return [*target.leaves, *view.wanted.other_files(name, spec), *view.wanted.start_files(name, spec, target.trust)]


def tell_peer_url(view: ClusterView, name: str, version: str, security: Security) -> Action | None:
    """Before a member starts at another one."""
    listed, url = view.listed(name), view.spec(name, version, security).peer_url
    if listed is None or listed.peer_url == url:
        return None
    say = f"telling the cluster that {name} is at {url}"
    return change_members(view, "update", None, say, id=listed.id, url=url)


def change_members(view: ClusterView, change: str, member: MemberEntry | None, say: str, **line: str) -> Action:
    """One change of the list of members. A leader that is to be removed hands over first."""
    if change == "remove" and member is not None and member.id == view.leader_id() and len(view.seen.voters) > 1:
        return hand_over(view, {member.id})
    timeout = {"timeout": str(CHANGE_SECONDS)}
    return Action(
        say,
        [
            HostStep(
                quorum.known(view, view.seen.status_source), "membership", {"do": change, **timeout, **line, "say": say}
            )
        ],
    )


def hand_over(view: ClusterView, not_to: Iterable[str]) -> Action:
    """Preconditions: those of `quorum.successor`."""
    leader = quorum.known(view, view.seen.leader)
    successor = quorum.successor(view.seen, view.wanted.members, not_to)
    if successor is None:
        raise RefusedError(
            f"{leader} leads, and no other member is healthy to take over; fix one, then run `pulumi up` again"
        )
    say = f"handing leadership over to {successor.name}"
    line = {"do": "lead", "id": successor.id, "timeout": str(CHANGE_SECONDS), "say": say}
    return Action(say, [HostStep(leader, "membership", line)])


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
    running = [host.running for other, host in view.seen.hosts.items() if other != name and host.running]
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
