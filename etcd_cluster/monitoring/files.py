"""Makes the texts of the files that expose a machine's metrics. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout

RUNTIME = "/run/etcd-cluster-monitoring"
OWN_METRICS_PATH = "/cluster-metrics"
"""Path of what etcd has no metric for; etcd's own metrics are at /metrics."""
METRICS_FILE = "/run/etcd-cluster/metrics.prom"
METRICS_EVERY = "1min"


@dataclass(frozen=True)
class Exposure:
    """What is exposed of one member.

    Args:
        name: The member.
        address: Address that is listened on; a name means every address of the machine.
        layout: Where its files are.
        ports: Its ports.
        port: Port of the metrics for other machines.
    """

    name: str
    address: str
    layout: Layout
    ports: Ports
    port: int

    @property
    def folder(self) -> str:
        """Folder of the files."""
        return f"{self.layout.configuration}/monitoring"


@dataclass(frozen=True)
class MonitoringFiles:
    """What else the files are made of.

    Args:
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        certificate: The machine's certificate for its metrics, PEM.
        key: Its key.
        ca: The CAs of monitoring, PEM.
        client_ends: Name -> end, in seconds since 1970, of certificates that clients have.
        backup_seconds: Time between two backups; None without any.
        test_seconds: Time between two tests of backups; None for never.
        textfile_folder: Folder of node_exporter's textfile collector; "" for none.
        on_failure: Command for failures; "" for none.
        proxy: Proxy for packages; "" for none.
    """

    cluster: str
    token: str
    certificate: str
    key: str
    ca: str
    client_ends: Mapping[str, int]
    backup_seconds: int | None
    test_seconds: int | None
    textfile_folder: str
    on_failure: str
    proxy: str


def variables(exposure: Exposure, files: MonitoringFiles) -> dict[str, str]:
    """Returns the shell variables of metrics.sh. No secret is among them."""
    return {
        **render.port_variables(exposure.ports),
        "cluster": files.cluster,
        "monitoring_path": exposure.folder,
        "metrics_path": METRICS_FILE,
        "hook_path": f"{exposure.folder}/on-failure",
        "textfile_folder": files.textfile_folder,
        "client_ends": "\n".join(f"{name} {end}" for name, end in sorted(files.client_ends.items())),
        "backup_every": str(files.backup_seconds or ""),
        "backup_test_every": str(files.test_seconds or ""),
    }


def set_up_variables(exposure: Exposure, files: MonitoringFiles) -> dict[str, str]:
    """Returns the shell variables of monitoring_setup.sh. The key is among them."""
    own = variables(exposure, files)
    texts = {
        "key": files.key,
        "certificate": files.certificate,
        "ca": files.ca,
        "configuration": nginx_configuration(exposure, files.token),
        "program": render.script("metrics_file", exposure.layout, own),
        "hook": f"#!/bin/sh\n{files.on_failure}\n" if files.on_failure else "",
        "service": monitoring_unit(exposure, files.token),
        "metrics_service": metrics_unit(exposure, files.token),
        "timer": timer_unit(files.token),
    }
    return {
        **own,
        "monitoring_port": str(exposure.port),
        "proxy": files.proxy,
        **{f"file_{name}": render.encode(text) if text else "" for name, text in texts.items()},
    }


def nginx_configuration(exposure: Exposure, token: str) -> str:
    """Returns the configuration of our own nginx: two paths, only to certificates of the monitoring CA."""
    temporary = "".join(
        f"    {kind}_temp_path {RUNTIME}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    listen = "".join(f"        listen {address} ssl;\n" for address in _listen(exposure.address, exposure.port))
    return f"""\
{render.owner_line(token)}
# Written by `pulumi up`: change the stack, not this file.
worker_processes 1;
pid {RUNTIME}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections 64;
}}
http {{
    access_log off;
    server_tokens off;
    default_type "text/plain; version=0.0.4";
    keepalive_timeout 75s;
    client_max_body_size 1k;
{temporary}\
    server {{
{listen}\
        ssl_certificate {exposure.folder}/server.crt;
        ssl_certificate_key {exposure.folder}/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        # A CA of its own: etcd does not know it, so its certificates open nothing but these two paths.
        ssl_client_certificate {exposure.folder}/ca.crt;
        ssl_verify_client on;
        location / {{
            return 404;
        }}
        location = /metrics {{
            proxy_pass http://127.0.0.1:{exposure.ports.metrics};
            proxy_method GET;
            proxy_pass_request_body off;
            proxy_max_temp_file_size 0;
        }}
        location = {OWN_METRICS_PATH} {{
            alias {METRICS_FILE};
        }}
    }}
}}
"""


def _listen(address: str, port: int) -> list[str]:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return [str(port), f"[::]:{port}"]
    return [f"[{address}]:{port}" if parsed.version == 6 else f"{address}:{port}"]


def monitoring_unit(exposure: Exposure, token: str) -> str:
    """Returns the service that serves the metrics. Its workers run as nobody."""
    return f"""\
{render.owner_line(token)}
[Unit]
Description=Metrics of etcd for other machines
Documentation=https://nginx.org/en/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/bin/sh -c 'exec nginx -c {exposure.folder}/nginx.conf -g "daemon off; user nobody $(id -gn nobody);"'
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5s
RuntimeDirectory={RUNTIME.removeprefix("/run/")}
Nice=10
CPUWeight=20
MemoryMax=128M
UMask=0022
ProtectSystem=strict
ReadWritePaths=-/var/log/nginx
ProtectHome=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_NET_BIND_SERVICE CAP_CHOWN CAP_KILL
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
IPAddressDeny={render.METADATA_SERVICE}
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def metrics_unit(exposure: Exposure, token: str) -> str:
    """Returns the service that writes what etcd has no metric for, once."""
    return f"""\
{render.owner_line(token)}
[Unit]
Description=Metrics of etcd's host

[Service]
Type=oneshot
StandardInput=file:{exposure.folder}/program
ExecStart=/bin/bash -s -- metrics_file member={exposure.name}
TimeoutStartSec=300
Nice=15
IOSchedulingClass=idle
CPUWeight=20
LogLevelMax=notice
"""


def timer_unit(token: str) -> str:
    """Returns the timer of that service."""
    return f"""\
{render.owner_line(token)}
[Unit]
Description=Time of the metrics of etcd's host

[Timer]
OnBootSec=30s
OnUnitActiveSec={METRICS_EVERY}
AccuracySec=5s
RandomizedDelaySec=5s

[Install]
WantedBy=timers.target
"""
