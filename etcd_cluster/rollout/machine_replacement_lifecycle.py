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
from etcd_cluster.rollout.lifecycle import LOOK_AGAIN_SECONDS, require_claimed, say
from etcd_cluster.rollout.machines import STEP_SECONDS, MemberMachines
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.rollout.planner import messages, quorum
from etcd_cluster.rollout.planner.actions import CHANGE_SECONDS, ActionKind, RefusedError, RunContext
from etcd_cluster.rollout.planner.alarms import CORRUPT

INPUTS = ("replace_member", "is_dead", "connections")
PATIENCE_SECONDS = 20
"""Limit for the others to become healthy: a member that has just come back takes some seconds."""
UNTOUCHED = (
    "it was not touched. Take `replaceMember` out and run `pulumi up`, which fixes what can be fixed; one whose "
    "machine is dead is the one to replace first"
)
UNANSWERED = (
    "It was not touched. Restore the way to the machines (SSH key, bastion, VPN), then run again; if its machine is "
    "dead, name it as such: `replaceDeadMember` in the place of `replaceMember`"
)


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
        return CheckResult(news, [] if refused is None else [CheckFailure("", refused)])

    def create(self, props: Properties) -> CreateResult:
        """Creates the resource; refuses a member to replace, as `pulumi up --replace` may bring one."""
        if (refused := _refused_at_first(props)) is not None:  # as by `pulumi up --replace`
            raise RefusedError(refused)
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


def _refused_at_first(news: Properties) -> str | None:
    member = news.get("replace_member")
    if not member:
        return None
    return (
        f"replaceMember: {member}: the resource that asks the other members before a replacement is only being "
        "created. Expected is no member to replace. Take it out, run `pulumi up`, then put it in again"
    )


def prepare_replacement(member: str, machines: MemberMachines, *, is_dead: bool = False) -> None:
    """Returns once the machine of `member` may be replaced, and that member does not lead.

    Precondition of a replacement: every other voter is healthy; or the member is down already, as its own machine
    reports or, if that is unreachable, a majority of the others; or, if nobody can tell, it was named as dead and its
    machine does not answer.

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
    while (what := obstacle(member, observation, is_dead=is_dead)) is not None:
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise RefusedError(f"the machine of {member} is not replaced while {what}")
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


def obstacle(member: str, observation: Observation, *, is_dead: bool = False) -> str | None:
    """Returns why the machine of `member` may not be replaced now, and what to do; None if it may."""
    host = observation.hosts.get(member)
    if host and not host.may_serve:
        return None if observation.status_source or not host.pid else f"it runs, but no member leads; {UNTOUCHED}"
    if observation.status_source is None:
        if host:
            why = ", ".join(host.unknown.values()) or "it has a leader, but its list of members cannot be read"
            return f"it runs, and it cannot be told whether a majority serves ({why}); {UNTOUCHED}"
        unreachable = "; ".join(f"{name}: {why}" for name, why in observation.unreachable.items())
        if is_dead and member in observation.refusing:
            return f"it answers, and so is not dead ({observation.unreachable[member]}); it was not touched"
        return None if is_dead else f"nobody can tell whether it serves ({unreachable}). {UNANSWERED}"
    listed = observation.of(member)
    if listed is None or listed.learner:
        return None
    if any(alarm.kind == CORRUPT and alarm.id != listed.id for alarm in observation.alarms or ()):
        return f"etcd's alarm CORRUPT stands; {UNTOUCHED}"
    serves = host is not None or listed.id in observation.healthy | observation.unknown
    down = [
        each.name or each.peer_url for each in observation.voters if each.id not in observation.healthy | {listed.id}
    ]
    return f"{', '.join(down)} is not healthy; {UNTOUCHED}" if serves and down else None
