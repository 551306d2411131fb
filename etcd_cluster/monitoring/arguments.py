"""Defines the typed arguments of a cluster's monitoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.machine import MONITORING_PORT, Ports
from etcd_cluster.names import Line, require_directory
from etcd_cluster.secrecy import as_input
from etcd_cluster.typed import Port

CLOUDS = ("aws", "gcp")
"""Platforms that make firewall rules for the port."""


def require_folder(key: str, path: str) -> str:
    """Returns the path of a folder on hosts; raises `ConfigurationError` if it is not absolute."""
    if not path.startswith("/"):
        raise ConfigurationError(key, path, "not an absolute path", "write it like /var/lib/prometheus/node-exporter")
    return require_directory(key, path)


@dataclass(frozen=True)
class Monitoring:
    """Metrics of every member, for a Prometheus elsewhere: over TLS, to a certificate that opens nothing else."""

    port: Port = MONITORING_PORT
    """Port on each member's address, default 2382. On AWS and Google Cloud it is always that one."""
    textfile_folder: Annotated[str, require_folder] | None = None
    """Folder on every host that the textfile collector of Prometheus's node exporter reads. What etcd has no metric for
    is written there, too; default none.
    """
    on_failure: pulumi.Input[Line] | None = None
    """Shell command that a host runs as root, within a minute, after etcd or a backup failed there: `$1` is the unit,
    `$2` what happened. Default none. It may be a secret.
    """


def validate_monitoring(monitoring: Monitoring, platform: str) -> Monitoring:
    """Returns the arguments, with a secret command as a secret Output.

    Raises:
        ConfigurationError: The platform cannot serve it, or the port differs from the firewall's.
    """
    if platform == "local":
        raise ConfigurationError(
            "monitoring",
            "given",
            "members on this machine serve their metrics on loopback already",
            "leave it out, and scrape http://127.0.0.1:2381/metrics (docs/monitoring.md)",
        )
    if platform in CLOUDS and monitoring.port != MONITORING_PORT:
        raise ConfigurationError(
            "monitoring.port",
            monitoring.port,
            f"the firewall's rules on {platform} are for port {MONITORING_PORT}",
            "leave it out",
        )
    if monitoring.port in (22, *vars(Ports()).values()):
        raise ConfigurationError(
            "monitoring.port", monitoring.port, "taken by etcd or by SSH", f"leave it out for {MONITORING_PORT}"
        )
    return replace(monitoring, on_failure=as_input(monitoring.on_failure))
