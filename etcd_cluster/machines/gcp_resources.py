"""The Google Cloud resources of one cluster's machines. Imports Google's SDK, and so only gcp.py imports it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_gcp import compute

from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from etcd_cluster.machines.gcp import ARM_FAMILIES, DEVICE, DISK_NAME, UBUNTU, GcpMachines, region_of
from etcd_cluster.machines.machine import Machine, Ports
from etcd_cluster.machines.ssh import BOOTING, Ssh
from etcd_cluster.machines.ssh_keys import SshKeyPair
from etcd_cluster.sizes import Size


class Provisioning:
    """Registers what one cluster's machines need."""

    def __init__(self, given: GcpMachines, cluster: str, size: Size, parent: pulumi.Resource) -> None:
        self._given = given
        self._cluster = cluster
        self._parent = parent
        self._machine_type = given.machine_type_for(size)
        self._disk_gb = given.disk_gb_for(size)

    def machines(self, names: Sequence[str]) -> list[Machine]:
        self._firewall()
        login = None
        if self._given.private_key is None:
            login = SshKeyPair(f"{self._cluster}-ssh", self._opts())
        return [self._machine(name, index, login) for index, name in enumerate(names)]

    def _machine(self, name: str, index: int, login: SshKeyPair | None) -> Machine:
        given = self._given
        zone = given.zones[index % len(given.zones)]
        host_key = SshKeyPair(f"{self._cluster}-{name}-host-key", self._opts())
        address = compute.Address(
            f"{self._cluster}-{name}-address",
            address_type="INTERNAL",
            subnetwork=given.subnetwork,
            region=region_of(zone),
            labels=self._labels(name),
            opts=self._opts(),
        )
        disk = compute.Disk(
            f"{self._cluster}-{name}-data",
            zone=zone,
            type="pd-ssd",
            size=self._disk_gb,
            disk_encryption_key=compute.DiskDiskEncryptionKeyArgs(kms_key_self_link=given.kms_key)
            if given.kms_key
            else None,
            labels=self._labels(name),
            opts=self._opts(protect=given.deletion_protection or None, retain_on_delete=given.retain_disks),
        )
        user_data = pulumi.Output.all(
            authorized_key=login.public_key if login else given.public_key,
            host_private_key=host_key.private_key,
            host_public_key=host_key.public_key,
        ).apply(_user_data)
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
            first_boot=True,
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
        return {
            **self._given.labels,
            **{key: re.sub(r"[^a-z0-9_-]", "-", value.lower())[:63] for key, value in own.items()},
        }

    def _opts(self, **options: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, **options)


def _user_data(keys: dict[str, str]) -> str:
    return cloud_config(**keys)
