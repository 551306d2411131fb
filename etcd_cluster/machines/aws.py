"""AWS: for each member an EC2 instance, a data volume and a network interface that outlive it.

`pulumi_aws` is imported only when machines are provisioned: it comes with the extra `etcd-cluster[aws]`.
"""

from __future__ import annotations

import math
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
    import pulumi_aws

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
            raise ConfigurationError("aws.publicKey", "(not shown)", "given without its other half", "give both keys, or none")
        names = tuple(f"etcd-{number}" for number in range(1, (members or 3) + 1))
        if self.renew is not None and self.renew not in names:
            raise ConfigurationError("aws.renew", self.renew, "no such member", f"choose one of {', '.join(names)}")
        return names

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        sdk = require_extra("pulumi_aws", "aws")
        return _Provisioning(self, cluster, size, parent, sdk).machines(names)

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


class _Provisioning:
    """Registers what one cluster's machines need."""

    def __init__(self, given: AwsMachines, cluster: str, size: Size, parent: pulumi.Resource, sdk: Any) -> None:
        self._given = given
        self._cluster = cluster
        self._size = size
        self._parent = parent
        self._aws: pulumi_aws = sdk
        self._instance_type = given.instance_type_for(size)
        self._volume_gib = given.volume_gib_for(size)
        self._subnet_ids: pulumi.Output[Sequence[str]] = pulumi.Output.from_input(given.subnet_ids)  # type: ignore[assignment]

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
        group: pulumi_aws.ec2.SecurityGroup,
        image_id: pulumi.Input[str],
        login: SshKeyPair | None,
    ) -> Machine:
        aws, given = self._aws, self._given
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
            throughput=min(max(math.ceil(self._size.aws.mb_per_second), GP3_BASE_MIB_PER_SECOND), GP3_MOST_MIB_PER_SECOND),
            encrypted=True,
            kms_key_id=given.kms_key_id,
            tags=self._tags(name),
            opts=self._opts(protect=given.deletion_protection or None, retain_on_delete=given.retain_volumes),
        )
        instance = aws.ec2.Instance(
            f"{self._cluster}-{name}",
            ami=image_id,
            instance_type=self._instance_type,
            primary_network_interface=aws.ec2.InstancePrimaryNetworkInterfaceArgs(network_interface_id=interface.id),
            root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
                volume_type="gp3", encrypted=True, kms_key_id=given.kms_key_id, delete_on_termination=True, tags=self._tags(name)
            ),
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
            ),
            user_data=pulumi.Output.secret(
                pulumi.Output.all(
                    authorized_key=login.public_key if login else given.public_key,
                    host_private_key=host_key.private_key,
                    host_public_key=host_key.public_key,
                ).apply(lambda keys: cloud_config(**keys))
            ),
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
            deleted_with=instance,
            depends_on=[instance, attachment],
        )

    def _security_group(self) -> pulumi_aws.ec2.SecurityGroup:
        aws, given = self._aws, self._given
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
        group: pulumi_aws.ec2.SecurityGroup,
        purpose: str,
        port: int,
        ranges: Sequence[str],
        groups: Sequence[pulumi.Input[str]],
    ) -> None:
        """One rule for each source: that is what AWS counts, tags and shows."""
        sources: list[dict[str, Any]] = [{"cidr_ipv6" if ":" in text else "cidr_ipv4": text} for text in ranges]
        sources += [{"referenced_security_group_id": id_} for id_ in groups]
        for number, source in enumerate(sources):
            self._aws.vpc.SecurityGroupIngressRule(
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
        return self._aws.ec2.get_ami_output(
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
