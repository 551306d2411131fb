"""Issues the certificates of a cluster.

For clients: a CA, a server certificate for every member, one client certificate, and one for every user. For members
among themselves: a CA of their own, which signs nothing else, and a peer certificate for every member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from etcd_cluster.dns import ClusterNames
from etcd_cluster.machines.machine import Machine
from etcd_cluster.names import shortened
from etcd_cluster.pki.limits import CA_OVERLAP_HOURS, MAX_COMMON_NAME, Profile
from etcd_cluster.pki.resources import (
    CA,
    Certificate,
    CertificateArgs,
    CertificateAuthority,
    CertificateAuthorityArgs,
)
from etcd_cluster.users import CLIENT, ROOT, Users

MONITORING_CLIENT = "monitoring-client"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ClusterCertificates:
    """The certificates of one cluster.

    Args:
        ca: The CA of clients and servers.
        peer_ca: The CA of members among themselves; it signs only `peers`.
        servers: Member name -> server certificate.
        peers: Member name -> peer certificate.
        client: The client certificate that the stack exports.
        users: User -> its certificate, which the stack exports as well.
        root: Certificate of etcd's user root, which leaves the stack to repair users alone; None without users.
        authorities: What a CA that is made here signs, such as "clients" -> that CA.
    """

    ca: CA
    peer_ca: CA
    servers: Mapping[str, Certificate]
    peers: Mapping[str, Certificate]
    client: Certificate
    users: Mapping[str, Certificate]
    root: Certificate | None
    authorities: Mapping[str, CertificateAuthority]

    @property
    def trusted_pem(self) -> pulumi.Output[str]:
        """The CAs that clients trust, and that members trust for clients, newest first: two during an overlap."""
        return self.ca.trusted_pem

    @property
    def all(self) -> Sequence[Certificate]:
        """Every certificate; their CAs come before them."""
        root = [self.root] if self.root else []
        return [*self.servers.values(), *self.peers.values(), self.client, *self.users.values(), *root]


@dataclass(frozen=True)
class MonitoringCertificates:
    """The certificates of a cluster's metrics, by a CA that etcd does not trust.

    Args:
        ca: The CA.
        servers: Member name -> certificate of its metrics.
        client: The certificate of Prometheus.
    """

    ca: CA
    servers: Mapping[str, Certificate]
    client: Certificate


def issue_certificates(
    cluster: str,
    machines: Sequence[Machine],
    own_ca: CA | None,
    opts: pulumi.ResourceOptions,
    rotation: int = 0,
    overlap_hours: int = CA_OVERLAP_HOURS,
    names: ClusterNames | None = None,
    users: Users | None = None,
) -> ClusterCertificates:
    """Registers the certificates of `cluster`.

    The CA of members is always made here: who has a certificate signed by it can write to the cluster's log, whatever
    etcd's RBAC says.

    Args:
        cluster: The component's name.
        machines: Where members run.
        own_ca: The caller's own CA for clients; None makes one.
        opts: Pulumi's resource options of every resource.
        rotation: Rotation number of every CA that is made.
        overlap_hours: Overlap of every CA that is made, in hours.
        names: DNS names for clients; None for none. Members show one another addresses alone.
        users: etcd's users; None without any.
    """
    authorities: dict[str, CertificateAuthority] = {}
    if own_ca is None:
        authorities["clients"] = _made_ca(cluster, "ca", "etcd CA", opts, rotation, overlap_hours)
    authorities["members"] = _made_ca(cluster, "peer-ca", "etcd peer CA", opts, rotation, overlap_hours)
    ca, peer_ca = own_ca or authorities["clients"].ca, authorities["members"].ca

    def issued(machine: Machine, profile: Profile, signed_by: CA) -> Certificate:
        dns_names = names.of(machine.name) if names and profile == "server" else []
        return _of_machine(f"{cluster}-{machine.name}-{profile}", machine, profile, signed_by, opts, dns_names)

    # A client is signed by the CA's client pair: during an overlap, by the new CA.
    def for_client(name: str, user: str) -> Certificate:
        return Certificate(f"{cluster}-{name}", CertificateArgs(ca, common_name=user, profile="client"), opts)

    return ClusterCertificates(
        ca,
        peer_ca,
        servers={machine.name: issued(machine, "server", ca) for machine in machines},
        peers={machine.name: issued(machine, "peer", peer_ca) for machine in machines},
        client=for_client("client", CLIENT),
        users={name: for_client(f"{name}-user", name) for name in (users.with_certificates if users else ())},
        root=for_client("root-user", ROOT) if users else None,
        authorities=authorities,
    )


def issue_monitoring_certificates(
    cluster: str,
    machines: Sequence[Machine],
    opts: pulumi.ResourceOptions,
    rotation: int = 0,
    overlap_hours: int = CA_OVERLAP_HOURS,
) -> MonitoringCertificates:
    """Registers the certificates of the metrics of `cluster`.

    A CA that also signs etcd's clients would make each certificate for metrics one that may read and write all keys.
    """
    ca = _made_ca(cluster, "monitoring-ca", "etcd monitoring CA", opts, rotation, overlap_hours).ca
    servers = {
        machine.name: _of_machine(f"{cluster}-{machine.name}-monitoring", machine, "server", ca, opts)
        for machine in machines
    }
    client = CertificateArgs(ca, common_name=MONITORING_CLIENT, profile="client")
    return MonitoringCertificates(ca, servers, Certificate(f"{cluster}-{MONITORING_CLIENT}", client, opts))


def _made_ca(
    cluster: str, name: str, purpose: str, opts: pulumi.ResourceOptions, rotation: int, overlap_hours: int
) -> CertificateAuthority:
    common_name = f"{shortened(cluster, MAX_COMMON_NAME - len(purpose) - 1)} {purpose}"
    args = CertificateAuthorityArgs(common_name=common_name, rotation=rotation, overlap_hours=overlap_hours)
    return CertificateAuthority(f"{cluster}-{name}", args, opts)


def _of_machine(
    name: str,
    machine: Machine,
    profile: Profile,
    ca: CA,
    opts: pulumi.ResourceOptions,
    names: Sequence[pulumi.Input[str]] = (),
) -> Certificate:
    hosts = [machine.name, machine.address, *LOOPBACK_NAMES, *names]
    return Certificate(name, CertificateArgs(ca, common_name=machine.name, profile=profile, hosts=hosts), opts)
