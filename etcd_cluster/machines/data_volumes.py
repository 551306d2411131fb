"""The DataVolumes resource: a member has one data volume for life, and no other one is put in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pulumi
from pulumi.dynamic import Resource

from etcd_cluster.machines.kept_volume import KeptVolume
from etcd_cluster.providers import DataVolumesProvider


class DataVolumes(Resource, module="cluster", name="DataVolumes"):
    """Remembers which members have a data volume, since a program cannot read its own state.

    Args:
        name: Name of the resource.
        key: The key of config that names a member's volume, such as aws.volumes.
        label: What a volume names its member by, for people: tag etcd:member.
        members: Names of the members.
        found: Member name -> volumes that carry its names.
        taken_up: Member name -> the volume that the stack takes up, unless it has it already.
        given: Key of config -> member name -> id of what is the caller's.
        replaced: The member whose machine is to be replaced; None for none.
        opts: Pulumi's resource options.

    Attributes:
        owner: An id of its own. Volumes carry it, so that the stack's are known from those of a former life.
    """

    owner: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        key: str,
        label: str,
        members: Sequence[str],
        found: Mapping[str, Sequence[KeptVolume]],
        taken_up: Mapping[str, KeptVolume],
        given: Mapping[str, Mapping[str, pulumi.Input[str]]],
        replaced: str | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "key": key,
            "label": label,
            "members": list(members),
            "found": {member: [asdict(each) for each in volumes] for member, volumes in found.items()},
            "taken_up": {member: volume.id for member, volume in taken_up.items()},
            "given": {each: dict(by_member) for each, by_member in given.items()},
            "replaced": replaced,
            "owner": None,
        }
        super().__init__(DataVolumesProvider(), name, properties, opts)
