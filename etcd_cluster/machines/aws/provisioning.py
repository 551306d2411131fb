"""Registers the AWS resources of one cluster's machines. Imports the AWS SDK, so only `provision` imports it."""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, cast

import pulumi
import pulumi_aws as aws
from pulumi.output import Unknown
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.access import NamedRanges, range_when_known
from etcd_cluster.machines.aws import kept_volumes
from etcd_cluster.machines.aws.choices import key_arn, placement_group, recovery_alarm
from etcd_cluster.machines.aws.instance_types import is_sufficient, offers, question
from etcd_cluster.machines.aws.limits import (
    ADDRESS_TAG,
    GP3_BASE_IOPS,
    GP3_BASE_MIB_PER_SECOND,
    OWNER_TAG,
    UNNAMED_GROUP,
    VOLUME_TYPE,
    SecurityGroups,
    architecture,
    name_of_range,
    named_groups,
    named_ranges,
    require_subnets,
)
from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from etcd_cluster.machines.data_volumes import DataVolumes
from etcd_cluster.machines.kept_volume import KeptVolume, to_take_up
from etcd_cluster.machines.machine import LATER, MONITORING_PORT, Guard, Machine, Ports
from etcd_cluster.machines.offers import OfferedType
from etcd_cluster.machines.placement import zone_warnings
from etcd_cluster.machines.replacement_request import ReplacementRequest
from etcd_cluster.machines.size_change import fitting_size, runs_left, type_after_run
from etcd_cluster.ssh.keys import SshKeyPair, public_half
from etcd_cluster.ssh.login import Ssh
from etcd_cluster.ssh.login_key import LoginKey

if TYPE_CHECKING:
    from etcd_cluster.machines.aws.arguments import AwsMachines

DEBIAN = "136693071363"
"""The account that publishes Debian's images: https://wiki.debian.org/Cloud/AmazonEC2Image"""

DEBIAN_RELEASE = "debian-13"
"""The current stable one: https://www.debian.org/releases/. Machines that stand keep theirs until they are replaced."""

ATTACHED_AS = "/dev/sdf"
XEN_DEVICE = "/dev/xvdf"
"""The device that instances on Xen (m4) make of ATTACHED_AS; instances on Nitro name the volume by its id."""

TAKEN_UP_BY_A_REPLACEMENT = [
    *("ami", "instanceType", "rootBlockDevice.kmsKeyId", "placementGroup"),
    "primaryNetworkInterface.networkInterfaceId",
]
"""Inputs of an instance that replace, or stop and start, a machine. A new machine takes them up, and asks for none."""

Tags = dict[str, pulumi.Input[str]]
Groups = Sequence[pulumi.Input[str]]


