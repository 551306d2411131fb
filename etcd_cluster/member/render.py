"""Makes the text of every file and script of a member from its desired state. Pure: no Pulumi, no effects."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files

import yaml

from etcd_cluster.etcd.options import defaults, with_feature_gate
from etcd_cluster.machines.machine import Later, Ports
from etcd_cluster.member.layout import Layout

METADATA_SERVICE = "169.254.169.254"
"""Address on AWS and Google Cloud that reveals a machine's user data, with the SSH host key, and its credentials."""

LOCAL_ADDRESS_GATE = "SetMemberLocalAddr"
"""Feature gate of etcd 3.6 and later: connections to other members come from the address that the certificate names.
Otherwise the kernel chooses one, and the others reject the connection if the machine has several."""

CLUSTER_LINE = "# etcd-cluster:"
"""Starts the line in a rendered unit that names its cluster."""


@dataclass(frozen=True)
class Member:
    """One member, with every value known.

    Args:
        name: Its name.
        address: IP address or DNS name.
        ports: Ports that it listens on.
    """

    name: str
    address: str
    ports: Ports = field(default_factory=Ports)

    def client_url(self, tls: bool) -> str:
        """Returns the URL for clients."""
        return url(self.address, self.ports.client, tls)

    def peer_url(self, tls: bool) -> str:
        """Returns the URL for other members."""
        return url(self.address, self.ports.peer, tls)


@dataclass(frozen=True)
class CertificatePair:
    """A certificate and its private key, PEM."""

    certificate: str
    key: str = field(repr=False)


class Transport(Enum):
    """Whom a member speaks to, by the names in etcd's settings. Each has its own certificate and trusted CAs."""

    CLIENT = "client"
    PEER = "peer"

    @property
    def certificate(self) -> str:
        """Name of the certificate's and the key's file, without extension."""
        return "server" if self is Transport.CLIENT else "peer"

    @property
    def trusted_file(self) -> str:
        """Name of the file with the trusted CAs."""
        return "ca.crt" if self is Transport.CLIENT else "peer-ca.crt"


class PeerSecurity(Enum):
    """How members speak to one another.

    READY is still plaintext, but with certificates installed, so that a member can already speak to others that have
    moved to TLS.
    """

    PLAINTEXT = "plaintext"
    READY = "ready"
    TLS = "tls"


@dataclass(frozen=True)
class Security:
    """How one member speaks to clients and to the other members.

    Args:
        clients_tls: Clients are served in TLS.
        peers: How it speaks to the other members.
    """

    clients_tls: bool
    peers: PeerSecurity

    @staticmethod
    def of(tls: bool) -> Security:
        """Returns how a member speaks in the end."""
        return Security(tls, PeerSecurity.TLS if tls else PeerSecurity.PLAINTEXT)


@dataclass(frozen=True)
class MemberSpec:
    """Everything that one member's configuration and unit are made of.

    Args:
        token: etcd's initial-cluster-token, by which the cluster is known on its machines.
        member: The member.
        layout: Where its files are.
        options: etcd's own settings, validated for its version.
        security: How it speaks.
        dedicated_disk: The data have a file system of their own.
    """

    token: str
    member: Member
    layout: Layout
    options: Mapping[str, object]
    security: Security
    dedicated_disk: bool = False

    @property
    def client_url(self) -> str:
        """The URL for clients."""
        return self.member.client_url(self.security.clients_tls)

    @property
    def peer_url(self) -> str:
        """The URL for other members."""
        return self.member.peer_url(self.security.peers is PeerSecurity.TLS)


def url(address: str, port: int, tls: bool) -> str:
    """Returns a client or peer URL. IPv6 addresses are in brackets."""
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if tls else 'http'}://{host}:{port}"


