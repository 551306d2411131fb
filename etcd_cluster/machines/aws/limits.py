"""Defines what AWS has and allows: the performance of volumes, the capacity of instance types, subnets."""

from __future__ import annotations

import re

from etcd_cluster.errors import ConfigurationError

VOLUME_TYPE = "gp3"
# gp3's own limits: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
GP3_BASE_IOPS = 3_000
GP3_BASE_MIB_PER_SECOND = 125
GP3_IOPS_A_GIB = 500

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


def require_subnets(subnet_ids: object) -> None:
    """Refuses an empty list, and one text in place of a list. A value that is known only later is checked then."""
    if isinstance(subnet_ids, str) or subnet_ids in ([], ()):
        raise ConfigurationError(
            "aws.subnetIds", subnet_ids, "not a list of subnets", "list private subnets of one VPC, best in three zones"
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
