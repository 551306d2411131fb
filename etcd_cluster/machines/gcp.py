"""Google Cloud: for each member a Compute Engine instance, a data disk and an internal address that outlive it.

`pulumi_gcp` is imported only when machines are provisioned: it comes with the extra `etcd-cluster[gcp]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.access import require_private
from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from etcd_cluster.machines.extras import require_extra
from etcd_cluster.machines.machine import Machine, Ports
from etcd_cluster.machines.ssh import BOOTING, Bastion, Ssh
from etcd_cluster.machines.ssh_keys import SshKeyPair
from etcd_cluster.sizes import Size

if TYPE_CHECKING:
    import pulumi_gcp

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
    client_ranges, client_tags: who may reach etcd (2379). ssh_ranges, ssh_tags: who may reach SSH (22): where Pulumi runs,
        or the bastion. The whole world is refused in both.
    bastion: host to jump through; default None connects straight to the internal addresses.
    machine_type: default the size's row (n1). Types of arm64 get images and programs of arm64.
    image: default the newest Ubuntu 24.04. A newer image never replaces a running member.
    disk_gb: data disk, pd-ssd; default the row's, since its performance follows from its size.
    kms_key: customer key for all disks (its full name); default Google's own.
    private_key: text of an SSH private key, with its public_key; default a key pair made for this cluster.
    deletion_protection: instances and disks refuse to be deleted; default False.
    retain_disks: destroying keeps the data disks; default True.
    renew: the one member whose machine may take a new image and type now; default None.
    labels: for every resource that takes them, besides the project's, stack's, cluster's and member's names; lower case.
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
        if not self.zones or len({_region(zone) for zone in self.zones}) != 1:
            raise ConfigurationError("gcp.zones", list(self.zones), "not zones of one region", "list one to three of them")
        for key, value in self.labels.items():
            if not LABEL.fullmatch(key) or not key[:1].isalpha() or not LABEL.fullmatch(value):
                raise ConfigurationError(
                    f"gcp.labels.{key}", value, "not a label", "use lower-case letters, digits, _ and -, at most 63 of them"
                )
        if (self.private_key is None) != (self.public_key is None):
            raise ConfigurationError("gcp.publicKey", "(not shown)", "given without its other half", "give both keys, or none")
        names = tuple(f"etcd-{number}" for number in range(1, (members or 3) + 1))
        if self.renew is not None and self.renew not in names:
            raise ConfigurationError("gcp.renew", self.renew, "no such member", f"choose one of {', '.join(names)}")
        return names

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        sdk = require_extra("pulumi_gcp", "gcp")
        return _Provisioning(self, cluster, size, parent, sdk).machines(names)

    def machine_type_for(self, size: Size) -> str:
        """The machine type; refuses a predefined one that is below the size's row."""
        chosen = self.machine_type or size.gce.machine_type
        vcpus = re.fullmatch(r"[a-z0-9]+-(?:standard|highmem|highcpu)-(\d+)(?:-lssd)?", chosen)
        if vcpus and (int(vcpus[1]) < size.gce.vcpus or "-highcpu-" in chosen and int(vcpus[1]) * 2 < size.gce.memory_gb):
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
                "gcp.diskGb", chosen, f"size {size.name} needs {size.gce.disk_gb} for {size.gce.iops} IOPS", "leave it out"
            )
        return chosen


def _region(zone: str) -> str:
    return zone.rpartition("-")[0]


