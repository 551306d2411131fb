"""Tells which rows of the hardware table an EC2 instance type bears."""

from __future__ import annotations

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.aws.limits import capacity

MEMORY_TOLERANCE = 0.95
"""Some families have a little less than their kind: r4 15.25 GiB for 16."""


def bears(instance_type: str, size: Size) -> bool | None:
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
