"""Decides whether a member's machine may be replaced now.

No answer does not count as consent: a machine of unknown state is replaced only if it is named as dead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, UpdateResult

from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.lines import Membership, MembershipChange
from etcd_cluster.member.machines import STEP_SECONDS, say
from etcd_cluster.rollout.lifecycle import LOOK_AGAIN_SECONDS, require_claimed
from etcd_cluster.rollout.machines import ClusterMachines
from etcd_cluster.rollout.observed import CORRUPT, FULL, Host, Observation
from etcd_cluster.rollout.planner import messages, quorum
from etcd_cluster.rollout.planner.actions import CHANGE_SECONDS, ActionKind, Details, Refusal
from etcd_cluster.rollout.planner.alarms import no_room
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext

INPUTS = ("replace_member", "is_dead", "connections")
PATIENCE_SECONDS = 20
"""Limit for the others to become healthy: a member that has just come back takes some seconds."""


@dataclass(frozen=True)
class _CloudMachine:
    """A member's place on a machine of a cloud: the system's standard places."""

    layout: Layout
    device: str = ""
    ports: Ports = field(default_factory=Ports)
    tls: bool = True


class MachineReplacementLifecycle(Lifecycle):
    """Checks in every `up` whether the machine may be replaced, as long as a member to replace is set.

    An earlier run that allowed the replacement may have been killed before it replaced the machine. There is no check
    when the resource is created: the machines are created then, too, and none is replaced.
    """

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Refuses a member to replace in the first `up`."""
        refused = _refused_at_first(news) if not olds else None
        return CheckResult(news, [] if refused is None else [CheckFailure("", str(refused.explanation))])

    def create(self, props: Properties) -> CreateResult:
        """Creates the resource; refuses a member to replace, as `pulumi up --replace` may bring one."""
        if (refused := _refused_at_first(props)) is not None:
            raise refused
        return CreateResult("machine-replacement", _with_run(props))

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if a member is to be replaced, if an input differs, or if an older state lacks `run`."""
        differs = any(olds.get(key) != news.get(key) for key in INPUTS)
        return DiffResult(changes=bool(news.get("replace_member")) or differs or "run" not in olds)

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Prepares the replacement of the member's machine, if one is to be replaced."""
        if news.get("replace_member"):
            members = {name: _CloudMachine(Layout.system()) for name in news["connections"]}
            # The old connections worked until now: a key or bastion may change in this same `up`.
            before: Mapping[str, Any] = olds.get("connections") or {}
            with ClusterMachines(members, news["connections"], passing=True, before=before) as machines:
                prepare_replacement(
                    news["replace_member"],
                    machines,
                    is_dead=bool(news.get("is_dead")),
                    quota_bytes=int(news.get("quota_bytes") or 0),
                )
        return UpdateResult(_with_run(news))


def _with_run(props: Properties) -> Properties:
    """Returns the properties with a value for `run` in any case: the SDK takes the input for an output without one."""
    return {**props, "run": props.get("run") or ""}


def _refused_at_first(news: Properties) -> RefusedError | None:
    member = news.get("replace_member")
    return RefusedError(Refusal.REPLACEMENT_IN_FIRST_UP, {"member": member}) if member else None


def prepare_replacement(member: str, machines: ClusterMachines, *, is_dead: bool = False, quota_bytes: int = 0) -> None:
    """Returns once the machine of `member` may be replaced, and that member does not lead.

    Precondition of a replacement: every other voter is healthy, they reach one another, and are a majority; or the
    member is down already, as its own machine reports or, if that is unreachable, a majority of the others; or, if
    nobody can tell, it was named as dead and its machine does not answer. In any case, all databases have room in the
    quota of the size.

    Args:
        member: Name of the member.
        machines: The machines of all members.
        is_dead: The machine was named as dead.
        quota_bytes: The quota of the size; 0 if unknown.

    Raises:
        RefusedError: The machine may not be replaced.
    """
    run = RunContext().run
    machines.observe(claim=run)
    observation = machines.observe()  # another run may have claimed one while this one claimed the others
    began = time.monotonic()
    require_claimed(observation, run)
    while (refused := refusal(member, observation, is_dead=is_dead, quota_bytes=quota_bytes)) is not None:
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise refused
        time.sleep(LOOK_AGAIN_SECONDS)
        observation = machines.observe()
        require_claimed(observation, run)
    if observation.leader == member and len(observation.voters) > 1:
        _hand_over(member, observation, machines, run)


