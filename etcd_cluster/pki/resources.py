"""Defines a CA and certificates as Pulumi resources. Their lifecycles are in lifecycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.dynamic import Resource
from pulumi.output import Unknown

from etcd_cluster.pki import limits
from etcd_cluster.pki.limits import KeyAlgorithm, PkiError, Profile
from etcd_cluster.providers import CertificateAuthorityProvider, CertificateProvider

OUTPUTS = ("certificate_pem", "private_key_pem", "not_after", "fingerprint")
CLIENT_PAIR = ("client_certificate_pem", "client_private_key_pem")
CA_OUTPUTS = (*OUTPUTS, "trusted_pem", *CLIENT_PAIR)


def _unset() -> Any:
    return None


@dataclass(frozen=True)
class CA:
    """A CA that signs certificates: a CertificateAuthority's, or the user's own."""

    certificate_pem: pulumi.Output[str]
    """The CA certificate that signs servers and peers, one PEM block."""
    private_key_pem: pulumi.Output[str]
    """Its RSA or ECDSA private key, unencrypted PEM; always a Pulumi secret."""
    trusted_pem: pulumi.Output[str] = field(default_factory=_unset)
    """Every certificate to trust, newest first; default certificate_pem alone. During an overlap, two."""
    client_certificate_pem: pulumi.Output[str] = field(default_factory=_unset)
    """The pair that signs clients; default the first pair. During an overlap, it is the new CA's."""
    client_private_key_pem: pulumi.Output[str] = field(default_factory=_unset)
    """The pair that signs clients; default the first pair. During an overlap, it is the new CA's."""

    def __post_init__(self) -> None:
        defaults = {
            "trusted_pem": self.certificate_pem,
            "client_certificate_pem": self.certificate_pem,
            "client_private_key_pem": self.private_key_pem,
        }
        for name, default in defaults.items():
            if vars(self)[name] is None:
                object.__setattr__(self, name, default)

    @staticmethod
    def from_pem(
        certificate_pem: pulumi.Input[str],
        private_key_pem: pulumi.Input[str],
        also_trusted_pem: pulumi.Input[str] = "",
    ) -> CA:
        """Returns the user's own CA. Every Certificate checks it, already in the preview if it is known.

        To rotate, give the new CA with the old one as `also_trusted_pem`, and leave that out once every client has
        certificates of the new one.

        Args:
            certificate_pem: The certificate of the CA, PEM.
            private_key_pem: Its private key, unencrypted PEM; it becomes a Pulumi secret.
            also_trusted_pem: Further certificates that stay trusted; default none.
        """
        certificate = pulumi.Output.from_input(certificate_pem)
        trusted = pulumi.Output.all(certificate, also_trusted_pem).apply(lambda pems: _trusted(*pems))
        return CA(certificate, pulumi.Output.secret(private_key_pem), trusted)

    @property
    def for_clients(self) -> CA:
        """The same CA with the pair that signs clients in the first place."""
        return CA(self.client_certificate_pem, self.client_private_key_pem, self.trusted_pem)


@dataclass(frozen=True)
class CertificateAuthorityArgs:
    """Inputs of CertificateAuthority. The first three cannot be changed later: another common_name is ignored."""

    common_name: pulumi.Input[str]
    """Subject of the certificate, 1 to 64 characters."""
    key_algorithm: pulumi.Input[KeyAlgorithm] = "RSA-2048"
    """RSA-2048 (default) or ECDSA-P256."""
    validity_hours: pulumi.Input[int] = limits.CA_VALIDITY_HOURS
    """Lifetime in hours, 24 to 219,000; default 87,600 (10 years)."""
    rotation: pulumi.Input[int] = 0
    """Raise it to rotate the CA in the next `up`; default 0."""
    overlap_hours: pulumi.Input[int] = limits.CA_OVERLAP_HOURS
    """How long the old CA stays trusted after a rotation, in hours, 0 to 8,760; default 720 (30 days), cut to half of
    its remaining life. 0 drops it at once. A lower value during an overlap ends the overlap sooner.
    """


@dataclass(frozen=True)
class CertificateArgs:
    """Inputs of Certificate."""

    ca: CA
    """The CA that signs it: `CertificateAuthority.ca`, or `CA.from_pem`. A client certificate is signed by its client
    pair.
    """
    common_name: pulumi.Input[str]
    """Subject of the certificate, 1 to 64 characters; for a client, its user name in etcd's RBAC."""
    profile: pulumi.Input[Profile]
    """`server` or `peer` (both serverAuth and clientAuth), or `client` (clientAuth)."""
    hosts: pulumi.Input[Sequence[pulumi.Input[str]]] = ()
    """DNS names and IP addresses of the member, in any order. Server and peer need some, client none."""
    validity_hours: pulumi.Input[int] = limits.CERTIFICATE_VALIDITY_HOURS
    """Lifetime in hours, 24 to 87,600; default 43,800 (5 years), cut to the CA's end."""


