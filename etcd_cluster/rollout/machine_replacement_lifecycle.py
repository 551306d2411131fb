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
from etcd_cluster.rollout.lifecycle import LOOK_AGAIN_SECONDS, require_claimed
from etcd_cluster.rollout.machines import STEP_SECONDS, MemberMachines, say
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.rollout.planner import messages, quorum
from etcd_cluster.rollout.planner.actions import CHANGE_SECONDS, ActionKind, Refusal
from etcd_cluster.rollout.planner.alarms import CORRUPT
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
        return CreateResult("machine-replacement", props)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if a member is to be replaced, or if any input differs."""
        return DiffResult(
            changes=bool(news.get("replace_member")) or any(olds.get(key) != news.get(key) for key in INPUTS)
        )

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Prepares the replacement of the member's machine, if one is to be replaced."""
        if news.get("replace_member"):
            members = {name: _CloudMachine(Layout.system()) for name in news["connections"]}
            # The old connections worked until now: a key or bastion may change in this same `up`.
            before: Mapping[str, Any] = olds.get("connections") or {}
            with MemberMachines(members, news["connections"], passing=True, before=before) as machines:
                prepare_replacement(news["replace_member"], machines, is_dead=bool(news.get("is_dead")))
        return UpdateResult(news)


def _refused_at_first(news: Properties) -> RefusedError | None:
    member = news.get("replace_member")
    return RefusedError(Refusal.REPLACEMENT_IN_FIRST_UP, {"member": member}) if member else None


def prepare_replacement(member: str, machines: MemberMachines, *, is_dead: bool = False) -> None:
    """Returns once the machine of `member` may be replaced, and that member does not lead.

    Precondition of a replacement: every other voter is healthy, and they reach one another; or the member is down
    already, as its own machine reports or, if that is unreachable, a majority of the others; or, if nobody can tell, it
    was named as dead and its machine does not answer.

    Args:
        member: Name of the member.
        machines: The machines of all members.
        is_dead: The machine was named as dead.

    Raises:
        RefusedError: The machine may not be replaced.
    """
    run = RunContext().run
    machines.observe(claim=run)
    observation = machines.observe()  # another run may have claimed one while this one claimed the others
    began = time.monotonic()
    require_claimed(observation, run)
    while (refused := refusal(member, observation, is_dead=is_dead)) is not None:
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise refused
        time.sleep(LOOK_AGAIN_SECONDS)
        observation = machines.observe()
        require_claimed(observation, run)
    successor = quorum.successor(
        observation, observation.hosts, [each.id for each in observation.members if each.name == member]
    )
    if observation.leader == member and successor:
        line = Membership(MembershipChange.MOVE_LEADER, CHANGE_SECONDS, id=successor.id)
        progress = messages.text(ActionKind.MOVE_LEADER, {"successor": successor.name})
        machines.run(member, line, run=run, progress=progress, say=say, timeout_seconds=STEP_SECONDS)


def refusal(member: str, observation: Observation, *, is_dead: bool = False) -> RefusedError | None:
    """Returns why the machine of `member` may not be replaced now; None if it may."""
    host, details = observation.hosts.get(member), {"member": member}
    if host and not host.may_serve:
        is_allowed = observation.status_source or not host.pid
        return None if is_allowed else RefusedError(Refusal.REPLACEMENT_WITHOUT_LEADER, details)
    if observation.status_source is None:
        if host:
            unknown = [*host.unknown.values()] or "it has a leader, but its list of members is unreadable"
            return RefusedError(Refusal.REPLACEMENT_MAJORITY_UNKNOWN, {**details, "unknown": unknown})
        if is_dead and member in observation.answering:
            why = {"why": observation.unreachable[member].rstrip(".")}
            return RefusedError(Refusal.REPLACEMENT_OF_ANSWERING_MACHINE, {**details, **why})
        unreachable = {**details, "unreachable": observation.unreachable}
        return None if is_dead else RefusedError(Refusal.REPLACEMENT_UNREACHABLE, unreachable)
    listed = observation.of(member)
    if listed is None or listed.learner:
        return None
    if any(alarm.kind == CORRUPT and alarm.id != listed.id for alarm in observation.alarms or ()):
        return RefusedError(Refusal.REPLACEMENT_UNDER_ALARM, details)
    serves = host is not None or listed.id in observation.healthy | observation.unknown
    down = [
        each.name or each.peer_url for each in observation.voters if each.id not in observation.healthy | {listed.id}
    ]
    if serves and down:
        return RefusedError(Refusal.REPLACEMENT_OTHERS_UNHEALTHY, {**details, "down": down})
    pairs = [pair for pair in observation.broken_pairs if member not in (pair.member, pair.peer)]
    return RefusedError(Refusal.REPLACEMENT_OTHERS_APART, {**details, "pairs": pairs}) if serves and pairs else None
