"""What the certificate resources promise over the years: previews, updates, renewals, state, secrets."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pulumi
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN, deserialize_properties

from etcd_cluster.certificates import issue_certificates
from etcd_cluster.clocks import rfc3339
from etcd_cluster.lifecycle import Lifecycle
from etcd_cluster.machines.machine import Machine
from etcd_cluster.pki import lifecycles, x509
from etcd_cluster.pki.lifecycles import CertificateAuthorityLifecycle, CertificateLifecycle
from etcd_cluster.pki.limits import PkiError
from etcd_cluster.pki.resources import (
    CA,
    Certificate,
    CertificateArgs,
    CertificateAuthority,
    CertificateAuthorityArgs,
)
from etcd_cluster.providers import CertificateProvider

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
YEAR = 8_760 * HOUR
OWN = x509.create_ca("own", now=START, key_algorithm="ECDSA-P256")
OTHER = x509.create_ca("other", now=START, key_algorithm="ECDSA-P256")

CA_INPUTS: dict[str, Any] = {
    "common_name": "etcd",
    "key_algorithm": "ECDSA-P256",
    "validity_hours": 87_600,
    "rotation": 0,
    "overlap_hours": 720,
}
ROTATED = {**CA_INPUTS, "rotation": 1}
# The hours after which a third of a CA's life is left.
DUE = 58_400
CERTIFICATE_INPUTS: dict[str, Any] = {
    "ca_certificate_pem": OWN.certificate_pem,
    "ca_private_key_pem": OWN.private_key_pem,
    "common_name": "m1",
    "profile": "server",
    "hosts": ["10.0.0.1", "m1.etcd.internal"],
    "validity_hours": 43_800,
}
SECRET_SIGNATURE = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}


@dataclass
class Clock:
    now: datetime = START


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lifecycles, "current_time", lambda: clock.now)
    return clock


def over_the_wire(properties: dict[str, Any]) -> dict[str, Any]:
    """Properties as the SDK hands them to a provider: floats for numbers, objects for unknowns, no None."""
    received: dict[str, Any] = deserialize_properties(struct(properties), keep_unknowns=True)
    return received


def struct(properties: dict[str, Any]) -> Struct:
    message = Struct()
    message.update(properties)
    return message


@dataclass
class Stack:
    """One resource as the engine runs it: check, then create, or diff and update."""

    provider: Lifecycle
    inputs: dict[str, Any] = field(default_factory=dict)
    outs: dict[str, Any] = field(default_factory=dict)
    checked: dict[str, Any] = field(default_factory=dict)

    def preview(self, program: dict[str, Any]) -> str:
        result = self.provider.check(over_the_wire(self.inputs), over_the_wire(program))
        assert [failure.reason for failure in result.failures] == []
        self.checked = result.inputs
        if not self.outs:
            return "create"
        diff = self.provider.diff("id", over_the_wire(self.outs), over_the_wire(self.checked))
        assert not diff.replaces
        return "update" if diff.changes else "same"

    def up(self, program: dict[str, Any]) -> str:
        operation = self.preview(program)
        if operation == "create":
            self.outs = self.provider.create(over_the_wire(self.checked)).outs or {}
        elif operation == "update":
            olds, news = over_the_wire(self.outs), over_the_wire(self.checked)
            self.outs = self.provider.update("id", olds, news).outs or {}
        self.inputs = self.checked
        return operation

    def refresh(self) -> None:
        read = self.provider.read("id", over_the_wire(self.outs))
        assert read.id == "id"
        self.outs, self.inputs = read.outs or {}, read.inputs or {}


def failures(provider: Lifecycle, news: dict[str, Any], olds: dict[str, Any] | None = None) -> list[str]:
    return [failure.reason for failure in provider.check(over_the_wire(olds or {}), over_the_wire(news)).failures]


# The CA


def test_a_ca_stays_the_same_for_two_thirds_of_its_life(clock: Clock) -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    assert stack.up(CA_INPUTS) == "create"
    made = dict(stack.outs)
    assert made["not_after"] == rfc3339(START - x509.BACKDATE + 10 * YEAR)
    assert made["fingerprint"] == x509.fingerprint(made["certificate_pem"])
    assert (made["rotate_after"], made["drop_after"]) == (rfc3339(START - x509.BACKDATE + DUE * HOUR), "")
    assert made["trusted_pem"] == made["client_certificate_pem"] == made["certificate_pem"]
    assert made["client_private_key_pem"] == made["private_key_pem"]
    x509.verify_key(made["certificate_pem"], made["private_key_pem"])
    for hours in (1, 8_760, DUE - 1):
        clock.now = START + hours * HOUR
        assert stack.up(CA_INPUTS) == "same"
    assert stack.outs == made


def test_a_cluster_of_another_name_keeps_its_ca(clock: Clock) -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    made = dict(stack.outs)
    renamed = {**CA_INPUTS, "common_name": "another name"}
    assert stack.up(renamed) == "same"
    clock.now = START + 24 * HOUR
    assert stack.up({**renamed, "rotation": 1}) == "update"
    assert stack.outs["common_name"] == made["common_name"]


@pytest.mark.parametrize(("name", "value"), [("key_algorithm", "RSA-2048"), ("validity_hours", 8_760)])
def test_a_changed_ca_is_refused_in_the_preview(name: str, value: object) -> None:
    provider = CertificateAuthorityLifecycle()
    (reason,) = failures(provider, {**CA_INPUTS, name: value}, olds=CA_INPUTS)
    assert f"{name} of a CA cannot be changed in place" in reason
    assert failures(provider, {**CA_INPUTS, name: UNKNOWN}, olds=CA_INPUTS) == []
    assert failures(provider, CA_INPUTS, olds=CA_INPUTS) == []


def test_an_update_that_comes_anyway_keeps_the_ca() -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    assert stack.provider.update("id", stack.outs, {**CA_INPUTS, "common_name": "new"}).outs == stack.outs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"common_name": ""}, "common_name is ''"),
        ({"common_name": None}, "common_name is None"),
        ({"key_algorithm": "RSA-1024"}, "give one of RSA-2048, ECDSA-P256"),
        ({"validity_hours": 1}, "give 24 to 219000"),
        ({"validity_hours": 219_001}, "give 24 to 219000"),
        ({"validity_hours": "ten years"}, "give whole hours"),
        ({"rotation": -1}, "rotation is -1; give 0 to 1000000"),
        ({"rotation": 0.5}, "rotation is 0.5; give a whole number"),
        ({"rotation": True}, "rotation is True; give a whole number"),
        ({"overlap_hours": -1}, "overlap_hours is -1; give 0 to 8760"),
        ({"overlap_hours": 8_761}, "overlap_hours is 8761; give 0 to 8760"),
        ({"overlap_hours": "a month"}, "overlap_hours is 'a month'; give whole hours"),
    ],
)
def test_a_bad_ca_input_is_refused_with_its_value_and_a_fix(change: dict[str, Any], words: str) -> None:
    (reason,) = failures(CertificateAuthorityLifecycle(), {**CA_INPUTS, **change})
    assert words in reason


# The CA: rotation


@dataclass
class Walk:
    """A CA over the years. Each certificate gets a letter when it is first seen."""

    clock: Clock
    stack: Stack = field(default_factory=lambda: Stack(CertificateAuthorityLifecycle()))
    seen: list[str] = field(default_factory=list)

    def up(self, at_hours: float, program: dict[str, Any]) -> tuple[str, str]:
        """The operation, and what stands afterwards: "what signs servers and peers, clients: what is trusted"."""
        self.clock.now = START + at_hours * HOUR
        return self.stack.up({**CA_INPUTS, **program}), self.standing

    @property
    def standing(self) -> str:
        outs = self.stack.outs
        if "trusted_pem" not in outs:
            return "as of old"
        x509.verify_key(outs["certificate_pem"], outs["private_key_pem"])
        x509.verify_key(outs["client_certificate_pem"], outs["client_private_key_pem"])
        assert outs["fingerprint"] == x509.fingerprint(outs["certificate_pem"])
        assert outs["not_after"] == rfc3339(x509.validity_of(outs["certificate_pem"]).not_after)
        trusted = x509.split_bundle(outs["trusted_pem"])
        assert bool(outs["drop_after"]) is (len(trusted) > 1)
        letters = map(self._letter, (outs["certificate_pem"], outs["client_certificate_pem"], *reversed(trusted)))
        server, client, *all_trusted = letters
        return f"{server}{client}:{''.join(reversed(all_trusted))}"

    def _letter(self, certificate_pem: str) -> str:
        if certificate_pem not in self.seen:
            self.seen.append(certificate_pem)
        return "ABCDEF"[self.seen.index(certificate_pem)]


ASKED, AT_ONCE = {"rotation": 1}, {"rotation": 1, "overlap_hours": 0}
WALKS: dict[str, list[tuple[float, dict[str, Any], str, str]]] = {
    "asked for": [
        (0, {}, "create", "AA:A"),
        (1, {}, "same", "AA:A"),
        (24, ASKED, "update", "AB:BA"),
        (24, ASKED, "same", "AB:BA"),
        (24 + 719, ASKED, "same", "AB:BA"),
        (24 + 720, ASKED, "update", "BB:B"),
        (24 + 720, ASKED, "same", "BB:B"),
        (9_000, ASKED, "same", "BB:B"),
        (9_001, {"rotation": 2}, "update", "BC:CB"),
        (9_001 + 720, {"rotation": 2}, "update", "CC:C"),
        (9_001 + 721, {"rotation": 9}, "update", "CD:DC"),
    ],
    "a high number at first": [(0, {"rotation": 3}, "create", "AA:A"), (1, {"rotation": 3}, "same", "AA:A")],
    "due by age": [
        (0, {}, "create", "AA:A"),
        (DUE - 1, {}, "same", "AA:A"),
        (DUE, {}, "update", "AB:BA"),
        (DUE + 719, {}, "same", "AB:BA"),
        (DUE + 720, {}, "update", "BB:B"),
        (2 * DUE - 1, {}, "same", "BB:B"),
        (2 * DUE, {}, "update", "BC:CB"),
    ],
    "age counts from the last rotation": [
        (0, {}, "create", "AA:A"),
        (1_000, ASKED, "update", "AB:BA"),
        (2_000, ASKED, "update", "BB:B"),
        (1_000 + DUE - 1, ASKED, "same", "BB:B"),
        (1_000 + DUE, ASKED, "update", "BC:CB"),
    ],
    "asked for when due": [(0, {}, "create", "AA:A"), (DUE, ASKED, "update", "AB:BA"), (DUE, ASKED, "same", "AB:BA")],
    "no overlap": [
        (0, {}, "create", "AA:A"),
        (24, {"overlap_hours": 0}, "same", "AA:A"),
        (24, AT_ONCE, "update", "BB:B"),
        (24, AT_ONCE, "same", "BB:B"),
        (24, {"rotation": 2, "overlap_hours": 0}, "update", "CC:C"),
        (25, {"rotation": 2}, "same", "CC:C"),
    ],
    "overlap ended early": [
        (0, {}, "create", "AA:A"),
        (24, ASKED, "update", "AB:BA"),
        (48, AT_ONCE, "update", "BB:B"),
        (48, ASKED, "same", "BB:B"),
    ],
    "overlap shortened": [
        (0, {}, "create", "AA:A"),
        (24, ASKED, "update", "AB:BA"),
        (48, {"rotation": 1, "overlap_hours": 48}, "update", "AB:BA"),
        (71, {"rotation": 1, "overlap_hours": 48}, "same", "AB:BA"),
        (72, {"rotation": 1, "overlap_hours": 48}, "update", "BB:B"),
    ],
    "overlap lengthened": [
        (0, {}, "create", "AA:A"),
        (24, ASKED, "update", "AB:BA"),
        (48, {"rotation": 1, "overlap_hours": 1_000}, "update", "AB:BA"),
        (24 + 720, {"rotation": 1, "overlap_hours": 1_000}, "same", "AB:BA"),
        (24 + 1_000, {"rotation": 1, "overlap_hours": 1_000}, "update", "BB:B"),
    ],
    # The old one has 100 hours, so the overlap takes 50: the next `up` has time enough.
    "close to the end": [
        (0, {}, "create", "AA:A"),
        (87_500, {}, "update", "AB:BA"),
        (87_549, {}, "same", "AB:BA"),
        (87_550, {}, "update", "BB:B"),
    ],
    "expired": [(0, {}, "create", "AA:A"), (90_000, {}, "update", "BB:B"), (90_000, {}, "same", "BB:B")],
    "no `up` for years, in the overlap": [
        (0, {}, "create", "AA:A"),
        (24, ASKED, "update", "AB:BA"),
        (70_000, ASKED, "update", "BB:B"),
        (70_000, ASKED, "update", "BC:CB"),
        (70_000, ASKED, "same", "BC:CB"),
    ],
    "a clock set back": [
        (1_000, {}, "create", "AA:A"),
        (1_024, ASKED, "update", "AB:BA"),
        (0, ASKED, "same", "AB:BA"),
        (1_024 + 720, ASKED, "update", "BB:B"),
        (0, ASKED, "same", "BB:B"),
    ],
}


@pytest.mark.parametrize("steps", WALKS.values(), ids=list(WALKS))
@pytest.mark.parametrize("refreshed", [False, True], ids=["", "refreshed"])
def test_a_ca_is_rotated_when_asked_or_due_with_both_trusted_for_a_time(
    steps: list[tuple[float, dict[str, Any], str, str]], refreshed: bool, clock: Clock
) -> None:
    walk = Walk(clock)
    for at_hours, program, operation, standing in steps:
        if refreshed and walk.stack.outs:
            walk.stack.refresh()
        assert walk.up(at_hours, program) == (operation, standing), f"at {at_hours} h with {program}"


def test_a_preview_shows_the_rotation_and_its_end_as_dates(clock: Clock) -> None:
    def changed() -> dict[str, Any]:
        return {name: value for name, value in stack.checked.items() if value != stack.inputs[name]}

    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    clock.now = START + 24 * HOUR
    assert stack.preview(ROTATED) == "update"
    assert changed() == {
        "rotation": 1,
        "rotated_at": "2030-01-02T00:00:00Z",
        "rotate_after": rfc3339(clock.now - x509.BACKDATE + DUE * HOUR),
        "drop_after": "2030-02-01T00:00:00Z",
        "previous_not_after": stack.outs["not_after"],
    }
    stack.up(ROTATED)
    assert stack.preview({**ROTATED, "overlap_hours": 48}) == "update"
    assert changed() == {"overlap_hours": 48, "drop_after": "2030-01-04T00:00:00Z"}
    clock.now = START + 744 * HOUR
    assert stack.preview(ROTATED) == "update"
    assert changed() == {"drop_after": "", "previous_not_after": ""}


def test_a_dropped_cas_key_leaves_the_state(clock: Clock) -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    old = stack.outs["private_key_pem"]
    stack.up(ROTATED)
    assert stack.outs["private_key_pem"] == old
    clock.now += 720 * HOUR
    stack.up(ROTATED)
    assert old not in stack.outs.values()


@pytest.mark.parametrize("at_hours", [24, 24 + 720], ids=["rotation", "end of the overlap"])
@pytest.mark.parametrize("lost", ["before the update", "with what the update answered"])
def test_an_interrupted_step_is_decided_anew(at_hours: int, lost: str, clock: Clock) -> None:
    """The engine remembers inputs and outputs together, when the step is done: before that, nothing has happened."""
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    if at_hours > 24:
        clock.now = START + 24 * HOUR
        stack.up(ROTATED)
    before = dict(stack.inputs), dict(stack.outs)
    clock.now = START + at_hours * HOUR
    assert stack.preview(ROTATED) == "update"
    if lost != "before the update":
        stack.provider.update("id", over_the_wire(stack.outs), over_the_wire(stack.checked))
    assert (stack.inputs, stack.outs) == before
    clock.now += HOUR
    assert stack.up(ROTATED) == "update"
    assert stack.up(ROTATED) == "same"
    assert bool(stack.outs["drop_after"]) is (at_hours == 24)


OVERLAP_WORDS = (
    "and was 1: the last rotation is not over, and the CA before it is trusted until the first `up` after "
    "2030-01-31T00:00:00Z; put 1 back until then, or run `up` with it and overlap_hours (caOverlapHours) 0"
)


@pytest.mark.parametrize(
    ("after_hours", "rotation", "words"),
    [
        (0, 0, f"rotation (caRotation) is 0, {OVERLAP_WORDS}"),
        (0, 2, f"rotation (caRotation) is 2, {OVERLAP_WORDS}"),
        (719, 2, OVERLAP_WORDS),
        # It is over, but no `up` has dropped the old one yet.
        (721, 2, OVERLAP_WORDS),
    ],
)
def test_another_rotation_during_an_overlap_is_refused_with_what_to_do(
    after_hours: int, rotation: int, words: str, clock: Clock
) -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    stack.up(ROTATED)
    clock.now += after_hours * HOUR
    (reason,) = failures(stack.provider, {**CA_INPUTS, "rotation": rotation}, stack.inputs)
    assert words in reason
    stack.up({**ROTATED, "overlap_hours": 0})
    assert stack.up({**CA_INPUTS, "rotation": 2}) == "update"


def test_a_lowered_rotation_is_refused_with_what_to_do() -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    stack.up({**CA_INPUTS, "rotation": 2, "overlap_hours": 0})
    (reason,) = failures(stack.provider, ROTATED, stack.inputs)
    assert "rotation (caRotation) is 1, and was 2: " in reason
    assert "put 2 back, or raise it" in reason


@pytest.mark.parametrize("unknown", [["rotation"], ["overlap_hours"], ["validity_hours"], list(CA_INPUTS)])
def test_unknown_inputs_of_a_ca_pass_the_preview(unknown: list[str]) -> None:
    program = {**CA_INPUTS, **dict.fromkeys(unknown, UNKNOWN)}
    new = Stack(CertificateAuthorityLifecycle())
    assert new.preview(program) == "create"
    assert new.checked["rotate_after"] == UNKNOWN
    live = Stack(CertificateAuthorityLifecycle())
    live.up(CA_INPUTS)
    # The lifetime of one that is there cannot change.
    assert live.preview(program) == ("same" if unknown == ["validity_hours"] else "update")
    assert live.up(CA_INPUTS) == "same"


# The CA: states from before there were rotations


def old_stack() -> Stack:
    """As the first release left it: the inputs and outputs have these keys and no others."""
    inputs = {"common_name": "etcd", "key_algorithm": "ECDSA-P256", "validity_hours": 87_600.0}
    outputs = {
        "certificate_pem": OWN.certificate_pem,
        "private_key_pem": OWN.private_key_pem,
        "not_after": "2039-12-29T23:55:00Z",
        "fingerprint": x509.fingerprint(OWN.certificate_pem),
    }
    provider = {"__provider": "gASVPgAAAAAAAACMG2V0Y2RfY2x1c3Rlci5wa2kucmVzb3VyY2Vz"}
    return Stack(CertificateAuthorityLifecycle(), {**provider, **inputs}, {**provider, **inputs, **outputs})


@pytest.mark.parametrize("years", [0, 1, 3])
@pytest.mark.parametrize("refreshed", [False, True], ids=["", "refreshed"])
def test_an_old_state_goes_on_without_a_change_and_rotates_when_asked(
    years: int, refreshed: bool, clock: Clock
) -> None:
    walk = Walk(clock, old_stack(), [OWN.certificate_pem])
    before = dict(walk.stack.outs)
    if refreshed:
        walk.stack.refresh()
    for hours in (0, 1, 1):
        clock.now = START + years * YEAR + hours * HOUR
        assert walk.stack.preview(CA_INPUTS) == "same"
        assert walk.stack.up(CA_INPUTS) == "same"
    assert walk.stack.outs == before
    assert walk.up(years * 8_760 + 2, ASKED) == ("update", "AB:BA")
    assert walk.up(years * 8_760 + 3, ASKED) == ("same", "AB:BA")
    assert walk.up(years * 8_760 + 722, ASKED) == ("update", "BB:B")


def test_an_old_state_may_be_rotated_in_the_first_run_that_can(clock: Clock) -> None:
    assert Walk(clock, old_stack(), [OWN.certificate_pem]).up(100, ASKED) == ("update", "AB:BA")
    assert Walk(clock, old_stack(), [OWN.certificate_pem]).up(100, AT_ONCE) == ("update", "BB:B")


def test_an_old_state_is_rotated_by_age_in_time_though_its_age_is_not_in_the_inputs(clock: Clock) -> None:
    walk = Walk(clock, old_stack(), [OWN.certificate_pem])
    first_run = 20_000
    clock.now = START + first_run * HOUR
    assert walk.stack.up(CA_INPUTS) == "same"
    assert walk.up(first_run + 29_199, {}) == ("same", "as of old")
    assert walk.up(first_run + 29_200, {}) == ("update", "AB:BA")


def test_a_refresh_of_an_old_state_finds_its_age(clock: Clock) -> None:
    walk = Walk(clock, old_stack(), [OWN.certificate_pem])
    walk.stack.refresh()
    assert walk.up(1, {}) == ("same", "as of old")
    assert walk.up(DUE - 1, {}) == ("same", "as of old")
    assert walk.up(DUE, {}) == ("update", "AB:BA")


# Rotation as members and clients see it


@dataclass
class Site:
    """What one party holds: its certificate, and what it trusts."""

    certificate: str
    trusted: str

    def accepts(self, other: "Site") -> bool:
        return any(x509.signed_by(other.certificate, ca) for ca in x509.split_bundle(self.trusted))

    def talks_to(self, other: "Site") -> bool:
        return self.accepts(other) and other.accepts(self)


@dataclass
class Cluster:
    """A CA with the certificates of a member and of a client, as `issue_certificates` ties them together."""

    clock: Clock
    ca: Stack = field(default_factory=lambda: Stack(CertificateAuthorityLifecycle()))
    server: Stack = field(default_factory=lambda: Stack(CertificateLifecycle()))
    client: Stack = field(default_factory=lambda: Stack(CertificateLifecycle()))

    def up(self, at_hours: int, program: dict[str, Any]) -> tuple[Site, Site]:
        """A member and a client with what this `up` gives out."""
        self.clock.now = START + at_hours * HOUR
        self.ca.up({**CA_INPUTS, **program})
        outs = self.ca.outs
        self.server.up(self._inputs("", profile="server"))
        self.client.up(self._inputs("client_", profile="client", hosts=[]))
        trusted = outs["trusted_pem"]
        return Site(self.server.outs["certificate_pem"], trusted), Site(self.client.outs["certificate_pem"], trusted)

    def _inputs(self, pair: str, **changes: Any) -> dict[str, Any]:
        outs = self.ca.outs
        signed_by = {
            "ca_certificate_pem": outs[f"{pair}certificate_pem"],
            "ca_private_key_pem": outs[f"{pair}private_key_pem"],
        }
        return {**CERTIFICATE_INPUTS, **signed_by, **changes}


def test_clients_with_either_certificate_work_in_an_overlap(clock: Clock) -> None:
    cluster = Cluster(clock)
    member_before, client_before = cluster.up(0, {})
    member_between, client_between = cluster.up(24, ASKED)
    member_after, client_after = cluster.up(744, ASKED)
    for client in (client_before, client_between):
        assert client.talks_to(member_between)
    for client in (client_between, client_after):
        assert client.talks_to(member_after)
    assert not client_before.talks_to(member_after)
    # The client's certificate changed once, the member's at the end: nobody who took up the new one has to do so again.
    assert member_between.certificate == member_before.certificate
    assert client_after.certificate == client_between.certificate
    # While members change one after the other, they go on to talk: trust first, then the certificate, then the drop.
    assert member_between.talks_to(member_before)
    with_new_certificate = Site(member_after.certificate, member_between.trusted)
    assert with_new_certificate.talks_to(member_between)
    assert member_after.talks_to(with_new_certificate)


def test_without_an_overlap_clients_change_with_the_members(clock: Clock) -> None:
    cluster = Cluster(clock)
    member_before, client_before = cluster.up(0, {})
    member_after, client_after = cluster.up(24, AT_ONCE)
    assert client_after.talks_to(member_after)
    assert not client_before.talks_to(member_after)
    assert not client_after.talks_to(member_before)


# Certificates: what changes one


def test_a_certificate_stays_the_same_while_nothing_changes(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    assert stack.up(CERTIFICATE_INPUTS) == "create"
    issued = dict(stack.outs)
    for hours in (0, 1, 24, 8_760, 29_190):
        clock.now = START + hours * HOUR
        assert stack.up(CERTIFICATE_INPUTS) == "same"
    assert stack.outs == issued


@pytest.mark.parametrize(
    ("change", "operation"),
    [
        ({"hosts": ["m1.etcd.internal", "10.0.0.1"]}, "same"),
        ({"hosts": ["M1.ETCD.internal", "10.0.0.1", "10.0.0.1"]}, "same"),
        ({"ca_certificate_pem": f"# the CA\n{OWN.certificate_pem}\n"}, "same"),
        ({"hosts": ["10.0.0.2", "m1.etcd.internal"]}, "update"),
        ({"hosts": ["10.0.0.1"]}, "update"),
        ({"common_name": "m2"}, "update"),
        ({"profile": "peer"}, "update"),
        ({"validity_hours": 8_760}, "update"),
        (
            {
                "ca_certificate_pem": OTHER.certificate_pem,
                "ca_private_key_pem": OTHER.private_key_pem,
            },
            "update",
        ),
    ],
)
def test_a_changed_input_updates_in_place_and_a_reordered_one_does_not(change: dict[str, Any], operation: str) -> None:
    stack = Stack(CertificateLifecycle())
    stack.up(CERTIFICATE_INPUTS)
    before = stack.outs["private_key_pem"]
    program = {**CERTIFICATE_INPUTS, **change}
    assert stack.up(program) == operation
    assert (stack.outs["private_key_pem"] != before) is (operation == "update")
    assert stack.up(program) == "same"
    pair = x509.KeyPair(stack.outs["certificate_pem"], stack.outs["private_key_pem"])
    x509.verify_certificate(pair, program["ca_certificate_pem"], START)


# Certificates: renewal


def test_a_renewal_is_due_at_a_third_of_the_lifetime_and_the_preview_says_so(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    stack.up(CERTIFICATE_INPUTS)
    renew_after = stack.outs["renew_after"]
    assert renew_after == rfc3339(START - x509.BACKDATE + 29_200 * HOUR)

    clock.now = START - x509.BACKDATE + 29_200 * HOUR
    assert x509.renewal_due(stack.outs["certificate_pem"], clock.now)
    assert stack.preview(CERTIFICATE_INPUTS) == "update"
    assert {name for name in stack.checked if stack.checked[name] != stack.inputs[name]} == {"renew_after"}
    assert stack.checked["renew_after"] > renew_after

    serial = x509.parse_certificate(stack.outs["certificate_pem"]).serial_number
    assert stack.up(CERTIFICATE_INPUTS) == "update"
    assert x509.parse_certificate(stack.outs["certificate_pem"]).serial_number != serial
    assert stack.outs["not_after"] == rfc3339(clock.now - x509.BACKDATE + 5 * YEAR)
    assert stack.up(CERTIFICATE_INPUTS) == "same"


def test_the_renewal_date_is_the_issued_certificates_own(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    for years in (0, 4, 7):
        clock.now = START + years * YEAR
        stack.up(CERTIFICATE_INPUTS)
        validity = x509.validity_of(stack.outs["certificate_pem"])
        ca_end = x509.validity_of(OWN.certificate_pem).not_after
        expected = validity.not_after if validity.not_after == ca_end else validity.renewal
        assert stack.outs["renew_after"] == rfc3339(expected)


def test_a_change_of_an_input_sets_the_renewal_date_anew(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    stack.up(CERTIFICATE_INPUTS)
    clock.now = START + YEAR
    stack.up({**CERTIFICATE_INPUTS, "common_name": "m2"})
    assert stack.outs["renew_after"] == rfc3339(START + YEAR - x509.BACKDATE + 29_200 * HOUR)


def test_a_certificate_that_was_issued_by_a_clock_that_was_ahead_is_issued_again(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    stack.up(CERTIFICATE_INPUTS)
    clock.now = START + 4 * YEAR
    assert stack.up(CERTIFICATE_INPUTS) == "update"
    clock.now = START + HOUR
    assert stack.up(CERTIFICATE_INPUTS) == "update"
    validity = x509.validity_of(stack.outs["certificate_pem"])
    assert validity.not_before <= clock.now < validity.not_after
    assert stack.up(CERTIFICATE_INPUTS) == "same"


def test_an_expired_certificate_is_renewed(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    stack.up(CERTIFICATE_INPUTS)
    clock.now = START + 6 * YEAR
    assert stack.up(CERTIFICATE_INPUTS) == "update"
    assert stack.outs["not_after"] > rfc3339(clock.now)


def test_a_certificate_that_ends_with_its_ca_is_not_renewed_again_and_again(clock: Clock) -> None:
    stack = Stack(CertificateLifecycle())
    clock.now = START + 6 * YEAR
    stack.up(CERTIFICATE_INPUTS)
    assert stack.outs["not_after"] == rfc3339(x509.validity_of(OWN.certificate_pem).not_after)
    for hours in range(100, 4 * 8_760, 500):
        clock.now = START + 6 * YEAR + hours * HOUR
        assert stack.up(CERTIFICATE_INPUTS) == "same"


# Certificates: refused inputs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"common_name": " "}, "common_name is ' '"),
        ({"profile": "both"}, "profile is 'both'; give one of server, peer, client"),
        ({"profile": None}, "profile is None"),
        ({"hosts": []}, "hosts is empty; a server certificate needs"),
        ({"hosts": None}, "hosts is empty; a server certificate needs"),
        ({"hosts": "10.0.0.1"}, "hosts is '10.0.0.1'; give a list"),
        ({"hosts": ["10.0.0.1", "https://m1:2379"]}, "host 'https://m1:2379' is neither"),
        ({"profile": "peer", "hosts": []}, "hosts is empty; a peer certificate needs"),
        ({"profile": "client"}, "a client certificate has no hosts"),
        ({"validity_hours": 87_601}, "validity_hours is 87601; give 24 to 87600"),
        ({"validity_hours": 0}, "validity_hours is 0; give 24 to 87600"),
        ({"ca_certificate_pem": "x"}, "ca_certificate_pem: there is no PEM certificate"),
        ({"ca_certificate_pem": None}, "ca_certificate_pem: it is missing"),
        ({"ca_private_key_pem": None}, "ca_private_key_pem: it is missing"),
        ({"ca_private_key_pem": "x"}, "ca_private_key_pem: there is no PEM private key"),
        ({"ca_private_key_pem": OTHER.private_key_pem}, "the private key is not that of 'CN=own'"),
    ],
)
def test_a_bad_certificate_input_is_refused_with_its_value_and_a_fix(change: dict[str, Any], words: str) -> None:
    (reason,) = failures(CertificateLifecycle(), {**CERTIFICATE_INPUTS, **change})
    assert words in reason


def test_a_ca_that_cannot_sign_is_refused_in_the_preview(clock: Clock) -> None:
    provider = CertificateLifecycle()
    certificate = x509.issue_certificate(OWN, common_name="a", profile="client", now=START)
    no_ca = {
        "ca_certificate_pem": certificate.certificate_pem,
        "ca_private_key_pem": certificate.private_key_pem,
    }
    (reason,) = failures(provider, {**CERTIFICATE_INPUTS, **no_ca})
    assert "'CN=a' is not a CA" in reason
    clock.now = START + 10 * YEAR
    (reason,) = failures(provider, CERTIFICATE_INPUTS)
    assert "the CA 'CN=own' expired at 2039-12-29T23:55:00Z" in reason


@pytest.mark.parametrize(
    "change",
    [
        {"ca_private_key_pem": OTHER.private_key_pem},
        {"ca_private_key_pem": OWN.private_key_pem[:-40]},
        {"ca_certificate_pem": OWN.private_key_pem},
        {
            "ca_certificate_pem": OWN.certificate_pem + OWN.private_key_pem,
            "ca_private_key_pem": "x",
        },
        {"common_name": OWN.private_key_pem},
        {"hosts": [OWN.private_key_pem]},
        {"profile": OWN.private_key_pem},
    ],
)
def test_no_failure_shows_a_key_or_names_a_property_whose_value_the_engine_would_print(
    change: dict[str, Any],
) -> None:
    result = CertificateLifecycle().check({}, {**CERTIFICATE_INPUTS, **change})
    assert result.failures
    key_lines = {*OWN.private_key_pem.splitlines()[1:-1], *OTHER.private_key_pem.splitlines()[1:-1]}
    for failure in result.failures:
        assert not any(line in failure.reason for line in key_lines)
        assert failure.property not in ("ca_certificate_pem", "ca_private_key_pem")


def test_an_issue_that_fails_shows_no_key(clock: Clock) -> None:
    clock.now = START + 11 * YEAR
    with pytest.raises(PkiError, match="expired") as failed:
        CertificateLifecycle().create({**CERTIFICATE_INPUTS, "renew_after": ""})
    assert "PRIVATE KEY" not in str(failed.value)


# Unknown inputs


@pytest.mark.parametrize(
    "unknown", [*([name] for name in CERTIFICATE_INPUTS), list(CERTIFICATE_INPUTS)], ids=lambda names: "+".join(names)
)
def test_unknown_inputs_pass_the_preview_of_a_new_and_of_a_live_certificate(unknown: list[str]) -> None:
    program = {**CERTIFICATE_INPUTS, **dict.fromkeys(unknown, UNKNOWN)}
    assert Stack(CertificateLifecycle()).preview(program) == "create"
    live = Stack(CertificateLifecycle())
    live.up(CERTIFICATE_INPUTS)
    only_the_key = unknown == ["ca_private_key_pem"]
    assert live.preview(program) == ("same" if only_the_key else "update")
    assert live.checked["renew_after"] == (live.inputs["renew_after"] if only_the_key else UNKNOWN)
    assert live.up(CERTIFICATE_INPUTS) == "same"


def test_an_unknown_host_among_known_ones_passes_the_preview() -> None:
    live = Stack(CertificateLifecycle())
    live.up(CERTIFICATE_INPUTS)
    assert live.preview({**CERTIFICATE_INPUTS, "hosts": [UNKNOWN, "m1.etcd.internal"]}) == "update"
    assert live.checked["hosts"] == ["m1.etcd.internal", UNKNOWN]
    assert live.checked["renew_after"] == UNKNOWN
    assert failures(CertificateLifecycle(), {**CERTIFICATE_INPUTS, "hosts": [UNKNOWN, "a b"]})
    assert failures(CertificateLifecycle(), {**CERTIFICATE_INPUTS, "hosts": [UNKNOWN], "profile": "client"})


# State


@pytest.mark.parametrize(
    ("provider", "program"),
    [(CertificateAuthorityLifecycle(), CA_INPUTS), (CertificateLifecycle(), CERTIFICATE_INPUTS)],
)
def test_a_refresh_changes_nothing(provider: Lifecycle, program: dict[str, Any]) -> None:
    stack = Stack(provider)
    stack.up(program)
    before = over_the_wire(stack.outs), stack.inputs
    stack.refresh()
    assert (stack.outs, stack.inputs) == before
    assert stack.up(program) == "same"


@pytest.mark.parametrize("provider", [CertificateAuthorityLifecycle(), CertificateLifecycle()])
def test_deleting_touches_the_state_only(provider: Lifecycle) -> None:
    provider.delete("id", {})


# The resources in a program


class Recorder(MockMonitor):
    """Keeps every registration; answers as the engine does: in preview, with the inputs alone."""

    def __init__(self, preview: bool, ca: dict[str, Any] | None = None) -> None:
        self.requests: dict[str, Any] = {}
        super().__init__(Answers(preview, ca))

    def RegisterResource(self, request: Any) -> Any:
        self.requests[request.name] = request
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


@dataclass
class Answers(Mocks):
    preview: bool
    # What the state holds of the CA, if it is there already and does not change.
    ca: dict[str, Any] | None = None

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs = {name: unwrapped(value) for name, value in args.inputs.items()}
        is_ca = args.typ.endswith(":CertificateAuthority")
        if is_ca and self.ca is not None:
            return "id", self.ca
        if self.preview:
            return None, inputs
        provider = CertificateAuthorityLifecycle() if is_ca else CertificateLifecycle()
        created = provider.create(provider.check({}, over_the_wire(inputs)).inputs)
        return created.id, created.outs or {}

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], None]:
        raise NotImplementedError(args.token)


def unwrapped(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) and SECRET_SIGNATURE.items() <= value.items() else value


def registered(
    program: Callable[[], object], *, preview: bool = False, ca: dict[str, Any] | None = None
) -> dict[str, Any]:
    recorder = Recorder(preview, ca)
    set_mocks(recorder.mocks, project="p", stack="s", preview=preview, monitor=recorder)
    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]
    return recorder.requests


def resources_of_a_cluster() -> None:
    ca = CertificateAuthority("ca", CertificateAuthorityArgs("etcd", key_algorithm="ECDSA-P256")).ca
    args = CertificateArgs(ca, "m1", "server", hosts=["m1", pulumi.Output.from_input("10.0.0.1")])
    Certificate("server", args, pulumi.ResourceOptions(additional_secret_outputs=["not_after"], protect=True))
    Certificate("client", CertificateArgs(ca, "root", "client"))


@pytest.mark.parametrize("preview", [True, False])
def test_type_tokens_are_the_ones_in_every_urn(preview: bool) -> None:
    requests = registered(resources_of_a_cluster, preview=preview)
    assert {name: request.type for name, request in requests.items() if request.custom} == {
        "ca": "pulumi-python:dynamic/pki:CertificateAuthority",
        "server": "pulumi-python:dynamic/pki:Certificate",
        "client": "pulumi-python:dynamic/pki:Certificate",
    }


@pytest.mark.parametrize("preview", [True, False])
def test_every_private_key_is_a_secret(preview: bool) -> None:
    requests = registered(resources_of_a_cluster, preview=preview)
    assert list(requests["ca"].additionalSecretOutputs) == ["private_key_pem", "client_private_key_pem"]
    assert list(requests["client"].additionalSecretOutputs) == [
        "private_key_pem",
        "ca_private_key_pem",
    ]
    key = MessageToDict(requests["client"].object)["ca_private_key_pem"]
    assert SECRET_SIGNATURE.items() <= key.items()
    assert (UNKNOWN in key.values()) is preview


def test_the_callers_options_are_kept() -> None:
    request = registered(resources_of_a_cluster)["server"]
    assert request.protect
    assert set(request.additionalSecretOutputs) == {
        "not_after",
        "private_key_pem",
        "ca_private_key_pem",
    }


def test_a_program_gets_certificates_that_fit_together(clock: Clock) -> None:
    seen: list[list[Any]] = []

    def program() -> pulumi.Output[None]:
        ca = CertificateAuthority("ca", CertificateAuthorityArgs("etcd", "ECDSA-P256"))
        certificate = Certificate("peer", CertificateArgs(ca.ca, "m1", "peer", hosts=["m1"]))
        outputs = pulumi.Output.all(certificate.certificate_pem, certificate.private_key_pem, ca.certificate_pem)
        return outputs.apply(seen.append)

    registered(program)
    ((certificate_pem, private_key_pem, ca_pem),) = seen
    x509.verify_certificate(x509.KeyPair(certificate_pem, private_key_pem), ca_pem, clock.now)


def test_a_users_own_ca_signs_and_its_key_is_a_secret_though_given_as_plain_text() -> None:
    secret: list[bool] = []

    def program() -> pulumi.Output[None]:
        own = CA.from_pem(OWN.certificate_pem, OWN.private_key_pem)
        Certificate("client", CertificateArgs(own, "root", "client"))
        is_secret: Any = own.private_key_pem.is_secret()
        return pulumi.Output.from_input(is_secret).apply(secret.append)

    inputs = MessageToDict(registered(program)["client"].object)
    assert secret == [True]
    assert inputs["ca_certificate_pem"] == OWN.certificate_pem
    assert inputs["ca_private_key_pem"] == {**SECRET_SIGNATURE, "value": OWN.private_key_pem}


def signers(requests: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The certificate and the key that sign each certificate, by its name."""
    inputs = {name: MessageToDict(request.object) for name, request in requests.items()}
    return {
        name: (each["ca_certificate_pem"], unwrapped(each["ca_private_key_pem"]))
        for name, each in inputs.items()
        if "ca_certificate_pem" in each
    }