class Provisioning:
    """Registers the resources of one cluster's machines."""

    def __init__(self, given: AwsMachines, cluster: str, size: Size, parent: pulumi.Resource) -> None:
        self._given = given
        self._cluster = cluster
        self._size = size
        self._parent = parent
        self._instance_type = given.instance_type_for(size)
        self._types: dict[str, pulumi.Output[str]] = {}
        self._ids: dict[str, pulumi.Output[str]] = {}
        self._volume_gib = given.volume_gib_for(size)
        self._kms_key = key_arn(given.kms_key_id, self._lookup())
        self._subnet_ids = cast("pulumi.Output[Sequence[str]]", pulumi.Output.from_input(given.subnet_ids))

    def machines(self, names: Sequence[str], guard: Guard | None) -> list[Machine]:
        """Registers everything, and returns one machine a name."""
        self._kept = self._kept_volumes(names)
        groups = self._security_groups()
        self._placement_group = placement_group(self._cluster, self._given.spread, self._tags("spread"), self._opts())
        image_id = self._image_id()
        login = self._login()
        self._request = ReplacementRequest(
            f"{self._cluster}-replacement-request",
            member=self._given.replaced_member,
            authorized_key=login["public_key"],
            additional=self._given.user_data,
            opts=self._opts(),
        )
        places = {name: self._place(name, index, groups, login) for index, name in enumerate(names)}
        connections = {name: place.connection for name, place in places.items()}
        zones = {name: place.zone for name, place in places.items()}
        pulumi.Output.all(**zones).apply(self._warn_of_zones)
        is_dead = self._given.replace_dead_member is not None
        replaced = self._given.replaced_member
        after: Sequence[pulumi.Resource] = places[replaced].owned if replaced else ()
        guarded = [guard(replaced, connections, is_dead=is_dead, after=after)] if guard else []
        key = LoginKey(
            f"{self._cluster}-login-key",
            public_key=login["public_key"],
            connections=connections,
            replace_member=self._given.replaced_member,
            opts=self._opts(),
        )
        asked = question(self._instance_type, self._size)
        self._offered = OfferedType(asked, zones, partial(offers, asked, self._parent))
        machines = [self._machine(name, place, image_id, guarded, key) for name, place in places.items()]
        pulumi.Output.all(**self._types).apply(self._say_what_is_left)
        self._offered.check_new(self._ids, replaced)
        return machines

    def _kept_volumes(self, names: Sequence[str]) -> dict[str, KeptVolume]:
        """Returns the volumes of before that members take up, and registers `DataVolumes`, which may refuse them."""
        given = self._given
        found = kept_volumes.find(self._cluster, names, self._lookup())
        kept = {name: volume for name, volume in to_take_up(found).items() if name not in given.volumes}
        for name, volume in kept.items():
            if volume.size > self._volume_gib:
                raise ConfigurationError(
                    "aws.volumeGib",
                    self._volume_gib,
                    f"{volume.id}, the data volume of {name}, has {volume.size} GiB, and none shrinks",
                    f"give {volume.size} or more",
                )
        self._volumes = DataVolumes(
            f"{self._cluster}-data-volumes",
            key="aws.volumes",
            label="tag etcd:member",
            members=names,
            found=found,
            taken_up=kept,
            given={"aws.volumes": given.volumes, "aws.networkInterfaces": given.network_interfaces},
            replaced=given.replaced_member,
            opts=self._opts(),
        )
        return kept

    def _zone(self, volume: aws.ebs.Volume, index: int) -> pulumi.Output[str]:
        """Returns the volume's zone; in a preview of a new member, the one that it will have."""
        if not pulumi.runtime.is_dry_run():
            return volume.availability_zone
        planned = aws.ec2.get_subnet_output(
            id=self._subnet_ids.apply(lambda ids: _in_turn(ids, index)), opts=self._lookup()
        )
        return pulumi.Output.all(volume.availability_zone, planned.availability_zone).apply(
            lambda zones: zones[1] if isinstance(zones[0], Unknown) else zones[0], run_with_unknowns=True
        )

    def _warn_of_zones(self, zones: Mapping[str, str]) -> None:
        for warning in zone_warnings(zones, "Give aws.subnetIds in three zones"):
            pulumi.log.warn(warning, self._parent)

    def _say_what_is_left(self, types: Mapping[str, str]) -> None:
        reason = "aws.instanceType" if self._given.instance_type else f"size {self._size.name}"
        given = self._given.replace_member
        if (left := runs_left(types, self._instance_type, reason, "aws.replaceMember", given)) is not None:
            pulumi.log.warn(left, self._parent)

    def _login(self) -> Login:
        given = self._given.private_key
        if given is not None:
            private_key = pulumi.Output.secret(given)
            return {"private_key": private_key, "public_key": private_key.apply(public_half)}
        pair = SshKeyPair(f"{self._cluster}-ssh", self._opts())
        return {"private_key": pair.private_key, "public_key": pair.public_key}

    def _place(self, name: str, index: int, groups: Groups, login: Login) -> MemberResources:
        host_key = SshKeyPair(f"{self._cluster}-{name}-host-key", self._opts())
        interface = self._interface(name, index, groups)
        own_volume = self._given.volumes.get(name)
        volume = self._volume(name, interface) if own_volume is None else None
        is_replaced = self._given.replaced_member == name
        keys = pulumi.Output.all(
            authorized_key=self._request.authorized_key if is_replaced else login["public_key"],
            host_private_key=host_key.private_key,
            host_public_key=host_key.public_key,
            request=self._request.id if is_replaced else "",
            additional=self._request.additional if is_replaced else self._given.user_data,
        )
        ssh = Ssh(
            user=OPERATOR,
            private_key=login["private_key"],
            bastion=self._given.bastion,
            proxy_command=self._given.proxy_command,
        )
        return MemberResources(
            interface=interface,
            owned=[volume] if volume else [],
            volume_id=volume.id if volume else pulumi.Output.from_input(cast("str", own_volume)),
            zone=self._zone(volume, index) if volume else kept_volumes.zone(cast("str", own_volume), self._lookup()),
            user_data=pulumi.Output.secret(keys.apply(lambda known: cloud_config(**known))),
            connection=ssh.connection(interface.address, host_key.public_key, index),
        )

    def _machine(
        self,
        name: str,
        place: MemberResources,
        image_id: pulumi.Input[str],
        guarded: Sequence[pulumi.Input[pulumi.Resource]],
        key: LoginKey,
    ) -> Machine:
        instance = self._instance(name, place, image_id, guarded)
        self._ids[name] = instance.id
        self._types[name] = type_after_run(instance.instance_type, self._instance_type)
        attachment = self._attachment(name, instance, place.volume_id)
        if self._given.recovery_alarm:
            recovery_alarm(f"{self._cluster}-{name}", instance, self._tags(f"{name}-recovery", name), self._opts())
        return Machine(
            name=name,
            address=place.interface.address,
            connection=place.connection,
            device=place.volume_id.apply(device),
            first_boot=True,
            deleted_with=instance,
            size=self._types[name].apply(
                lambda found: fitting_size(found, self._instance_type, self._size, is_sufficient)
            ),
            depends_on=[instance, attachment, key],
        )

    def _interface(self, name: str, index: int, groups: Groups) -> Interface:
        """Registers the member's address, or takes the caller's. It stays where it was made, whatever the subnets.

        A volume with data has its member's address, and is in one zone: both are asked for again.
        """
        own = self._given.network_interfaces.get(name)
        if own is not None:
            found = aws.ec2.get_network_interface_output(id=own, opts=self._lookup())
            return Interface(pulumi.Output.from_input(own), found.private_ip, found.subnet_id)
        subnet_id = self._subnet_ids.apply(lambda ids: _in_turn(ids, index))
        address = pulumi.Output.from_input(self._given.addresses.get(name, ""))
        if data := self._place_of_data(name):
            address = pulumi.Output.all(address, data[1]).apply(lambda known: known[0] or known[1])
            kept_by = self._kept[name].owner if name in self._kept else None
            is_own = self._volumes.owner.apply(
                lambda owner: not isinstance(owner, Unknown) and owner == kept_by, run_with_unknowns=True
            )
            subnet_id = kept_volumes.subnet_of(name, self._subnet_ids, data[0], address, is_own, self._lookup())
        made = aws.ec2.NetworkInterface(
            f"{self._cluster}-{name}-interface",
            subnet_id=subnet_id,
            private_ips=address.apply(lambda known: [known] if known else None)
            if data or name in self._given.addresses
            else None,
            security_groups=[*groups],
            description=f"etcd member {name}",
            tags=self._tags(f"{name}-interface", name),
            opts=self._opts(ignore_changes=["subnetId", "privateIps"], protect=self._protect()),
        )
        return Interface(made.id, made.private_ip, made.subnet_id)

    def _place_of_data(self, name: str) -> tuple[pulumi.Input[str], pulumi.Input[str]] | None:
        """Returns zone and address ("" if unknown) of a volume that may have the member's data; None without one."""
        own, kept = self._given.volumes.get(name), self._kept.get(name)
        if own is not None:
            return kept_volumes.zone(own, self._lookup()), kept_volumes.address(own, self._lookup())
        return (kept.zone, kept.address) if kept else None

    def _volume(self, name: str, interface: Interface) -> aws.ebs.Volume:
        """Registers the member's data volume. No later change replaces it: size and performance change in place."""
        hardware, kept = self._size.aws, self._kept.get(name)
        subnet = aws.ec2.get_subnet_output(id=interface.subnet_id, opts=self._lookup())
        return aws.ebs.Volume(
            f"{self._cluster}-{name}-data",
            availability_zone=subnet.availability_zone,
            type=VOLUME_TYPE,
            size=self._volume_gib,
            iops=max(hardware.iops, GP3_BASE_IOPS),
            throughput=max(math.ceil(hardware.mb_per_second), GP3_BASE_MIB_PER_SECOND),
            encrypted=True,
            kms_key_id=self._kms_key,
            tags={
                **self._tags(f"{name}-data", name),
                ADDRESS_TAG: interface.address,
                OWNER_TAG: self._volumes.owner,
            },
            opts=self._opts(
                # Never in place of a volume of the stack's: `DataVolumes`, which knows the state, has refused that.
                import_=kept.id if kept else None,
                depends_on=[self._volumes],
                ignore_changes=["availabilityZone", "kmsKeyId"],
                protect=self._protect(),
                retain_on_delete=self._given.retain_volumes,
            ),
        )

    def _instance(
        self,
        name: str,
        place: MemberResources,
        image_id: pulumi.Input[str],
        guarded: Sequence[pulumi.Input[pulumi.Resource]],
    ) -> aws.ec2.Instance:
        """Registers the machine. Only the member to replace gets another, once the guard allows it.

        Its user data names the request, and so differs: that alone replaces it, once. The Commands that prepare it
        follow.
        """
        is_replaced = self._given.replaced_member == name
        return aws.ec2.Instance(
            f"{self._cluster}-{name}",
            ami=image_id,
            instance_type=self._offered.for_member(name, self._given.replaced_member),
            primary_network_interface=aws.ec2.InstancePrimaryNetworkInterfaceArgs(
                network_interface_id=place.interface.id
            ),
            root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
                volume_type=VOLUME_TYPE,
                encrypted=True,
                kms_key_id=self._kms_key,
                delete_on_termination=True,
                tags=self._tags(f"{name}-root", name),
            ),
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
            ),
            user_data=place.user_data,
            iam_instance_profile=self._given.instance_profile,
            placement_group=self._placement_group,
            # AWS's own default, said here: on hardware that fails, AWS moves the machine, with its disks and address.
            maintenance_options=aws.ec2.InstanceMaintenanceOptionsArgs(auto_recovery="default"),
            ebs_optimized=True,
            disable_api_termination=self._given.deletion_protection,
            # Pulumi's own protection is `protect`; AWS's would otherwise stop a replacement as well.
            force_destroy=True,
            tags=self._tags(name, name),
            opts=self._opts(
                ignore_changes=TAKEN_UP_BY_A_REPLACEMENT if is_replaced else [*TAKEN_UP_BY_A_REPLACEMENT, "userData"],
                replace_on_changes=["userData"],
                # Interface and volume belong to one instance at a time, so the old one goes first.
                delete_before_replace=True,
                # So that the volume, if it is deleted at all, is deleted after the machine that it is attached to.
                depends_on=[*place.owned, *(guarded if is_replaced else ())],
                protect=None if is_replaced else self._protect(),
            ),
        )

    def _attachment(
        self, name: str, instance: aws.ec2.Instance, volume_id: pulumi.Input[str]
    ) -> aws.ec2.VolumeAttachment:
        return aws.ec2.VolumeAttachment(
            f"{self._cluster}-{name}-attachment",
            device_name=ATTACHED_AS,
            instance_id=instance.id,
            volume_id=volume_id,
            # A mounted file system holds on to its volume.
            stop_instance_before_detaching=True,
            # An instance that ends detaches its volume; a dead one could not be stopped first.
            # A member that stands keeps its volume, whatever `volumes` names by now.
            opts=self._opts(delete_before_replace=True, deleted_with=instance, ignore_changes=["volumeId"]),
        )

    def _security_groups(self) -> Groups:
        """Returns the groups of every member: ours, if one is made, and the caller's."""
        own = [self._security_group().id] if self._given.make_security_group else []
        return [*own, *self._given.security_group_ids]

    def _security_group(self) -> aws.ec2.SecurityGroup:
        given, ports = self._given, Ports()
        subnet = aws.ec2.get_subnet_output(id=self._subnet_ids.apply(lambda ids: _in_turn(ids, 0)), opts=self._lookup())
        group = aws.ec2.SecurityGroup(
            f"{self._cluster}-members",
            vpc_id=subnet.vpc_id,
            description=f"Members of etcd cluster {self._cluster}",
            tags=self._tags("members"),
            opts=self._opts(ignore_changes=["vpcId"]),
        )
        clients, ssh = given.client_security_group_ids, given.ssh_security_group_ids
        self._allow(
            group,
            "clients",
            ports.client,
            ingress_sources("aws.clientCidrs", given.client_cidrs, clients),
            former_names(given.client_cidrs, clients),
        )
        self._allow(
            group,
            "monitoring",
            MONITORING_PORT,
            ingress_sources("aws.monitoringCidrs", given.monitoring_cidrs, given.monitoring_security_group_ids),
        )
        self._allow(group, "members", ports.client, {"self": {"referenced_security_group_id": group.id}})
        self._allow(group, "peers", ports.peer, {"self": {"referenced_security_group_id": group.id}})
        self._allow(
            group,
            "ssh",
            22,
            ingress_sources("aws.sshCidrs", given.ssh_cidrs, ssh),
            former_names(given.ssh_cidrs, ssh),
        )
        aws.vpc.SecurityGroupEgressRule(
            f"{self._cluster}-out",
            security_group_id=group.id,
            ip_protocol="-1",
            cidr_ipv4="0.0.0.0/0",
            description="Downloads, time, DNS, members",
            tags=self._tags("out"),
            opts=self._opts(),
        )
        return group

    def _allow(
        self,
        group: aws.ec2.SecurityGroup,
        purpose: str,
        port: int,
        by_name: Mapping[str, IngressSource],
        former: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Registers one rule for each source: that is what AWS counts, tags and shows."""
        for name, source in by_name.items():
            aliases = [pulumi.Alias(name=f"{self._cluster}-{purpose}-{before}") for before in former.get(name, ())]
            aws.vpc.SecurityGroupIngressRule(
                f"{self._cluster}-{purpose}-{name}",
                security_group_id=group.id,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                description=purpose,
                tags=self._tags(f"{purpose}-{name}"),
                opts=self._opts(aliases=aliases),
                **source,
            )

    def _image_id(self) -> pulumi.Input[str]:
        if self._given.image_id is not None:
            return self._given.image_id
        name = f"{DEBIAN_RELEASE}-{architecture(self._instance_type)}-*"
        return aws.ec2.get_ami_output(
            most_recent=True,
            owners=[DEBIAN],
            filters=[aws.ec2.GetAmiFilterArgs(name="name", values=[name])],
            opts=self._lookup(),
        ).id

    def _tags(self, what: str, member: str | None = None) -> Tags:
        return {
            **self._given.tags,
            "Name": f"{self._cluster}-{what}",
            "pulumi:project": pulumi.get_project(),
            "pulumi:stack": pulumi.get_stack(),
            "etcd:cluster": self._cluster,
            **({"etcd:member": member} if member else {}),
        }

    def _protect(self) -> bool | None:
        """Returns None to leave it to the component: children inherit the component's own protection."""
        return True if self._given.deletion_protection else None

    def _opts(self, **options: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, **options)

    def _lookup(self) -> pulumi.InvokeOptions:
        return pulumi.InvokeOptions(parent=self._parent)


class Login(TypedDict):
    """The key pair that `pulumi up` logs in with."""

    private_key: pulumi.Output[str]
    public_key: pulumi.Output[str]


@dataclass(frozen=True)
class Interface:
    """A member's network interface: of this stack, or the caller's."""

    id: pulumi.Output[str]
    address: pulumi.Output[str]
    subnet_id: pulumi.Output[str]


@dataclass(frozen=True)
class MemberResources:
    """What outlives a member's machine, and what a new machine needs to take its place."""

    interface: Interface
    owned: Sequence[pulumi.Resource]
    """Its data volume, unless that is the caller's."""
    volume_id: pulumi.Output[str]
    zone: pulumi.Output[str]
    user_data: pulumi.Output[str]
    connection: ConnectionArgs


class IngressSource(TypedDict, total=False):
    """Where traffic may come from: exactly one of these."""

    cidr_ipv4: pulumi.Input[str | None]
    cidr_ipv6: pulumi.Input[str | None]
    referenced_security_group_id: pulumi.Input[str]


def ingress_sources(key: str, ranges: NamedRanges, groups: SecurityGroups) -> dict[str, IngressSource]:
    """Returns sources by a name that stays when others come and go.

    A rule that took over its neighbour's source would clash with it.

    Args:
        key: The argument that has the ranges, for errors.
        ranges: Ranges of addresses.
        groups: Security groups.
    """
    named: dict[str, IngressSource] = {}
    for name, value in named_ranges(ranges).items():
        if isinstance(value, str):
            network = ipaddress.ip_network(value)
            named[name] = {"cidr_ipv4": str(network)} if network.version == 4 else {"cidr_ipv6": str(network)}
        else:
            later = pulumi.Output.from_input(range_when_known(f"{key}.{name}", value))
            named[name] = {
                "cidr_ipv4": later.apply(lambda text: None if ":" in text else text),
                "cidr_ipv6": later.apply(lambda text: text if ":" in text else None),
            }
    for name, group in named_groups(groups).items():
        named[name] = {"referenced_security_group_id": group}
    return named


def former_names(ranges: NamedRanges, groups: SecurityGroups) -> dict[str, list[str]]:
    """Returns name -> the names that a rule had before.

    One that is known had the name of its key. A listed group that is known only later had a name by its place, or
    `UNNAMED_GROUP` if it was the only one of these.
    """
    former: dict[str, list[str]] = {}
    if isinstance(ranges, Mapping):
        former |= {name_of_range(text): [name] for name, text in ranges.items() if isinstance(text, str)}
    if isinstance(groups, Mapping):
        former |= {group: [name] for name, group in groups.items() if isinstance(group, str)}
    for number, (name, group) in enumerate(named_groups(groups).items()):
        if not isinstance(group, str):
            is_first = UNNAMED_GROUP not in itertools.chain(*former.values())
            former[name] = [f"group-{number}", *([UNNAMED_GROUP] if is_first else [])]
    present = {*named_ranges(ranges), *named_groups(groups)}
    return {name: [each for each in names if each not in present] for name, names in former.items()}


def device(volume_id: str) -> str:
    """Returns where the volume appears: by its id on Nitro, by the attachment's name on Xen."""
    nitro = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"
    return f"{nitro},{XEN_DEVICE}"


def _in_turn(subnet_ids: Sequence[str] | None, index: int) -> str:
    if subnet_ids is None:  # of a component that a test mocks
        return LATER
    require_subnets(subnet_ids)
    return subnet_ids[index % len(subnet_ids)]
