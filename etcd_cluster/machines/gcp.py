"""Google Cloud: for each member a Compute Engine instance, a data disk and an internal address that outlive it.

`pulumi_gcp` is imported only when machines are provisioned: it comes with the extra `etcd-cluster[gcp]`.
"""

from __future__ import annotations

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

UBUNTU = {"amd64": "ubuntu-os-cloud/ubuntu-2404-lts-amd64", "arm64": "ubuntu-os-cloud/ubuntu-2404-lts-arm64"}
"""Image families that have cloud-init, which Google's own Debian images lack."""

ARM_FAMILIES = ("t2a", "c4a", "n4a")
DISK_NAME = "etcd-data"
DEVICE = f"/dev/disk/by-id/google-{DISK_NAME}"
LABEL = re.compile(r"[a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class GcpMachines:
    """Members on Compute Engine, spread over the given zones in turn.

    network, subnetwork: where members live; no public addresses. zones: of one region, best three.
    client_ranges, client_tags: who may reach etcd (2379). ssh_ranges, ssh_tags: who may reach SSH (22), that is where
        Pulumi runs, or the bastion. The whole world is refused in both.
    bastion: host to jump through; default None connects straight to the internal addresses.
    machine_type: default the size's row (n1). Types of arm64 get images and programs of arm64.
    image: default the newest Ubuntu 24.04. A newer image never replaces a running member.
    disk_gb: data disk, pd-ssd; default the row's, since its performance follows from its size.
    kms_key: customer key for all disks (its full name); default Google's own.
    private_key: text of an SSH private key, with its public_key; default a key pair made for this cluster.
    deletion_protection: instances and disks refuse to be deleted; default False.
    retain_disks: destroying keeps the data disks; default True.
    renew: the one member whose machine may take a new image and type now; default None.
    labels: for every resource that takes them, besides the names of project, stack, cluster and member; lower case.
    """

    network: pulumi.Input[str]
    subnetwork: pulumi.Input[str]
    zones: Sequence[str]
    client_ranges: Sequence[str] = ()
    client_tags: Sequence[str] = ()
    ssh_ranges: Sequence[str] = ()
    ssh_tags: Sequence[str] = ()
    bastion: Bastion | None = None
    machine_type: str | None = None
    image: pulumi.Input[str] | None = None
    disk_gb: int | None = None
    kms_key: pulumi.Input[str] | None = None
    private_key: pulumi.Input[str] | None = None
    public_key: pulumi.Input[str] | None = None
    deletion_protection: bool = False
    retain_disks: bool = True
    renew: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def platform(self) -> str:
        return "gcp"

    def member_names(self, members: int | None) -> Sequence[str]:
        require_private("gcp.clientRanges", self.client_ranges)
        require_private("gcp.sshRanges", self.ssh_ranges)
        if not self.zones or len({region_of(zone) for zone in self.zones}) != 1:
            raise ConfigurationError(
                "gcp.zones", list(self.zones), "not zones of one region", "list one to three of them"
            )
        for key, value in self.labels.items():
            if not LABEL.fullmatch(key) or not key[:1].isalpha() or not LABEL.fullmatch(value):
                raise ConfigurationError(
                    f"gcp.labels.{key}",
                    value,
                    "not a label",
                    "use lower-case letters, digits, _ and -, at most 63 of them",
                )
        if (self.private_key is None) != (self.public_key is None):
            raise ConfigurationError(
                "gcp.publicKey", "(not shown)", "given without its other half", "give both keys, or none"
            )
        names = tuple(f"etcd-{number}" for number in range(1, (members or 3) + 1))
        if self.renew is not None and self.renew not in names:
            raise ConfigurationError("gcp.renew", self.renew, "no such member", f"choose one of {', '.join(names)}")
        return names

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        require_extra("pulumi_gcp", "gcp")
        from etcd_cluster.machines.gcp_resources import Provisioning

        return Provisioning(self, cluster, size, parent).machines(names)

    def machine_type_for(self, size: Size) -> str:
        """The machine type; refuses a predefined one that is below the size's row."""
        chosen = self.machine_type or size.gce.machine_type
        vcpus = re.fullmatch(r"[a-z0-9]+-(?:standard|highmem|highcpu)-(\d+)(?:-lssd)?", chosen)
        if vcpus and (
            int(vcpus[1]) < size.gce.vcpus or ("-highcpu-" in chosen and int(vcpus[1]) * 2 < size.gce.memory_gb)
        ):
            raise ConfigurationError(
                "gcp.machineType",
                chosen,
                f"size {size.name} needs {size.gce.vcpus} vCPUs and {size.gce.memory_gb:g} GB",
                f"use {size.gce.machine_type} or larger, or a smaller size",
            )
        return chosen

    def disk_gb_for(self, size: Size) -> int:
        """The data disk, whose size decides its performance: at least the row's."""
        chosen = self.disk_gb if self.disk_gb is not None else size.gce.disk_gb
        if chosen < size.gce.disk_gb:
            raise ConfigurationError(
                "gcp.diskGb",
                chosen,
                f"size {size.name} needs {size.gce.disk_gb} for {size.gce.iops} IOPS",
                "leave it out",
            )
        return chosen


def region_of(zone: str) -> str:
    return zone.rpartition("-")[0]