@pytest.mark.parametrize("preview", [True, False])
def test_in_an_overlap_the_new_ca_signs_clients_and_the_old_one_the_rest(preview: bool) -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    stack.up(ROTATED)
    resolved: list[Any] = []

    def program() -> pulumi.Output[None]:
        ca = CertificateAuthority("ca", CertificateAuthorityArgs("etcd", rotation=1))
        for profile in ("server", "peer", "client"):
            hosts = [] if profile == "client" else ["m1"]
            Certificate(profile, CertificateArgs(ca.ca, "m1", profile, hosts))  # type: ignore[arg-type]
        later: Any = pulumi.Output.from_input("client")
        Certificate("later", CertificateArgs(ca.ca, "m1", later))
        return pulumi.Output.all(ca.ca.trusted_pem, ca.drop_after).apply(resolved.append)

    signed = signers(registered(program, preview=preview, ca=stack.outs))
    first = stack.outs["certificate_pem"], stack.outs["private_key_pem"]
    newest = stack.outs["client_certificate_pem"], stack.outs["client_private_key_pem"]
    assert first != newest
    assert signed == {"server": first, "peer": first, "client": newest, "later": newest}
    assert resolved == [[stack.outs["trusted_pem"], stack.outs["drop_after"]]]


@pytest.mark.parametrize("preview", [True, False])
def test_a_program_over_an_old_state_knows_everything_already_in_the_preview(preview: bool) -> None:
    """Else every certificate, and all that members trust, would seem to change in the first run of this release."""
    resolved: list[Any] = []

    def program() -> pulumi.Output[None]:
        ca = CertificateAuthority("ca", CertificateAuthorityArgs("etcd", "ECDSA-P256"))
        Certificate("client", CertificateArgs(ca.ca, "root", "client"))
        secret: Any = ca.client_private_key_pem.is_secret()
        facts = (ca.ca.trusted_pem, ca.drop_after, ca.rotate_after, secret)
        return pulumi.Output.all(*facts).apply(resolved.append)

    outputs = {**old_stack().outs, "private_key_pem": {**SECRET_SIGNATURE, "value": OWN.private_key_pem}}
    requests = registered(program, preview=preview, ca=outputs)
    assert signers(requests) == {"client": (OWN.certificate_pem, OWN.private_key_pem)}
    assert resolved == [[OWN.certificate_pem, "", "", True]]