def _hand_over(member: str, observation: Observation, machines: ClusterMachines, run: str) -> None:
    """Moves the leadership to another member, also to one whose machine is out of reach from here.

    Raises:
        RefusedError: No other member can lead.
    """
    names = [each.name for each in observation.voters]
    successor = quorum.successor(observation, names, [each.id for each in observation.members if each.name == member])
    if successor is None:
        raise RefusedError(Refusal.NO_SUCCESSOR, {"leader": member})
    line = Membership(MembershipChange.MOVE_LEADER, CHANGE_SECONDS, id=successor.id)
    progress = messages.text(ActionKind.MOVE_LEADER, {"successor": successor.name})
    machines.run(member, line, run=run, progress=progress, say=say, timeout_seconds=STEP_SECONDS)


def refusal(
    member: str, observation: Observation, *, is_dead: bool = False, quota_bytes: int = 0
) -> RefusedError | None:
    """Returns why the machine of `member` may not be replaced now; None if it may."""
    host, details = observation.hosts.get(member), {"member": member}
    if host and host.foreign:
        return RefusedError(Refusal.REPLACEMENT_OF_FOREIGN_ETCD, {**details, "database": host.foreign})
    is_full = any(alarm.kind == FULL for alarm in observation.alarms or ())
    if quota_bytes and (refused := no_room(observation.hosts, quota_bytes, is_full=is_full)) is not None:
        return refused
    if host and not host.may_serve:
        is_allowed = observation.status_source or not host.pid
        return None if is_allowed else RefusedError(Refusal.REPLACEMENT_WITHOUT_LEADER, details)
    if observation.status_source is None:
        return _refusal_without_status(host, observation, details, is_dead=is_dead)
    listed = {each.id for each in observation.members}
    live = {name: each.live for name, each in observation.hosts.items() if each.live and each.live.has_leader}
    apart = [name for name, each in live.items() if each.id not in listed]
    if apart:
        source = observation.status_source
        return RefusedError(Refusal.REPLACEMENT_IN_TWO_CLUSTERS, {**details, "apart": apart, "source": source})
    return _refusal_of_a_listed_member(member, observation, is_reachable=host is not None)


def _refusal_without_status(
    host: Host | None, observation: Observation, details: Details, *, is_dead: bool
) -> RefusedError | None:
    """Returns why a machine may not be replaced while no member can answer for the cluster."""
    if host:
        unknown = [*host.unknown.values()] or "it has a leader, but its list of members is unreadable"
        return RefusedError(Refusal.REPLACEMENT_MAJORITY_UNKNOWN, {**details, "unknown": unknown})
    if not is_dead:
        return RefusedError(Refusal.REPLACEMENT_UNREACHABLE, {**details, "unreachable": observation.unreachable})
    member = str(details["member"])
    if member in observation.answering:
        why = {"why": observation.unreachable[member].rstrip(".")}
        return RefusedError(Refusal.REPLACEMENT_OF_ANSWERING_MACHINE, {**details, **why})
    following = [name for name, each in observation.hosts.items() if each.live and each.live.has_leader]
    if following:  # the machine that was named as dead may be the one that leads, or that the majority needs
        unknown = f"{', '.join(following)} has a leader, and its list of members is unreadable"
        return RefusedError(Refusal.REPLACEMENT_MAJORITY_UNKNOWN, {**details, "unknown": unknown})
    return None


def _refusal_of_a_listed_member(member: str, observation: Observation, *, is_reachable: bool) -> RefusedError | None:
    """Returns why a machine may not be replaced whose member counts for the quorum and may serve."""
    details: dict[str, object] = {"member": member}
    listed = observation.of(member)
    if listed is None or listed.learner:
        return None
    if any(alarm.kind == CORRUPT and alarm.id != listed.id for alarm in observation.alarms or ()):
        return RefusedError(Refusal.REPLACEMENT_UNDER_ALARM, details)
    if not is_reachable and listed.id not in observation.healthy | observation.unknown:
        return None  # down, by a majority of the others
    if observation.alarms is None:
        source = {"source": observation.status_source}
        return RefusedError(Refusal.REPLACEMENT_ALARMS_UNKNOWN, {**details, **source})
    others = [each for each in observation.voters if each.id != listed.id]
    down = [each.name or each.peer_url for each in others if each.id not in observation.healthy]
    if down:
        return RefusedError(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, {**details, "down": down})
    if others and len(others) <= len(observation.voters) // 2:
        names = [each.name for each in others]
        return RefusedError(
            Refusal.REPLACEMENT_WITHOUT_MAJORITY, {**details, "others": names, "count": len(observation.voters)}
        )
    pairs = [pair for pair in observation.broken_pairs if member not in (pair.member, pair.peer)]
    return RefusedError(Refusal.REPLACEMENT_OTHERS_APART, {**details, "pairs": pairs}) if pairs else None
