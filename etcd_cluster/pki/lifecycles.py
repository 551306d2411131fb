"""Makes, rotates and renews a CA and its certificates. The resources themselves are in resources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import uuid4

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.clocks import current_time, rfc3339
from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.pki import limits, rotation, x509
from etcd_cluster.pki.limits import PkiError
from etcd_cluster.pki.resources import CLIENT_PAIR, OUTPUTS
from etcd_cluster.pki.rotation import Schedule
from etcd_cluster.pki.x509 import KeyPair

# Inputs that a CA is made of; they never change.
_CA_CONTENT = ("common_name", "key_algorithm", "validity_hours")
# State of its rotation. It is missing in states from before there were rotations.
_SCHEDULE = tuple(each.name for each in fields(Schedule))
_CA_INPUTS = (*_CA_CONTENT, "overlap_hours", *_SCHEDULE)
_NEVER_ROTATED: Properties = {"rotation": 0, "rotated_at": "", "drop_after": ""}
_CLOCK_TOLERANCE = timedelta(minutes=1)
"""Much less than the time by which a certificate is dated back."""
# Inputs that a certificate is made of. Not the CA's key: that cannot change without the CA's certificate.
_CERTIFICATE_CONTENT = ("ca_certificate_pem", "common_name", "profile", "hosts", "validity_hours")
_CERTIFICATE_INPUTS = (*_CERTIFICATE_CONTENT, "ca_private_key_pem", "renew_after")


class CertificateAuthorityLifecycle(Lifecycle):
    """Makes a CA and keeps it, until a rotation is asked for or due. Then two are trusted for a time.

    `check` decides, so that a preview shows it: a new `rotated_at` makes the new CA, which signs clients at once; an
    emptied `drop_after` ends the overlap, and the new CA signs the rest as well. The next run decides again on an
    interrupted step.
    """

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Checks the inputs, and decides on a rotation."""
        now = current_time()
        checked = _Checked(news)
        checked.normalise("common_name", x509.valid_common_name)
        checked.normalise("key_algorithm", x509.valid_key_algorithm)
        checked.normalise("validity_hours", _at_most(limits.MAX_CA_VALIDITY_HOURS))
        checked.normalise("rotation", _or_default(0, x509.valid_rotation))
        checked.normalise("overlap_hours", _or_default(limits.CA_OVERLAP_HOURS, x509.valid_overlap_hours))
        if "common_name" in olds and not checked.failures:
            checked.inputs["common_name"] = olds["common_name"]  # the cluster may have another name by now
        for name in _differing(olds, checked.inputs, [name for name in _CA_CONTENT if name in olds]):
            checked.verify(name, partial(_refuse_change, name, olds[name]), name)
        if not checked.failures:
            checked.derive("rotation", partial(_schedule, olds, checked.inputs, now))
        return checked.result()

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if the state of the rotation differs."""
        changes = _differing({**_NEVER_ROTATED, **olds}, news, list(_NEVER_ROTATED))
        return DiffResult(changes=bool(changes), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Makes the first CA."""
        ca = _new_ca(props)
        outs = {**_only(_CA_INPUTS, props), **_ca_outputs(ca, ca)}
        return CreateResult(outs["fingerprint"], outs)

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Takes the step of the rotation that `check` decided on."""
        olds = {**_NEVER_ROTATED, **olds}
        inputs = {**_only(_CA_INPUTS, olds), **_only(("overlap_hours", *_SCHEDULE), news)}
        signing = KeyPair(olds["certificate_pem"], olds["private_key_pem"])
        newest = KeyPair(olds[CLIENT_PAIR[0]], olds[CLIENT_PAIR[1]]) if CLIENT_PAIR[0] in olds else signing
        if _differing(olds, inputs, ("rotation", "rotated_at")):
            signing, newest = newest, _new_ca(inputs)
        if not inputs["drop_after"]:
            signing = newest
        return UpdateResult({**inputs, **_ca_outputs(signing, newest)})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns what is stored; for a state from before there were rotations, with `rotate_after`."""
        inputs = _only(_CA_INPUTS, props)
        if "rotate_after" not in inputs:
            inputs["rotate_after"] = rfc3339(x509.validity_of(props["certificate_pem"]).renewal)
        return ReadResult(id_, props, inputs)