def test_a_clusters_certificates_follow_its_rotation() -> None:
    stack = Stack(CertificateAuthorityLifecycle())
    stack.up(CA_INPUTS)
    stack.up(ROTATED)
    trusted: list[str] = []

    def program() -> pulumi.Output[None]:
        machine = Machine("m1", "10.0.0.1", connection=None)
        issued = issue_certificates("etcd", [machine], None, pulumi.ResourceOptions(), 1, 48)
        return issued.trusted_pem.apply(trusted.append)

    requests = registered(program, ca=stack.outs)
    inputs = MessageToDict(requests["etcd-ca"].object)
    assert (inputs["rotation"], inputs["overlap_hours"]) == (1, 48)
    signed = {name: certificate for name, (certificate, _) in signers(requests).items()}
    old, new = stack.outs["certificate_pem"], stack.outs["client_certificate_pem"]
    assert signed == {"etcd-m1-server": old, "etcd-m1-peer": old, "etcd-client": new}
    assert trusted == [new + old]


# A CA of the user's own


def own_trust(certificate_pem: Any, also_trusted_pem: Any = "", *, preview: bool = False) -> list[Any]:
    resolved: list[Any] = []

    def program() -> pulumi.Output[None]:
        own = CA.from_pem(certificate_pem, "key", also_trusted_pem)
        same = own.certificate_pem is own.client_certificate_pem and own.private_key_pem is own.client_private_key_pem
        return own.trusted_pem.apply(lambda trusted: resolved.append((trusted, same)))

    registered(program, preview=preview)
    return resolved


