"""The authority and its leaves as Pulumi resources. What a certificate contains is decided in x509."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta, timezone
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
    UpdateResult,
)
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.pki import rotation, x509
from etcd_cluster.pki.rotation import Schedule
from etcd_cluster.pki.x509 import KeyAlgorithm, KeyPair, PkiError, Profile
from etcd_cluster.providers import CertificateAuthorityProvider, CertificateProvider

# What an authority is made of, for good.
_AUTHORITY_CONTENT = ("common_name", "key_algorithm", "validity_hours")
# Where its rotation stands. In states from before there were rotations, none of it is there.
_SCHEDULE = tuple(each.name for each in fields(Schedule))
_AUTHORITY_INPUTS = (*_AUTHORITY_CONTENT, "overlap_hours", *_SCHEDULE)
_NEVER_ROTATED: Properties = {"rotation": 0, "rotated_at": "", "drop_after": ""}
_CLOCK_TOLERANCE = timedelta(minutes=1)
"""Far less than what a certificate is dated back by."""
# What a leaf is made of. Not the authority's key: that one cannot change without its certificate.
_LEAF_CONTENT = ("authority_certificate_pem", "common_name", "profile", "hosts", "validity_hours")
_LEAF_INPUTS = (*_LEAF_CONTENT, "authority_private_key_pem", "renew_after")
_OUTPUTS = ("certificate_pem", "private_key_pem", "not_after", "fingerprint")
_CLIENT_PAIR = ("client_certificate_pem", "client_private_key_pem")
_AUTHORITY_OUTPUTS = (*_OUTPUTS, "trusted_pem", *_CLIENT_PAIR)


def current_time() -> datetime:
    """The only clock of this module, so that a test can move it."""
    return datetime.now(timezone.utc)


def _unset() -> Any:
    return None


@dataclass(frozen=True)
class Authority:
    """What signs leaves: a CertificateAuthority's, or the user's own.

    certificate_pem: the certificate of what signs servers and peers, one PEM block.
    private_key_pem: its RSA or ECDSA private key, unencrypted PEM; always a Pulumi secret.
    trusted_pem: every certificate to trust, newest first; default certificate_pem alone. Two, in an overlap.
    client_certificate_pem, `client_private_key_pem`: the pair that signs clients; default the first pair. In an
        overlap it is the new authority's.
    """

    certificate_pem: pulumi.Output[str]
    private_key_pem: pulumi.Output[str]
    trusted_pem: pulumi.Output[str] = field(default_factory=_unset)
    client_certificate_pem: pulumi.Output[str] = field(default_factory=_unset)
    client_private_key_pem: pulumi.Output[str] = field(default_factory=_unset)

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
    ) -> "Authority":
        """The user's own authority. Every Certificate checks it, already in the preview if it is known.

        also_trusted_pem: certificates that stay trusted besides; default none. To rotate, give the new authority with
            the old one here, and leave that out once every client has certificates of the new one.
        """
        certificate = pulumi.Output.from_input(certificate_pem)
        trusted = pulumi.Output.all(certificate, also_trusted_pem).apply(lambda pems: _trusted(*pems))
        return Authority(certificate, pulumi.Output.secret(private_key_pem), trusted)

    @property
    def for_clients(self) -> "Authority":
        """The same, with what signs clients in the first place."""
        return Authority(self.client_certificate_pem, self.client_private_key_pem, self.trusted_pem)


@dataclass(frozen=True)
class CertificateAuthorityArgs:
    """Inputs of CertificateAuthority. The first three cannot be changed later: another common_name is ignored.

    common_name: subject of the certificate, 1 to 64 characters.
    key_algorithm: RSA-2048 (default) or ECDSA-P256.
    validity_hours: lifetime in hours, 24 to 219,000; default 87,600 (10 years).
    rotation: raise it to rotate the authority in the next `up`; default 0.
    overlap_hours: how long the old authority stays trusted after a rotation, 0 to 8,760; default 720 (30 days), cut
        to half of what it has left. 0 drops it at once. Lowered during an overlap, it ends that the sooner.
    """

    common_name: pulumi.Input[str]
    key_algorithm: pulumi.Input[KeyAlgorithm] = "RSA-2048"
    validity_hours: pulumi.Input[int] = x509.AUTHORITY_VALIDITY_HOURS
    rotation: pulumi.Input[int] = 0
    overlap_hours: pulumi.Input[int] = x509.AUTHORITY_OVERLAP_HOURS


@dataclass(frozen=True)
class CertificateArgs:
    """Inputs of Certificate.

    authority: what signs it: `CertificateAuthority.authority`, or `Authority.from_pem`. A client is signed by its
        client pair.
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


