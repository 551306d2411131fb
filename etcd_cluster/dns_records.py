"""Makes the DNS records of a cluster's names, where the platform has a zone for them, and says which they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi

from etcd_cluster.dns import ClusterNames
from etcd_cluster.dns_lookup import wrong_names
from etcd_cluster.machines.machine import Machine, Machines
from etcd_cluster.machines.records import RecordingMachines, documents


def publish_names(
    cluster: str,
    platform: Machines,
    machines: Sequence[Machine],
    names: ClusterNames,
    tls: bool,
    rollout: pulumi.CustomResource,
    parent: pulumi.Resource,
) -> pulumi.Output[list[dict[str, Any]]]:
    """Returns every record, and registers those for which there is a zone.

    They follow the rollout: a name stands for an address once the member serves there, with a certificate for the name.
    On destroy they go first. Without a zone, an `up` warns of names that do not lead to their members.
    """
    addresses = {machine.name: machine.address for machine in machines}
    of_addresses = names.address_records()
    of_services = names.service_records({machine.name: machine.ports.client for machine in machines}, tls=tls)

    def described(known: dict[str, str]) -> list[dict[str, Any]]:
        return documents(known, of_addresses, of_services)

    records = pulumi.Output.all(**addresses).apply(described)
    if isinstance(platform, RecordingMachines) and platform.zone_key is not None:
        opts = pulumi.ResourceOptions(parent=parent, depends_on=[rollout])
        platform.publish(cluster, addresses, of_addresses, of_services, opts)
    elif not pulumi.runtime.is_dry_run():
        _warn_of_wrong_names(records, rollout, parent)
    return records


def _warn_of_wrong_names(
    records: pulumi.Output[list[dict[str, Any]]], rollout: pulumi.CustomResource, parent: pulumi.Resource
) -> None:
    """Warns once the members serve: before, nobody needs the names."""

    async def warn(known: list[Any]) -> None:
        wrong = await wrong_names(known[0])
        if wrong is not None:
            pulumi.log.warn(str(wrong), parent)

    def warned(known: list[Any]) -> pulumi.Input[None]:
        return warn(known)

    pulumi.Output.all(records, rollout.id).apply(warned)
