"""Registers DNS records in a managed zone of Cloud DNS. Imports Google's SDK, so only `publish` imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pulumi
from pulumi_gcp import dns

from etcd_cluster.machines.gcp.limits import managed_zone
from etcd_cluster.machines.records import AddressRecord, ServiceRecord, in_zone

KEY = "gcp.managedZone"


def publish(
    zone: pulumi.Input[str],
    cluster: str,
    addresses: Mapping[str, pulumi.Input[str]],
    address_records: Sequence[AddressRecord],
    service_records: Sequence[ServiceRecord],
    opts: pulumi.ResourceOptions,
) -> None:
    """Registers the records; see `RecordingMachines.publish`. One of the same name that exists already is an error."""
    known = pulumi.Output.from_input(zone)
    project = cast("pulumi.Output[str]", known.apply(lambda zone: managed_zone(zone)[0]))
    zone_name = known.apply(lambda zone: managed_zone(zone)[1])
    found = dns.get_managed_zone_output(
        name=zone_name, project=project, opts=pulumi.InvokeOutputOptions(parent=opts.parent)
    )
    names = [*(each.name for each in address_records), *(each.name for each in service_records)]
    checked = pulumi.Output.all(zone_name, found.dns_name).apply(in_zone(KEY, names))

    def record(name: str, kind: str, ttl_seconds: int, values: Sequence[pulumi.Input[str]]) -> None:
        dns.RecordSet(
            f"{cluster}-{name}-{kind.lower()}",
            managed_zone=checked,
            project=project,
            name=f"{name}.",
            type=kind,
            ttl=ttl_seconds,
            rrdatas=[*values],
            opts=opts,
        )

    for each in address_records:
        record(each.name, "A", each.ttl_seconds, [addresses[member] for member in each.members])
    for service in service_records:
        record(service.name, "SRV", service.ttl_seconds, service.values)