class CertificateAuthorityLifecycle(Lifecycle):
    """Makes an authority and keeps it, until a rotation is asked for or due. Then two are trusted for a time.

    `check` decides, so that a preview shows it: a new `rotated_at` makes the new authority, which signs clients at
    once; an emptied `drop_after` ends the overlap, and it signs the rest as well. An interrupted step is decided anew.
    """

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        now = current_time()
        checked = _Checked(news)
        checked.normalise("common_name", x509.valid_common_name)
        checked.normalise("key_algorithm", x509.valid_key_algorithm)
        checked.normalise("validity_hours", _at_most(x509.MAX_AUTHORITY_VALIDITY_HOURS))
        checked.normalise("rotation", _or_default(0, x509.valid_rotation))
        checked.normalise("overlap_hours", _or_default(x509.AUTHORITY_OVERLAP_HOURS, x509.valid_overlap_hours))
        if "common_name" in olds and not checked.failures:
            checked.inputs["common_name"] = olds["common_name"]  # the cluster may have another name by now
        for name in _differing(olds, checked.inputs, [name for name in _AUTHORITY_CONTENT if name in olds]):
            checked.verify(name, partial(_refuse_change, name, olds[name]), name)
        if not checked.failures:
            checked.derive("rotation", partial(_schedule, olds, checked.inputs, now))
        return checked.result()

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        changes = _differing({**_NEVER_ROTATED, **olds}, news, list(_NEVER_ROTATED))
        return DiffResult(changes=bool(changes), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        authority = _new_authority(props)
        outs = {**_only(_AUTHORITY_INPUTS, props), **_authority_outputs(authority, authority)}
        return CreateResult(outs["fingerprint"], outs)

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        olds = {**_NEVER_ROTATED, **olds}
        inputs = {**_only(_AUTHORITY_INPUTS, olds), **_only(("overlap_hours", *_SCHEDULE), news)}
        signing = KeyPair(olds["certificate_pem"], olds["private_key_pem"])
        newest = KeyPair(olds[_CLIENT_PAIR[0]], olds[_CLIENT_PAIR[1]]) if _CLIENT_PAIR[0] in olds else signing
        if _differing(olds, inputs, ("rotation", "rotated_at")):
            signing, newest = newest, _new_authority(inputs)
        if not inputs["drop_after"]:
            signing = newest
        return UpdateResult({**inputs, **_authority_outputs(signing, newest)})

    def read(self, id_: str, props: Properties) -> ReadResult:
        inputs = _only(_AUTHORITY_INPUTS, props)
        if "rotate_after" not in inputs:
            inputs["rotate_after"] = x509.rfc3339(x509.validity_of(props["certificate_pem"]).renewal)
        return ReadResult(id_, props, inputs)


class CertificateLifecycle(Lifecycle):
    """Issues a leaf, and issues it anew, in place, when what it is made of changes or its renewal is due."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
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
            checked.inputs["renew_after"] = _renew_after(olds, checked.inputs, now)
        return checked.result()

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        changes = _differing(olds, news, (*_LEAF_CONTENT, "renew_after"))
        return DiffResult(changes=bool(changes), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(uuid4().hex, _issue(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        return UpdateResult(_issue(news))

    def read(self, id_: str, props: Properties) -> ReadResult:
        return ReadResult(id_, props, _only(_LEAF_INPUTS, props))


class CertificateAuthority(Resource, module="pki", name="CertificateAuthority"):
    """An authority, rotated when that is asked for, or in the first `pulumi up` after two thirds of its life.

    For overlap_hours, two are trusted then: the old one goes on to sign servers and peers, so that clients who know
    it alone go on; the new one signs clients. The first `pulumi up` after that drops the old one.

    certificate_pem: the certificate that signs servers and peers. private_key_pem: its key, PKCS#8, unencrypted;
    secret. not_after: its end, RFC 3339. fingerprint: SHA-256 of the certificate, hexadecimal.
    trusted_pem: every certificate to trust, newest first.
    client_certificate_pem, client_private_key_pem: what signs clients; the key secret.
    rotate_after: when the newest is due to be rotated, RFC 3339; empty in a stack from before there were rotations.
    drop_after: when the old one is dropped, RFC 3339; empty when no overlap is running.

    The preview refuses a changed name, algorithm or lifetime, a lowered rotation, and another one in an overlap.
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
        inputs: Properties = {
            "common_name": args.common_name,
            "key_algorithm": args.key_algorithm,
            "validity_hours": args.validity_hours,
            "rotation": args.rotation,
            "overlap_hours": args.overlap_hours,
        }
        super().__init__(
            CertificateAuthorityProvider(),
            name,
            {**inputs, **dict.fromkeys((*_AUTHORITY_OUTPUTS, "rotate_after", "drop_after"))},
            _with_secrets(opts, "private_key_pem", "client_private_key_pem"),
        )
        # A state from before there were rotations lacks these until the first one.
        self.trusted_pem = _else(self.trusted_pem, self.certificate_pem)
        self.client_certificate_pem = _else(self.client_certificate_pem, self.certificate_pem)
        self.client_private_key_pem = _else(self.client_private_key_pem, self.private_key_pem)
        self.rotate_after = _else(self.rotate_after, pulumi.Output.from_input(""))
        self.drop_after = _else(self.drop_after, pulumi.Output.from_input(""))

    @property
    def authority(self) -> Authority:
        """What a Certificate takes."""
        return Authority(
            self.certificate_pem,
            self.private_key_pem,
            self.trusted_pem,
            self.client_certificate_pem,
            self.client_private_key_pem,
        )


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
        certificate_pem, private_key_pem = _signing_pair(args)
        inputs: Properties = {
            "authority_certificate_pem": certificate_pem,
            "authority_private_key_pem": pulumi.Output.secret(private_key_pem),
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

    def derive(self, blamed: str, decide: Callable[[], Properties]) -> None:
        """Add inputs that follow from the others."""
        try:
            self.inputs.update(decide())
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
    authority_pem = inputs["authority_certificate_pem"]
    leaf = x509.leaf_validity(authority_pem, inputs["validity_hours"], now)
    ends_with_authority = leaf.not_after == x509.validity_of(authority_pem).not_after
    due = leaf.not_after if ends_with_authority else leaf.renewal
    # Due later than one that is issued now: it was issued by a clock that was ahead, and may not be valid yet.
    latest = x509.rfc3339(due + _CLOCK_TOLERANCE)
    if x509.rfc3339(now) < before <= latest and not _differing(olds, inputs, _LEAF_CONTENT):
        return before
    return x509.rfc3339(due)


def _schedule(olds: Properties, inputs: Properties, now: datetime) -> Properties:
    """Where an authority's rotation stands with these inputs: as before, while nothing is asked for or due."""
    asked, overlap_hours = inputs["rotation"], inputs["overlap_hours"]
    validity_hours: Any = olds.get("validity_hours", inputs["validity_hours"])
    if UNKNOWN in (asked, overlap_hours, validity_hours):
        return {**dict.fromkeys(_SCHEDULE, UNKNOWN), "rotation": asked}
    if not olds:
        return asdict(rotation.first(asked, validity_hours, now))
    if "rotate_after" in olds:
        before = Schedule(**_only(_SCHEDULE, {**olds, "rotation": int(olds.get("rotation", 0))}))
    else:
        before = rotation.of_unknown_age(validity_hours, now)
    following = rotation.following(
        before, rotation=asked, overlap_hours=overlap_hours, validity_hours=validity_hours, now=now
    )
    return asdict(following)


def _new_authority(inputs: Properties) -> KeyPair:
    return x509.create_authority(
        inputs["common_name"],
        key_algorithm=inputs["key_algorithm"],
        validity_hours=inputs["validity_hours"],
        now=current_time(),
    )


def _authority_outputs(signing: KeyPair, newest: KeyPair) -> Properties:
    return {
        **_outputs(signing),
        "trusted_pem": x509.bundle(newest.certificate_pem, signing.certificate_pem),
        **dict(zip(_CLIENT_PAIR, (newest.certificate_pem, newest.private_key_pem), strict=True)),
    }


def _trusted(certificate_pem: str, also_trusted_pem: str) -> str:
    """The bundle of a user's own authority. Whether it is one is for every Certificate to say."""
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
    """What signs a leaf of this profile, which may come to be known only later."""
    authority, clients = args.authority, args.authority.for_clients
    profile: Any = args.profile
    if isinstance(profile, str):
        chosen = clients if profile == "client" else authority
        return chosen.certificate_pem, chosen.private_key_pem
    is_client = pulumi.Output.from_input(profile).apply(lambda profile: profile == "client")
    return (
        is_client.apply(lambda client: clients.certificate_pem if client else authority.certificate_pem),
        is_client.apply(lambda client: clients.private_key_pem if client else authority.private_key_pem),
    )


def _else(output: pulumi.Output[str], fallback: pulumi.Output[str]) -> pulumi.Output[str]:
    """An output, or another one where the state lacks it: which is null in an `up`, but unknown in a preview."""

    def present(value: Any) -> pulumi.Input[str]:
        return fallback if value is None or isinstance(value, Unknown) else value

    return output.apply(present, run_with_unknowns=True)


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


def _or_default(default: int, validate: Callable[[object], int]) -> Callable[[object], int]:
    return lambda value: default if value is None else validate(value)


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
