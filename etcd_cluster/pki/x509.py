"""Handles certificates as pure functions: makes a CA, issues a certificate, checks that they fit together.

No Pulumi, no clock and no files here: times come in as arguments, PEM goes in and out as text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar, get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etcd_cluster.clocks import rfc3339
from etcd_cluster.pki.limits import (
    CA_VALIDITY_HOURS,
    CERTIFICATE_VALIDITY_HOURS,
    MAX_CA_VALIDITY_HOURS,
    MAX_CERTIFICATE_VALIDITY_HOURS,
    MAX_COMMON_NAME,
    MAX_OVERLAP_HOURS,
    MAX_ROTATION,
    MIN_VALIDITY_HOURS,
    KeyAlgorithm,
    Profile,
)
from etcd_cluster.pki.limits import PkiError as PkiError  # what nearly every function here raises

# A machine whose clock is a little behind must not find a fresh certificate "not yet valid".
BACKDATE = timedelta(minutes=5)

_KEY_ALGORITHMS: tuple[KeyAlgorithm, ...] = get_args(KeyAlgorithm)
_MIN_RSA_BITS = 2048
_MAX_DNS_NAME = 253
_MAX_SHOWN = 80
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SERVER_AND_CLIENT = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
# A server is a client too: etcd's HTTP gateway dials its own gRPC port with the server certificate.
_USAGES: dict[Profile, frozenset[x509.ObjectIdentifier]] = {
    "server": _SERVER_AND_CLIENT,
    "peer": _SERVER_AND_CLIENT,
    "client": frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
}

_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key (PKCS#8, unencrypted), both PEM."""

    certificate_pem: str
    private_key_pem: str = field(repr=False)


@dataclass(frozen=True)
class Validity:
    """When a certificate is valid, in UTC."""

    not_before: datetime
    not_after: datetime

    @property
    def renewal(self) -> datetime:
        """The moment at which a third of the lifetime is left."""
        return self.not_after - (self.not_after - self.not_before) / 3


@dataclass(frozen=True)
class AlternativeNames:
    """Subject alternative names by kind: sorted, without duplicates."""

    dns_names: tuple[str, ...]
    ip_addresses: tuple[IPv4Address | IPv6Address, ...]

    def as_text(self) -> list[str]:
        """All names, DNS names first."""
        return [*self.dns_names, *(str(address) for address in self.ip_addresses)]


def create_ca(
    common_name: str,
    *,
    now: datetime,
    key_algorithm: KeyAlgorithm = "RSA-2048",
    validity_hours: int = CA_VALIDITY_HOURS,
) -> KeyPair:
    """Returns a self-signed CA that may sign certificates, and no further CA.

    The defaults, RSA-2048 and 87,600 hours (10 years), are those of the cfssl walkthroughs for etcd.

    Raises:
        PkiError: A bad name, algorithm or validity.
    """
    key = _new_key(valid_key_algorithm(key_algorithm))
    subject = _subject(common_name)
    builder = _builder(subject, subject, key, ca_validity(validity_hours, now))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return _signed(builder, key, signed_by=key)


