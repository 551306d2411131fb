"""The MachineReplacement resource: a running machine is replaced only while every other member is healthy."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.providers import MachineReplacementProvider


class MachineReplacement(Resource, module="cluster", name="MachineReplacement"):
    """A resource that a machine to be replaced depends on. See `machines.machine.Guard`.

    Args:
        name: Name of the resource.
        replace_member: The member whose machine is to be replaced; None for none.
        is_dead: The machine is known to be dead: it is replaced although nobody can report on it.
        connections: Member name -> SSH connection (secret).
        opts: Pulumi's resource options.
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