def etcd_configuration(spec: MemberSpec, bootstrap: Mapping[str, str] | None = None) -> str:
    """Returns etcd's configuration file (YAML) for a member with data: without data, etcd refuses to start from it.

    Args:
        spec: What the configuration is made of.
        bootstrap: "initial-cluster" and "initial-cluster-state" of a member that forms or joins a cluster now; None for
            a member with data.
    """
    member, layout, security = spec.member, spec.layout, spec.security
    peers_tls = security.peers is PeerSecurity.TLS
    settings: dict[str, object] = {
        "name": member.name,
        "data-dir": layout.data,
        "listen-client-urls": _listen_urls(member.address, member.ports.client, security.clients_tls, loopback=True),
        "advertise-client-urls": spec.client_url,
        "listen-peer-urls": _listen_urls(member.address, member.ports.peer, peers_tls, loopback=False),
        "initial-advertise-peer-urls": spec.peer_url,
        "initial-cluster-token": spec.token,
        "initial-cluster-state": "existing",
        "listen-metrics-urls": url("127.0.0.1", member.ports.metrics, tls=False),
        **(bootstrap or {}),
    }
    if security.clients_tls:
        settings["client-transport-security"] = _transport_security(layout, Transport.CLIENT)
    if security.peers is not PeerSecurity.PLAINTEXT:
        settings["peer-transport-security"] = _transport_security(layout, Transport.PEER)
    settings.update(spec.options)
    gates = spec.options.get("feature-gates")
    if isinstance(gates, str) and _may_be_source(member.address):
        settings["feature-gates"] = with_feature_gate(gates, LOCAL_ADDRESS_GATE)
    header = f"{owner_line(spec.token)}\n# Written by `pulumi up`: change the stack, not this file.\n"
    text: str = yaml.safe_dump(settings, sort_keys=False, width=1000)
    return header + text


def chooses_source(address: str, version: str) -> bool:
    """Returns whether etcd of that version connects to other members from this address, however many there are."""
    return "feature-gates" in defaults(version) and _may_be_source(address)


def _may_be_source(address: str) -> bool:
    """Returns whether etcd can connect to other members from this address.

    etcd cannot parse an IPv6 address there, and does not look up a name.
    """
    try:
        return not ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        return False


def owner_line(token: str) -> str:
    """Returns the line that names the cluster a file belongs to.

    It holds the token: the readable name may change, and no member restarts for that.
    """
    return f"{CLUSTER_LINE} {token}"


def _unit_text(text: str) -> str:
    """Returns a text as a unit has to contain it, since systemd expands %."""
    return text.replace("%", "%%")


def _in_double_quotes(text: str) -> str:
    """Returns a text as it is written between double quotes in a shell."""
    return re.sub(r'(["$`\\])', r"\\\1", text)


def _listen_urls(address: str, port: int, tls: bool, *, loopback: bool) -> str:
    """Returns the URLs that etcd listens on.

    etcd listens on addresses only, so a DNS name means every address of the machine.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return url("0.0.0.0", port, tls)  # noqa: S104  the machine's own firewall rules apply
    if not loopback or parsed.is_loopback:
        return url(address, port, tls)
    return f"{url(address, port, tls)},{url('127.0.0.1', port, tls)}"


def _transport_security(layout: Layout, transport: Transport) -> dict[str, object]:
    return {
        "cert-file": f"{layout.pki}/{transport.certificate}.crt",
        "key-file": f"{layout.pki}/{transport.certificate}.key",
        "trusted-ca-file": f"{layout.pki}/{transport.trusted_file}",
        "client-cert-auth": True,
    }


def systemd_unit(spec: MemberSpec) -> str:
    """Returns etcd-cluster.service.

    It refuses to start without its file system, and without data unless the member is to form or join a cluster now.
    """
    layout = spec.layout
    mounted = (
        f"RequiresMountsFor={layout.volume}\n"
        "# The data disk is mounted, or etcd does not start.\n"
        f"AssertPathIsMountPoint={layout.volume}\n"
        if spec.dedicated_disk
        else ""
    )
    return f"""\
{owner_line(spec.token)}
[Unit]
Description=etcd member {_unit_text(spec.member.name)}
Documentation=https://etcd.io/docs/
Wants=network-online.target
After=network-online.target time-sync.target
{mounted}# Its data is there, or it was told to form or join a cluster: an emptied member must not start as a new one.
AssertPathExists=|{layout.data}/member/wal
AssertPathExists=|{layout.configuration}/bootstrap.yaml