@pytest.mark.parametrize(
    ("certificate_pem", "also_trusted_pem", "trusted"),
    [
        (OWN.certificate_pem, "", OWN.certificate_pem),
        (OWN.certificate_pem, "\n", OWN.certificate_pem),
        (OWN.certificate_pem, OTHER.certificate_pem, OWN.certificate_pem + OTHER.certificate_pem),
        (OWN.certificate_pem, OTHER.certificate_pem + OWN.certificate_pem, OWN.certificate_pem + OTHER.certificate_pem),
        (
            f"# mine\n{OWN.certificate_pem}\n",
            f"# old\n{OTHER.certificate_pem}",
            OWN.certificate_pem + OTHER.certificate_pem,
        ),
        # What is trusted is no secret, and must hold none.
        (OWN.certificate_pem + OWN.private_key_pem, "", OWN.certificate_pem),
        (
            OWN.certificate_pem,
            OTHER.private_key_pem + OTHER.certificate_pem,
            OWN.certificate_pem + OTHER.certificate_pem,
        ),
        # Every Certificate refuses this one, by name.
        ("nonsense", OTHER.certificate_pem, "nonsense"),
    ],
)
def test_an_own_ca_is_rotated_by_trusting_the_old_one_besides(
    certificate_pem: str, also_trusted_pem: str, trusted: str
) -> None:
    assert own_trust(certificate_pem, also_trusted_pem) == [(trusted, True)]


