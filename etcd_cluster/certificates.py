"""Which certificates a cluster has: an authority, a server and a peer certificate for every member, one for clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from etcd_cluster.machines import Machine
from etcd_cluster.pki import (
    Authority,
    Certificate,
    CertificateArgs,
    CertificateAuthority,
    CertificateAuthorityArgs,
    Profile,
)
from etcd_cluster.pki.x509 import AUTHORITY_OVERLAP_HOURS

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ClusterCertificates:
    """What secures one cluster. `servers` and `peers` are by member name."""

    authority: Authority
    servers: Mapping[str, Certificate]
    peers: Mapping[str, Certificate]
    client: Certificate

    @property
    def trusted_pem(self) -> pulumi.Output[str]:
        """What members and clients trust, newest first: the authority, and in an overlap the one before it."""
        return self.authority.trusted_pem


def issue_certificates(
    cluster: str,
    machines: Sequence[Machine],
    own_authority: Authority | None,
    opts: pulumi.ResourceOptions,
    rotation: int = 0,
    overlap_hours: int = AUTHORITY_OVERLAP_HOURS,
) -> ClusterCertificates:
    """Registers the certificates of `cluster`. Without an authority of the caller's own, one is made, and rotated."""
    authority = own_authority
    if authority is None:
        args = CertificateAuthorityArgs(
            common_name=f"{cluster} etcd authority", rotation=rotation, overlap_hours=overlap_hours
        )
        authority = CertificateAuthority(f"{cluster}-authority", args, opts).authority
    signed_by = authority

    def leaf(machine: Machine, profile: Profile) -> Certificate:
        hosts = [machine.name, machine.address, *LOOPBACK_NAMES]
        args = CertificateArgs(signed_by, common_name=machine.name, profile=profile, hosts=hosts)
        return Certificate(f"{cluster}-{machine.name}-{profile}", args, opts)

    return ClusterCertificates(
        authority,
        servers={machine.name: leaf(machine, "server") for machine in machines},
        peers={machine.name: leaf(machine, "peer") for machine in machines},
        # A client is signed by the authority's client pair: in an overlap, by the new one.
        client=Certificate(
            f"{cluster}-client", CertificateArgs(authority, common_name="client", profile="client"), opts
        ),
    )