class _Provisioning:
    """Registers what one cluster's machines need."""

    def __init__(self, given: GcpMachines, cluster: str, size: Size, parent: pulumi.Resource, sdk: Any) -> None:
        self._given = given
        self._cluster = cluster
        self._parent = parent
        self._gcp: pulumi_gcp = sdk
        self._machine_type = given.machine_type_for(size)
        self._disk_gb = given.disk_gb_for(size)

    def machines(self, names: Sequence[str]) -> list[Machine]:
        self._firewall()
        login = None
        if self._given.private_key is None:
            login = SshKeyPair(f"{self._cluster}-ssh", self._opts())
        return [self._machine(name, index, login) for index, name in enumerate(names)]

    def _machine(self, name: str, index: int, login: SshKeyPair | None) -> Machine:
        compute, given = self._gcp.compute, self._given
        zone = given.zones[index % len(given.zones)]
        host_key = SshKeyPair(f"{self._cluster}-{name}-host-key", self._opts())
        address = compute.Address(
            f"{self._cluster}-{name}-address",
            address_type="INTERNAL",
            subnetwork=given.subnetwork,
            region=_region(zone),
            labels=self._labels(name),
            opts=self._opts(),
        )
        disk = compute.Disk(
            f"{self._cluster}-{name}-data",
            zone=zone,
            type="pd-ssd",
            size=self._disk_gb,
            disk_encryption_key=compute.DiskDiskEncryptionKeyArgs(kms_key_self_link=given.kms_key) if given.kms_key else None,
            labels=self._labels(name),
            opts=self._opts(protect=given.deletion_protection or None, retain_on_delete=given.retain_disks),
        )
        user_data = pulumi.Output.all(
            authorized_key=login.public_key if login else given.public_key,
            host_private_key=host_key.private_key,
            host_public_key=host_key.public_key,
        ).apply(lambda keys: cloud_config(**keys))
        instance = compute.Instance(
            f"{self._cluster}-{name}",
            zone=zone,
            machine_type=self._machine_type,
            boot_disk=compute.InstanceBootDiskArgs(
                initialize_params=compute.InstanceBootDiskInitializeParamsArgs(image=self._image(), type="pd-ssd"),
                kms_key_self_link=given.kms_key,
            ),
            attached_disks=[compute.InstanceAttachedDiskArgs(source=disk.id, device_name=DISK_NAME)],
            # No access_configs: no public address. No service account: no credentials on the machine.
            network_interfaces=[
                compute.InstanceNetworkInterfaceArgs(subnetwork=given.subnetwork, network_ip=address.address)
            ],
            shielded_instance_config=compute.InstanceShieldedInstanceConfigArgs(
                enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
            ),
            metadata={
                "user-data": pulumi.Output.secret(user_data),
                "block-project-ssh-keys": "true",
                "enable-oslogin": "false",
                "serial-port-enable": "false",
            },
            deletion_protection=given.deletion_protection,
            tags=[self._member_tag],
            labels=self._labels(name),
            # A new image, type or user data never replaces a running member by itself. Address and disk belong to one
            # instance at a time, so the old one goes first.
            opts=self._opts(
                ignore_changes=[] if given.renew == name else ["bootDisk", "machineType", "metadata"],
                delete_before_replace=True,
                protect=given.deletion_protection or None,
            ),
        )
        ssh = Ssh(
            user=OPERATOR,
            private_key=login.private_key if login else given.private_key,
            bastion=given.bastion,
            dial_attempts=BOOTING.dial_attempts,
            dial_timeout_seconds=BOOTING.dial_timeout_seconds,
        )
        return Machine(
            name=name,
            address=address.address,
            connection=ssh.connection(address.address, host_key.public_key),
            device=DEVICE,
            deleted_with=instance,
            depends_on=[instance],
        )

    @property
    def _member_tag(self) -> str:
        """The network tag that the firewall's rules are for."""
        return f"etcd-{pulumi.get_stack()}-{self._cluster}".lower().replace("_", "-")[:63]

    def _firewall(self) -> None:
        given, ports = self._given, Ports()
        self._allow("etcd", ports.client, given.client_ranges, [*given.client_tags, self._member_tag])
        self._allow("peers", ports.peer, (), [self._member_tag])
        self._allow("ssh", 22, given.ssh_ranges, given.ssh_tags)

    def _allow(self, purpose: str, port: int, ranges: Sequence[str], tags: Sequence[str]) -> None:
        if not ranges and not tags:
            return
        compute = self._gcp.compute
        compute.Firewall(
            f"{self._cluster}-{purpose}",
            network=self._given.network,
            direction="INGRESS",
            allows=[compute.FirewallAllowArgs(protocol="tcp", ports=[str(port)])],
            source_ranges=list(ranges) or None,
            source_tags=list(tags) or None,
            target_tags=[self._member_tag],
            description=f"{purpose} of etcd cluster {self._cluster}",
            opts=self._opts(),
        )

    def _image(self) -> pulumi.Input[str]:
        family = self._machine_type.partition("-")[0]
        return self._given.image or UBUNTU["arm64" if family in ARM_FAMILIES else "amd64"]

    def _labels(self, name: str) -> dict[str, str]:
        own = {
            "pulumi-project": pulumi.get_project(),
            "pulumi-stack": pulumi.get_stack(),
            "etcd-cluster": self._cluster,
            "etcd-member": name,
        }
        return {**self._given.labels, **{key: re.sub(r"[^a-z0-9_-]", "-", value.lower())[:63] for key, value in own.items()}}

    def _opts(self, **options: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, **options)
