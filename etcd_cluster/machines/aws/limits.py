"""Defines what AWS has and allows: the performance of volumes, the capacity of instance types, subnets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.access import NamedRanges, require_distinct
from etcd_cluster.names import is_one_line

VOLUME_TYPE = "gp3"
# gp3's own limits: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
GP3_BASE_IOPS = 3_000
GP3_BASE_MIB_PER_SECOND = 125
GP3_IOPS_A_GIB = 500
GP3_MOST_GIB = 16_384

# https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html
ADDRESS_TAG = "etcd:address"
"""Of a data volume: its member's address, which is in the data."""
OWNER_TAG = "etcd:owner"
"""Of a data volume: the id of the `DataVolumes` that it was made or taken up by."""
OWN_TAGS = ("Name", "pulumi:project", "pulumi:stack", "etcd:cluster", "etcd:member", ADDRESS_TAG, OWNER_TAG)
LONGEST_TAG_KEY = 128
LONGEST_TAG_VALUE = 256
MOST_TAGS = 50

# Memory a vCPU in GiB, and vCPUs: https://aws.amazon.com/ec2/instance-types/
MEMORY_A_VCPU = {"c": 2.0, "m": 4.0, "r": 8.0}
VCPUS = {"medium": 1, "large": 2, "xlarge": 4, **{f"{n}xlarge": 4 * n for n in (2, 3, 4, 6, 8, 9, 10, 12, 16, 24, 32)}}
BURSTABLE = {
    "nano": (2, 0.5),
    "micro": (2, 1.0),
    "small": (2, 2.0),
    "medium": (2, 4.0),
    "large": (2, 8.0),
    "xlarge": (4, 16.0),
    "2xlarge": (8, 32.0),
}


@dataclass(frozen=True)
class Id:
    """The rule of a text that names something of AWS, such as subnet-0a1."""

    kind: str

    def __call__(self, key: str, value: str) -> None:
        """Raises `ConfigurationError` for a text that is no such id."""
        if not re.fullmatch(rf"{self.kind}-[0-9A-Za-z-]+", value):
            raise ConfigurationError(
                key, value, f"not an id of the kind {self.kind}", f"write it like {self.kind}-0a1b2c"
            )


