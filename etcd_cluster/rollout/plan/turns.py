"""One member at a time: what it is to be next, and its restart into that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from etcd_cluster.member.render import Security, Transport
from etcd_cluster.rollout.observed import Listed
from etcd_cluster.rollout.plan import quorum, trust
from etcd_cluster.rollout.plan.acts import CHANGE_SECONDS, HEALTH_SECONDS, MEMBER_SECONDS, Act, Call, RefusedError, Wait
from etcd_cluster.rollout.plan.situation import Situation
from etcd_cluster.rollout.wanted import File
from etcd_cluster.versions import Version


@dataclass(frozen=True)
class Target:
    """What a member is to be next. trust: PEM of authorities. leaves: certificates and keys to put there with it."""

    version: str
    security: Security
    trust: Mapping[Transport, Sequence[str]]
    leaves: Sequence[File]


def unhealthy_first(now: Situation) -> Act | Wait | None:
    """A member that is not healthy is restarted as it should be, if it is not; or the cluster is told where it is, as
    after a restart by somebody else, before the one for which the cluster was told of another URL. Else it is waited
    for, and then the run stops there. Precondition of either: every other voter is healthy."""
    unhealthy = [name for name in now.voting() if not now.seen.is_healthy(name)]
    if not unhealthy:
        return None
    name = unhealthy[0]
    target = target_now(now, name)
    # Of two, the other one is healthy only while this one serves, whatever could be seen of it.
    is_needed = len(now.seen.voters) == 2 and now.hosts[name].may_serve
    if len(unhealthy) == 1 and now.hosts[name].data:
        if is_stale(now, name, target) and not is_needed:
            return _turn(now, name, target)
        told = tell_peer_url(now, name, target.version, target.security)
        if told:
            return told
    problem = f"{name} is not healthy, and nothing else is changed until it is; mend it, then run again"
    return Wait(problem, HEALTH_SECONDS, member=name)


def roll(now: Situation) -> Act | Wait | None:
    """All that a restart brings: settings, unit, program."""
    targets = {
        name: replace(target_now(now, name), version=now.wanted.version, security=now.wanted.security)
        for name in now.voting()
    }
    stale = {name: target for name, target in targets.items() if is_stale(now, name, target)}
    return one_of(now, stale, "no member is restarted while") if stale else None


def one_of(
    now: Situation, targets: Mapping[str, Target], what: str, why: str = "restarting", **overrides: object
) -> Act | Wait:
    """Followers in order, those first whose process may be older than their files; the leader last. Precondition,
    checked here: every voter is healthy. One that may lead comes last, too."""
    waiting = await_voters(now, what)
    if waiting:
        return waiting
    order = sorted(
        targets, key=lambda name: (name == now.seen.leader or now.may_lead(name), not now.hosts[name].pending)
    )
    name = order[0]
    return _turn(now, name, targets[name], why, **overrides)


def await_voters(now: Situation, what: str) -> Wait | None:
    down = [member.name for member in now.seen.voters if member.id not in now.seen.healthy]
    if not down:
        return None
    problem = f"{what} {', '.join(down)} is not healthy; mend it, then run again"
    unknown = [member.name for member in now.seen.voters if member.id in now.seen.unknown]
    if unknown == down:
        problem = (
            f"{what} nothing is known of {', '.join(unknown)} but that it runs: its machine is not asked or does not "
            f"answer, and {now.seen.teller}'s machine gets no answer at its client port. Stop etcd on it if it is to "
            "leave; else bring its machine back, then run again"
        )
    return Wait(problem, HEALTH_SECONDS, member=down[0] if down[0] in now.hosts else None)


def _turn(now: Situation, name: str, target: Target, why: str = "restarting", **overrides: object) -> Act | Wait:
    """A restart into `target`. A leader hands over first, and the cluster learns of a new peer URL.

    Preconditions (the caller's): every other voter is healthy. Checked here: it is known who leads, if it may be this
    one.
    """
    if now.may_lead(name) and len(now.seen.voters) > 1:
        return await_leader_known(now, name, "restarted")
    if name == now.seen.leader and len(now.seen.voters) > 1:
        return hand_over(now, {now.leader_id()})
    told = tell_peer_url(now, name, target.version, target.security)
    return told or Act(why, [restart_call(now, name, "serving", why, target, **overrides)])


def await_leader_known(now: Situation, name: str, done: str) -> Wait:
    """As it would hand over first, if it leads. done: what is not done to it, as "restarted"."""
    reasons = ", ".join(now.seen.hosts[name].unknown.values())
    problem = f"it cannot be told whether {name} leads, so it is not {done} ({reasons}); look there, then run again"
    return Wait(problem, HEALTH_SECONDS, member=name)


def restart_call(
    now: Situation, name: str, until: str, why: str, target: Target | None = None, **overrides: object
) -> Call:
    chosen = target or target_now(now, name)
    line = apply_line(now, name, "restart", chosen.version, until, why)
    return Call(name, "apply", line, files_for(now, name, chosen, **overrides))


def apply_line(now: Situation, name: str, action: str, version: str, until: str, why: str) -> dict[str, str]:
    return {
        "why": why,
        "action": action,
        "version": version,
        "await": until,
        "timeout": str(MEMBER_SECONDS),
        "index": str(now.seen.index),
        "peer-port": str(now.wanted.members[name].ports.peer),
    }


def files_for(now: Situation, name: str, target: Target, **overrides: object) -> list[File]:
    spec = now.spec(name, target.version, target.security, **overrides)
    return [*target.leaves, *now.wanted.other_files(name, spec), *now.wanted.start_files(name, spec, target.trust)]


def tell_peer_url(now: Situation, name: str, version: str, security: Security) -> Act | None:
    """Before a member starts at another one."""
    listed, url = now.listed(name), now.spec(name, version, security).peer_url
    if listed is None or listed.peer_url == url:
        return None
    say = f"telling the cluster that {name} is at {url}"
    return change_members(now, "update", None, say, id=listed.id, url=url)


def change_members(now: Situation, change: str, member: Listed | None, say: str, **line: str) -> Act:
    """One change of the list of members. A leader that is to be removed hands over first."""
    if change == "remove" and member is not None and member.id == now.leader_id() and len(now.seen.voters) > 1:
        return hand_over(now, {member.id})
    timeout = {"timeout": str(CHANGE_SECONDS)}
    return Act(
        say, [Call(quorum.known(now, now.seen.teller), "membership", {"do": change, **timeout, **line, "say": say})]
    )


def hand_over(now: Situation, not_to: Iterable[str]) -> Act:
    """Preconditions: those of `quorum.successor`."""
    leader = quorum.known(now, now.seen.leader)
    successor = quorum.successor(now.seen, now.wanted.members, not_to)
    if successor is None:
        raise RefusedError(f"{leader} leads, and no other member is healthy to take over; mend one, then run again")
    say = f"handing leadership over to {successor.name}"
    line = {"do": "lead", "id": successor.id, "timeout": str(CHANGE_SECONDS), "say": say}
    return Act(say, [Call(leader, "membership", line)])


def target_now(now: Situation, name: str) -> Target:
    """As it should be, but at the version and in the security that it has: what a restart in between brings."""
    host = now.hosts[name]
    return Target(
        _version_now(now, name),
        host.security or trust.least_security(now),
        trust.trust_now(now, name),
        trust.leaves_now(now, name),
    )


def _version_now(now: Situation, name: str) -> str:
    """What it runs or would run; the wanted one where it has nothing yet, or where an upgrade was given up."""
    host, wanted = now.hosts[name], now.wanted.version
    current = host.running or host.programs
    if not current or current not in host.versions or Version.parse(wanted) < Version.parse(current):
        return wanted
    return current


def version_of_others(now: Situation, name: str) -> str:
    """The oldest that runs beside it."""
    running = [host.running for other, host in now.seen.hosts.items() if other != name and host.running]
    oldest = min(running, key=Version.parse, default=now.wanted.version)
    return oldest if oldest in now.hosts[name].versions else now.wanted.version


def is_stale(now: Situation, name: str, target: Target) -> bool:
    """Whether what runs is not `target`: by its files, its program, or as its process may be older than they."""
    host = now.hosts[name]
    spec = now.spec(name, target.version, target.security)
    files = now.wanted.start_files(name, spec, target.trust)
    return (
        host.pending
        or host.programs != target.version
        or (bool(host.running) and host.running != target.version)
        or any(now.content(host, file) != file.content for file in files)
    )
