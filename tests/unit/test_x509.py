"""What the certificates promise: their contents, what fits together, and that TLS stacks accept them."""

import shutil
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etcd_cluster.clocks import from_rfc3339, rfc3339
from etcd_cluster.pki import x509
from etcd_cluster.pki.limits import KeyAlgorithm, PkiError, Profile
from etcd_cluster.pki.x509 import KeyPair

NOW = datetime.now(timezone.utc).replace(microsecond=0)
HOUR = timedelta(hours=1)
HOSTS = ["127.0.0.1", "::1", "localhost", "m1.etcd.internal"]

CA = x509.create_ca("etcd", now=NOW, key_algorithm="ECDSA-P256")
RSA_CA = x509.create_ca("etcd rsa", now=NOW)
OTHER_CA = x509.create_ca("etcd", now=NOW, key_algorithm="ECDSA-P256")


def issued(profile: Profile = "server", ca: KeyPair = CA, now: datetime = NOW) -> KeyPair:
    hosts = [] if profile == "client" else HOSTS
    return x509.issue_certificate(ca, common_name=f"etcd-{profile}", profile=profile, hosts=hosts, now=now)


def own_ca(
    *extensions: tuple[crypto.ExtensionType, bool],
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None,
    not_before: datetime = NOW - HOUR,
    not_after: datetime = NOW + 1000 * HOUR,
) -> KeyPair:
    """A CA as a user may bring it, made without the code under test."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    name = crypto.Name([crypto.NameAttribute(NameOID.COMMON_NAME, "own")])
    builder = crypto.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(not_before).not_valid_after(not_after)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM).decode(), private_key.decode())


IS_CA = (crypto.BasicConstraints(ca=True, path_length=None), True)


def key_usage(*, signs: bool) -> crypto.KeyUsage:
    return crypto.KeyUsage(True, False, False, False, False, signs, False, False, False)


# The CA


@pytest.mark.parametrize(
    ("algorithm", "kind", "bits"),
    [("RSA-2048", rsa.RSAPublicKey, 2048), ("ECDSA-P256", ec.EllipticCurvePublicKey, 256)],
)
def test_a_ca_signs_certificates_and_nothing_else(algorithm: KeyAlgorithm, kind: type, bits: int) -> None:
    pair = x509.create_ca("etcd", now=NOW, key_algorithm=algorithm)
    certificate = x509.parse_certificate(pair.certificate_pem)
    key = certificate.public_key()
    assert isinstance(key, kind)
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    assert key.key_size == bits
    constraints = certificate.extensions.get_extension_for_class(crypto.BasicConstraints)
    assert constraints.critical
    assert constraints.value == crypto.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(crypto.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    subject_identifier = certificate.extensions.get_extension_for_class(crypto.SubjectKeyIdentifier).value
    identifier = certificate.extensions.get_extension_for_class(crypto.AuthorityKeyIdentifier).value
    assert identifier.key_identifier == subject_identifier.digest


def test_a_ca_is_rsa_2048_for_ten_years_unless_told() -> None:
    certificate = x509.parse_certificate(RSA_CA.certificate_pem)
    assert isinstance(certificate.public_key(), rsa.RSAPublicKey)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == 87_600 * HOUR


# Certificates


@pytest.mark.parametrize(
    ("profile", "server", "client"),
    [("server", True, True), ("peer", True, True), ("client", False, True)],
)
def test_a_certificate_has_its_profiles_usages(profile: Profile, server: bool, client: bool) -> None:
    certificate = x509.parse_certificate(issued(profile).certificate_pem)
    usages = certificate.extensions.get_extension_for_class(crypto.ExtendedKeyUsage).value
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) is server
    assert (ExtendedKeyUsageOID.CLIENT_AUTH in usages) is client
    constraints = certificate.extensions.get_extension_for_class(crypto.BasicConstraints).value
    assert constraints == crypto.BasicConstraints(ca=False, path_length=None)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_certificate_lasts_five_years_unless_told() -> None:
    validity = x509.validity_of(issued().certificate_pem)
    assert validity.not_after - validity.not_before == 43_800 * HOUR


def test_a_certificate_carries_its_hosts_by_kind() -> None:
    certificate = x509.parse_certificate(issued().certificate_pem)
    names = certificate.extensions.get_extension_for_class(crypto.SubjectAlternativeName).value
    assert names.get_values_for_type(crypto.DNSName) == ["localhost", "m1.etcd.internal"]
    assert [str(ip) for ip in names.get_values_for_type(crypto.IPAddress)] == ["127.0.0.1", "::1"]


def test_a_client_has_no_alternative_names() -> None:
    certificate = x509.parse_certificate(issued("client").certificate_pem)
    with pytest.raises(crypto.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(crypto.SubjectAlternativeName)


def test_a_certificate_names_the_identifier_its_ca_carries() -> None:
    ca = own_ca(IS_CA, (crypto.SubjectKeyIdentifier(b"own way to derive it"), False))
    certificate = x509.parse_certificate(issued(ca=ca).certificate_pem)
    identifier = certificate.extensions.get_extension_for_class(crypto.AuthorityKeyIdentifier).value
    assert identifier.key_identifier == b"own way to derive it"


def test_every_certificate_has_a_key_and_a_serial_of_its_own() -> None:
    first, second = issued(), issued()
    assert first.private_key_pem != second.private_key_pem
    serials = {x509.parse_certificate(pair.certificate_pem).serial_number for pair in (first, second)}
    assert len(serials) == 2


def test_a_clock_five_minutes_behind_accepts_a_fresh_certificate() -> None:
    later = NOW + HOUR
    for pair, now in ((CA, NOW), (issued(now=later), later)):
        assert x509.validity_of(pair.certificate_pem).not_before == now - timedelta(minutes=5)


def test_a_certificate_is_never_valid_outside_its_cas_time() -> None:
    ca = own_ca(IS_CA, not_before=NOW - timedelta(minutes=1), not_after=NOW + 48 * HOUR)
    validity = x509.validity_of(issued(ca=ca).certificate_pem)
    assert validity == x509.validity_of(ca.certificate_pem)


def test_keys_are_unencrypted_pkcs8() -> None:
    for pair in (CA, RSA_CA, issued("peer")):
        assert pair.private_key_pem.startswith("-----BEGIN PRIVATE KEY-----\n")


def test_a_key_pair_does_not_show_its_key() -> None:
    assert "PRIVATE KEY" not in repr(CA)


# Renewal


@pytest.mark.parametrize(("left_hours", "due"), [(9_000, False), (8_001, False), (8_000, True), (1, True), (-1, True)])
def test_renewal_is_due_when_a_third_of_the_lifetime_is_left(left_hours: int, due: bool) -> None:
    pair = x509.issue_certificate(
        CA, common_name="a", profile="peer", hosts=["a"], validity_hours=24_000, now=NOW + HOUR
    )
    now = x509.validity_of(pair.certificate_pem).not_after - left_hours * HOUR
    assert x509.renewal_due(pair.certificate_pem, now) is due


# Hosts


def test_hosts_are_split_into_one_spelling_without_duplicates() -> None:
    names = x509.split_hosts(["B.example", "10.0.0.2", "2001:DB8:0::1", "b.EXAMPLE", "*.etcd.local", "10.0.0.2", "a-1"])
    assert names.dns_names == ("*.etcd.local", "a-1", "b.example")
    assert [str(address) for address in names.ip_addresses] == ["10.0.0.2", "2001:db8::1"]
    assert names.as_text() == ["*.etcd.local", "a-1", "b.example", "10.0.0.2", "2001:db8::1"]


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "https://etcd.example",
        "etcd.example:2379",
        "[::1]",
        "10.0.0.0/24",
        "10.0.0",
        "10.0.0.256",
        "etcd.example.",
        ".example",
        "a..b",
        "-a.example",
        "a-.example",
        "a_b.example",
        "a.*.example",
        "*",
        "*.",
        "bücher.example",
        "x" * 64,
        ".".join(["x" * 60] * 5),
        "0.0.0.0",
        "::",
        "fe80::1%eth0",
        None,
        7,
    ],
)
def test_what_is_no_host_is_refused(host: object) -> None:
    with pytest.raises(PkiError, match=r"^host "):
        x509.split_hosts([host])


# Refused inputs


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", None, 3])
def test_a_bad_common_name_is_refused(name: object) -> None:
    with pytest.raises(PkiError, match="common_name is"):
        x509.valid_common_name(name)


@pytest.mark.parametrize("hours", [0, -24, 23, 87_601, 24.5, True, "43800", None, float("nan"), float("inf")])
def test_a_bad_validity_is_refused(hours: object) -> None:
    with pytest.raises(PkiError, match="validity_hours is"):
        x509.valid_hours(hours, 87_600)


def test_whole_hours_may_come_as_a_float() -> None:
    hours = x509.valid_hours(43_800.0, 87_600)
    assert hours == 43_800
    assert type(hours) is int


@pytest.mark.parametrize("value", ["", "RSA-1024", "rsa-2048", None, 2048])
def test_an_unknown_algorithm_is_refused_with_the_known_ones(value: object) -> None:
    with pytest.raises(PkiError, match="give one of RSA-2048, ECDSA-P256"):
        x509.valid_key_algorithm(value)


@pytest.mark.parametrize("value", ["", "Server", "both", None])
def test_an_unknown_profile_is_refused_with_the_known_ones(value: object) -> None:
    with pytest.raises(PkiError, match="give one of server, peer, client"):
        x509.valid_profile(value)


@pytest.mark.parametrize(("profile", "hosts"), [("server", []), ("peer", []), ("client", ["a.example"])])
def test_hosts_that_do_not_suit_the_profile_are_refused(profile: Profile, hosts: list[str]) -> None:
    with pytest.raises(PkiError, match="hosts is"):
        x509.issue_certificate(CA, common_name="a", profile=profile, hosts=hosts, now=NOW)


# What fits together


@pytest.mark.parametrize("ca", [CA, RSA_CA], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize("profile", ["server", "peer", "client"])
def test_a_certificate_fits_its_ca_and_no_other(profile: Profile, ca: KeyPair) -> None:
    pair = issued(profile, ca)
    x509.verify_certificate(pair, ca.certificate_pem, NOW)
    with pytest.raises(PkiError, match="was not signed by"):
        x509.verify_certificate(pair, OTHER_CA.certificate_pem, NOW)
    with pytest.raises(PkiError, match="the private key is not that of"):
        x509.verify_certificate(KeyPair(pair.certificate_pem, issued().private_key_pem), ca.certificate_pem, NOW)
    with pytest.raises(PkiError, match="expired at"):
        x509.verify_certificate(pair, ca.certificate_pem, NOW + 43_800 * HOUR)


@pytest.mark.parametrize(
    "extensions",
    [
        [IS_CA],
        [IS_CA, (key_usage(signs=True), True)],
        [IS_CA, (crypto.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)],
        [
            IS_CA,
            (
                crypto.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                False,
            ),
        ],
    ],
)
def test_a_users_own_ca_is_accepted(extensions: list[tuple[crypto.ExtensionType, bool]]) -> None:
    ca = own_ca(*extensions)
    x509.verify_certificate(issued(ca=ca), ca.certificate_pem, NOW)


@pytest.mark.parametrize(
    ("ca", "problem"),
    [
        (own_ca(), "is not a CA"),
        (own_ca((crypto.BasicConstraints(ca=False, path_length=None), True)), "is not a CA"),
        (own_ca(IS_CA, (key_usage(signs=False), True)), "lacks keyCertSign"),
        (
            own_ca(IS_CA, (crypto.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)),
            "may not sign both",
        ),
        (own_ca(IS_CA, not_after=NOW), "expired at"),
        (own_ca(IS_CA, not_before=NOW + HOUR), "is not valid before"),
        (own_ca(IS_CA, key=rsa.generate_private_key(65537, 1024)), "has 1024 bits"),
        (own_ca(IS_CA, key=ed25519.Ed25519PrivateKey.generate()), "Ed25519PublicKey"),
        (KeyPair("", ""), "no PEM certificate"),
        (KeyPair("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""), "no PEM certificate"),
        (KeyPair(CA.certificate_pem * 2, CA.private_key_pem), "2 PEM certificates"),
        (KeyPair(CA.private_key_pem, CA.private_key_pem), "no PEM certificate"),
        (KeyPair(CA.certificate_pem, OTHER_CA.private_key_pem), "is not that of"),
        (KeyPair(CA.certificate_pem, "nonsense"), "no PEM private key"),
        (KeyPair(CA.certificate_pem, CA.private_key_pem[:-60]), "no PEM private key"),
        (issued("server"), "is not a CA"),
    ],
)
def test_a_ca_that_cannot_sign_is_refused_without_showing_its_key(ca: KeyPair, problem: str) -> None:
    with pytest.raises(PkiError, match=problem) as refused:
        issued(ca=ca)
    key_lines = [line for line in ca.private_key_pem.splitlines() if len(line) > 20]
    assert not any(line in str(refused.value) for line in key_lines)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_encrypted_key_is_refused() -> None:
    key = serialization.load_pem_private_key(CA.private_key_pem.encode(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    with pytest.raises(PkiError, match="is encrypted"):
        x509.verify_key(CA.certificate_pem, encrypted.decode())


def test_a_key_in_the_wrong_place_is_not_shown() -> None:
    for value in (CA.private_key_pem, CA.private_key_pem.splitlines()[1] * 2):
        for validate in (x509.valid_common_name, x509.valid_profile, x509.valid_key_algorithm):
            with pytest.raises(PkiError, match="a text of") as refused:
                validate(value)
            assert value[30:60] not in str(refused.value)


def test_a_certificate_reads_the_same_with_comments_around_it() -> None:
    commented = f"subject: etcd\n{CA.certificate_pem}\n\n"
    assert x509.canonical_certificate(commented) == CA.certificate_pem
    assert x509.fingerprint(commented) == x509.fingerprint(CA.certificate_pem)


# Bundles, and what a certificate is to others


@pytest.mark.parametrize(
    ("pem", "expected"),
    [
        (CA.certificate_pem, [CA]),
        (OTHER_CA.certificate_pem + CA.certificate_pem, [OTHER_CA, CA]),
        (
            f"new:\n{OTHER_CA.certificate_pem}\n\n# old\n{RSA_CA.certificate_pem}\n",
            [OTHER_CA, RSA_CA],
        ),
        (CA.certificate_pem * 2, [CA, CA]),
        (CA.private_key_pem + CA.certificate_pem, [CA]),
        (CA.certificate_pem.replace("\n", "\r\n"), [CA]),
    ],
)
def test_a_bundle_is_split_into_its_certificates_in_order(pem: str, expected: list[KeyPair]) -> None:
    assert x509.split_bundle(pem) == [pair.certificate_pem for pair in expected]


@pytest.mark.parametrize("pem", ["", "nonsense", CA.private_key_pem, CA.certificate_pem[:-60]])
def test_a_text_without_certificates_is_no_bundle(pem: str) -> None:
    with pytest.raises(PkiError, match="no PEM certificate"):
        x509.split_bundle(pem)


def test_a_bundle_holds_each_certificate_once_in_the_order_given() -> None:
    both = OTHER_CA.certificate_pem + CA.certificate_pem
    assert x509.bundle(OTHER_CA.certificate_pem, f"\n{CA.certificate_pem}\n") == both
    assert x509.bundle(OTHER_CA.certificate_pem, both, CA.certificate_pem) == both
    assert "".join(x509.split_bundle(both)) == both


@pytest.mark.parametrize(
    ("signed", "ca", "expected"),
    [
        (issued(), CA, True),
        (issued(ca=RSA_CA), RSA_CA, True),
        (CA, CA, True),
        # The same name, but another key: what a rotation makes.
        (issued(), OTHER_CA, False),
        (issued(), RSA_CA, False),
        (issued(), issued(), False),
        # Neither the certificate's time nor the CA's counts.
        (issued(now=NOW + 40_000 * HOUR), CA, True),
    ],
)
def test_a_certificate_is_signed_by_the_one_whose_key_signed_it(signed: KeyPair, ca: KeyPair, expected: bool) -> None:
    assert x509.signed_by(signed.certificate_pem, ca.certificate_pem) is expected


def test_an_expired_ca_has_signed_all_the_same() -> None:
    then = NOW - 90_000 * HOUR
    ca = x509.create_ca("etcd", now=then, key_algorithm="ECDSA-P256")
    assert x509.signed_by(issued(ca=ca, now=then).certificate_pem, ca.certificate_pem)


@pytest.mark.parametrize(
    ("signed", "ca"),
    [
        ("", CA.certificate_pem),
        (issued().certificate_pem, ""),
        (issued().certificate_pem * 2, issued().certificate_pem),
    ],
)
def test_what_cannot_be_read_is_not_merely_unsigned(signed: str, ca: str) -> None:
    with pytest.raises(PkiError, match="PEM certificate"):
        x509.signed_by(signed, ca)


WILDCARD = x509.issue_certificate(
    CA, common_name="w", profile="server", hosts=["*.etcd.internal", "10.0.0.1", "2001:db8::1"], now=NOW
)


@pytest.mark.parametrize(
    ("pair", "host", "expected"),
    [
        (issued(), "127.0.0.1", True),
        (issued(), "::1", True),
        (issued(), "0:0:0:0:0:0:0:1", True),
        (issued(), "m1.etcd.internal", True),
        (issued(), "M1.ETCD.internal", True),
        (issued(), "127.0.0.2", False),
        (issued(), "m2.etcd.internal", False),
        (issued(), "etcd.internal", False),
        (issued(), "etcd-server", False),  # the common name is no alternative name
        (issued("client"), "localhost", False),
        (CA, "etcd", False),
        (WILDCARD, "10.0.0.1", True),
        (WILDCARD, "2001:DB8:0::1", True),
        (WILDCARD, "m7.etcd.internal", True),
        (WILDCARD, "*.etcd.internal", True),
        (WILDCARD, "a.m7.etcd.internal", False),
        (WILDCARD, "etcd.internal", False),
        (WILDCARD, "10.0.0.10", False),
    ],
)
def test_a_certificate_covers_its_alternative_names(pair: KeyPair, host: str, expected: bool) -> None:
    assert x509.covers_host(pair.certificate_pem, host) is expected


def test_what_is_no_host_is_not_merely_uncovered() -> None:
    with pytest.raises(PkiError, match=r"^host "):
        x509.covers_host(issued().certificate_pem, "https://m1.etcd.internal")


@pytest.mark.parametrize("moment", [NOW, datetime(2030, 1, 31, 23, 59, 59, tzinfo=timezone.utc)])
def test_a_moment_survives_its_text(moment: datetime) -> None:
    assert from_rfc3339(rfc3339(moment)) == moment


# Other TLS stacks


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("ca", [CA, RSA_CA], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize(
    ("profile", "purpose"),
    [
        ("server", "sslserver"),
        ("server", "sslclient"),
        ("peer", "sslserver"),
        ("peer", "sslclient"),
        ("client", "sslclient"),
    ],
)
def test_openssl_accepts_a_certificate_under_strict_rules(
    profile: Profile, purpose: str, ca: KeyPair, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(ca.certificate_pem)
    (tmp_path / "member.pem").write_text(issued(profile, ca).certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", "member.pem"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout) == (0, "member.pem: OK\n"), result.stderr


def context(protocol: int, pair: KeyPair, ca: KeyPair, folder: Path) -> ssl.SSLContext:
    certificate, key = folder / f"{protocol}.pem", folder / f"{protocol}.key"
    certificate.write_text(pair.certificate_pem)
    key.write_text(pair.private_key_pem)
    result = ssl.SSLContext(protocol)
    result.verify_mode = ssl.CERT_REQUIRED
    result.verify_flags |= ssl.VERIFY_X509_STRICT
    result.load_verify_locations(cadata=ca.certificate_pem)
    result.load_cert_chain(certificate, key)
    return result


def greet(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str:
    """The common name that the server saw, told to the client over TLS on loopback."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, server.wrap_socket(connection, server_side=True) as tls:
            peer: Any = tls.getpeercert()
            (((_, common_name),),) = peer["subject"]
            tls.sendall(common_name.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(10)
        served = pool.submit(serve, listener)
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            try:
                with client.wrap_socket(connection, server_hostname=host) as tls:
                    name = tls.recv(100).decode()
            finally:
                connection.close()
                served.result(10)
        return name


@pytest.mark.parametrize("ca", [CA, RSA_CA], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize(("server", "client"), [("server", "client"), ("peer", "peer"), ("server", "server")])
def test_a_mutual_tls_handshake_succeeds(
    server: Profile, client: Profile, host: str, ca: KeyPair, tmp_path: Path
) -> None:
    seen = greet(
        context(ssl.PROTOCOL_TLS_SERVER, issued(server, ca), ca, tmp_path),
        context(ssl.PROTOCOL_TLS_CLIENT, issued(client, ca), ca, tmp_path),
        host,
    )
    assert seen == f"etcd-{client}"


OVERLAP = x509.bundle(OTHER_CA.certificate_pem, CA.certificate_pem)


@pytest.mark.parametrize(
    ("client_signed_by", "client_trusts"),
    [(CA, CA.certificate_pem), (CA, OVERLAP), (OTHER_CA, OVERLAP)],
    ids=["of before", "halfway", "of the overlap"],
)
def test_in_an_overlap_a_handshake_succeeds_though_both_cas_have_one_name(
    client_signed_by: KeyPair, client_trusts: str, tmp_path: Path
) -> None:
    server = context(ssl.PROTOCOL_TLS_SERVER, issued("server"), KeyPair(OVERLAP, ""), tmp_path)
    client = issued("client", client_signed_by)
    assert greet(server, context(ssl.PROTOCOL_TLS_CLIENT, client, KeyPair(client_trusts, ""), tmp_path), "localhost")


def test_a_client_of_another_ca_is_refused(tmp_path: Path) -> None:
    server = context(ssl.PROTOCOL_TLS_SERVER, issued("server"), CA, tmp_path)
    foreign = context(ssl.PROTOCOL_TLS_CLIENT, issued("client", OTHER_CA), CA, tmp_path)
    with pytest.raises(ssl.SSLError):
        greet(server, foreign, "localhost")


@pytest.mark.parametrize(("profile", "host"), [("server", "other.example"), ("client", "localhost")])
def test_a_server_under_another_name_or_with_a_client_certificate_is_refused(
    profile: Profile, host: str, tmp_path: Path
) -> None:
    server = context(ssl.PROTOCOL_TLS_SERVER, issued(profile), CA, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, issued("client"), CA, tmp_path)
    with pytest.raises(ssl.SSLError):
        greet(server, client, host)