def require_hosted_zone(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is no id of a hosted zone."""
    if not re.fullmatch(r"[0-9A-Z]{1,32}", value):
        raise ConfigurationError(key, value, "not the id of a hosted zone", "write it like Z0123456789ABCDEFGHIJ")


SubnetId = Annotated[str, Id("subnet")]
SecurityGroupId = Annotated[str, Id("sg")]
ImageId = Annotated[str, Id("ami")]
VolumeId = Annotated[str, Id("vol")]
InterfaceId = Annotated[str, Id("eni")]
HostedZoneId = Annotated[str, require_hosted_zone]
SecurityGroups = Sequence[pulumi.Input[SecurityGroupId]] | Mapping[str, pulumi.Input[SecurityGroupId]]
"""Ids; or ids by names of the caller's, for groups that are made by the same program."""

UNNAMED_GROUP = "group"
"""The name of the one listed group that is known only later."""


def require_instance_type(key: str, value: str) -> None:
    """Raises `ConfigurationError` for a text that is no instance type."""
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", value):
        raise ConfigurationError(key, value, "not an instance type", "write it like m7i.large")


def require_instance_profile(key: str, value: str) -> None:
    """Refuses anything but a name.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateInstanceProfile.html
    """
    if not re.fullmatch(r"[\w+=,.@-]{1,128}", value, re.ASCII):
        raise ConfigurationError(
            key, value, "not the name of an instance profile", "write its name alone, without arn: and path"
        )


InstanceProfile = Annotated[str, require_instance_profile]


def require_kms_key(key: str, value: str) -> None:
    """Refuses anything but the ARN of a key: the provider takes nothing shorter."""
    if not re.fullmatch(r"arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]+:(key|alias)/\S+", value):
        raise ConfigurationError(
            key, value, "not the ARN of a KMS key", "write it like arn:aws:kms:eu-west-1:111122223333:key/ID"
        )


def require_tag_key(key: str, tag: str) -> None:
    """Raises `ConfigurationError` for the name of a tag that AWS does not take, or that is taken."""
    if tag in OWN_TAGS or tag.lower().startswith("aws:"):
        raise ConfigurationError(key, tag, "this tag is set by the cluster or by AWS", "choose another name")
    if not is_one_line(tag) or not 1 <= len(tag) <= LONGEST_TAG_KEY:
        raise ConfigurationError(
            key, tag, "not the name of a tag", f"write 1 to {LONGEST_TAG_KEY} characters in one line"
        )


def require_tag_value(key: str, value: str) -> None:
    """Raises `ConfigurationError` for the value of a tag that AWS does not take."""
    if not is_one_line(value) or len(value) > LONGEST_TAG_VALUE:
        raise ConfigurationError(
            key, value, "not the value of a tag", f"write up to {LONGEST_TAG_VALUE} characters in one line"
        )


def named_groups(groups: SecurityGroups) -> dict[str, pulumi.Input[str]]:
    """Returns each group by a name that stays when others come and go: its id, or the given one if that is not known.

    AWS refuses a second rule for one source, so a source has the same name whatever its key is.
    """
    if isinstance(groups, Mapping):
        return {group if isinstance(group, str) else name: group for name, group in groups.items()}
    return {group if isinstance(group, str) else UNNAMED_GROUP: group for group in groups}


def named_ranges(ranges: NamedRanges) -> dict[str, pulumi.Input[str]]:
    """Returns each range in the same way."""
    if isinstance(ranges, Mapping):
        return {name_of_range(text) if isinstance(text, str) else name: text for name, text in ranges.items()}
    return {name_of_range(text): text for text in ranges}


def require_told_apart(key: str, groups: SecurityGroups) -> None:
    """Refuses a group that is listed twice, and two that are known only later and have no names."""
    listed = list(groups.values()) if isinstance(groups, Mapping) else list(groups)
    require_distinct(key, listed)
    unnamed = [group for group in listed if not isinstance(group, str)]
    if len(unnamed) > 1 and not isinstance(groups, Mapping):
        raise ConfigurationError(
            key,
            f"({len(unnamed)} Outputs)",
            "their rules would be told apart only by their places in the list, which change with it",
            'give them by names that stay, such as {"apps": apps.id, "jobs": jobs.id}',
        )


def name_of_range(range_: str) -> str:
    """Returns the name of the rule for a listed range."""
    return str(ipaddress.ip_network(range_)).replace("/", "-").replace(":", ".")


def require_different_names(key: str, ranges: NamedRanges, groups: SecurityGroups) -> None:
    """Refuses a name that both a range and a group have: rules are told apart by it."""
    both = [name for name in named_ranges(ranges) if name in named_groups(groups)]
    if both:
        raise ConfigurationError(
            key, both[0], "a security group has this name as well", "give the range, or the group, another name"
        )


def require_subnets(subnet_ids: object) -> None:
    """Refuses an empty list, and a subnet that is listed twice. A list that is known only later is checked then."""
    if isinstance(subnet_ids, list | tuple):
        listed = cast("list[object]", subnet_ids)
        require_distinct("aws.subnetIds", listed)
        if not listed:
            raise ConfigurationError(
                "aws.subnetIds", [], "no subnet is listed", "list private subnets of one VPC, best in three zones"
            )


def architecture(instance_type: str) -> str:
    """Returns `arm64` for Graviton (a `g` behind the generation, as in m7g, c6gn), else `amd64`."""
    family = instance_type.partition(".")[0]
    return "arm64" if family == "a1" or re.fullmatch(r"[a-z]+\d+[a-z]*g[a-z]*", family) else "amd64"


def capacity(instance_type: str) -> tuple[int, float] | None:
    """Returns the vCPUs and GiB of memory of a general, compute, memory or burstable type.

    None for others, which only the preflight on the machine can check.
    """
    family, _, size = instance_type.partition(".")
    if re.fullmatch(r"t\d[a-z]*", family):
        return BURSTABLE.get(size)
    matched = re.fullmatch(r"([cmr])\d[a-z-]*", family)
    if matched is None or size not in VCPUS:
        return None
    return VCPUS[size], VCPUS[size] * MEMORY_A_VCPU[matched[1]]
