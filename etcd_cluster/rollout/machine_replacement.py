"""The MachineReplacement resource: a running machine is only replaced while every other member is healthy."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import MachineReplacementProvider


class MachineReplacement(Resource, module="cluster", name="MachineReplacement"):
    """What a machine depends on that is to be replaced; see `machines.machine.Guard`.

    replace_member: the member; None for nobody. is_dead: its machine is known to be dead: it goes though nobody can
    tell.
    connections: member name -> SSH connection (secret).
    """

    def __init__(
        self,
        name: str,
        *,
        replace_member: str | None,
        is_dead: bool = False,
        connections: Mapping[str, ConnectionArgs],
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "replace_member": replace_member,
            "is_dead": is_dead or None,
            "connections": pulumi.Output.secret(connections),
        }
        super().__init__(MachineReplacementProvider(), name, properties, opts)
