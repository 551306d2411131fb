"""Tells which sizes a machine type is large enough for, and asks Google which zones have it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.offers import Offers, Question, ask

# https://cloud.google.com/compute/docs/machine-resource
PREDEFINED_TYPE = re.compile(r"([a-z]\d[a-z]*)-(standard|highmem|highcpu)-(\d+)(-lssd)?")
CUSTOM_TYPE = re.compile(r"([a-z]\d[a-z]*-)?custom-(\d+)-(\d+)(-ext)?")
"""vCPUs, and memory in MiB."""
SHARED_CORE = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0, "f1-micro": 0.2, "g1-small": 0.5}
"""vCPUs that the type has all the time: above it, it bursts. All have less memory than the smallest row."""
# From the fourth generation on they take Hyperdisk only, h3 has no SSD either, and arm64 no secure boot.
UNUSABLE_TYPE = re.compile(r"([a-z][4-9][a-z]*|h3|t2a)-.*")
HIGHCPU_GB_A_VCPU = {"n1": 0.9, "c3": 2.0, "c3d": 2.0}
"""GB of memory a vCPU. All others have 1; standard and highmem have at least what n1-standard has."""


def is_sufficient(machine_type: str, size: Size) -> bool | None:
    """Returns whether a type has the vCPUs and the memory of a row; None for a type that is in no table."""
    if machine_type in SHARED_CORE:
        return False
    if custom := CUSTOM_TYPE.fullmatch(machine_type):
        return int(custom[2]) >= size.gce.vcpus and int(custom[3]) / 1024 >= size.gce.memory_gb
    predefined = PREDEFINED_TYPE.fullmatch(machine_type)
    if predefined is None:
        return None
    series, kind, vcpus = predefined[1], predefined[2], int(predefined[3])
    enough_memory = kind != "highcpu" or vcpus * HIGHCPU_GB_A_VCPU.get(series, 1.0) >= size.gce.memory_gb
    return vcpus >= size.gce.vcpus and enough_memory


def require_ssd_and_secure_boot(machine_type: str, size: Size) -> None:
    """Refuses a type that cannot have the disk or the boot that members have."""
    if UNUSABLE_TYPE.fullmatch(machine_type):
        raise ConfigurationError(
            "gcp.machineType",
            machine_type,
            "it takes no pd-ssd disk, or has no secure boot",
            f"use {size.gce.machine_type}, or a type of n1, n2, n2d, c2, c2d, c3, c3d, e2, t2d, m1, m2 or m3",
        )


def require_large_enough(machine_type: str, size: Size) -> None:
    """Refuses a type below the size; the preflight on the machine measures a type that is in no table."""
    if is_sufficient(machine_type, size) is False:
        raise ConfigurationError(
            "gcp.machineType",
            machine_type,
            f"size {size.name} needs {size.gce.vcpus} vCPUs and {size.gce.memory_gb:g} GB",
            f"use {size.gce.machine_type} or larger, or a smaller size, or set allowUndersized: true",
        )


CURRENT = ("n2", "n2d", "e2", "n1")
"""Series that take pd-ssd and have at least what a row's n1-standard has. The nearest one first."""

MACHINE_TYPES = "gcp:compute/getMachineTypes:getMachineTypes"


def question(machine_type: str, size: Size) -> Question:
    """Returns what to ask Google before an instance of that type is made."""
    row = size.gce
    return Question(
        key="gcp.machineType",
        machine_type=machine_type,
        alternatives=[f"{series}-standard-{row.vcpus}" for series in CURRENT],
        capacity=f"{row.vcpus} vCPUs and at least {row.memory_gb:g} GB",
        places="gcp.zones",
    )


async def offers(asked: Question, parent: pulumi.Resource, zones: Collection[str]) -> Offers:
    """Returns which of these zones offer the types, by a call for each zone; nothing if one of them is unanswered."""
    filter_ = " OR ".join(f'(name = "{each}")' for each in asked.types)
    answers = await asyncio.gather(
        *(ask(MACHINE_TYPES, {"filter": filter_, "zone": zone}, "pulumi_gcp", parent) for zone in zones)
    )
    found: dict[str, set[str]] = {}
    for zone, answer in zip(zones, answers, strict=True):
        if "machineTypes" not in answer:
            return {}
        for machine_type in answer["machineTypes"]:
            found.setdefault(machine_type["name"], set()).add(zone)
    return found
