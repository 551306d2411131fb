"""Issues the certificates of a cluster.

For clients: a CA, a server certificate for every member, and one client certificate. For members among themselves: a CA
of their own, which signs nothing else, and a peer certificate for every member.
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
    """

    ca: CA
    peer_ca: CA
    servers: Mapping[str, Certificate]
    peers: Mapping[str, Certificate]
    client: Certificate

    @property
    def trusted_pem(self) -> pulumi.Output[str]:
        """The CAs that clients trust, and that members trust for clients, newest first: two during an overlap."""
        return self.ca.trusted_pem

    @property
    def all(self) -> Sequence[Certificate]:
        """Every certificate; their CAs come before them."""
        return [*self.servers.values(), *self.peers.values(), self.client]


def issue_certificates(
    cluster: str,
    machines: Sequence[Machine],
    own_ca: CA | None,
    opts: pulumi.ResourceOptions,
    rotation: int = 0,
    overlap_hours: int = CA_OVERLAP_HOURS,
    names: ClusterNames | None = None,
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
    """

    def made(name: str, purpose: str) -> CA:
        common_name = f"{shortened(cluster, MAX_COMMON_NAME - len(purpose) - 1)} {purpose}"
        args = CertificateAuthorityArgs(common_name=common_name, rotation=rotation, overlap_hours=overlap_hours)
        return CertificateAuthority(f"{cluster}-{name}", args, opts).ca

    ca = own_ca or made("ca", "etcd CA")
    peer_ca = made("peer-ca", "etcd peer CA")

    def issued(machine: Machine, profile: Profile, signed_by: CA) -> Certificate:
        of_clients = names.of(machine.name) if names and profile == "server" else []
        hosts = [machine.name, machine.address, *LOOPBACK_NAMES, *of_clients]
        args = CertificateArgs(signed_by, common_name=machine.name, profile=profile, hosts=hosts)
        return Certificate(f"{cluster}-{machine.name}-{profile}", args, opts)

    return ClusterCertificates(
        ca,
        peer_ca,
        servers={machine.name: issued(machine, "server", ca) for machine in machines},
        peers={machine.name: issued(machine, "peer", peer_ca) for machine in machines},
        # A client is signed by the CA's client pair: during an overlap, by the new CA.
        client=Certificate(f"{cluster}-client", CertificateArgs(ca, common_name="client", profile="client"), opts),
    )
