"""Certificates: the cluster's authority and its leaves as Pulumi resources, and as pure functions (x509)."""

from etcd_cluster.pki.resources import (
    Authority,
    Certificate,
    CertificateArgs,
    CertificateAuthority,
    CertificateAuthorityArgs,
)
from etcd_cluster.pki.x509 import KeyAlgorithm, PkiError, Profile

__all__ = [
    "Authority",
    "Certificate",
    "CertificateArgs",
    "CertificateAuthority",
    "CertificateAuthorityArgs",
    "KeyAlgorithm",
    "PkiError",
    "Profile",
]
