"""Defines EtcdCluster, which combines machines, certificates and members, and exports what clients need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.arguments import EtcdClusterArgs
from etcd_cluster.backup.bucket import make_bucket
from etcd_cluster.backup.restores import restored_at_start, restored_in_place, shown_restoration
from etcd_cluster.backup.schedule import schedule_backups
from etcd_cluster.binaries import provide_binaries
from etcd_cluster.certificates import issue_certificates
from etcd_cluster.dns_records import publish_names
from etcd_cluster.formation import Formation, machine_identity, preflight_report
from etcd_cluster.kubernetes import external_etcd
from etcd_cluster.load_check.resource import check_load
from etcd_cluster.machines.machine import Machine, Machines, ReplaceableMachines, checked_machines
from etcd_cluster.member.commands import MemberCommands
from etcd_cluster.names import require_cluster_name
from etcd_cluster.pki.resources import Certificate
from etcd_cluster.rollout import MachineReplacement, Rollout
from etcd_cluster.rollout.host_record import record_hosts
from etcd_cluster.rollout.inputs import (
    ca_fingerprints,
    describe,
    desired_json,
    places,
    shown_roles,
    size_in_force,
)
from etcd_cluster.settings import Settings, validate_arguments
from etcd_cluster.ssh.missing_key import with_keys_kept
from etcd_cluster.stack_readme import stack_readme
from etcd_cluster.users import CLIENT


class EtcdCluster(pulumi.ComponentResource):
    """A production etcd cluster: healthy when `up` ends, and safe to change afterwards.

    All attributes resolve once every member is healthy.

    Attributes:
        endpoints: Client URLs, one a member.
        members: Member name -> {"address", "clientUrl", "peerUrl"}.
        ca_certificate, client_certificate, client_key: PEM for clients, the key secret; empty texts without TLS.
        users: User of etcd -> {"certificate", "key"}, PEM, the key secret; {} without users.
        version: Installed version of etcd: a demo on this machine may have fallen back to another one.
        backup_policy: With `backup.make_bucket`, the rights that machines need in the bucket, as the cloud writes them
            (JSON): for a role of yours. Else None.
        kubeadm: The part of kubeadm's ClusterConfiguration (v1beta4) that has a control plane use this cluster, YAML;
            where it expects the certificates, `etcd-cluster kubeadm` tells.
        readme: A page about the cluster as the last change left it, Markdown: members, ends of certificates, backups.
            Pulumi Cloud shows a stack's output of this name.
        dns_records: Records of the names in `dns`, each with name, type, ttl and values; empty without names.
        monitoring: What a Prometheus and a Grafana need: "targets" (member name -> URL), "caCertificate",
            "clientCertificate", "clientKey" (secret), "scrapeConfig", "rules" and "dashboard"; None if not asked for.

    Raises:
        ConfigurationError: Arguments cannot work. No resource is registered then.
    """

    endpoints: pulumi.Output[list[str]]
    members: pulumi.Output[dict[str, dict[str, str]]]
    ca_certificate: pulumi.Output[str]
    client_certificate: pulumi.Output[str]
    client_key: pulumi.Output[str]
    users: Mapping[str, Mapping[str, pulumi.Output[str]]]
    version: pulumi.Output[str]
    backup_policy: pulumi.Output[str] | None
    dns_records: pulumi.Output[list[dict[str, Any]]]
    kubeadm: pulumi.Output[str]
    readme: pulumi.Output[str]
    monitoring: dict[str, pulumi.Output[Any]] | None

    def __init__(self, name: str, args: EtcdClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        identity = require_cluster_name(name, pulumi.get_project(), pulumi.get_stack())
        settings = validate_arguments(args)
        inputs = {"size": settings.size.name, "version": settings.version, "memberNames": list(settings.names)}
        opts = with_keys_kept(args.machines, opts)
        super().__init__("etcd-cluster:index:EtcdCluster", name, inputs, opts)
        for warning in settings.warnings:
            pulumi.log.warn(warning, self)
        child = pulumi.ResourceOptions(parent=self)

        bucket = make_bucket(name, settings.backup, args.machines, identity, args.moved_from, parent=self)
        given = bucket.machines if bucket else args.machines
        machines = checked_machines(self._machines(name, given, settings), settings.names)
        certificates = (
            issue_certificates(
                name,
                machines,
                args.ca,
                child,
                settings.ca_rotation,
                settings.ca_overlap_hours,
                settings.dns,
                settings.users,
            )
            if settings.tls
            else None
        )
        commands = MemberCommands(name, identity, machines, settings, parent=self)
        connections = {machine.name: machine.connection for machine in machines if machine.connection}

        checks = commands.check()
        reports = {member: check.stdout.apply(preflight_report) for member, check in checks.items()}
        formation = Formation(
            f"{name}-formation",
            cluster=identity,
            reports=reports,
            preflights={member: {"command": check.create, "script": check.stdin} for member, check in checks.items()},
            connections=connections,
            moved_from=args.moved_from,
            opts=child,
        )
        identities = {member: report.apply(machine_identity) for member, report in reports.items()}
        binaries = provide_binaries(name, machines, identities, settings, formation, parent=self)
        hosts = record_hosts(
            name,
            identity,
            {each.name: each for each in machines},
            formation,
            settings,
            before=certificates.all if certificates else [],
            parent=self,
        )
        size = size_in_force(machines, settings)
        prepared = commands.prepare(formation.token, binaries)
        after = pulumi.ResourceOptions(parent=self, depends_on=bucket.resources if bucket else None)
        token = formation.token
        restored = restored_at_start(name, settings, cluster=identity, token=token, machine=machines[0], opts=after)
        restoration = restored_in_place(name, settings, cluster=identity, token=token, machines=machines, opts=after)
        rollout = Rollout(
            f"{name}-rollout",
            version=settings.version,
            tls=settings.tls,
            size=size,
            etcd=pulumi.Output.secret(dict(settings.user_options))
            if settings.has_secret_options
            else dict(settings.user_options),
            members={machine.name: machine.address for machine in machines},
            places={machine.name: places(machine) for machine in machines},
            ca_fingerprints=certificates.trusted_pem.apply(ca_fingerprints) if certificates else [],
            peer_ca_fingerprints=(certificates.peer_ca.trusted_pem.apply(ca_fingerprints) if certificates else []),
            allow_plaintext=settings.allow_plaintext,
            users=settings.users.users if settings.users else {},
            roles=shown_roles(settings.users),
            restore_from=settings.restore_from,
            names=settings.dns.owners if settings.dns else None,
            restoration=shown_restoration(settings.restoration),
            defragment=dict(vars(settings.defragment)) if settings.defragment else None,
            delete_data=settings.delete_data,
            desired=desired_json(
                identity,
                machines,
                settings,
                size,
                formation,
                certificates,
                prepared,
                restored,
                restoration,
            ),
            connections=connections,
            record=hosts.record if hosts else None,
            former=hosts.former if hosts else None,
            backups={"every": settings.backup.every, "test": settings.backup.test} if settings.backup else None,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[*checks.values(), *(each.command for each in prepared.values())]
            ),
        )
        if settings.backup is not None:
            schedule_backups(
                name,
                settings.backup,
                cluster=identity,
                token=formation.token,
                machines={machine.name: machine for machine in machines},
                identities=identities,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[rollout, *(bucket.resources if bucket else ())]),
            )
        self.monitoring = None
        if settings.monitoring is not None:
            from etcd_cluster.monitoring.endpoints import expose_metrics  # lazily: few clusters need it

            self.monitoring = expose_metrics(
                name,
                settings,
                settings.monitoring,
                cluster=identity,
                token=formation.token,
                machines=machines,
                identities=identities,
                others=certificates,
                parent=self,
                after=rollout,
            )
        records = (
            publish_names(name, args.machines, machines, settings.dns, settings.tls, rollout, parent=self)
            if settings.dns
            else None
        )
        described = describe(machines, settings.tls, settings.dns)
        endpoints = described.apply(_client_urls)
        proven: pulumi.CustomResource = rollout
        if settings.load_check != "off":
            by_address = describe(machines, settings.tls, names=None).apply(_client_urls)
            loaded = check_load(
                name,
                settings.load_check,
                settings.load_generator,
                cluster=identity,
                size=settings.size.name,
                version=settings.version,
                # By address on a member's machine: names are for clients.
                urls=endpoints if settings.load_generator.client else by_address,
                machines=machines,
                certificates=certificates,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[rollout]),
            )
            proven = loaded if settings.load_check == "require" else rollout

        self.endpoints = after_health(proven, endpoints)
        self.members = after_health(proven, described)
        self.ca_certificate = after_health(proven, certificates.trusted_pem if certificates else "")
        self.client_certificate = after_health(proven, certificates.client.certificate_pem if certificates else "")
        self.client_key = pulumi.Output.secret(
            after_health(proven, certificates.client.private_key_pem if certificates else "")
        )
        named = {CLIENT: certificates.client, **certificates.users} if certificates and settings.users else {}
        self.users = {user: _exported(proven, certificate) for user, certificate in named.items()}
        self.version = after_health(proven, binaries[machines[0].name]["version"])
        self.backup_policy = bucket.rights if bucket else None
        self.dns_records = after_health(proven, [] if records is None else records)
        self.kubeadm = self.endpoints.apply(external_etcd)
        self.readme = stack_readme(self.version, self.members, certificates, settings.backup)
        self.register_outputs(
            {
                "endpoints": self.endpoints,
                "members": self.members,
                "caCertificate": self.ca_certificate,
                "clientCertificate": self.client_certificate,
                "clientKey": self.client_key,
                **({"users": self.users} if self.users else {}),
                "version": self.version,
                **({"backupPolicy": self.backup_policy} if self.backup_policy else {}),
                **({} if records is None else {"dnsRecords": self.dns_records}),
                **({"monitoring": self.monitoring} if self.monitoring else {}),
            }
        )

    def _machines(self, name: str, machines: Machines, settings: Settings) -> Sequence[Machine]:
        """Provisions one machine a member. If one of them may be replaced, the other members are asked first."""
        if not isinstance(machines, ReplaceableMachines):
            return machines.provision(name, settings.names, settings.size, parent=self)

        def guard(
            replace_member: str | None,
            connections: Mapping[str, ConnectionArgs],
            *,
            is_dead: bool = False,
            after: Sequence[pulumi.Resource] = (),
        ) -> pulumi.Input[pulumi.Resource]:
            opts = pulumi.ResourceOptions(parent=self, depends_on=[*after])
            return MachineReplacement(
                f"{name}-machine-replacement",
                replace_member=replace_member,
                is_dead=is_dead,
                connections=connections,
                quota_bytes=settings.quota_bytes,
                opts=opts,
            ).once_asked()

        return machines.provision(name, settings.names, settings.size, parent=self, guard=guard)


def _exported(proven: pulumi.CustomResource, certificate: Certificate) -> dict[str, pulumi.Output[str]]:
    return {
        "certificate": after_health(proven, certificate.certificate_pem),
        "key": pulumi.Output.secret(after_health(proven, certificate.private_key_pem)),
    }


def after_health(proven: pulumi.CustomResource, value: pulumi.Input[Any]) -> pulumi.Output[Any]:
    """Returns `value`, which resolves only once every member serves: once the rollout, or what comes after it, is done.

    Its id stays known in previews of later changes.
    """
    return pulumi.Output.all(value, proven.id).apply(lambda known: known[0])


def _client_urls(members: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [member["clientUrl"] for member in members.values()]
