"""The MetricsEndpoints resource, as the component declares it. endpoints_lifecycle.py brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
from pulumi.dynamic import Resource
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.backup.arguments import TEST_SECONDS, interval_seconds
from etcd_cluster.certificates import MONITORING_CLIENT, ClusterCertificates, issue_monitoring_certificates
from etcd_cluster.etcd.versions import Version
from etcd_cluster.machines.machine import Machine
from etcd_cluster.member.commands import layout
from etcd_cluster.member.render import url
from etcd_cluster.monitoring.arguments import Monitoring
from etcd_cluster.monitoring.dashboard import dashboard_json
from etcd_cluster.monitoring.rules import rules_yaml
from etcd_cluster.monitoring.scrape import Scraped, prometheus_config
from etcd_cluster.providers import MetricsEndpointsProvider
from etcd_cluster.settings import Settings


class MetricsEndpoints(Resource, module="cluster", name="MetricsEndpoints"):
    """Exposes, on every member's machine, its metrics to a Prometheus elsewhere. No member is restarted for it.

    Args:
        name: Name of the resource.
        cluster: PROJECT/STACK/NAME, as it is in labels.
        token: The token by which the cluster is known on its machines.
        port: Port on each machine.
        textfile_folder: Folder of node_exporter's textfile collector; "" for none.
        on_failure: Command for failures (secret, if it was); "" for none.
        backup_seconds: Time between two backups; None without any.
        test_seconds: Time between two tests of backups; None for never.
        proxy: Proxy for packages (secret, if it was); "" for none.
        no_proxy: What is reached past it.
        ca: The CAs of monitoring, PEM.
        certificates: Member name -> certificate of its metrics, with its key (secret).
        client_ends: Name -> end of certificates that clients have, RFC 3339.
        members: Member name -> "address", "layout", "ports", and "machine", the id of its machine.
        connections: Member name -> SSH connection (secret).
        opts: Pulumi's resource options.

    Attributes:
        drift: What the last `up` found changed on machines, one line each.
    """

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        token: pulumi.Input[str],
        port: int,
        textfile_folder: str,
        on_failure: pulumi.Input[str],
        backup_seconds: int | None,
        test_seconds: int | None,
        proxy: pulumi.Input[str],
        no_proxy: str,
        ca: pulumi.Input[str],
        certificates: Mapping[str, Mapping[str, pulumi.Input[str]]],
        client_ends: Mapping[str, pulumi.Input[str]],
        members: Mapping[str, Mapping[str, Any]],
        connections: Mapping[str, ConnectionArgs],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__(
            MetricsEndpointsProvider(),
            name,
            {
                "cluster": cluster,
                "token": token,
                "port": port,
                "textfile_folder": textfile_folder,
                "on_failure": on_failure,
                "backup_seconds": backup_seconds,
                "test_seconds": test_seconds,
                "proxy": proxy,
                "no_proxy": no_proxy,
                "ca": ca,
                "certificates": pulumi.Output.secret(certificates),
                "client_ends": client_ends,
                "members": members,
                "connections": pulumi.Output.secret(connections),
                "looks": not pulumi.runtime.is_dry_run(),
                "drift": None,
            },
            opts,
        )


def expose_metrics(
    name: str,
    settings: Settings,
    monitoring: Monitoring,
    *,
    cluster: str,
    token: pulumi.Input[str],
    machines: Sequence[Machine],
    identities: Mapping[str, pulumi.Input[str]],
    others: ClusterCertificates | None,
    parent: pulumi.Resource,
    after: pulumi.Resource,
) -> dict[str, pulumi.Output[Any]]:
    """Registers where the metrics of a cluster are exposed, with certificates of their own.

    Args:
        name: The component's name.
        settings: The cluster's settings.
        monitoring: Those of its monitoring.
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        machines: Where members run.
        identities: Member name -> id of its machine: another machine has nothing set up.
        others: The certificates of the cluster; the end of what clients have is told.
        parent: The component.
        after: What comes before.

    Returns:
        What a team gives to its Prometheus and its Grafana, once the metrics are exposed.
    """
    backup, proxy = settings.backup, settings.install.proxy
    certificates = issue_monitoring_certificates(
        name, machines, pulumi.ResourceOptions(parent=parent), settings.ca_rotation, settings.ca_overlap_hours
    )
    ends = {MONITORING_CLIENT: certificates.client.not_after}
    if others is not None:
        ends["client"] = others.client.not_after
    endpoints = MetricsEndpoints(
        f"{name}-metrics",
        cluster=cluster,
        token=token,
        port=monitoring.port,
        textfile_folder=monitoring.textfile_folder or "",
        on_failure=monitoring.on_failure or "",
        backup_seconds=interval_seconds(backup.every) if backup else None,
        test_seconds=TEST_SECONDS.get(backup.test) if backup else None,
        proxy=proxy or "",
        no_proxy=",".join(settings.install.no_proxy),
        ca=certificates.ca.trusted_pem,
        certificates={
            member: {"certificate": each.certificate_pem, "key": each.private_key_pem}
            for member, each in certificates.servers.items()
        },
        client_ends=ends,
        members={
            machine.name: {
                "address": machine.address,
                "layout": dict(vars(layout(machine))),
                "ports": dict(vars(machine.ports)),
                "machine": identities[machine.name],
            }
            for machine in machines
        },
        connections={machine.name: machine.connection for machine in machines if machine.connection},
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[after]),
    )
    addresses = pulumi.Output.all(
        addresses={machine.name: machine.address for machine in machines}, exposed=endpoints.id
    ).apply(lambda known: cast("Mapping[str, str]", known["addresses"]))
    return {
        "targets": addresses.apply(lambda known: targets_of(known, monitoring.port)),
        "caCertificate": certificates.ca.trusted_pem,
        "clientCertificate": certificates.client.certificate_pem,
        "clientKey": pulumi.Output.secret(certificates.client.private_key_pem),
        "scrapeConfig": addresses.apply(lambda known: prometheus_config(Scraped(cluster, known, monitoring.port))),
        **{key: pulumi.Output.from_input(text) for key, text in texts_of(settings).items()},
    }


def targets_of(addresses: Mapping[str, str], port: int) -> dict[str, str]:
    """Returns member name -> URL of its metrics for other machines."""
    return {name: url(address, port, tls=True) for name, address in addresses.items()}


def texts_of(settings: Settings) -> dict[str, str]:
    """Returns the alerts and the dashboard for the version that runs."""
    series = Version.parse(settings.version).series
    is_extensive = settings.options.get("metrics") == "extensive"
    has_backups = settings.backup is not None
    return {
        "rules": rules_yaml(series, is_extensive=is_extensive, has_backups=has_backups),
        "dashboard": dashboard_json(series, is_extensive=is_extensive, has_backups=has_backups),
    }