def issue_certificate(
    ca: KeyPair,
    *,
    common_name: str,
    profile: Profile,
    now: datetime,
    hosts: Iterable[str] = (),
    validity_hours: int = CERTIFICATE_VALIDITY_HOURS,
    lifetime: timedelta | None = None,
) -> KeyPair:
    """Returns a new ECDSA P-256 key and its certificate, signed by the CA.

    Args:
        ca: The CA.
        common_name: Subject of the certificate, 1 to 64 characters.
        profile: `server` and `peer` carry serverAuth and clientAuth, and need hosts; `client` carries clientAuth and
            has no hosts.
        now: The time.
        hosts: DNS names and IP addresses, the subject alternative names.
        validity_hours: Lifetime in hours; default 43,800 (5 years), cut to the CA's end.
        lifetime: The same for a certificate that nothing renews, however short; None for `validity_hours`.

    Raises:
        PkiError: A bad input, or a CA that cannot sign now.
    """
    usages = sorted(_USAGES[valid_profile(profile)], key=lambda usage: usage.dotted_string)
    names = split_hosts(hosts)
    check_hosts_suit_profile(names.as_text(), profile)
    verify_ca(ca.certificate_pem, now)
    verify_key(ca.certificate_pem, ca.private_key_pem)
    issuer = parse_certificate(ca.certificate_pem)
    if lifetime is None:
        validity = certificate_validity(ca.certificate_pem, validity_hours, now)
    else:
        validity = _validity(ca.certificate_pem, lifetime, now)
    key = _new_key("ECDSA-P256")
    builder = _builder(_subject(common_name), issuer.subject, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(_identifier_of(issuer), critical=False)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns_names]
    alternatives += [x509.IPAddress(address) for address in names.ip_addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _signed(builder, key, signed_by=_parse_private_key(ca.private_key_pem))


def ca_validity(validity_hours: int, now: datetime) -> Validity:
    """Returns when a CA made now is valid."""
    not_before = _backdated(now)
    return Validity(not_before, not_before + timedelta(hours=valid_hours(validity_hours, MAX_CA_VALIDITY_HOURS)))


def certificate_validity(ca_certificate_pem: str, validity_hours: int, now: datetime) -> Validity:
    """Returns when a certificate issued now is valid: never outside its CA's own time."""
    lifetime = timedelta(hours=valid_hours(validity_hours, MAX_CERTIFICATE_VALIDITY_HOURS))
    return _validity(ca_certificate_pem, lifetime, now)


def _validity(ca_certificate_pem: str, lifetime: timedelta, now: datetime) -> Validity:
    ca = validity_of(ca_certificate_pem)
    not_before = max(_backdated(now), ca.not_before)
    return Validity(not_before, min(not_before + lifetime, ca.not_after))


def parse_certificate(certificate_pem: str) -> x509.Certificate:
    """Returns the one certificate in a PEM text. Raises `PkiError` for none, or for several."""
    try:
        certificates = x509.load_pem_x509_certificates(certificate_pem.encode())
    except ValueError:
        raise PkiError("there is no PEM certificate; expected one CERTIFICATE block") from None
    if len(certificates) != 1:
        raise PkiError(f"there are {len(certificates)} PEM certificates; expected one, without its chain")
    return certificates[0]


def canonical_certificate(certificate_pem: str) -> str:
    """Returns the certificate alone, so that a comment or white space around it is never a change."""
    return parse_certificate(certificate_pem).public_bytes(serialization.Encoding.PEM).decode("ascii")


def split_bundle(pem: str) -> list[str]:
    """Returns each certificate of a PEM text, in the text's order, without the text around it.

    Raises:
        PkiError: A text without a certificate.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise PkiError("there is no PEM certificate; expected CERTIFICATE blocks") from None
    return [certificate.public_bytes(serialization.Encoding.PEM).decode("ascii") for certificate in certificates]


def bundle(*certificates_pem: str) -> str:
    """Returns certificates as one PEM text, each once, in the order given. The reverse of `split_bundle`."""
    return "".join(dict.fromkeys(single for pem in certificates_pem for single in split_bundle(pem)))


def fingerprint(certificate_pem: str) -> str:
    """Returns the SHA-256 sum of the certificate, in lower-case hexadecimal."""
    return parse_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()


def validity_of(certificate_pem: str) -> Validity:
    """Returns when the certificate is valid."""
    certificate = parse_certificate(certificate_pem)
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def renewal_due(certificate_pem: str, now: datetime) -> bool:
    """Returns whether a third of the certificate's lifetime is left, or less."""
    return now >= validity_of(certificate_pem).renewal


def verify_ca(certificate_pem: str, now: datetime) -> None:
    """Raises `PkiError` unless this is a CA that may sign etcd's server and client certificates now."""
    certificate = parse_certificate(certificate_pem)
    _public_key(certificate)
    name = f"the CA {_name(certificate)}"
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise PkiError(f"{_name(certificate)} is not a CA: it lacks CA:TRUE. Give the certificate of the CA itself")
    # Absent usages mean "any" (RFC 5280); a present one must allow what is asked of it here.
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise PkiError(f"{name} may not sign certificates: it lacks keyCertSign; give one that may")
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    allowed = _SERVER_AND_CLIENT if extended is None else frozenset(extended)
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in allowed and not allowed >= _SERVER_AND_CLIENT:
        raise PkiError(f"{name} may not sign both serverAuth and clientAuth certificates; give one that may")
    _check_time(name, certificate_pem, now)


def verify_key(certificate_pem: str, private_key_pem: str) -> None:
    """Raises `PkiError` unless the private key is the certificate's own."""
    certificate = parse_certificate(certificate_pem)
    if _parse_private_key(private_key_pem).public_key() != _public_key(certificate):
        raise PkiError(f"the private key is not that of {_name(certificate)}; give the one it was made with")


def verify_certificate(pair: KeyPair, ca_certificate_pem: str, now: datetime) -> None:
    """Raises `PkiError` unless the certificate is valid now, has its own key, and was signed by the CA."""
    verify_ca(ca_certificate_pem, now)
    verify_key(pair.certificate_pem, pair.private_key_pem)
    certificate = parse_certificate(pair.certificate_pem)
    if not signed_by(pair.certificate_pem, ca_certificate_pem):
        ca = parse_certificate(ca_certificate_pem)
        raise PkiError(f"{_name(certificate)} was not signed by the CA {_name(ca)}")
    _check_time(_name(certificate), pair.certificate_pem, now)


def signed_by(certificate_pem: str, ca_pem: str) -> bool:
    """Returns whether the CA's key made the certificate's signature. Times and usages do not count.

    Raises:
        PkiError: One of the texts is not a single certificate.
    """
    ca = parse_certificate(ca_pem)
    try:
        parse_certificate(certificate_pem).verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def covers_host(certificate_pem: str, host: str) -> bool:
    """Returns whether a client that dials this IP address or DNS name accepts the certificate's alternative names.

    Raises:
        PkiError: The text is not a single certificate, or the host is none.
    """
    names = _extension(parse_certificate(certificate_pem), x509.SubjectAlternativeName)
    if names is None:
        return False
    desired = split_hosts([host])
    if desired.ip_addresses:
        return desired.ip_addresses[0] in names.get_values_for_type(x509.IPAddress)
    (name,) = desired.dns_names
    present = {present.lower() for present in names.get_values_for_type(x509.DNSName)}
    return name in present or f"*.{name.partition('.')[2]}" in present


def valid_common_name(value: object) -> str:
    """Returns the name. Raises `PkiError` unless it is 1 to 64 printable characters."""
    if not isinstance(value, str) or not value.strip():
        raise PkiError(f"common_name is {shown(value)}; give a name, such as 'etcd'")
    if len(value) > MAX_COMMON_NAME or not value.isprintable():
        raise PkiError(f"common_name is {shown(value)}; give 1 to {MAX_COMMON_NAME} printable characters")
    return value


def valid_key_algorithm(value: object) -> KeyAlgorithm:
    """Returns the algorithm. Raises `PkiError` unless it is a known one."""
    for algorithm in _KEY_ALGORITHMS:
        if value == algorithm:
            return algorithm
    raise PkiError(f"key_algorithm is {shown(value)}; give one of {', '.join(_KEY_ALGORITHMS)}")


def valid_profile(value: object) -> Profile:
    """Returns the profile. Raises `PkiError` unless it is a known one."""
    for profile in _USAGES:
        if value == profile:
            return profile
    raise PkiError(f"profile is {shown(value)}; give one of {', '.join(_USAGES)}")


def valid_hours(value: object, maximum: int) -> int:
    """Returns a lifetime in whole hours, 24 to maximum, as an int. Raises `PkiError` for anything else."""
    return _whole_number("validity_hours", value, "whole hours", MIN_VALIDITY_HOURS, maximum)


def valid_overlap_hours(value: object) -> int:
    """Returns whole hours for which two CAs are trusted, 0 to 8,760, as an int. Raises `PkiError` for all else."""
    return _whole_number("overlap_hours", value, "whole hours", 0, MAX_OVERLAP_HOURS)


def valid_rotation(value: object) -> int:
    """Returns the number of a rotation, 0 or more, as an int. Raises `PkiError` for anything else."""
    return _whole_number("rotation", value, "a whole number", 0, MAX_ROTATION)


def _whole_number(name: str, value: object, expected: str, minimum: int, maximum: int) -> int:
    """Returns a number as an int: Pulumi passes every number as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise PkiError(f"{name} is {shown(value)}; give {expected}")
    if not minimum <= value <= maximum:
        raise PkiError(f"{name} is {value:.0f}; give {minimum} to {maximum}")
    return int(value)


def split_hosts(hosts: Iterable[object]) -> AlternativeNames:
    """Returns hosts by kind, one spelling each.

    Raises:
        PkiError: A text is neither a DNS name nor an IP address.
    """
    dns_names: set[str] = set()
    addresses: set[IPv4Address | IPv6Address] = set()
    for host in hosts:
        address = _address(host)
        if address is not None:
            addresses.add(address)
        else:
            dns_names.add(_dns_name(host))
    by_version = sorted(addresses, key=lambda address: (address.version, int(address)))
    return AlternativeNames(tuple(sorted(dns_names)), tuple(by_version))


def check_hosts_suit_profile(hosts: Iterable[str], profile: Profile) -> None:
    """Raises `PkiError` for a client with hosts, and for a server or peer without."""
    hosts = list(hosts)
    if profile == "client" and hosts:
        raise PkiError(f"hosts is {shown(hosts)}; a client certificate has no hosts: leave them out")
    if profile != "client" and not hosts:
        raise PkiError(f"hosts is empty; a {profile} certificate needs each name and address it is reached by")


def _address(host: object) -> IPv4Address | IPv6Address | None:
    if not isinstance(host, str):
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if address.is_unspecified or "%" in host:
        raise PkiError(f"host {shown(host)} is no address to connect to; give one that others can reach")
    return address


def _dns_name(host: object) -> str:
    name = host.lower() if isinstance(host, str) else ""
    labels = name.removeprefix("*.").split(".")
    # A last label of digits only is a mistyped IPv4 address.
    if len(name) > _MAX_DNS_NAME or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        raise PkiError(
            f"host {shown(host)} is neither a DNS name nor an IP address; give it without scheme, port, "
            "brackets or final dot, and in ASCII"
        )
    return name


def _backdated(now: datetime) -> datetime:
    return now.replace(microsecond=0) - BACKDATE


def _new_key(algorithm: KeyAlgorithm) -> _PrivateKey:
    if algorithm == "RSA-2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, valid_common_name(common_name))])


def _builder(subject: x509.Name, issuer: x509.Name, key: _PrivateKey, validity: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Returns the issuer's own identifier, if it has one: not every CA derives it the same way."""
    identifier = _extension(issuer, x509.SubjectKeyIdentifier)
    if identifier is None:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(_public_key(issuer))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _signed(builder: x509.CertificateBuilder, key: _PrivateKey, *, signed_by: _PrivateKey) -> KeyPair:
    certificate = builder.sign(signed_by, hashes.SHA256())
    private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    return KeyPair(certificate_pem.decode("ascii"), private_key.decode("ascii"))


# OpenSSL takes 30 ms to check an RSA key that it reads, and the CA's is needed for every certificate.
@lru_cache(maxsize=8)
def _parse_private_key(private_key_pem: str) -> _PrivateKey:
    try:
        key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
    except TypeError:
        raise PkiError("the private key is encrypted; give it unencrypted, as a Pulumi secret") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PkiError("there is no PEM private key; expected one in PKCS#8, PKCS#1 or SEC 1") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise PkiError(f"the private key is a {type(key).__name__}; give an RSA or ECDSA key")
    return key


def _public_key(certificate: x509.Certificate) -> _PublicKey:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise PkiError(f"the key of {_name(certificate)} is a {type(key).__name__}; expected RSA or ECDSA")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise PkiError(f"the key of {_name(certificate)} has {key.key_size} bits; expected {_MIN_RSA_BITS} at least")
    return key


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_time(name: str, certificate_pem: str, now: datetime) -> None:
    validity = validity_of(certificate_pem)
    if now < validity.not_before:
        raise PkiError(f"{name} is not valid before {rfc3339(validity.not_before)}; it is {rfc3339(now)} now")
    if now >= validity.not_after:
        raise PkiError(f"{name} expired at {rfc3339(validity.not_after)}; give one that is valid")


def _name(certificate: x509.Certificate) -> str:
    return shown(certificate.subject.rfc4514_string())


def shown(value: object) -> str:
    """Returns a value for an error text, but not a long one: it may be a key in the wrong place."""
    text = repr(value)
    return f"a text of {len(text)} characters" if len(text) > _MAX_SHOWN else text
