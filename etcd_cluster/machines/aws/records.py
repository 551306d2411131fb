"""Registers DNS records in a hosted zone of Route 53. Imports the AWS SDK, so only `publish` imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from etcd_cluster.machines.records import AddressRecord, ServiceRecord, in_zone

KEY = "aws.hostedZoneId"


def publish(
    zone_id: pulumi.Input[str],
    cluster: str,
    addresses: Mapping[str, pulumi.Input[str]],
    address_records: Sequence[AddressRecord],
    service_records: Sequence[ServiceRecord],
    opts: pulumi.ResourceOptions,
) -> None:
    """Registers the records; see `RecordingMachines.publish`. One of the same name that exists already is an error."""
    found = aws.route53.get_zone_output(zone_id=zone_id, opts=pulumi.InvokeOutputOptions(parent=opts.parent))
    names = [*(each.name for each in address_records), *(each.name for each in service_records)]
    zone = pulumi.Output.all(zone_id, found.name).apply(in_zone(KEY, names))

    def record(name: str, kind: str, ttl_seconds: int, values: Sequence[pulumi.Input[str]]) -> None:
        aws.route53.Record(
            f"{cluster}-{name}-{kind.lower()}",
            zone_id=zone,
            name=name,
            type=kind,
            ttl=ttl_seconds,
            records=[*values],
            opts=opts,
        )

    for each in address_records:
        record(each.name, "A", each.ttl_seconds, [addresses[member] for member in each.members])
    for service in service_records:
        # Route 53 keeps names in values as they are written, and needs no dot at their ends.
        record(service.name, "SRV", service.ttl_seconds, [value.rstrip(".") for value in service.values])
