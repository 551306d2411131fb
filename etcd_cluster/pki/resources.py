"""The authority and its leaves as Pulumi resources. What a certificate contains is decided in x509.

State contract: Pulumi's state names this module and its provider classes, and the type tokens below are part
of every URN. Moving or renaming one orphans the certificates of existing stacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, cast
from uuid import uuid4

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.pki import x509
from etcd_cluster.pki.x509 import KeyAlgorithm, KeyPair, PkiError, Profile

Properties = dict[str, Any]

_AUTHORITY_INPUTS = ("common_name", "key_algorithm", "validity_hours")
# What a leaf is made of. Not the authority's key: that one cannot change without its certificate.
_LEAF_CONTENT = ("authority_certificate_pem", "common_name", "profile", "hosts", "validity_hours")
_LEAF_INPUTS = (*_LEAF_CONTENT, "authority_private_key_pem", "renew_after")
_OUTPUTS = ("certificate_pem", "private_key_pem", "not_after", "fingerprint")


def current_time() -> datetime:
    """The only clock of this module, so that a test can move it."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Authority:
    """What signs leaves: a CertificateAuthority's, or the user's own.

    certificate_pem: the authority's certificate, one PEM block.
    private_key_pem: its RSA or ECDSA private key, unencrypted PEM; always a Pulumi secret.
    """

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]

    @staticmethod
    def from_pem(certificate_pem: pulumi.Input[str], private_key_pem: pulumi.Input[str]) -> "Authority":
        """The user's own authority. Every Certificate checks it, already in the preview if it is known."""
        return Authority(pulumi.Output.from_input(certificate_pem), pulumi.Output.secret(private_key_pem))


@dataclass(frozen=True)
class CertificateAuthorityArgs:
    """Inputs of CertificateAuthority. None can be changed later.

    common_name: subject of the certificate, 1 to 64 characters.
    key_algorithm: RSA-2048 (default) or ECDSA-P256.
    validity_hours: lifetime in hours, 24 to 219,000; default 87,600 (10 years).
    """

    common_name: pulumi.Input[str]
    key_algorithm: pulumi.Input[KeyAlgorithm] = "RSA-2048"
    validity_hours: pulumi.Input[int] = x509.AUTHORITY_VALIDITY_HOURS


@dataclass(frozen=True)
class CertificateArgs:
    """Inputs of Certificate.

    authority: what signs it: `CertificateAuthority.authority`, or `Authority.from_pem`.
    common_name: subject of the certificate, 1 to 64 characters; of a client, its user name in etcd's RBAC.
    profile: server or peer (both serverAuth and clientAuth), or client (clientAuth).
    hosts: DNS names and IP addresses it is reached by, in any order. Server and peer need some, client none.
    validity_hours: lifetime in hours, 24 to 87,600; default 43,800 (5 years), cut to the authority's end.
    """

    authority: Authority
    common_name: pulumi.Input[str]
    profile: pulumi.Input[Profile]
    hosts: pulumi.Input[Sequence[pulumi.Input[str]]] = ()
    validity_hours: pulumi.Input[int] = x509.LEAF_VALIDITY_HOURS


class CertificateAuthorityProvider(ResourceProvider):
    """Makes an authority once and keeps it: another one would cut off every member and client."""

    serialize_as_secret_always = False  # pickled by reference: nothing is captured

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        checked = _Checked(news)
        checked.normalise("common_name", x509.valid_common_name)
        checked.normalise("key_algorithm", x509.valid_key_algorithm)
        checked.normalise("validity_hours", _at_most(x509.MAX_AUTHORITY_VALIDITY_HOURS))
        for name in _differing(_olds, checked.inputs, [name for name in _AUTHORITY_INPUTS if name in _olds]):
            checked.verify(name, partial(_refuse_change, name, _olds[name]), name)
        return checked.result()

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=False, replaces=[])

    def create(self, props: Properties) -> CreateResult:
        authority = x509.create_authority(
            props["common_name"],
            key_algorithm=props["key_algorithm"],
            validity_hours=props["validity_hours"],
            now=current_time(),
        )
        outs = {**_only(_AUTHORITY_INPUTS, props), **_outputs(authority)}
        return CreateResult(outs["fingerprint"], outs)

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(_only((*_AUTHORITY_INPUTS, *_OUTPUTS), _olds))

    def read(self, id_: str, props: Properties) -> ReadResult:
        return ReadResult(id_, props, _only(_AUTHORITY_INPUTS, props))


