"""The HostRecord resource: a record of the hosts that members are put on, written before any member is.

With it, members are removed from their hosts whatever happened to the rollout: its first `up` failed, it was replaced,
or a host was unlisted in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.formation import Formation
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.providers import HostRecordProvider
from etcd_cluster.settings import Settings


class HostRecord(Resource, module="cluster", name="HostRecord"):
    """The hosts of one cluster that outlive it.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME, for people.
        token: The token by which the cluster is known on its machines.
        hosts: Member name -> layout of its files, and ports.
        connections: Member name -> SSH connection (secret; none for members on this machine).
        delete_data: `destroy` deletes etcd's data as well.
        opts: Pulumi's resource options.

    Attributes:
        record: Id of the record, which is on every host.
        former: Name -> host that is no longer listed; it has "moved" if the member has another place by now (secret).
    """

    record: pulumi.Output[str]
    former: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        token: pulumi.Input[str],
        hosts: Mapping[str, Mapping[str, Any]],
        connections: Mapping[str, ConnectionArgs],
        delete_data: bool,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            HostRecordProvider(),
            name,
            {
                "cluster": cluster,
                "token": token,
                "hosts": hosts,
                "connections": pulumi.Output.secret(connections),
                "delete_data": delete_data,
                "record": None,
                "former": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["former"])),
        )


def record_hosts(
    cluster: str,
    identity: str,
    machines: Mapping[str, Machine],
    formation: Formation,
    settings: Settings,
    before: Sequence[pulumi.Resource],
    parent: pulumi.Resource,
) -> HostRecord | None:
    """Returns the record of the hosts; None if every machine is deleted with its member.

    It is made once the preflight of all machines has passed, as `formation` says, and after `before`: these stay in the
    stack for as long as a member may run on a host.
    """
    staying = {name: machine for name, machine in machines.items() if machine.deleted_with is None}
    if not staying:
        return None
    return HostRecord(
        f"{cluster}-hosts",
        cluster=identity,
        token=formation.token,
        hosts={
            name: {"layout": dict(vars(layout(machine))), "ports": dict(vars(machine.ports))}
            for name, machine in staying.items()
        },
        connections={name: machine.connection for name, machine in staying.items() if machine.connection},
        delete_data=settings.delete_data,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[formation, *before]),
    )
