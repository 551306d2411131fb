"""Defines members on Google Cloud: their arguments, and the checks of them.

The resources are in provisioning, which alone imports `pulumi_gcp`: it comes with the extra `etcd-cluster[gcp]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.access import (
    Ipv4Address,
    parse_range,
    require_distinct,
    require_members,
    require_private,
    require_unused_access,
)
from etcd_cluster.machines.buckets import Bucket, MadeBucket
from etcd_cluster.machines.extras import require_extra
from etcd_cluster.machines.gcp.limits import (
    CLOUD_PLATFORM,
    LONGEST_CLUSTER_NAME,
    MOST_DISK_GB,
    MOST_LABELS,
    NAME,
    OWN_LABELS,
    DiskId,
    ManagedZone,
    NetworkTag,
    Scope,
    ServiceAccount,
    Zone,
    region_of,
    require_kms_key,
    require_label_key,
    require_label_value,
    require_machine_type,
    require_same_place,
)
from etcd_cluster.machines.gcp.machine_types import require_large_enough, require_ssd_and_secure_boot
from etcd_cluster.machines.machine import Guard, Machine, numbered_names, require_one_to_replace
from etcd_cluster.machines.records import AddressRecord, ServiceRecord
from etcd_cluster.machines.user_data import UserData
from etcd_cluster.names import Word
from etcd_cluster.secrecy import as_input
from etcd_cluster.ssh.key_texts import PrivateKey
from etcd_cluster.ssh.login import Bastion, require_bastion_login, require_one_way
from etcd_cluster.ssh.proxy_command import ProxyCommand
from etcd_cluster.typed import Between


@dataclass(frozen=True)
class GcpMachines:
    """Members on Compute Engine, named etcd-1, etcd-2 and so on, and spread over the zones in turn."""

    network: pulumi.Input[Word]
    """Where members run, by name or link; they have no public addresses. Of a shared VPC in another project, give full
    links: the firewall is made in that project.
    """
    subnetwork: pulumi.Input[Word]
    """Where members run, by name or link; they have no public addresses. Of a shared VPC in another project, give full
    links: the firewall is made in that project.
    """
    zones: Sequence[Zone]
    """Zones of the subnetwork's region, best three. A member stays in the zone where it was made."""
    client_ranges: Sequence[pulumi.Input[str]] = ()
    """Who may reach etcd (2379): ranges of IPv4 addresses, and network tags of instances; default only the members."""
    client_tags: Sequence[pulumi.Input[NetworkTag]] = ()
    """Who may reach etcd (2379): ranges of IPv4 addresses, and network tags of instances; default only the members."""
    monitoring_ranges: Sequence[pulumi.Input[str]] = ()
    """Who may reach the metrics (2382) that `monitoring` exposes, where Prometheus runs: ranges of IPv4 addresses, and
    network tags of instances; default nobody.
    """
    monitoring_tags: Sequence[pulumi.Input[NetworkTag]] = ()
    """Who may reach the metrics (2382) that `monitoring` exposes, where Prometheus runs: ranges of IPv4 addresses, and
    network tags of instances; default nobody.
    """
    ssh_ranges: Sequence[pulumi.Input[str]] = ()
    """Who may reach SSH (22): where Pulumi runs, or the bastion. At least one, unless the firewall is your own, or a
    proxy command needs none. The whole world is refused here and for clients.
    """
    ssh_tags: Sequence[pulumi.Input[NetworkTag]] = ()
    """Who may reach SSH (22): where Pulumi runs, or the bastion. At least one, unless the firewall is your own, or a
    proxy command needs none. The whole world is refused here and for clients.
    """
    make_firewall: bool = True
    """Make the firewall's rules; default True. With False, your own alone let members, clients and SSH in, such as
    rules for your `network_tags`.
    """
    network_tags: Sequence[NetworkTag] = ()
    """Tags of your own for every machine, in addition to the one made for the cluster."""
    bastion: Bastion | None = None
    """Host to jump through; default None connects straight to the internal addresses."""
    proxy_command: ProxyCommand | None = None
    """Command to connect through, in place of a bastion, such as `gcloud compute start-iap-tunnel`; default None."""
    machine_type: Annotated[str, require_machine_type] | None = None
    """Default the size's row (n1). arm64 is refused, and so are types without pd-ssd (n4, c4 and later)."""
    image: pulumi.Input[Word] | None = None
    """An image with cloud-init; default the newest Ubuntu 24.04 at the time when the machine is made."""
    disk_gb: Annotated[int, Between(1, MOST_DISK_GB)] | None = None
    """Data disk (pd-ssd) in GB, default the row's, since its performance follows from its size. It only ever grows, and
    only by `replace_member`; without a value here it stays as it is where the row has a smaller one.
    """
    kms_key: pulumi.Input[Annotated[str, require_kms_key]] | None = None
    """Full name of a customer key for all disks; default Google's own. Only new disks use it. Compute Engine's service
    agent needs the role roles/cloudkms.cryptoKeyEncrypterDecrypter on it.
    """
    private_key: pulumi.Input[PrivateKey] | None = None
    """Text of an unencrypted SSH private key; default a key pair made for this cluster. Another one is let in beside
    the one before, on every machine.
    """
    service_account: pulumi.Input[ServiceAccount] | None = None
    """E-mail address of a service account, whose credentials every process of a machine can get; default none. New
    machines have it.
    """
    service_account_scopes: Sequence[Scope] = (CLOUD_PLATFORM,)
    """What these credentials are for; default cloud-platform, which leaves it to IAM."""
    user_data: pulumi.Input[UserData] | None = None
    """A shell script or a cloud-config of yours (up to 9 KiB), which cloud-init runs on new machines after the
    cluster's own; default none.
    """
    os_login: bool = False
    """Leave OS Login on for new machines, as the policy constraints/compute.requireOsLogin asks; default False.
    `pulumi up` logs in by its own key either way.
    """
    spread: bool | None = None
    """Make new machines under a placement policy that keeps them on different hardware; default no policy. Machines
    that stand are put under it, or with False out of it, once they are replaced.
    """
    deletion_protection: bool = False
    """Neither Google nor Pulumi deletes instances, addresses and disks; default False. Nothing can be replaced
    meanwhile.
    """
    retain_disks: bool = True
    """A data disk stays when its member is removed, by destroy or by fewer members; default True. The next `up` with
    the same names takes it up again, with its address, in its zone.
    """
    disks: Mapping[str, pulumi.Input[DiskId]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Data disks of yours, by member: {"etcd-1": "projects/P/zones/Z/disks/NAME"}; default none. They are attached as
    they are, and never made, changed or deleted. Their members get their zones. Only for members that the stack does
    not have yet.
    """
    addresses: Mapping[str, pulumi.Input[Ipv4Address]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Internal IPv4 addresses that you reserved, by member; default an address that is reserved for the member, the one
    that a data disk has in its label etcd-address, or any that is free. Only for members that the stack does not have
    yet.
    """
    managed_zone: pulumi.Input[ManagedZone] | None = None
    """Managed zone of Cloud DNS in which records for the names of `dns` are made, by name, or of another project as
    projects/P/managedZones/NAME; default none: they are yours to make.
    """
    replace_member: str | None = None
    """The one member whose machine is replaced now, once, with the newest image and the given type, keeping its address
    and its data disk, which may grow; default no member. A running machine is replaced only while every other member is
    healthy. The other members keep their machines. Remove it afterwards.
    """
    replace_dead_member: str | None = None
    """Used instead of replace_member for a dead machine, if no other member can be asked: it is replaced without
    asking; default no member.
    """
    labels: Mapping[Annotated[str, require_label_key], pulumi.Input[Annotated[str, require_label_value]]] = field(
        default_factory=dict[str, pulumi.Input[str]]
    )
    """For every resource that takes labels, in addition to the names of project, stack, cluster and member; lower case.
    """

    @property
    def platform(self) -> str:
        """Platform of the same name in stack config."""
        return "gcp"

    @property
    def replaced_member(self) -> str | None:
        """The member whose machine may be replaced."""
        return self.replace_member or self.replace_dead_member

    def member_names(self, members: int | None) -> Sequence[str]:
        """Checks the arguments, and names the members; see `Machines.member_names`."""
        _check_zones(self.zones)
        for key, ranges in {
            "gcp.clientRanges": self.client_ranges,
            "gcp.monitoringRanges": self.monitoring_ranges,
            "gcp.sshRanges": self.ssh_ranges,
        }.items():
            require_private(key, ranges)
            _check_version_4(key, ranges)
        require_distinct("gcp.clientTags", self.client_tags)
        require_distinct("gcp.monitoringTags", self.monitoring_tags)
        require_distinct("gcp.sshTags", self.ssh_tags)
        require_distinct("gcp.networkTags", self.network_tags)
        require_same_place(self.network, self.subnetwork, self.zones)
        if not self.make_firewall:
            require_unused_access(
                "gcp.makeFirewall",
                {
                    "gcp.clientRanges": self.client_ranges,
                    "gcp.clientTags": self.client_tags,
                    "gcp.monitoringRanges": self.monitoring_ranges,
                    "gcp.monitoringTags": self.monitoring_tags,
                    "gcp.sshRanges": self.ssh_ranges,
                    "gcp.sshTags": self.ssh_tags,
                },
                "write it as a rule of your own firewall",
            )
        elif not self.proxy_command and not self.ssh_ranges and not self.ssh_tags:
            raise ConfigurationError(
                "gcp.sshRanges",
                [],
                "nobody could reach the machines by SSH, so nothing could be installed on them",
                "give the ranges or, as gcp.sshTags, the network tags of where Pulumi runs or of the bastion",
            )
        if len(self.labels) + len(OWN_LABELS) > MOST_LABELS:
            raise ConfigurationError(
                "gcp.labels",
                len(self.labels),
                "more labels than a resource may have",
                f"leave {MOST_LABELS - len(OWN_LABELS)}",
            )
        require_bastion_login(self.bastion, self.private_key)
        require_one_way(self.bastion, self.proxy_command)
        names = numbered_names(members)
        require_members("gcp.disks", self.disks, names)
        require_members("gcp.addresses", self.addresses, names)
        require_one_to_replace("gcp", self.replace_member, self.replace_dead_member, names)
        if self.replaced_member is not None and self.deletion_protection:
            raise ConfigurationError(
                "gcp.replaceMember" if self.replace_member else "gcp.replaceDeadMember",
                self.replaced_member,
                "its machine is protected from deletion, and so cannot be replaced",
                "set gcp.deletionProtection: false, run `pulumi up`, and only then replace it",
            )
        return names

    @property
    def monitoring_sources(self) -> Mapping[str, int]:
        """See `FirewalledMachines`."""
        return {"gcp.monitoringRanges": len(self.monitoring_ranges), "gcp.monitoringTags": len(self.monitoring_tags)}

    def require_usable(self, size: Size, *, allow_undersized: bool, delete_data: bool) -> None:
        """See `ProvisionedMachines.require_usable`."""
        machine_type = self.machine_type_for(size)
        require_ssd_and_secure_boot(machine_type, size)
        if not allow_undersized:
            require_large_enough(machine_type, size)
            _require_disk("for its IOPS", self.disk_gb_for(size), size.gce.disk_gb, size)
        _require_disk("for its quota", self.disk_gb_for(size), size.minimum_disk_gib, size)
        if delete_data and self.retain_disks:
            raise ConfigurationError(
                "deleteData",
                True,
                "on Google Cloud the data is on disks of its own, which outlive the machines",
                "set gcp.retainDisks: false as well to have them deleted",
            )
        require_extra("pulumi_gcp", "gcp")

    def provision(
        self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource, guard: Guard | None = None
    ) -> Sequence[Machine]:
        """Registers the resources of every member; see `ReplaceableMachines.provision`."""
        _check_cluster_name(cluster)
        require_extra("pulumi_gcp", "gcp")
        from etcd_cluster.machines.gcp.provisioning import Provisioning  # lazily: it needs the optional SDK

        return Provisioning(self._kept_secret(), cluster, size, parent).machines(names, guard)

    @property
    def bucket_scheme(self) -> str:
        """See `BucketMaker`."""
        return "gs"

    def make_bucket(self, cluster: str, bucket: Bucket, parent: pulumi.Resource) -> MadeBucket:
        """Registers the bucket, a service account if none is given, and its rights; see `BucketMaker`."""
        from etcd_cluster.machines.gcp import buckets  # lazily: it needs the optional SDK

        given = self._kept_secret()
        made = buckets.register_bucket(cluster, bucket, region_of(self.zones[0]), given.labels, parent)
        account = given.service_account
        if account is None:
            account = buckets.register_account(cluster, bucket.owners[0], parent)
        rights = pulumi.Output.from_input(account).apply(lambda known: buckets.rights_document(bucket, known))
        granted = buckets.grant(cluster, bucket, made, account, parent)
        return MadeBucket(replace(self, service_account=account), rights, [made, *granted])

    @property
    def zone_key(self) -> str | None:
        """See `RecordingMachines.zone_key`."""
        return "gcp.managedZone" if self.managed_zone is not None else None

    def publish(
        self,
        cluster: str,
        addresses: Mapping[str, pulumi.Input[str]],
        address_records: Sequence[AddressRecord],
        service_records: Sequence[ServiceRecord],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """Registers records in the managed zone, if one was given; see `RecordingMachines.publish`."""
        if self.managed_zone is not None:
            from etcd_cluster.machines.gcp.records import publish  # lazily: it needs the optional SDK

            publish(as_input(self.managed_zone), cluster, addresses, address_records, service_records, opts)

    def _kept_secret(self) -> GcpMachines:
        """Makes secret Outputs of what came from a secret block of config, wherever a resource takes an Output.

        The rest (zones, ranges, tags, types) names resources or decides which there are.
        """
        return replace(
            self,
            network=as_input(self.network),
            subnetwork=as_input(self.subnetwork),
            image=as_input(self.image),
            kms_key=as_input(self.kms_key),
            service_account=as_input(self.service_account),
            user_data=as_input(self.user_data),
            private_key=as_input(self.private_key),
            disks=as_input(self.disks),
            addresses=as_input(self.addresses),
            labels=as_input(self.labels),
        )

    def machine_type_for(self, size: Size) -> str:
        """Returns the given machine type, or the size's own."""
        return self.machine_type or size.gce.machine_type

    def disk_gb_for(self, size: Size) -> int:
        """Returns the given size of the data disk in GB, or the size's own."""
        return size.gce.disk_gb if self.disk_gb is None else self.disk_gb


def _require_disk(reason: str, disk_gb: int, needed: int, size: Size) -> None:
    if disk_gb < needed:
        raise ConfigurationError(
            "gcp.diskGb", disk_gb, f"size {size.name} needs {needed} {reason}", f"leave it out for {size.gce.disk_gb}"
        )


def _check_zones(zones: Sequence[str]) -> None:
    if not zones:
        raise ConfigurationError("gcp.zones", list(zones), "no zone is listed", "list one to three of one region")
    if len({region_of(zone) for zone in zones}) != 1:
        raise ConfigurationError("gcp.zones", list(zones), "not of one region", "list one to three of one region")
    require_distinct("gcp.zones", zones)


def _check_version_4(key: str, ranges: Sequence[pulumi.Input[str]]) -> None:
    """Refuses IPv6 ranges: members have IPv4 addresses only, and no rule of Google's takes ranges of both kinds."""
    for text in ranges:
        if isinstance(text, str) and parse_range(key, text).version != 4:
            raise ConfigurationError(key, text, "not a range of IPv4 addresses", "write it like 10.0.0.0/16")


def _check_cluster_name(cluster: str) -> None:
    if len(cluster) > LONGEST_CLUSTER_NAME or not NAME.fullmatch(cluster):
        raise ConfigurationError(
            "name",
            cluster,
            "not usable in the names of Google Cloud's resources",
            f"use lower-case letters, digits and -, at most {LONGEST_CLUSTER_NAME} of them, and a letter first",
        )