class CertificateProvider(ResourceProvider):
    """Issues a leaf, and issues it anew, in place, when what it is made of changes or its renewal is due."""

    serialize_as_secret_always = False  # pickled by reference: nothing is captured

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        now = current_time()
        checked = _Checked(news)
        checked.normalise("common_name", x509.valid_common_name)
        checked.normalise("profile", x509.valid_profile)
        checked.normalise("hosts", _valid_hosts)
        checked.normalise("validity_hours", _at_most(x509.MAX_LEAF_VALIDITY_HOURS))
        checked.normalise("authority_certificate_pem", partial(_valid_authority, now))
        checked.normalise("authority_private_key_pem", _text)
        checked.verify("hosts", x509.check_hosts_suit_profile, "hosts", "profile")
        checked.verify(
            "authority_private_key_pem",
            x509.verify_key,
            "authority_certificate_pem",
            "authority_private_key_pem",
        )
        if not checked.failures:
            checked.inputs["renew_after"] = _renew_after(_olds, checked.inputs, now)
        return checked.result()

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        changes = _differing(_olds, _news, (*_LEAF_CONTENT, "renew_after"))
        return DiffResult(changes=bool(changes), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(uuid4().hex, _issue(props))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(_issue(_news))

    def read(self, id_: str, props: Properties) -> ReadResult:
        return ReadResult(id_, props, _only(_LEAF_INPUTS, props))


class CertificateAuthority(Resource, module="pki", name="CertificateAuthority"):
    """An authority, made once. Its age is never a change; the preview refuses a changed input.

    certificate_pem: the certificate. private_key_pem: its key, PKCS#8, unencrypted; secret.
    not_after: its end, RFC 3339. fingerprint: SHA-256 of the certificate, hexadecimal.
    """

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]
    not_after: pulumi.Output[str]
    fingerprint: pulumi.Output[str]

    def __init__(self, name: str, args: CertificateAuthorityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs: Properties = {
            "common_name": args.common_name,
            "key_algorithm": args.key_algorithm,
            "validity_hours": args.validity_hours,
        }
        super().__init__(
            CertificateAuthorityProvider(),
            name,
            {**inputs, **dict.fromkeys(_OUTPUTS)},
            _with_secrets(opts, "private_key_pem"),
        )

    @property
    def authority(self) -> Authority:
        """What a Certificate takes."""
        return Authority(self.certificate_pem, self.private_key_pem)


class Certificate(Resource, module="pki", name="Certificate"):
    """A leaf with its own ECDSA P-256 key. A changed input updates it in place: new key, new certificate.

    So does a `pulumi up` after `renew_after`, when a third of its lifetime is left; the preview shows
    the next such date. A leaf that ends with its authority is not renewed: that would gain nothing.

    certificate_pem: the certificate. private_key_pem: its key, PKCS#8, unencrypted; secret.
    not_after: its end, RFC 3339. fingerprint: SHA-256 of the certificate, hexadecimal. renew_after: RFC 3339.

    The preview fails for a bad input, or an authority that cannot sign: no CA, expired, or not with this key.
    """

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]
    not_after: pulumi.Output[str]
    fingerprint: pulumi.Output[str]
    renew_after: pulumi.Output[str]

    def __init__(self, name: str, args: CertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs: Properties = {
            "authority_certificate_pem": args.authority.certificate_pem,
            "authority_private_key_pem": pulumi.Output.secret(args.authority.private_key_pem),
            "common_name": args.common_name,
            "profile": args.profile,
            "hosts": args.hosts,
            "validity_hours": args.validity_hours,
        }
        super().__init__(
            CertificateProvider(),
            name,
            {**inputs, **dict.fromkeys(("renew_after", *_OUTPUTS))},
            _with_secrets(opts, "private_key_pem", "authority_private_key_pem"),
        )


class _Checked:
    """Inputs under check. An unknown one passes: the engine checks again when all are known."""

    # The engine prints the value of the property that a failure names, even a secret one.
    _NEVER_NAMED = frozenset({"authority_certificate_pem", "authority_private_key_pem"})

    def __init__(self, news: Properties) -> None:
        self.inputs = {name: _sentinel(value) for name, value in news.items()}
        self.failures: list[CheckFailure] = []
        self._failed: set[str] = set()

    def normalise(self, name: str, validate: Callable[[Any], object]) -> None:
        """Replace an input by its normal form."""
        if self.inputs.get(name) == UNKNOWN:
            return
        try:
            self.inputs[name] = validate(self.inputs.get(name))
        except PkiError as error:
            self._fail(name, error)

    def verify(self, blamed: str, test: Callable[..., None], *names: str) -> None:
        """Test inputs together, unless one is unknown or has failed by itself."""
        values = [self.inputs.get(name) for name in names]
        if UNKNOWN in values or self._failed.intersection(names):
            return
        try:
            test(*values)
        except PkiError as error:
            self._fail(blamed, error)

    def result(self) -> CheckResult:
        return CheckResult(self.inputs, self.failures)

    def _fail(self, name: str, error: PkiError) -> None:
        self._failed.add(name)
        named = name not in self._NEVER_NAMED
        self.failures.append(CheckFailure(name, str(error)) if named else CheckFailure("", f"{name}: {error}"))


def _renew_after(olds: Properties, inputs: Properties, now: datetime) -> str:
    """When a leaf of these inputs is to be renewed: as before, while nothing changes and it is not due."""
    if any(_is_unknown(inputs[name]) for name in _LEAF_CONTENT):
        return UNKNOWN
    before: str = olds.get("renew_after", "")
    if x509.rfc3339(now) < before and not _differing(olds, inputs, _LEAF_CONTENT):
        return before
    authority_pem = inputs["authority_certificate_pem"]
    leaf = x509.leaf_validity(authority_pem, inputs["validity_hours"], now)
    ends_with_authority = leaf.not_after == x509.validity_of(authority_pem).not_after
    return x509.rfc3339(leaf.not_after if ends_with_authority else leaf.renewal)


def _issue(inputs: Properties) -> Properties:
    leaf = x509.issue_leaf(
        KeyPair(inputs["authority_certificate_pem"], inputs["authority_private_key_pem"]),
        common_name=inputs["common_name"],
        profile=inputs["profile"],
        hosts=inputs["hosts"],
        validity_hours=inputs["validity_hours"],
        now=current_time(),
    )
    return {**_only(_LEAF_INPUTS, inputs), **_outputs(leaf)}


def _outputs(pair: KeyPair) -> Properties:
    values = (
        pair.certificate_pem,
        pair.private_key_pem,
        x509.rfc3339(x509.validity_of(pair.certificate_pem).not_after),
        x509.fingerprint(pair.certificate_pem),
    )
    return dict(zip(_OUTPUTS, values, strict=True))


def _valid_hosts(value: Any) -> list[str]:
    if not isinstance(value, list | None):
        raise PkiError(f"hosts is {x509.shown(value)}; give a list")
    hosts = cast(list[object], value or [])
    known = [host for host in hosts if host != UNKNOWN]
    return [*x509.split_hosts(known).as_text(), *[UNKNOWN] * (len(hosts) - len(known))]


def _valid_authority(now: datetime, value: object) -> str:
    certificate_pem = x509.canonical_certificate(_text(value))
    x509.verify_authority(certificate_pem, now)
    return certificate_pem


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise PkiError("it is missing; give PEM text")
    return value


def _at_most(maximum_hours: int) -> Callable[[object], int]:
    return lambda hours: x509.valid_hours(hours, maximum_hours)


def _refuse_change(name: str, old: object, new: object) -> None:
    raise PkiError(
        f"{name} of an authority cannot be changed in place, from {x509.shown(old)} to {x509.shown(new)}: "
        f"the live cluster trusts this authority alone; put {x509.shown(old)} back"
    )


def _differing(olds: Properties, news: Properties, names: Sequence[str]) -> list[str]:
    return [name for name in names if olds.get(name) != news.get(name)]


def _sentinel(value: object) -> object:
    """An unknown in the one form that can be compared, and that the engine takes back."""
    if isinstance(value, list):
        return [_sentinel(item) for item in cast(list[object], value)]
    return UNKNOWN if isinstance(value, Unknown) else value


def _is_unknown(value: Any) -> bool:
    return value == UNKNOWN or (isinstance(value, list) and UNKNOWN in value)


def _only(names: Sequence[str], properties: Properties) -> Properties:
    return {name: properties[name] for name in names if name in properties}


def _with_secrets(opts: pulumi.ResourceOptions | None, *outputs: str) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=list(outputs)))
