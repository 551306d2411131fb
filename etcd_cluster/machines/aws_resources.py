"""The AWS resources of one cluster's machines. Imports the AWS SDK, and so only aws.py imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import pulumi
import pulumi_aws as aws

from etcd_cluster.machines.aws import (
    DEBIAN,
    DEVICE_NAME,
    GP3_BASE_IOPS,
    GP3_BASE_MIB_PER_SECOND,
    GP3_MOST_IOPS,
    GP3_MOST_MIB_PER_SECOND,
    XEN_DEVICE,
    AwsMachines,
    architecture,
)
from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from etcd_cluster.machines.machine import Machine, Ports
from etcd_cluster.machines.ssh import BOOTING, Ssh
from etcd_cluster.machines.ssh_keys import SshKeyPair
from etcd_cluster.sizes import Size


class Provisioning:
    """Registers what one cluster's machines need."""

    def __init__(self, given: AwsMachines, cluster: str, size: Size, parent: pulumi.Resource) -> None:
        self._given = given
        self._cluster = cluster
        self._size = size
        self._parent = parent
        self._instance_type = given.instance_type_for(size)
        self._volume_gib = given.volume_gib_for(size)
        self._subnet_ids = cast("pulumi.Output[Sequence[str]]", pulumi.Output.from_input(given.subnet_ids))

    def machines(self, names: Sequence[str]) -> list[Machine]:
        group = self._security_group()
        image_id = self._image_id()
        login = self._login()
        return [self._machine(name, index, group, image_id, login) for index, name in enumerate(names)]

    def _login(self) -> SshKeyPair | None:
        if self._given.private_key is not None:
            return None
        return SshKeyPair(f"{self._cluster}-ssh", self._opts())

    def _machine(
        self,
        name: str,
        index: int,
        group: aws.ec2.SecurityGroup,
        image_id: pulumi.Input[str],
        login: SshKeyPair | None,
    ) -> Machine:
        given = self._given
        subnet_id = self._subnet_ids.apply(lambda ids: ids[index % len(ids)])
        zone = aws.ec2.get_subnet_output(id=subnet_id, opts=self._lookup()).availability_zone
        host_key = SshKeyPair(f"{self._cluster}-{name}-host-key", self._opts())
        interface = aws.ec2.NetworkInterface(
            f"{self._cluster}-{name}-interface",
            subnet_id=subnet_id,
            security_groups=[group.id],
            description=f"etcd member {name}",
            tags=self._tags(name),
            opts=self._opts(),
        )
        volume = aws.ebs.Volume(
            f"{self._cluster}-{name}-data",
            availability_zone=zone,
            type="gp3",
            size=self._volume_gib,
            iops=min(max(self._size.aws.iops, GP3_BASE_IOPS), GP3_MOST_IOPS),
            throughput=min(
                max(math.ceil(self._size.aws.mb_per_second), GP3_BASE_MIB_PER_SECOND), GP3_MOST_MIB_PER_SECOND
            ),
            encrypted=True,
            kms_key_id=given.kms_key_id,
            tags=self._tags(name),
            opts=self._opts(protect=given.deletion_protection or None, retain_on_delete=given.retain_volumes),
        )
        user_data = pulumi.Output.all(
            authorized_key=login.public_key if login else given.public_key,
            host_private_key=host_key.private_key,
            host_public_key=host_key.public_key,
        ).apply(_user_data)
        instance = aws.ec2.Instance(
            f"{self._cluster}-{name}",
            ami=image_id,
            instance_type=self._instance_type,
            primary_network_interface=aws.ec2.InstancePrimaryNetworkInterfaceArgs(network_interface_id=interface.id),
            root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
                volume_type="gp3",
                encrypted=True,
                kms_key_id=given.kms_key_id,
                delete_on_termination=True,
                tags=self._tags(name),
            ),
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
            ),
            user_data=pulumi.Output.secret(user_data),
            disable_api_termination=given.deletion_protection,
            ebs_optimized=True,
            tags=self._tags(name),
            # A new image, type or user data never replaces a running member by itself. The interface and the volume
            # belong to one instance at a time, so the old one goes first.
            opts=self._opts(
                ignore_changes=[] if given.renew == name else ["ami", "instanceType", "userData"],
                delete_before_replace=True,
                protect=given.deletion_protection or None,
            ),
        )
        attachment = aws.ec2.VolumeAttachment(
            f"{self._cluster}-{name}-attachment",
            device_name=DEVICE_NAME,
            instance_id=instance.id,
            volume_id=volume.id,
            # A mounted file system would hold on to the volume, and a dead machine would never let it go.
            stop_instance_before_detaching=True,
            opts=self._opts(delete_before_replace=True),
        )
        ssh = Ssh(
            user=OPERATOR,
            private_key=login.private_key if login else given.private_key,
            bastion=given.bastion,
            dial_attempts=BOOTING.dial_attempts,
            dial_timeout_seconds=BOOTING.dial_timeout_seconds,
        )
        nitro_device = volume.id.apply(
            lambda id_: f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{id_.replace('-', '')}"
        )
        return Machine(
            name=name,
            address=interface.private_ip,
            connection=ssh.connection(interface.private_ip, host_key.public_key),
            device=nitro_device.apply(lambda path: f"{path},{XEN_DEVICE}"),
            first_boot=True,
            deleted_with=instance,
            depends_on=[instance, attachment],
        )

    def _security_group(self) -> aws.ec2.SecurityGroup:
        given = self._given
        vpc_id = aws.ec2.get_subnet_output(id=self._subnet_ids.apply(lambda ids: ids[0]), opts=self._lookup()).vpc_id
        group = aws.ec2.SecurityGroup(
            f"{self._cluster}-members",
            vpc_id=vpc_id,
            description=f"Members of etcd cluster {self._cluster}",
            tags=self._tags("members"),
            opts=self._opts(),
        )
        ports = Ports()
        self._allow(group, "etcd", ports.client, given.client_cidrs, given.client_security_group_ids)
        self._allow(group, "members", ports.client, (), [group.id])
        self._allow(group, "peers", ports.peer, (), [group.id])
        self._allow(group, "ssh", 22, given.ssh_cidrs, given.ssh_security_group_ids)
        aws.vpc.SecurityGroupEgressRule(
            f"{self._cluster}-out",
            security_group_id=group.id,
            ip_protocol="-1",
            cidr_ipv4="0.0.0.0/0",
            description="Downloads, time, members",
            tags=self._tags("out"),
            opts=self._opts(),
        )
        return group

    def _allow(
        self,
        group: aws.ec2.SecurityGroup,
        purpose: str,
        port: int,
        ranges: Sequence[str],
        groups: Sequence[pulumi.Input[str]],
    ) -> None:
        """One rule for each source: that is what AWS counts, tags and shows."""
        sources: list[dict[str, Any]] = [{"cidr_ipv6" if ":" in text else "cidr_ipv4": text} for text in ranges]
        sources += [{"referenced_security_group_id": id_} for id_ in groups]
        for number, source in enumerate(sources):
            aws.vpc.SecurityGroupIngressRule(
                f"{self._cluster}-{purpose}-{number}",
                security_group_id=group.id,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                description=purpose,
                tags=self._tags(purpose),
                opts=self._opts(),
                **source,
            )

    def _image_id(self) -> pulumi.Input[str]:
        if self._given.image_id is not None:
            return self._given.image_id
        return aws.ec2.get_ami_output(
            most_recent=True,
            owners=[DEBIAN],
            filters=[{"name": "name", "values": [f"debian-12-{architecture(self._instance_type)}-*"]}],
            opts=self._lookup(),
        ).id

    def _tags(self, name: str) -> dict[str, str]:
        return {
            **self._given.tags,
            "Name": f"{self._cluster}-{name}",
            "pulumi:project": pulumi.get_project(),
            "pulumi:stack": pulumi.get_stack(),
            "etcd:cluster": self._cluster,
            "etcd:member": name,
        }

    def _opts(self, **options: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._parent, **options)

    def _lookup(self) -> pulumi.InvokeOptions:
        return pulumi.InvokeOptions(parent=self._parent)


def _user_data(keys: dict[str, str]) -> str:
    return cloud_config(**keys)