class CertificateLifecycle(Lifecycle):
    """Issues a certificate, and issues it again, in place, when its inputs change or its renewal is due."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Checks the inputs, and decides when the certificate is to be renewed."""
        now = current_time()
        checked = _Checked(news)
        checked.normalise("common_name", x509.valid_common_name)
        checked.normalise("profile", x509.valid_profile)
        checked.normalise("hosts", _valid_hosts)
        checked.normalise("validity_hours", _at_most(limits.MAX_CERTIFICATE_VALIDITY_HOURS))
        checked.normalise("ca_certificate_pem", partial(_valid_ca, now))
        checked.normalise("ca_private_key_pem", _text)
        checked.verify("hosts", x509.check_hosts_suit_profile, "hosts", "profile")
        ca = ("ca_certificate_pem", "ca_private_key_pem")
        # OpenSSL takes 30 ms to read an RSA key; that of an unchanged CA was checked when it was new.
        if _differing(olds, checked.inputs, ca):
            checked.verify("ca_private_key_pem", x509.verify_key, *ca)
        if not checked.failures:
            checked.inputs["renew_after"] = _renew_after(olds, checked.inputs, now)
        return checked.result()

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if the certificate's inputs differ, or if its renewal is due."""
        changes = _differing(olds, news, (*_CERTIFICATE_CONTENT, "renew_after"))
        return DiffResult(changes=bool(changes), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Issues the first certificate."""
        return CreateResult(uuid4().hex, _issue(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Issues another certificate with another key."""
        return UpdateResult(_issue(news))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns what is stored."""
        return ReadResult(id_, props, _only(_CERTIFICATE_INPUTS, props))


class _Checked:
    """Inputs under check. An unknown one passes: the engine checks again when all are known."""

    # The engine prints the value of the property that a failure names, even a secret one.
    _NEVER_NAMED = frozenset({"ca_certificate_pem", "ca_private_key_pem"})

    def __init__(self, news: Properties) -> None:
        self.inputs = {name: _sentinel(value) for name, value in news.items()}
        self.failures: list[CheckFailure] = []
        self._failed: set[str] = set()

    def normalise(self, name: str, validate: Callable[[Any], object]) -> None:
        """Replaces an input by its normal form."""
        if self.inputs.get(name) == UNKNOWN:
            return
        try:
            self.inputs[name] = validate(self.inputs.get(name))
        except PkiError as error:
            self._fail(name, error)

    def verify(self, blamed: str, test: Callable[..., None], *names: str) -> None:
        """Tests inputs together, unless one is unknown or has failed its own test."""
        values = [self.inputs.get(name) for name in names]
        if UNKNOWN in values or self._failed.intersection(names):
            return
        try:
            test(*values)
        except PkiError as error:
            self._fail(blamed, error)

    def derive(self, blamed: str, decide: Callable[[], Properties]) -> None:
        """Adds inputs that follow from the others."""
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
    """Returns when a certificate of these inputs is to be renewed: as before, unless they change or it is due."""
    if any(_is_unknown(inputs[name]) for name in _CERTIFICATE_CONTENT):
        return UNKNOWN
    before: str = olds.get("renew_after", "")
    ca_pem = inputs["ca_certificate_pem"]
    validity = x509.certificate_validity(ca_pem, inputs["validity_hours"], now)
    ends_with_ca = validity.not_after == x509.validity_of(ca_pem).not_after
    due = validity.not_after if ends_with_ca else validity.renewal
    # Due later than a certificate issued now: its issuer's clock was ahead, so it may not be valid yet.
    latest = rfc3339(due + _CLOCK_TOLERANCE)
    if rfc3339(now) < before <= latest and not _differing(olds, inputs, _CERTIFICATE_CONTENT):
        return before
    return rfc3339(due)


def _schedule(olds: Properties, inputs: Properties, now: datetime) -> Properties:
    """Returns the state of a CA's rotation with these inputs: as before, while nothing is asked for or due."""
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


def _new_ca(inputs: Properties) -> KeyPair:
    return x509.create_ca(
        inputs["common_name"],
        key_algorithm=inputs["key_algorithm"],
        validity_hours=inputs["validity_hours"],
        now=current_time(),
    )


def _ca_outputs(signing: KeyPair, newest: KeyPair) -> Properties:
    return {
        **_outputs(signing),
        "trusted_pem": x509.bundle(newest.certificate_pem, signing.certificate_pem),
        **dict(zip(CLIENT_PAIR, (newest.certificate_pem, newest.private_key_pem), strict=True)),
    }


def _issue(inputs: Properties) -> Properties:
    issued = x509.issue_certificate(
        KeyPair(inputs["ca_certificate_pem"], inputs["ca_private_key_pem"]),
        common_name=inputs["common_name"],
        profile=inputs["profile"],
        hosts=inputs["hosts"],
        validity_hours=inputs["validity_hours"],
        now=current_time(),
    )
    return {**_only(_CERTIFICATE_INPUTS, inputs), **_outputs(issued)}


def _outputs(pair: KeyPair) -> Properties:
    values = (
        pair.certificate_pem,
        pair.private_key_pem,
        rfc3339(x509.validity_of(pair.certificate_pem).not_after),
        x509.fingerprint(pair.certificate_pem),
    )
    return dict(zip(OUTPUTS, values, strict=True))


def _valid_hosts(value: Any) -> list[str]:
    if not isinstance(value, list | None):
        raise PkiError(f"hosts is {x509.shown(value)}; give a list")
    hosts = cast(list[object], value or [])
    known = [host for host in hosts if host != UNKNOWN]
    return [*x509.split_hosts(known).as_text(), *[UNKNOWN] * (len(hosts) - len(known))]


def _valid_ca(now: datetime, value: object) -> str:
    certificate_pem = x509.canonical_certificate(_text(value))
    x509.verify_ca(certificate_pem, now)
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
        f"{name} of a CA cannot be changed in place, from {x509.shown(old)} to {x509.shown(new)}: "
        f"the live cluster trusts this CA alone; put {x509.shown(old)} back"
    )


def _differing(olds: Properties, news: Properties, names: Sequence[str]) -> list[str]:
    return [name for name in names if olds.get(name) != news.get(name)]


def _sentinel(value: object) -> object:
    """Returns an unknown value in the one form that can be compared, and that the engine takes back."""
    if isinstance(value, list):
        return [_sentinel(item) for item in cast(list[object], value)]
    return UNKNOWN if isinstance(value, Unknown) else value


def _is_unknown(value: Any) -> bool:
    return value == UNKNOWN or (isinstance(value, list) and UNKNOWN in value)


def _only(names: Sequence[str], properties: Properties) -> Properties:
    return {name: properties[name] for name in names if name in properties}
