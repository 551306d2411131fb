"""Asks Google Cloud for data disks of a cluster's members, by their names. Imports Google's SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import pulumi
from pulumi_gcp import compute

from etcd_cluster.machines.gcp.limits import ADDRESS_LABEL, DISK_ID, OWNER_LABEL
from etcd_cluster.machines.kept_volume import KeptVolume


def find(
    disks: Mapping[str, str], zones: Mapping[str, Sequence[str]], lookup: pulumi.InvokeOptions
) -> dict[str, list[KeptVolume]]:
    """Returns each member's data disk of that name, if there is one in the zones.

    Args:
        disks: Member name -> name of its disk.
        zones: Member name -> zones to look in, in order. Names are unique in a zone.
        lookup: Options of the calls.
    """
    found: dict[str, list[KeptVolume]] = {}
    for member, name in disks.items():
        found[member] = []
        for zone in zones[member]:
            if disk := _look_up(name, zone, lookup):
                found[member].append(disk)
            if disk and disk.in_use:  # as a rule: the member runs with it
                break
    return found


def _look_up(name: str, zone: str, lookup: pulumi.InvokeOptions) -> KeptVolume | None:
    """Returns the disk; None if there is none, or nobody can be asked.

    Pulumi's provider lists no disks by label, and a call for a disk that does not exist fails as one that is not
    allowed. If it exists all the same, Google refuses to make another one of its name in its zone.
    """
    disk = None
    with contextlib.suppress(Exception):
        disk = compute.get_disk(name=name, zone=zone, opts=lookup)
    if disk is None or not disk.id or not disk.size:
        return None
    labels = disk.labels or {}
    return KeptVolume(
        id=disk.id,
        zone=zone,
        size=int(disk.size),
        address=_address_in(labels),
        owner=labels.get(OWNER_LABEL, ""),
        in_use=bool(disk.users),
    )


def zone_of(disk_id: str) -> str:
    """Returns the zone in the full name of a disk."""
    matched = DISK_ID.fullmatch(disk_id)
    return matched["zone"] if matched else ""


def address_of(disk_id: pulumi.Input[str], lookup: pulumi.InvokeOptions) -> pulumi.Output[str]:
    """Returns the address in the labels of a disk of that full name; "" if it has none."""
    parts = pulumi.Output.from_input(disk_id).apply(DISK_ID.fullmatch)
    disk = compute.get_disk_output(
        name=parts.apply(lambda found: found["name"] if found else ""),
        zone=parts.apply(lambda found: found["zone"] if found else ""),
        project=parts.apply(lambda found: found["project"] if found else ""),
        opts=lookup,
    )
    return disk.labels.apply(_address_in)


def _address_in(labels: Mapping[str, str] | None) -> str:
    return (labels or {}).get(ADDRESS_LABEL, "").replace("-", ".")
