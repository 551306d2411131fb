"""Registers the Google Cloud resources of one cluster's machines.

It imports Google's SDK, so only `provision` imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pulumi
from pulumi_command.remote import ConnectionArgs
from pulumi_gcp import compute

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.access import range_when_known
from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from etcd_cluster.machines.data_volumes import DataVolumes
from etcd_cluster.machines.gcp import kept_disks
from etcd_cluster.machines.gcp.choices import network_project, placement_policy
from etcd_cluster.machines.gcp.limits import (
    ADDRESS_LABEL,
    DEVICE,
    DISK_NAME,
    DISK_TYPE,
    OWNER_LABEL,
    UBUNTU,
    disk_name,
    label,
    network_tag,
    region_of,
    zones_of_region,
)
from etcd_cluster.machines.gcp.machine_types import is_sufficient, offers, question
from etcd_cluster.machines.kept_volume import to_take_up
from etcd_cluster.machines.machine import MONITORING_PORT, Guard, Machine, Ports, when_known
from etcd_cluster.machines.offers import OfferedType
from etcd_cluster.machines.placement import zone_warnings
from etcd_cluster.machines.replacement_request import ReplacementRequest
from etcd_cluster.machines.size_change import fitting_size, runs_left, type_after_run
from etcd_cluster.ssh.keys import SshKeyPair, public_half
from etcd_cluster.ssh.login import Ssh
from etcd_cluster.ssh.login_key import LoginKey

if TYPE_CHECKING:
    from etcd_cluster.machines.gcp.arguments import GcpMachines

# A member keeps its place for life: another order of zones, or another network, must not move it.
PLACE_OF_ADDRESS = ["region", "subnetwork", "address"]
PLACE_OF_DISK = ["name", "zone", "type", "diskEncryptionKey"]
PLACE_OF_INSTANCE = ["zone", "networkInterfaces", "attachedDisks"]
# Only the member to replace takes these up. On the others, most would stop or replace a running machine.
TAKEN_UP_BY_A_REPLACED_DISK = ["size"]
TAKEN_UP_BY_A_REPLACED_INSTANCE = ["machineType", "bootDisk", "serviceAccount", "resourcePolicies"]


class Provisioning:
    """Registers the resources of one cluster's machines."""

    def __init__(self, given: GcpMachines, cluster: str, size: Size, parent: pulumi.Resource) -> None:
        self._given = given
        self._cluster = cluster
        self._size = size
        self._parent = parent
        self._machine_type = given.machine_type_for(size)
        self._types: dict[str, pulumi.Output[str]] = {}
        self._ids: dict[str, pulumi.Output[str]] = {}
        self._disk_gb = given.disk_gb_for(size)
        self._network_project = network_project(given.network)
        self._tag = network_tag(pulumi.get_project(), pulumi.get_stack(), cluster)

    def machines(self, names: Sequence[str], guard: Guard | None) -> list[Machine]:
        """Registers everything, and returns one machine a name."""
        if self._given.make_firewall:
            self._firewall()
        self._policy = placement_policy(
            self._cluster, self._given.spread, region_of(self._given.zones[0]), self._opts()
        )
        self._take_up_disks(names)
        private_key, public_key = self._login()
        self._request = ReplacementRequest(
            f"{self._cluster}-replacement-request",
            member=self._given.replaced_member,
            authorized_key=public_key,
            additional=self._given.user_data,
            opts=self._opts(),
        )
        places = {name: self._place(name, index, private_key, public_key) for index, name in enumerate(names)}
        connections = {name: place.connection for name, place in places.items()}
        zones = {name: place.zone for name, place in places.items()}
        pulumi.Output.all(**zones).apply(self._warn_of_zones)
        is_dead = self._given.replace_dead_member is not None
        replaced = self._given.replaced_member
        after: Sequence[pulumi.Resource] = places[replaced].owned if replaced else ()
        guarded = [guard(replaced, connections, is_dead=is_dead, after=after)] if guard else []
        key = LoginKey(
            f"{self._cluster}-login-key",
            public_key=public_key,
            connections=connections,
            replace_member=self._given.replaced_member,
            opts=self._opts(),
        )
        asked = question(self._machine_type, self._size)
        self._offered = OfferedType(asked, zones, partial(offers, asked, self._parent))
        machines = [self._machine(name, place, guarded, key) for name, place in places.items()]
        pulumi.Output.all(**self._types).apply(self._say_what_is_left)
        self._offered.check_new(self._ids, replaced)
        return machines

    def _warn_of_zones(self, zones: Mapping[str, str]) -> None:
        for warning in zone_warnings(zones, "Give three gcp.zones"):
            pulumi.log.warn(warning, self._parent)

    def _say_what_is_left(self, types: Mapping[str, str]) -> None:
        reason = "gcp.machineType" if self._given.machine_type else f"size {self._size.name}"
        given = self._given.replace_member
        if (left := runs_left(types, self._machine_type, reason, "gcp.replaceMember", given)) is not None:
            pulumi.log.warn(left, self._parent)

    def _login(self) -> tuple[pulumi.Input[str], pulumi.Input[str]]:
        """Returns the private and the public key to log in with."""
        if self._given.private_key is not None:
            private_key = pulumi.Output.secret(self._given.private_key)
            return private_key, private_key.apply(public_half)
        made = SshKeyPair(f"{self._cluster}-ssh", self._opts())
        return made.private_key, made.public_key

    def _place(
        self, name: str, index: int, private_key: pulumi.Input[str], public_key: pulumi.Input[str]
    ) -> MemberResources:
        host_key = SshKeyPair(f"{self._cluster}-{name}-host-key", self._opts())
        own, kept, zone = self._given.disks.get(name), self._kept.get(name), self._zones_in_turn(index)[0]
        address = self._address(name, region_of(zone))
        disk = self._disk(name, kept.zone if kept else zone, address) if own is None else None
        is_replaced = self._given.replaced_member == name
        ssh = Ssh(
            user=OPERATOR, private_key=private_key, bastion=self._given.bastion, proxy_command=self._given.proxy_command
        )
        return MemberResources(
            address=address,
            owned=[disk] if disk else [],
            disk_id=disk.id if disk else pulumi.Output.from_input(cast("str", own)),
            zone=disk.zone if disk else pulumi.Output.from_input(cast("str", own)).apply(kept_disks.zone_of),
            user_data=pulumi.Output.secret(
                _user_data(
                    self._request.authorized_key if is_replaced else public_key,
                    host_key,
                    self._request.id if is_replaced else "",
                    self._request.additional if is_replaced else self._given.user_data,
                )
            ),
            connection=ssh.connection(address.ip, host_key.public_key, index),
        )

    def _machine(
        self, name: str, place: MemberResources, guarded: Sequence[pulumi.Input[pulumi.Resource]], key: LoginKey
    ) -> Machine:
        instance = self._instance(name, place, guarded)
        self._ids[name] = instance.id
        self._types[name] = type_after_run(instance.machine_type, self._machine_type)
        return Machine(
            name=name,
            address=place.address.ip,
            connection=place.connection,
            device=DEVICE,
            first_boot=True,
            deleted_with=instance,
            size=self._types[name].apply(
                lambda found: fitting_size(found, self._machine_type, self._size, is_sufficient)
            ),
            depends_on=[instance, key],
        )

    def _zones_in_turn(self, index: int) -> list[str]:
        """Returns all zones, first the one that the member of that number gets."""
        first = index % len(self._given.zones)
        return [*self._given.zones[first:], *self._given.zones[:first]]

    def _take_up_disks(self, names: Sequence[str]) -> None:
        """Finds the disks of before that members take up, and registers `DataVolumes`, which may refuse them."""
        given = self._given
        self._disk_names = {
            name: disk_name(pulumi.get_project(), pulumi.get_stack(), self._cluster, name)
            for name in names
            if name not in given.disks
        }
        zones = {name: zones_of_region(self._zones_in_turn(index)) for index, name in enumerate(names)}
        found = kept_disks.find(self._disk_names, zones, pulumi.InvokeOptions(parent=self._parent))
        self._kept = to_take_up(found)
        self._disk_sizes = {name: int(disks[0].size) for name, disks in found.items() if len(disks) == 1}
        replaced = given.replaced_member
        if replaced and given.disk_gb is not None and self._disk_sizes.get(replaced, 0) > self._disk_gb:
            has = self._disk_sizes[replaced]
            raise ConfigurationError(
                "gcp.diskGb",
                self._disk_gb,
                f"the disk of {replaced} has {has} GB, and a smaller one would be another, empty disk",
                f"give gcp.diskGb: {has} or more, whatever the size of the cluster",
            )
        self._volumes = DataVolumes(
            f"{self._cluster}-data-volumes",
            key="gcp.disks",
            label="label etcd-member",
            members=names,
            found=found,
            taken_up=self._kept,
            given={"gcp.disks": given.disks, "gcp.addresses": given.addresses},
            replaced=given.replaced_member,
            opts=self._opts(),
        )

    def _address(self, name: str, region: str) -> Address:
        """Registers the member's address, or takes the caller's. A disk with data has its member's address."""
        given, kept = self._given, self._kept.get(name)
        if name in given.addresses:
            return Address(pulumi.Output.from_input(given.addresses[name]), given.subnetwork)
        before: pulumi.Input[str] | None = kept.address if kept else None
        if name in given.disks:
            before = kept_disks.address_of(given.disks[name], pulumi.InvokeOptions(parent=self._parent))
        made = compute.Address(
            f"{self._cluster}-{name}-address",
            address_type="INTERNAL",
            address=pulumi.Output.from_input(before).apply(lambda known: known or None) if before else None,
            subnetwork=given.subnetwork,
            region=region,
            labels=self._labels(name),
            opts=self._opts(ignore_changes=PLACE_OF_ADDRESS, protect=self._protect()),
        )
        return Address(made.address, made.subnetwork)

    def _disk(self, name: str, zone: str, address: Address) -> compute.Disk:
        """Registers the data disk.

        A smaller size would replace it by an empty disk. So only a size that is known to be no smaller is taken up, and
        no smaller row's. And a new disk is made before the old one goes, which Google refuses for the same name.
        """
        given, kept = self._given, self._kept.get(name)
        may_grow = given.replaced_member == name and 0 < self._disk_sizes.get(name, 0) <= self._disk_gb
        return compute.Disk(
            f"{self._cluster}-{name}-data",
            name=self._disk_names[name],
            zone=zone,
            type=DISK_TYPE,
            size=self._disk_gb,
            disk_encryption_key=compute.DiskDiskEncryptionKeyArgs(kms_key_self_link=given.kms_key)
            if given.kms_key is not None
            else None,
            labels={
                **self._labels(name),
                ADDRESS_LABEL: when_known(f"{name}.address", address.ip, lambda _, ip: ip.replace(".", "-")),
                OWNER_LABEL: self._volumes.owner,
            },
            opts=self._opts(
                # Never in place of a disk of the stack's: `DataVolumes`, which knows the state, has refused that.
                import_=kept.id if kept else None,
                protect=self._protect(),
                depends_on=[self._volumes],
                delete_before_replace=False,
                retain_on_delete=given.retain_disks,
                ignore_changes=PLACE_OF_DISK if may_grow else [*PLACE_OF_DISK, *TAKEN_UP_BY_A_REPLACED_DISK],
            ),
        )

    def _instance(
        self, name: str, place: MemberResources, guarded: Sequence[pulumi.Input[pulumi.Resource]]
    ) -> compute.Instance:
        """Registers the machine. Only the member to replace gets another, once the guard allows it.

        Its user data names the request, and so differs: that alone replaces it, once.
        """
        given, is_replaced = self._given, self._given.replaced_member == name
        return compute.Instance(
            f"{self._cluster}-{name}",
            # Where disk and address are, whatever zones and subnetwork are given by now.
            zone=place.zone,
            machine_type=self._offered.for_member(name, given.replaced_member),
            boot_disk=compute.InstanceBootDiskArgs(
                initialize_params=compute.InstanceBootDiskInitializeParamsArgs(
                    image=given.image if given.image is not None else UBUNTU, type=DISK_TYPE, labels=self._labels(name)
                ),
                kms_key_self_link=given.kms_key,
                auto_delete=True,
            ),
            # Attached here, and not by a resource of its own: it is there at first boot, never detached from a machine
            # that runs, and detached, not deleted, with the instance.
            attached_disks=[compute.InstanceAttachedDiskArgs(source=place.disk_id, device_name=DISK_NAME)],
            # No access_configs: no public address.
            network_interfaces=[
                compute.InstanceNetworkInterfaceArgs(subnetwork=place.address.subnetwork, network_ip=place.address.ip)
            ],
            shielded_instance_config=compute.InstanceShieldedInstanceConfigArgs(
                enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
            ),
            # Google's own defaults, said here: a machine moves before its hardware is serviced, and starts again after
            # a failure.
            scheduling=compute.InstanceSchedulingArgs(automatic_restart=True, on_host_maintenance="MIGRATE"),
            # None: no credentials on the machine.
            service_account=compute.InstanceServiceAccountArgs(
                email=given.service_account, scopes=[*given.service_account_scopes]
            )
            if given.service_account is not None
            else None,
            resource_policies=self._policy,
            metadata={
                "user-data": place.user_data,
                "block-project-ssh-keys": "true",
                "enable-oslogin": "true" if given.os_login else "false",
                "serial-port-enable": "false",
            },
            deletion_protection=given.deletion_protection,
            tags=[self._tag, *given.network_tags],
            labels=self._labels(name),
            opts=self._opts(
                # Address and disk belong to one instance at a time, so the old one goes first.
                delete_before_replace=True,
                protect=self._protect(),
                ignore_changes=[
                    *PLACE_OF_INSTANCE,
                    *TAKEN_UP_BY_A_REPLACED_INSTANCE,
                    *([] if is_replaced else ["metadata"]),
                ],
                # A new machine, not the old one stopped and started: cloud-init reads user data on a new one
                # only, and the Commands that make a member healthy again follow a new one.
                replace_on_changes=["metadata"],
                additional_secret_outputs=["metadata"],
                depends_on=guarded if is_replaced else None,
            ),
        )

    def _firewall(self) -> None:
        given, ports = self._given, Ports()
        clients = [range_when_known("gcp.clientRanges", each) for each in given.client_ranges]
        ssh = [range_when_known("gcp.sshRanges", each) for each in given.ssh_ranges]
        monitoring = [range_when_known("gcp.monitoringRanges", each) for each in given.monitoring_ranges]
        self._allow("clients", ports.client, clients, [*given.client_tags, self._tag])
        self._allow("peers", ports.peer, (), [self._tag])
        self._allow("monitoring", MONITORING_PORT, monitoring, given.monitoring_tags)
        self._allow("ssh", 22, ssh, given.ssh_tags)

    def _allow(
        self, purpose: str, port: int, ranges: Sequence[pulumi.Input[str]], tags: Sequence[pulumi.Input[str]]
    ) -> None:
        if not ranges and not tags:
            return
        compute.Firewall(
            f"{self._cluster}-allow-{purpose}",
            network=self._given.network,
            project=self._network_project,
            direction="INGRESS",
            allows=[compute.FirewallAllowArgs(protocol="tcp", ports=[str(port)])],
            source_ranges=list(ranges) or None,
            source_tags=list(tags) or None,
            target_tags=[self._tag],
            description=f"etcd cluster {self._cluster}: {purpose}",
            opts=self._opts(),
        )

    def _labels(self, name: str) -> dict[str, pulumi.Input[str]]:
        own = {
            "pulumi-project": pulumi.get_project(),
            "pulumi-stack": pulumi.get_stack(),
            "etcd-cluster": self._cluster,
            "etcd-member": name,
        }
        return {**self._given.labels, **{key: label(value) for key, value in own.items()}}

    def _protect(self) -> bool | None:
        """Returns None to leave it to the component: children inherit the component's own protection."""
        return True if self._given.deletion_protection else None

    def _opts(self, **options: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, **options)


@dataclass(frozen=True)
class Address:
    """A member's address, and the subnetwork that it is of."""

    ip: pulumi.Output[str]
    subnetwork: pulumi.Input[str]


@dataclass(frozen=True)
class MemberResources:
    """What outlives a member's machine, and what a new machine needs to take its place."""

    address: Address
    owned: Sequence[pulumi.Resource]
    """Its data disk, unless that is the caller's."""
    disk_id: pulumi.Output[str]
    zone: pulumi.Output[str]
    user_data: pulumi.Output[str]
    connection: ConnectionArgs


def _user_data(
    authorized_key: pulumi.Input[str],
    host_key: SshKeyPair,
    request: pulumi.Input[str],
    additional: pulumi.Input[str] | None,
) -> pulumi.Input[str]:
    return pulumi.Output.all(
        authorized_key=authorized_key,
        host_private_key=host_key.private_key,
        host_public_key=host_key.public_key,
        request=request,
        additional=additional,
    ).apply(lambda keys: cloud_config(**keys))
