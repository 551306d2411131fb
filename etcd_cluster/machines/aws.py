"""AWS: for each member an EC2 instance, a data volume and a network interface that outlive it.

`pulumi_aws` is imported only when machines are provisioned: it comes with the extra `etcd-cluster[aws]`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.access import require_private
from etcd_cluster.machines.extras import require_extra
from etcd_cluster.machines.machine import Machine
from etcd_cluster.machines.ssh import Bastion
from etcd_cluster.sizes import Size

# gp3's own limits: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
GP3_BASE_IOPS, GP3_MOST_IOPS, GP3_IOPS_A_GIB = 3_000, 16_000, 500
GP3_BASE_MIB_PER_SECOND, GP3_MOST_MIB_PER_SECOND = 125, 1_000
SMALLEST_VOLUME_GIB = 20

DEBIAN = "136693071363"
"""The account that publishes Debian's images: https://wiki.debian.org/Cloud/AmazonEC2Image"""

DEVICE_NAME = "/dev/sdf"
XEN_DEVICE = "/dev/xvdf"
"""What instances on Xen (m4) make of DEVICE_NAME; those on Nitro name the volume by its id."""

# GiB of memory a vCPU in each family, and vCPUs of each size: https://aws.amazon.com/ec2/instance-types/
MEMORY_A_VCPU = {"c": 2, "m": 4, "r": 8}
VCPUS = {"large": 2, "xlarge": 4, **{f"{n}xlarge": 4 * n for n in (2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 48)}}


@dataclass(frozen=True)
class AwsMachines:
    """Members on EC2, spread over the given subnets in turn.

    subnet_ids: private subnets, best one in each of three zones.
    client_cidrs, client_security_group_ids: who may reach etcd (2379). ssh_cidrs, ssh_security_group_ids: who may reach
        SSH (22): where Pulumi runs, or the bastion. The whole world is refused in both.
    bastion: host to jump through; default None connects straight to the private addresses.
    instance_type: default the size's row (m4). Types of arm64 (Graviton) get images and programs of arm64.
    image_id: default the newest Debian 12. A newer image never replaces a running member.
    volume_gib: data volume, default enough for the row's IOPS and the quota, at least 20.
    kms_key_id: customer key for all volumes; default the account's own key for EBS.
    private_key: text of an SSH private key, with its public_key; default a key pair made for this cluster.
    deletion_protection: instances and volumes refuse to be deleted; default False.
    retain_volumes: destroying keeps the data volumes; default True.
    renew: the one member whose machine may take a new image and type now; default None.
    tags: for every resource, besides Name and the project's, stack's, cluster's and member's names.
    """

    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    client_cidrs: Sequence[str] = ()
    client_security_group_ids: Sequence[pulumi.Input[str]] = ()
    ssh_cidrs: Sequence[str] = ()
    ssh_security_group_ids: Sequence[pulumi.Input[str]] = ()
    bastion: Bastion | None = None
    instance_type: str | None = None
    image_id: pulumi.Input[str] | None = None
    volume_gib: int | None = None
    kms_key_id: pulumi.Input[str] | None = None
    private_key: pulumi.Input[str] | None = None
    public_key: pulumi.Input[str] | None = None
    deletion_protection: bool = False
    retain_volumes: bool = True
    renew: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def platform(self) -> str:
        return "aws"

    def member_names(self, members: int | None) -> Sequence[str]:
        require_private("aws.clientCidrs", self.client_cidrs)
        require_private("aws.sshCidrs", self.ssh_cidrs)
        if (self.private_key is None) != (self.public_key is None):
            raise ConfigurationError(
                "aws.publicKey", "(not shown)", "given without its other half", "give both keys, or none"
            )
        names = tuple(f"etcd-{number}" for number in range(1, (members or 3) + 1))
        if self.renew is not None and self.renew not in names:
            raise ConfigurationError("aws.renew", self.renew, "no such member", f"choose one of {', '.join(names)}")
        return names

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        require_extra("pulumi_aws", "aws")
        from etcd_cluster.machines.aws_resources import Provisioning

        return Provisioning(self, cluster, size, parent).machines(names)

    def instance_type_for(self, size: Size) -> str:
        """The instance type; refuses a known one that is below the size's row."""
        chosen = self.instance_type or size.aws.instance_type
        known = _capacity(chosen)
        if known is not None and (known[0] < size.aws.vcpus or known[1] < size.aws.memory_gb * 0.95):
            raise ConfigurationError(
                "aws.instanceType",
                chosen,
                f"it has {known[0]} vCPUs and {known[1]:g} GiB, size {size.name} needs {size.aws.vcpus} and {size.aws.memory_gb:g}",
                f"use {size.aws.instance_type} or larger, or a smaller size",
            )
        return chosen

    def volume_gib_for(self, size: Size) -> int:
        """The data volume: room for the quota, and enough for gp3 to give the row's IOPS."""
        needed = max(size.minimum_disk_gib, math.ceil(size.aws.iops / GP3_IOPS_A_GIB))
        chosen = self.volume_gib if self.volume_gib is not None else max(needed, SMALLEST_VOLUME_GIB)
        if chosen < needed:
            raise ConfigurationError(
                "aws.volumeGib", chosen, f"size {size.name} needs {needed} for {size.aws.iops} IOPS", "leave it out"
            )
        return chosen


def architecture(instance_type: str) -> str:
    """`arm64` for Graviton (a `g` behind the generation, as in m7g, c6gn), else `amd64`."""
    family = instance_type.partition(".")[0]
    return "arm64" if family == "a1" or re.fullmatch(r"[a-z]+\d+[a-z]*g[a-z]*", family) else "amd64"


def _capacity(instance_type: str) -> tuple[int, float] | None:
    """vCPUs and GiB of memory of a general, compute or memory type; None for others, which the machine's own check covers."""
    family, _, size = instance_type.partition(".")
    matched = re.fullmatch(r"([cmr])\d[a-z]*", family)
    if matched is None or size not in VCPUS:
        return None
    return VCPUS[size], VCPUS[size] * MEMORY_A_VCPU[matched[1]]
