"""Defines members on AWS: their arguments, and the checks of them.

The resources are in provisioning, which alone imports `pulumi_aws`: it comes with the extra `etcd-cluster[aws]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.access import (
    Ipv4Address,
    NamedRanges,
    require_distinct,
    require_members,
    require_private,
    require_unused_access,
)
from etcd_cluster.machines.aws.instance_types import require_large_enough
from etcd_cluster.machines.aws.limits import (
    GP3_IOPS_A_GIB,
    GP3_MOST_GIB,
    MOST_TAGS,
    OWN_TAGS,
    HostedZoneId,
    ImageId,
    InstanceProfile,
    InterfaceId,
    SecurityGroupId,
    SecurityGroups,
    SubnetId,
    VolumeId,
    require_different_names,
    require_instance_type,
    require_kms_key,
    require_subnets,
    require_tag_key,
    require_tag_value,
    require_told_apart,
)
from etcd_cluster.machines.buckets import Bucket, MadeBucket
from etcd_cluster.machines.extras import require_extra
from etcd_cluster.machines.machine import Guard, Machine, numbered_names, require_one_to_replace
from etcd_cluster.machines.records import AddressRecord, ServiceRecord
from etcd_cluster.machines.user_data import UserData
from etcd_cluster.secrecy import as_input
from etcd_cluster.ssh.key_texts import PrivateKey
from etcd_cluster.ssh.login import Bastion, require_bastion_login, require_one_way
from etcd_cluster.ssh.proxy_command import ProxyCommand
from etcd_cluster.typed import Between

DEFAULT_VOLUME_GIB = 32
"""Enough for the row with the most IOPS, and the same for all: EBS never shrinks a volume, so no change of size may."""


@dataclass(frozen=True)
class AwsMachines:
    """Members on EC2, named etcd-1, etcd-2 and so on, and spread over the subnets in turn.

    Security groups and ranges that the same program makes are let in by names that stay: {"apps": apps.id}.
    """

    subnet_ids: pulumi.Input[Sequence[pulumi.Input[SubnetId]]]
    """Private subnets of one VPC, best three in three zones. A member stays in the subnet where it was made."""
    client_cidrs: NamedRanges = ()
    """Who may reach etcd (2379); default only the members."""
    client_security_group_ids: SecurityGroups = ()
    """Who may reach etcd (2379); default only the members."""
    monitoring_cidrs: NamedRanges = ()
    """Who may reach the metrics (2382) that `monitoring` exposes: where Prometheus runs; default nobody."""
    monitoring_security_group_ids: SecurityGroups = ()
    """Who may reach the metrics (2382) that `monitoring` exposes: where Prometheus runs; default nobody."""
    ssh_cidrs: NamedRanges = ()
    """Who may reach SSH (22): where Pulumi runs, or the bastion. At least one, unless a group of your own lets them in,
    or a proxy command needs none. The whole world is refused here and for clients.
    """
    ssh_security_group_ids: SecurityGroups = ()
    """Who may reach SSH (22): where Pulumi runs, or the bastion. At least one, unless a group of your own lets them in,
    or a proxy command needs none. The whole world is refused here and for clients.
    """
    security_group_ids: Sequence[pulumi.Input[SecurityGroupId]] = ()
    """Groups of your own for every member, in addition to the one made for the cluster."""
    make_security_group: bool = True
    """Make a group for the cluster; default True. With False, your own alone let members, clients and SSH in."""
    bastion: Bastion | None = None
    """Host to jump through, with its own user and key; default None connects straight to the private addresses."""
    proxy_command: ProxyCommand | None = None
    """Command to connect through, in place of a bastion, such as `aws ssm start-session`; default None."""
    instance_type: Annotated[str, require_instance_type] | None = None
    """Default the size's row (m4). Types of arm64 (Graviton) get images and programs of arm64."""
    image_id: pulumi.Input[ImageId] | None = None
    """Default the newest Debian 13 at the time when the machine is made."""
    volume_gib: Annotated[int, Between(1, GP3_MOST_GIB)] | None = None
    """Data volume in GiB, default 32 for every size; at least what the quota and the row's IOPS need: 8 for small, 12
    for medium, 20 for large, 32 for xlarge. It only ever grows.
    """
    kms_key_id: pulumi.Input[Annotated[str, require_kms_key]] | None = None
    """ARN of a customer key, or of its alias, for the volumes; default the account's own key for EBS. Only new volumes
    use it.
    """
    private_key: pulumi.Input[PrivateKey] | None = None
    """Text of an unencrypted SSH private key; default a key pair made for this cluster. Another one is let in beside
    the one before, on every machine.
    """
    instance_profile: pulumi.Input[InstanceProfile] | None = None
    """Name of an instance profile, whose credentials every process of a machine can get; default none. It is attached
    to machines that stand, too. Taken out, it stays on them until they are replaced.
    """
    user_data: pulumi.Input[UserData] | None = None
    """A shell script or a cloud-config of yours (up to 9 KiB), which cloud-init runs on new machines after the
    cluster's own; default none.
    """
    recovery_alarm: bool = False
    """An alarm for each machine that has AWS move it to other hardware if that fails, in addition to AWS's own
    simplified recovery, which is on; default False.
    """
    spread: bool | None = None
    """Make new machines in a placement group that keeps them on different hardware; default no group. Machines that
    stand are put into it, or with False out of it, once they are replaced.
    """
    deletion_protection: bool = False
    """Neither AWS nor Pulumi deletes instances, interfaces and volumes; default False."""
    retain_volumes: bool = True
    """A data volume stays when its member is removed, by destroy or by fewer members; default True. The next `up` with
    the same names takes it up again, with its address.
    """
    volumes: Mapping[str, pulumi.Input[VolumeId]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Data volumes of yours, by member: {"etcd-1": "vol-0a1b2c"}; default none. They are attached as they are, and
    never made, changed or deleted. Their zones need a subnet. Only for members that the stack does not have yet.
    """
    network_interfaces: Mapping[str, pulumi.Input[InterfaceId]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Network interfaces of yours, by member, with their address, subnet and security groups, which must let in what
    members need; default none. Only for members that the stack does not have yet.
    """
    addresses: Mapping[str, pulumi.Input[Ipv4Address]] = field(default_factory=dict[str, pulumi.Input[str]])
    """IPv4 address, by member, of an interface that is made; default the one that a data volume has in its tag
    etcd:address, or any that is free. An interface that stands keeps its address, whatever is given here.
    """
    hosted_zone_id: pulumi.Input[HostedZoneId] | None = None
    """Hosted zone of Route 53 in which records for the names of `dns` are made, such as Z0123456789ABCDEFGHIJ; default
    none: they are yours to make.
    """
    replace_member: str | None = None
    """The one member whose machine is replaced now, once, with the newest image and the given type, keeping its data
    volume and address; default no member. A running machine is replaced only while every other member is healthy. The
    other members keep their machines. Remove it afterwards.
    """
    replace_dead_member: str | None = None
    """Used instead of replace_member for a dead machine, if no other member can be asked: it is replaced without
    asking; default no member.
    """
    tags: Mapping[Annotated[str, require_tag_key], pulumi.Input[Annotated[str, require_tag_value]]] = field(
        default_factory=dict[str, pulumi.Input[str]]
    )
    """For every resource, in addition to Name and the project's, stack's, cluster's and member's names."""

    @property
    def platform(self) -> str:
        """Platform of the same name in stack config."""
        return "aws"

    @property
    def replaced_member(self) -> str | None:
        """The member whose machine may be replaced."""
        return self.replace_member or self.replace_dead_member

    def member_names(self, members: int | None) -> Sequence[str]:
        """Checks the arguments, and names the members; see `Machines.member_names`."""
        names = numbered_names(members)
        require_one_to_replace("aws", self.replace_member, self.replace_dead_member, names)
        require_subnets(self.subnet_ids)
        require_private("aws.clientCidrs", self.client_cidrs)
        require_private("aws.monitoringCidrs", self.monitoring_cidrs)
        require_private("aws.sshCidrs", self.ssh_cidrs)
        require_told_apart("aws.clientSecurityGroupIds", self.client_security_group_ids)
        require_told_apart("aws.monitoringSecurityGroupIds", self.monitoring_security_group_ids)
        require_told_apart("aws.sshSecurityGroupIds", self.ssh_security_group_ids)
        require_different_names("aws.clientCidrs", self.client_cidrs, self.client_security_group_ids)
        require_different_names("aws.monitoringCidrs", self.monitoring_cidrs, self.monitoring_security_group_ids)
        require_different_names("aws.sshCidrs", self.ssh_cidrs, self.ssh_security_group_ids)
        require_distinct("aws.securityGroupIds", self.security_group_ids)
        require_members("aws.volumes", self.volumes, names)
        require_members("aws.networkInterfaces", self.network_interfaces, names)
        require_members("aws.addresses", self.addresses, names)
        if both := self.addresses.keys() & self.network_interfaces.keys():
            raise ConfigurationError(
                "aws.addresses", min(both), "its network interface, which is yours, has an address", "take it out here"
            )
        self._require_access()
        require_bastion_login(self.bastion, self.private_key)
        require_one_way(self.bastion, self.proxy_command)
        if len(self.tags) + len(OWN_TAGS) > MOST_TAGS:
            raise ConfigurationError(
                "aws.tags", len(self.tags), "more tags than a resource may have", f"leave {MOST_TAGS - len(OWN_TAGS)}"
            )
        return names

    def _require_access(self) -> None:
        """Refuses groups and ranges by which nobody could reach the machines, or that nothing uses."""
        if not self.make_security_group:
            if not self.security_group_ids:
                raise ConfigurationError(
                    "aws.securityGroupIds",
                    [],
                    "no group is made, and none is given, so a machine would be in the VPC's default group",
                    "give at least one, or leave aws.makeSecurityGroup out",
                )
            require_unused_access(
                "aws.makeSecurityGroup",
                {
                    "aws.clientCidrs": self.client_cidrs,
                    "aws.clientSecurityGroupIds": self.client_security_group_ids,
                    "aws.monitoringCidrs": self.monitoring_cidrs,
                    "aws.monitoringSecurityGroupIds": self.monitoring_security_group_ids,
                    "aws.sshCidrs": self.ssh_cidrs,
                    "aws.sshSecurityGroupIds": self.ssh_security_group_ids,
                },
                "write it as rules of your own security groups",
            )
        # A command may need no port from outside, as that of AWS Systems Manager.
        if not (self.proxy_command or self.ssh_cidrs or self.ssh_security_group_ids or self.security_group_ids):
            raise ConfigurationError(
                "aws.sshCidrs",
                [],
                "nobody could reach the machines by SSH, so nothing could be installed on them",
                "give the ranges or, as aws.sshSecurityGroupIds, the groups of where Pulumi runs or of the bastion",
            )

    @property
    def monitoring_sources(self) -> Mapping[str, int]:
        """See `FirewalledMachines`."""
        return {
            "aws.monitoringCidrs": len(self.monitoring_cidrs),
            "aws.monitoringSecurityGroupIds": len(self.monitoring_security_group_ids),
        }

    def require_usable(self, size: Size, *, allow_undersized: bool, delete_data: bool) -> None:
        """See `ProvisionedMachines.require_usable`."""
        if not allow_undersized:
            require_large_enough(self.instance_type_for(size), size)
        self.volume_gib_for(size)
        if delete_data and self.retain_volumes:
            raise ConfigurationError(
                "deleteData",
                True,
                "on AWS the data is on volumes of its own, which outlive the machines",
                "set aws.retainVolumes: false as well to have them deleted",
            )
        require_extra("pulumi_aws", "aws")

    def provision(
        self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource, guard: Guard | None = None
    ) -> Sequence[Machine]:
        """Registers the resources of every member; see `ReplaceableMachines.provision`."""
        require_extra("pulumi_aws", "aws")
        from etcd_cluster.machines.aws.provisioning import Provisioning  # lazily: it needs the optional SDK

        return Provisioning(self._kept_secret(), cluster, size, parent).machines(names, guard)

    @property
    def bucket_scheme(self) -> str:
        """See `BucketMaker`."""
        return "s3"

    def make_bucket(self, cluster: str, bucket: Bucket, parent: pulumi.Resource) -> MadeBucket:
        """Registers the bucket, and an instance profile if none is given; see `BucketMaker`."""
        from etcd_cluster.machines.aws import buckets  # lazily: it needs the optional SDK

        given = self._kept_secret()
        made = buckets.register_bucket(cluster, bucket, given.tags, parent)
        rights = buckets.rights_in(bucket, parent)
        if self.instance_profile is not None:
            return MadeBucket(self, rights, made)
        tags = {**given.tags, **buckets.tags_of(bucket.owners[0])}
        profile, role = buckets.register_role(cluster, rights, tags, parent)
        return MadeBucket(replace(self, instance_profile=profile), rights, [*made, *role])

    @property
    def zone_key(self) -> str | None:
        """See `RecordingMachines.zone_key`."""
        return "aws.hostedZoneId" if self.hosted_zone_id is not None else None

    def publish(
        self,
        cluster: str,
        addresses: Mapping[str, pulumi.Input[str]],
        address_records: Sequence[AddressRecord],
        service_records: Sequence[ServiceRecord],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """Registers records in the hosted zone, if one was given; see `RecordingMachines.publish`."""
        if self.hosted_zone_id is not None:
            from etcd_cluster.machines.aws.records import publish  # lazily: it needs the optional SDK

            publish(as_input(self.hosted_zone_id), cluster, addresses, address_records, service_records, opts)

    def _kept_secret(self) -> AwsMachines:
        """Makes secret Outputs of what came from a secret block of config, wherever a resource takes an Output.

        The rest (ranges, types) names resources or decides which there are.
        """
        return replace(
            self,
            subnet_ids=as_input(self.subnet_ids),
            image_id=as_input(self.image_id),
            kms_key_id=as_input(self.kms_key_id),
            instance_profile=as_input(self.instance_profile),
            user_data=as_input(self.user_data),
            private_key=as_input(self.private_key),
            volumes=as_input(self.volumes),
            network_interfaces=as_input(self.network_interfaces),
            addresses=as_input(self.addresses),
            tags=as_input(self.tags),
        )

    def instance_type_for(self, size: Size) -> str:
        """Returns the given instance type, or the size's own."""
        return self.instance_type or size.aws.instance_type

    def volume_gib_for(self, size: Size) -> int:
        """Returns the size of the data volume: room for the quota, and enough for gp3 to give the row's IOPS."""
        needed = max(size.minimum_disk_gib, math.ceil(size.aws.iops / GP3_IOPS_A_GIB))
        chosen = DEFAULT_VOLUME_GIB if self.volume_gib is None else self.volume_gib
        if chosen < needed:
            raise ConfigurationError(
                "aws.volumeGib",
                chosen,
                f"size {size.name} needs {needed} GiB for its quota and {size.aws.iops} IOPS",
                f"leave it out for {DEFAULT_VOLUME_GIB}, or give more",
            )
        return chosen
