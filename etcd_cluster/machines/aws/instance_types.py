"""Tells which sizes an EC2 instance type is large enough for, and asks AWS which zones offer it."""

from __future__ import annotations

from collections.abc import Collection

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.aws.limits import architecture, capacity
from etcd_cluster.machines.offers import Offers, Question, ask

MEMORY_TOLERANCE = 0.95
"""Some families have a little less than their kind: r4 15.25 GiB for 16."""


def is_sufficient(instance_type: str, size: Size) -> bool | None:
    """Returns whether a type has the vCPUs and the memory of a row; None for a type that is in no table."""
    known = capacity(instance_type)
    return None if known is None else _is_enough(known, size)


def require_large_enough(instance_type: str, size: Size) -> None:
    """Refuses a type below the size; the preflight on the machine measures a type that is in no table."""
    known = capacity(instance_type)
    if known is not None and not _is_enough(known, size):
        raise ConfigurationError(
            "aws.instanceType",
            instance_type,
            f"it has {known[0]} vCPUs and {known[1]:g} GiB, and size {size.name} needs {size.aws.vcpus} and "
            f"{size.aws.memory_gb:g}",
            f"use {size.aws.instance_type} or larger, or a smaller size, or set allowUndersized: true",
        )


def _is_enough(has: tuple[int, float], size: Size) -> bool:
    return has[0] >= size.aws.vcpus and has[1] >= size.aws.memory_gb * MEMORY_TOLERANCE


CURRENT = ("m7i", "m6i", "m5", "m7a", "m6a", "m5a")
CURRENT_ARM = ("m7g", "m6g")
"""Families of the present generations that have what a row's m4 has: 4 GiB a vCPU. The nearest one first."""

OFFERINGS = "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"


def question(instance_type: str, size: Size) -> Question:
    """Returns what to ask AWS before an instance of that type is made."""
    families = CURRENT_ARM if architecture(instance_type) == "arm64" else CURRENT
    row = size.aws
    return Question(
        key="aws.instanceType",
        machine_type=instance_type,
        alternatives=[f"{family}.{row.instance_type.partition('.')[2]}" for family in families],
        capacity=f"{row.vcpus} vCPUs and {row.memory_gb:g} GiB",
        places="aws.subnetIds",
    )


async def offers(asked: Question, parent: pulumi.Resource, _zones: Collection[str]) -> Offers:
    """Returns which zones of the region offer the types, by one call; nothing where AWS gives no answer."""
    arguments = {
        "filters": [{"name": "instance-type", "values": asked.types}],
        "locationType": "availability-zone",
    }
    answer = await ask(OFFERINGS, arguments, "pulumi_aws", parent)
    found: dict[str, set[str]] = {}
    for instance_type, zone in zip(answer.get("instanceTypes") or (), answer.get("locations") or (), strict=False):
        found.setdefault(instance_type, set()).add(zone)
    return found
