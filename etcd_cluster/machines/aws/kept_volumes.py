"""Asks AWS for data volumes of a cluster's members. Imports the AWS SDK."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.aws.limits import ADDRESS_TAG, OWNER_TAG
from etcd_cluster.machines.kept_volume import KeptVolume


def find(cluster: str, names: Sequence[str], lookup: pulumi.InvokeOptions) -> dict[str, list[KeptVolume]]:
    """Returns each member's data volumes, by their tags: those of a machine, and those that none has."""
    found: dict[str, list[KeptVolume]] = {name: [] for name in names}
    own = {
        "tag:pulumi:project": pulumi.get_project(),
        "tag:pulumi:stack": pulumi.get_stack(),
        "tag:etcd:cluster": cluster,
        "tag:Name": f"{cluster}-*-data",
    }
    for status in ("available", "in-use"):
        filters = [
            aws.ebs.GetEbsVolumesFilterArgs(name=name, values=[value])
            for name, value in {**own, "status": status}.items()
        ]
        for id_ in sorted(aws.ebs.get_ebs_volumes(filters=filters, opts=lookup).ids or []):
            volume = aws.ebs.get_volume(filters=[_with_id(id_)], opts=lookup)
            tags = volume.tags or {}
            if tags.get("etcd:member") in found:
                found[tags["etcd:member"]].append(
                    KeptVolume(
                        id=id_,
                        zone=volume.availability_zone,
                        size=volume.size,
                        address=_address_in(tags),
                        owner=tags.get(OWNER_TAG, ""),
                        in_use=status == "in-use",
                    )
                )
    return found


def zone(volume_id: pulumi.Input[str], lookup: pulumi.InvokeOptions) -> pulumi.Output[str]:
    """Returns the zone of a volume."""
    return _look_up(volume_id, lookup).availability_zone


def address(volume_id: pulumi.Input[str], lookup: pulumi.InvokeOptions) -> pulumi.Output[str]:
    """Returns the address in the tags of a volume; "" if it has none."""
    return _look_up(volume_id, lookup).tags.apply(_address_in)


def _address_in(tags: Mapping[str, str] | None) -> str:
    return (tags or {}).get(ADDRESS_TAG, "")


def _look_up(volume_id: pulumi.Input[str], lookup: pulumi.InvokeOptions) -> pulumi.Output[aws.ebs.GetVolumeResult]:
    by_id = pulumi.Output.from_input(volume_id).apply(lambda known: [_with_id(known)])
    return aws.ebs.get_volume_output(filters=by_id, opts=lookup)


def subnet_of(
    member: str,
    subnet_ids: pulumi.Output[Sequence[str]],
    zone_of_data: pulumi.Input[str],
    address_in_data: pulumi.Input[str],
    is_own: pulumi.Input[bool],
    lookup: pulumi.InvokeOptions,
) -> pulumi.Output[str]:
    """Returns the subnet in the zone of a volume, and with its member's address, if that is known.

    Args:
        member: Name of the member.
        subnet_ids: The subnets to choose from.
        zone_of_data: Zone of its data volume.
        address_in_data: The member's address; "" if it is unknown.
        is_own: The stack made or took up the volume before. Its interface stands, whatever subnets are listed by now.
        lookup: Options of the calls.
    """

    def among(ids: Sequence[str]) -> pulumi.Output[str]:
        subnets = [aws.ec2.get_subnet_output(id=id_, opts=lookup) for id_ in ids]
        places = pulumi.Output.all(*[pulumi.Output.all(each.availability_zone, each.cidr_block) for each in subnets])
        return pulumi.Output.all(places, zone_of_data, address_in_data, is_own).apply(
            lambda known: choose_subnet(member, dict(zip(ids, known[0], strict=True)), known[1], known[2], known[3])
        )

    return subnet_ids.apply(among)


def choose_subnet(
    member: str, subnets: Mapping[str, Sequence[str]], zone_name: str, with_address: str, is_own: bool = False
) -> str:
    """Chooses among subnets (id -> zone, range). Pure.

    Raises:
        ConfigurationError: No subnet fits.
    """
    in_zone = {id_: range_ for id_, (found, range_) in subnets.items() if found == zone_name}
    if is_own and not in_zone:
        return next(iter(subnets))
    if not in_zone:
        raise ConfigurationError(
            "aws.subnetIds",
            list(subnets),
            f"the data volume of {member} is in {zone_name}, and no subnet is there",
            f"list a subnet in {zone_name}: a volume stays in its zone",
        )
    fitting = [
        id_
        for id_, range_ in in_zone.items()
        if not with_address or ipaddress.ip_address(with_address) in ipaddress.ip_network(range_)
    ]
    if is_own and not fitting:
        return next(iter(in_zone))
    if not fitting:
        raise ConfigurationError(
            "aws.subnetIds",
            list(in_zone),
            f"the address of {member} is {with_address}, and it is of none of these subnets of {zone_name}",
            "list the subnet that has it; with other addresses, members with the data of before find no quorum",
        )
    return fitting[0]


def _with_id(id_: str) -> aws.ebs.GetVolumeFilterArgs:
    return aws.ebs.GetVolumeFilterArgs(name="volume-id", values=[id_])