@pytest.mark.parametrize("text", ["nonsense", OTHER.private_key_pem])
def test_what_is_to_be_trusted_besides_has_to_be_certificates(text: str) -> None:
    with pytest.raises(Exception, match="also_trusted_pem: there is no PEM certificate") as refused:
        own_trust(OWN.certificate_pem, text)
    assert OTHER.private_key_pem.splitlines()[1] not in str(refused.value)


def test_what_is_to_be_trusted_besides_may_be_unknown_in_a_preview() -> None:
    known: list[bool] = []

    def program() -> pulumi.Output[None]:
        mine = CA.from_pem(OWN.certificate_pem, OWN.private_key_pem)
        unknown = Certificate("client", CertificateArgs(mine, "root", "client")).certificate_pem
        trusted = CA.from_pem(OWN.certificate_pem, OWN.private_key_pem, unknown).trusted_pem
        is_known: Any = trusted.is_known()
        return pulumi.Output.from_input(is_known).apply(known.append)

    registered(program, preview=True)
    assert known == [False]


# The provider process, as the engine starts it


@pytest.fixture(scope="module")
def provider_process() -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.dynamic"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield provider_pb2_grpc.ResourceProviderStub(channel)
    finally:
        process.terminate()
        process.communicate(timeout=100)


def test_the_engines_calls_round_trip_through_the_provider_process(
    provider_process: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    stub = provider_process
    ca = x509.create_ca("own", now=datetime.now(timezone.utc), key_algorithm="ECDSA-P256")
    program = struct(
        {
            **CERTIFICATE_INPUTS,
            "ca_certificate_pem": ca.certificate_pem,
            "ca_private_key_pem": ca.private_key_pem,
            "__provider": serialize_provider(CertificateProvider()),
        }
    )
    in_preview = struct({**MessageToDict(program), "ca_certificate_pem": UNKNOWN})
    preview = stub.Check(provider_pb2.CheckRequest(news=in_preview), timeout=300)
    assert not preview.failures
    assert preview.inputs["renew_after"] == UNKNOWN

    inputs = stub.Check(provider_pb2.CheckRequest(news=program), timeout=300).inputs
    created = stub.Create(provider_pb2.CreateRequest(properties=inputs), timeout=300)
    again = stub.Check(provider_pb2.CheckRequest(olds=inputs, news=program), timeout=300).inputs
    assert again == inputs
    diff = provider_pb2.DiffRequest(id=created.id, olds=created.properties, news=inputs)
    assert stub.Diff(diff, timeout=300).changes == provider_pb2.DiffResponse.DIFF_NONE
    read = stub.Read(provider_pb2.ReadRequest(id=created.id, properties=created.properties), timeout=300)
    assert (read.id, read.properties, read.inputs) == (created.id, created.properties, inputs)

    program["hosts"] = ["m9.etcd.internal"]
    changed = stub.Check(provider_pb2.CheckRequest(olds=inputs, news=program), timeout=300).inputs
    diff = provider_pb2.DiffRequest(id=created.id, olds=created.properties, news=changed)
    answer = stub.Diff(diff, timeout=300)
    assert (answer.changes, list(answer.replaces)) == (provider_pb2.DiffResponse.DIFF_SOME, [])
    update = provider_pb2.UpdateRequest(id=created.id, olds=created.properties, news=changed)
    updated = MessageToDict(stub.Update(update, timeout=300).properties)
    pair = x509.KeyPair(updated["certificate_pem"], updated["private_key_pem"])
    x509.verify_certificate(pair, ca.certificate_pem, datetime.now(timezone.utc))
    stub.Delete(provider_pb2.DeleteRequest(id=created.id, properties=created.properties), timeout=300)


def test_a_failure_in_the_provider_process_shows_no_key(
    provider_process: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    provider = serialize_provider(CertificateProvider())
    broken = struct({**CERTIFICATE_INPUTS, "ca_private_key_pem": OTHER.private_key_pem, "__provider": provider})
    with pytest.raises(grpc.RpcError) as failed:
        provider_process.Create(provider_pb2.CreateRequest(properties=broken), timeout=300)
    text = str(failed.value)
    assert "PkiError" in text
    for pair in (OWN, OTHER):
        assert not any(line in text for line in pair.private_key_pem.splitlines()[1:-1])