[Service]
Type=notify
User=etcd
Group=etcd
# Without the environment that systemd gives to all services. As many Go processors as the machine has, looked up at
# each start. Only a member without data bootstraps.
ExecStart=/usr/bin/env -i NOTIFY_SOCKET=${{NOTIFY_SOCKET}} PATH=/usr/sbin:/usr/bin:/sbin:/bin \
/bin/sh -c 'file=etcd; test -d {layout.data}/member/wal || file=bootstrap; \
GOMAXPROCS=$$(nproc) exec {layout.binaries}/etcd --config-file {layout.configuration}/$${{file}}.yaml'
Restart=on-failure
RestartSec=2s
# A member waits for its quorum as long as that takes.
TimeoutStartSec=infinity
TimeoutStopSec=30s
LimitNOFILE=65536
OOMScoreAdjust=-900
IOSchedulingClass=best-effort
IOSchedulingPriority=0
UMask=0077
ReadWritePaths={layout.data}
ProtectSystem=strict
ProtectHome=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
{_without_metadata_service(spec)}\
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def _without_metadata_service(spec: MemberSpec) -> str:
    """Returns the setting that blocks a cloud's metadata service.

    On Google Cloud that service is the DNS server too, so it is not blocked for a member that may have names to look
    up.
    """
    looks_up = not _is_address(spec.member.address) or any(key.endswith("-address") for key in spec.options)
    return (
        ""
        if looks_up
        else f"# A cloud's metadata service is none of etcd's business.\nIPAddressDeny={METADATA_SERVICE}\n"
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def mount_unit(layout: Layout) -> str:
    """Returns the data disk's mount unit. The machine fills in @WHAT@: only it knows the file system's UUID."""
    return f"""\
{CLUSTER_LINE} data disk
[Unit]
Description=etcd's data disk
Before=etcd-cluster.service

[Mount]
What=@WHAT@
Where={layout.volume}
Type=xfs
Options=noatime,nodev,nosuid,noexec

[Install]
WantedBy=multi-user.target
"""


def administrator_profile(spec: MemberSpec) -> str:
    """Returns /etc/profile.d/etcd.sh, with which plain `etcdctl` works for root."""
    layout = spec.layout
    lines = [
        owner_line(spec.token),
        f'export PATH="$PATH:{_in_double_quotes(layout.binaries)}"',
        f"export ETCDCTL_ENDPOINTS={shlex.quote(spec.client_url)}",
    ]
    if spec.security.clients_tls:
        lines += [
            f"export ETCDCTL_CACERT={shlex.quote(f'{layout.pki}/ca.crt')}",
            f"export ETCDCTL_CERT={shlex.quote(f'{layout.pki}/server.crt')}",
            f"export ETCDCTL_KEY={shlex.quote(f'{layout.pki}/server.key')}",
        ]
    return "\n".join([*lines, without_proxy([spec.member.address])]) + "\n"


def without_proxy(addresses: Sequence[str]) -> str:
    """Returns lines for a POSIX shell after which programs reach these addresses past any proxy."""
    known = f'"${{NO_PROXY:-${{no_proxy:-}}}},"{shlex.quote(",".join(addresses))}'
    return f'export NO_PROXY={known}\nexport no_proxy="$NO_PROXY"'  # Go reads the first one, curl the second


def identity(cluster: str, member: str, token: str) -> str:
    """Returns the marker beside the data, which names their cluster and member."""
    return json.dumps({"cluster": cluster, "member": member, "token": token}) + "\n"


def remove_variables(cluster: str, token: str) -> dict[str, str]:
    """Returns shell variables for remove.sh, which identify what belongs to this cluster."""
    return {"cluster": cluster, "token": token}


def prepare_variables(cluster: str, member: str, token: str, layout: Layout) -> dict[str, str]:
    """Returns shell variables for prepare.sh. Files are encoded as base64, so that no content needs quoting."""
    return {
        "cluster": cluster,
        "token": token,
        "file_mount_unit": encode(mount_unit(layout)),
        "file_identity": encode(identity(cluster, member, token)),
    }


def client_variables(ca: str, client: CertificatePair | None) -> dict[str, str]:
    """Returns shell variables for client.sh, which acts as a client."""
    return {
        "file_ca": encode(ca),
        "file_client_certificate": encode(client.certificate if client else ""),
        "file_client_key": encode(client.key if client else ""),
    }


def port_variables(ports: Ports) -> dict[str, str]:
    """Returns the ports that a member is to have, as shell variables."""
    return {f"{name}_port": str(port) for name, port in vars(ports).items()}


def layout_variables(layout: Layout) -> dict[str, str]:
    """Returns the layout as shell variables."""
    return {f"{name}_path" if name != "supervisor" else name: value for name, value in vars(layout).items()}


STEPS: Mapping[str, Sequence[str]] = {
    "check": ("machine", "needs", "check"),
    "prepare": ("machine", "needs", "packages", "prepare"),
    "observe": ("machine", "read_users", "observe"),
    "apply": ("space", "apply"),
    "membership": ("membership",),
    "compact": ("space",),
    "snapshot": ("snapshot", "upgrade"),
    "v2store": ("upgrade",),
    "backup": ("snapshot", "folder", "store", "proof", "backup"),
    "backup_setup": ("set_up", "folder", "store", "backup_setup"),
    "find_backup": ("set_up", "snapshot", "folder", "store", "proof", "restore"),
    "restore": ("set_up", "snapshot", "folder", "store", "proof", "restore"),
    "prepare_restore": ("set_up", "snapshot", "folder", "store", "proof", "client", "read_users", "restore"),
    "try_restore": ("set_up", "snapshot", "folder", "store", "proof", "restore"),
    "put_restored": ("apply", "restore"),
    "raft_position": ("restore",),
    "load_check": ("client", "load_check"),
    "load_sample": ("load_check",),
    "metrics_file": ("metrics",),
    "monitoring_setup": ("packages", "set_up", "monitoring_setup"),
    "record": ("remove",),
    "remove": ("remove",),
    "log": (),
    "peer_log": (),
    "health": ("observe",),
    "reach": ("observe",),
    "hash_keys": ("observe",),
    "hash_data": ("snapshot", "proof", "hash_data"),
    "probe": ("client", "probe"),
    "users": ("client", "read_users", "users"),
}
"""Step -> the script files that it takes, besides common.sh and the supervisor's."""


def command_line(step: str, words: Mapping[str, str]) -> str:
    """Returns `bash -s -- STEP KEY=VALUE...`, quoted where a value needs it. Reviewers see this line."""
    quoted = (f"{key}={value if isinstance(value, Later) else shlex.quote(value)}" for key, value in words.items())
    return " ".join(["bash -s --", step, *quoted])


def script(step: str, layout: Layout, variables: Mapping[str, str] | None = None) -> str:
    """Returns what `bash -s -- STEP KEY=VALUE...` reads on a machine.

    It leaves the environment of the log-in, becomes root and leaves what sudo sets, sets variables, defines functions,
    then runs the step.
    """
    begin = ("login_shell", "clean", "elevate", "clean") if layout.supervisor == "systemd" else ("clean",)
    assignments = {**layout_variables(layout), **(variables or {})}
    return "\n".join(
        [
            *map(_source, begin),
            *(f"{name}={shlex.quote(value)}" for name, value in assignments.items()),
            *map(_source, ("common", layout.supervisor, *STEPS[step])),
            'answer "$@"; exit',
            "",
        ]
    )


@cache
def _source(name: str) -> str:
    """Returns a file of functions without its comment lines: another comment is no change of a machine."""
    text = (files("etcd_cluster.member") / "scripts" / f"{name}.sh").read_text()
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def encode(content: str) -> str:
    """Returns a text as base64."""
    return base64.b64encode(content.encode()).decode()
