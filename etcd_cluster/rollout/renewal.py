"""The Renewal resource: a member's running machine is only replaced while every other member is healthy.

State contract: Pulumi's state names this module and its classes. Moving or renaming one orphans existing stacks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.rollout.machines import MemberMachines
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.rollout.plan import quorum
from etcd_cluster.rollout.plan.acts import CHANGE_SECONDS, Memory, RefusedError
from etcd_cluster.rollout.resource import LOOK_AGAIN_SECONDS, say

Properties = dict[str, Any]

INPUTS = ("renew", "connections")
PATIENCE_SECONDS = 20
"""For the others to become healthy: a member that has just come back takes some seconds."""


@dataclass(frozen=True)
class _CloudMachine:
    """Members on machines of a cloud are where the system has them."""

    layout: Layout
    device: str = ""
    ports: Ports = field(default_factory=Ports)
    tls: bool = True


class RenewalProvider(ResourceProvider):
    """Looks in every `up` for as long as a machine may be replaced: one that was let go may still be there, as a run
    that was killed had not replaced it yet. Not when it is made: the machines are made then, too."""

    serialize_as_secret_always = False  # pickled by reference: nothing is captured

    def create(self, props: Properties) -> CreateResult:
        return CreateResult("renewal", props)

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        return DiffResult(changes=bool(news.get("renew")) or any(olds.get(key) != news.get(key) for key in INPUTS))

    def update(self, _id: str, olds: Properties, news: Properties) -> UpdateResult:
        if news.get("renew"):
            members = {name: _CloudMachine(Layout.system()) for name in news["connections"]}
            with MemberMachines(members, news["connections"], passing=True) as machines:
                let_go(news["renew"], machines)
        return UpdateResult(news)


def let_go(member: str, machines: MemberMachines) -> None:
    """Returns once the machine of `member` may go, and leads no more. Raises `RefusedError` where it may not.

    Precondition of a replacement: that member is down already, or every other voter is healthy.
    """
    run, began = Memory().run, time.monotonic()
    seen = machines.observe(claim=run)
    while what := obstacle(member, seen):
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise RefusedError(
                f"the machine of {member} is not replaced while {what}; it was not touched. Take `renew` out and run "
                "`pulumi up`, which mends what can be mended; one whose machine is dead is the one to renew first"
            )
        time.sleep(LOOK_AGAIN_SECONDS)
        seen = machines.observe()
    successor = quorum.successor(seen, seen.hosts, [each.id for each in seen.members if each.name == member])
    if seen.leader == member and successor:
        told = f"handing leadership over to {successor.name}"
        words = {"do": "lead", "id": successor.id, "timeout": str(CHANGE_SECONDS), "say": told}
        line = render.command_line("membership", {"member": member, "run": run, **words})
        machines.run(member, "membership", line, {}, say)


def obstacle(member: str, seen: Observation) -> str:
    """Why the machine of `member` may not go now; "" if it may."""
    if seen.teller is None:
        host = seen.hosts.get(member)
        return "it runs, but no member leads" if host and host.pid else ""
    listed = seen.of(member)
    if listed is None or listed.learner or listed.id not in seen.healthy | seen.unknown:
        return ""
    down = [each.name or each.peer_url for each in seen.voters if each.id not in seen.healthy | {listed.id}]
    return f"{', '.join(down)} is not healthy" if down else ""


class Renewal(Resource, module="cluster", name="Renewal"):
    """What a machine depends on that is to be replaced; see `machines.machine.Guard`.

    renew: the member; None for nobody. connections: member name -> SSH connection (secret).
    """

    def __init__(
        self,
        name: str,
        *,
        renew: str | None,
        connections: Mapping[str, ConnectionArgs],
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {"renew": renew, "connections": pulumi.Output.secret(connections)}
        super().__init__(RenewalProvider(), name, properties, opts)
