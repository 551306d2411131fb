"""Asks Google Cloud for data disks of a cluster's members, by their names. Imports Google's SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_gcp import compute

from etcd_cluster.errors import ConfigurationError
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

    Raises:
        ConfigurationError: Google answers for no zone of a member: a disk from before would be passed over.
    """
    found: dict[str, list[KeptVolume]] = {}
    for member, name in disks.items():
        found[member], failures = [], list[Exception]()
        for zone in zones[member]:
            answer = _look_up(name, zone, lookup)
            if isinstance(answer, Exception):
                failures.append(answer)
            elif answer:
                found[member].append(answer)
            if isinstance(answer, KeptVolume) and answer.in_use:  # as a rule: the member runs with it
                break
        if len(failures) == len(zones[member]):
            raise ConfigurationError(
                "gcp.zones",
                list(zones[member]),
                f"nobody can say whether {member} has a disk {name} from before there: {_reason(failures[0])}",
                "correct the zones, grant compute.disks.get (roles/compute.viewer has it), or give gcp.disks",
            )
    return found


NOT_FOUND = "not found"
"""What the provider says of a disk that does not exist, and of no other failure: data_source_google_compute_disk.go."""


def _look_up(name: str, zone: str, lookup: pulumi.InvokeOptions) -> KeptVolume | Exception | None:
    """Returns the disk; None if there is none; the failure if Google does not say. A zone may not exist.

    Pulumi's provider lists no disks by label.
    """
    try:
        disk = compute.get_disk(name=name, zone=zone, opts=lookup)
    except Exception as error:  # Pulumi has no narrower one
        return None if NOT_FOUND in str(error) else error
    if not disk.id or not disk.size:
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


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


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