class CertificateAuthority(Resource, module="pki", name="CertificateAuthority"):
    """A CA, rotated when that is asked for, or in the first `pulumi up` after two thirds of its life.

    Then two CAs are trusted for overlap_hours: the old one goes on to sign servers and peers, so that clients that
    trust only the old one keep working; the new one signs clients. The first `pulumi up` after that time drops the old
    one.

    The preview refuses a changed name, algorithm or lifetime, a lowered rotation, and another rotation during an
    overlap.

    Attributes:
        certificate_pem: The certificate that signs servers and peers.
        private_key_pem: Its key, PKCS#8, unencrypted; secret.
        not_after: Its end, RFC 3339.
        fingerprint: SHA-256 of the certificate, hexadecimal.
        trusted_pem: Every certificate to trust, newest first.
        client_certificate_pem, client_private_key_pem: The pair that signs clients; the key is secret.
        rotate_after: When the newest CA is due to be rotated, RFC 3339; empty in a stack from before there were
            rotations.
        drop_after: When the old CA is dropped, RFC 3339; empty without an overlap.
    """

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]
    not_after: pulumi.Output[str]
    fingerprint: pulumi.Output[str]
    trusted_pem: pulumi.Output[str]
    client_certificate_pem: pulumi.Output[str]
    client_private_key_pem: pulumi.Output[str]
    rotate_after: pulumi.Output[str]
    drop_after: pulumi.Output[str]

    def __init__(self, name: str, args: CertificateAuthorityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs: dict[str, Any] = {
            "common_name": args.common_name,
            "key_algorithm": args.key_algorithm,
            "validity_hours": args.validity_hours,
            "rotation": args.rotation,
            "overlap_hours": args.overlap_hours,
        }
        super().__init__(
            CertificateAuthorityProvider(),
            name,
            {**inputs, **dict.fromkeys((*CA_OUTPUTS, "rotate_after", "drop_after"))},
            _with_secrets(opts, "private_key_pem", "client_private_key_pem"),
        )
        # A state from before there were rotations lacks these until the first one.
        self.trusted_pem = _else(self.trusted_pem, self.certificate_pem)
        self.client_certificate_pem = _else(self.client_certificate_pem, self.certificate_pem)
        self.client_private_key_pem = _else(self.client_private_key_pem, self.private_key_pem)
        self.rotate_after = _else(self.rotate_after, pulumi.Output.from_input(""))
        self.drop_after = _else(self.drop_after, pulumi.Output.from_input(""))

    @property
    def ca(self) -> CA:
        """The CA, as a Certificate takes it."""
        return CA(
            self.certificate_pem,
            self.private_key_pem,
            self.trusted_pem,
            self.client_certificate_pem,
            self.client_private_key_pem,
        )


class Certificate(Resource, module="pki", name="Certificate"):
    """A certificate with its own ECDSA P-256 key. A changed input updates it in place: new key, new certificate.

    The first `pulumi up` after `renew_after`, when a third of its lifetime is left, renews it in the same way; the
    preview shows the next such date. A certificate that ends with its CA is not renewed: that would gain nothing.

    The preview fails for a bad input, and for a CA that cannot sign: it is no CA, has expired, or has another key.

    Attributes:
        certificate_pem: The certificate.
        private_key_pem: Its key, PKCS#8, unencrypted; secret.
        not_after: Its end, RFC 3339.
        fingerprint: SHA-256 of the certificate, hexadecimal.
        renew_after: When it is due to be renewed, RFC 3339.
    """

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]
    not_after: pulumi.Output[str]
    fingerprint: pulumi.Output[str]
    renew_after: pulumi.Output[str]

    def __init__(self, name: str, args: CertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        certificate_pem, private_key_pem = _signing_pair(args)
        inputs: dict[str, Any] = {
            "ca_certificate_pem": certificate_pem,
            "ca_private_key_pem": pulumi.Output.secret(private_key_pem),
            "common_name": args.common_name,
            "profile": args.profile,
            "hosts": args.hosts,
            "validity_hours": args.validity_hours,
        }
        super().__init__(
            CertificateProvider(),
            name,
            {**inputs, **dict.fromkeys(("renew_after", *OUTPUTS))},
            _with_secrets(opts, "private_key_pem", "ca_private_key_pem"),
        )


def _trusted(certificate_pem: str, also_trusted_pem: str) -> str:
    """Returns the bundle of a user's own CA. Every Certificate checks whether it is one."""
    from etcd_cluster.pki import x509  # lazily: only a user's own CA needs cryptography here

    try:
        certificate_pem = x509.canonical_certificate(certificate_pem)
    except PkiError:
        return certificate_pem
    if not also_trusted_pem.strip():
        return certificate_pem
    try:
        return x509.bundle(certificate_pem, also_trusted_pem)
    except PkiError as error:
        raise PkiError(f"also_trusted_pem: {error}") from None


def _signing_pair(args: CertificateArgs) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
    """Returns the pair that signs a certificate of this profile. The profile may be known only later."""
    ca, clients = args.ca, args.ca.for_clients
    profile: Any = args.profile
    if isinstance(profile, str):
        chosen = clients if profile == "client" else ca
        return chosen.certificate_pem, chosen.private_key_pem
    is_client = pulumi.Output.from_input(profile).apply(lambda profile: profile == "client")
    return (
        is_client.apply(lambda client: clients.certificate_pem if client else ca.certificate_pem),
        is_client.apply(lambda client: clients.private_key_pem if client else ca.private_key_pem),
    )


def _else(output: pulumi.Output[str], fallback: pulumi.Output[str]) -> pulumi.Output[str]:
    """Returns an output, or `fallback` if the state lacks it: it is null in an `up`, but unknown in a preview."""

    def present(value: Any) -> pulumi.Input[str]:
        return fallback if value is None or isinstance(value, Unknown) else value

    return output.apply(present, run_with_unknowns=True)


def _with_secrets(opts: pulumi.ResourceOptions | None, *outputs: str) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=list(outputs)))
