"""What the certificate resources promise over the years: previews, updates, renewals, state, secrets."""

import base64
import os
import pickletools
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
from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN, deserialize_properties

from etcd_cluster.pki import (
    Authority,
    Certificate,
    CertificateArgs,
    CertificateAuthority,
    CertificateAuthorityArgs,
    PkiError,
    resources,
    x509,
)
from etcd_cluster.pki.resources import CertificateAuthorityProvider, CertificateProvider

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
YEAR = 8_760 * HOUR
OWN = x509.create_authority("own", now=START, key_algorithm="ECDSA-P256")
OTHER = x509.create_authority("other", now=START, key_algorithm="ECDSA-P256")

AUTHORITY: dict[str, Any] = {"common_name": "etcd", "key_algorithm": "ECDSA-P256", "validity_hours": 87_600}
LEAF: dict[str, Any] = {
    "authority_certificate_pem": OWN.certificate_pem,
    "authority_private_key_pem": OWN.private_key_pem,
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
    monkeypatch.setattr(resources, "current_time", lambda: clock.now)
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

    provider: ResourceProvider
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


def failures(provider: ResourceProvider, news: dict[str, Any], olds: dict[str, Any] | None = None) -> list[str]:
    return [failure.reason for failure in provider.check(over_the_wire(olds or {}), over_the_wire(news)).failures]


# The authority


def test_an_authority_is_made_once_and_never_changes_with_age(clock: Clock) -> None:
    stack = Stack(CertificateAuthorityProvider())
    assert stack.up(AUTHORITY) == "create"
    made = dict(stack.outs)
    assert made["not_after"] == x509.rfc3339(START - x509.BACKDATE + 10 * YEAR)
    assert made["fingerprint"] == x509.fingerprint(made["certificate_pem"])
    x509.verify_key(made["certificate_pem"], made["private_key_pem"])
    for years in (1, 7, 9, 11):
        clock.now = START + years * YEAR
        assert stack.up(AUTHORITY) == "same"
    assert stack.outs == made


@pytest.mark.parametrize(
    ("name", "value"), [("common_name", "new"), ("key_algorithm", "RSA-2048"), ("validity_hours", 8_760)]
)
def test_a_changed_authority_is_refused_in_the_preview(name: str, value: object) -> None:
    provider = CertificateAuthorityProvider()
    (reason,) = failures(provider, {**AUTHORITY, name: value}, olds=AUTHORITY)
    assert f"{name} of an authority cannot be changed in place" in reason
    assert failures(provider, {**AUTHORITY, name: UNKNOWN}, olds=AUTHORITY) == []
    assert failures(provider, AUTHORITY, olds=AUTHORITY) == []


def test_an_update_that_comes_anyway_keeps_the_authority() -> None:
    stack = Stack(CertificateAuthorityProvider())
    stack.up(AUTHORITY)
    assert stack.provider.update("id", stack.outs, {**AUTHORITY, "common_name": "new"}).outs == stack.outs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"common_name": ""}, "common_name is ''"),
        ({"common_name": None}, "common_name is None"),
        ({"key_algorithm": "RSA-1024"}, "give one of RSA-2048, ECDSA-P256"),
        ({"validity_hours": 1}, "give 24 to 219000"),
        ({"validity_hours": 219_001}, "give 24 to 219000"),
        ({"validity_hours": "ten years"}, "give whole hours"),
    ],
)
def test_a_bad_authority_input_is_refused_with_its_value_and_a_fix(change: dict[str, Any], words: str) -> None:
    (reason,) = failures(CertificateAuthorityProvider(), {**AUTHORITY, **change})
    assert words in reason


# Leaves: what changes one


def test_a_leaf_stays_the_same_while_nothing_changes(clock: Clock) -> None:
    stack = Stack(CertificateProvider())
    assert stack.up(LEAF) == "create"
    issued = dict(stack.outs)
    for hours in (0, 1, 24, 8_760, 29_190):
        clock.now = START + hours * HOUR
        assert stack.up(LEAF) == "same"
    assert stack.outs == issued


@pytest.mark.parametrize(
    ("change", "operation"),
    [
        ({"hosts": ["m1.etcd.internal", "10.0.0.1"]}, "same"),
        ({"hosts": ["M1.ETCD.internal", "10.0.0.1", "10.0.0.1"]}, "same"),
        ({"authority_certificate_pem": f"# the authority\n{OWN.certificate_pem}\n"}, "same"),
        ({"hosts": ["10.0.0.2", "m1.etcd.internal"]}, "update"),
        ({"hosts": ["10.0.0.1"]}, "update"),
        ({"common_name": "m2"}, "update"),
        ({"profile": "peer"}, "update"),
        ({"validity_hours": 8_760}, "update"),
        (
            {
                "authority_certificate_pem": OTHER.certificate_pem,
                "authority_private_key_pem": OTHER.private_key_pem,
            },
            "update",
        ),
    ],
)
def test_a_changed_input_updates_in_place_and_a_reordered_one_does_not(change: dict[str, Any], operation: str) -> None:
    stack = Stack(CertificateProvider())
    stack.up(LEAF)
    before = stack.outs["private_key_pem"]
    program = {**LEAF, **change}
    assert stack.up(program) == operation
    assert (stack.outs["private_key_pem"] != before) is (operation == "update")
    assert stack.up(program) == "same"
    pair = x509.KeyPair(stack.outs["certificate_pem"], stack.outs["private_key_pem"])
    x509.verify_leaf(pair, program["authority_certificate_pem"], START)


# Leaves: renewal


def test_a_renewal_is_due_at_a_third_of_the_lifetime_and_the_preview_says_so(clock: Clock) -> None:
    stack = Stack(CertificateProvider())
    stack.up(LEAF)
    renew_after = stack.outs["renew_after"]
    assert renew_after == x509.rfc3339(START - x509.BACKDATE + 29_200 * HOUR)

    clock.now = START - x509.BACKDATE + 29_200 * HOUR
    assert x509.renewal_due(stack.outs["certificate_pem"], clock.now)
    assert stack.preview(LEAF) == "update"
    assert {name for name in stack.checked if stack.checked[name] != stack.inputs[name]} == {"renew_after"}
    assert stack.checked["renew_after"] > renew_after

    serial = x509.parse_certificate(stack.outs["certificate_pem"]).serial_number
    assert stack.up(LEAF) == "update"
    assert x509.parse_certificate(stack.outs["certificate_pem"]).serial_number != serial
    assert stack.outs["not_after"] == x509.rfc3339(clock.now - x509.BACKDATE + 5 * YEAR)
    assert stack.up(LEAF) == "same"


def test_the_renewal_date_is_the_issued_certificates_own(clock: Clock) -> None:
    stack = Stack(CertificateProvider())
    for years in (0, 4, 7):
        clock.now = START + years * YEAR
        stack.up(LEAF)
        validity = x509.validity_of(stack.outs["certificate_pem"])
        authority_end = x509.validity_of(OWN.certificate_pem).not_after
        expected = validity.not_after if validity.not_after == authority_end else validity.renewal
        assert stack.outs["renew_after"] == x509.rfc3339(expected)


def test_a_change_of_an_input_sets_the_renewal_date_anew(clock: Clock) -> None:
    stack = Stack(CertificateProvider())
    stack.up(LEAF)
    clock.now = START + YEAR
    stack.up({**LEAF, "common_name": "m2"})
    assert stack.outs["renew_after"] == x509.rfc3339(START + YEAR - x509.BACKDATE + 29_200 * HOUR)


def test_an_expired_leaf_is_renewed(clock: Clock) -> None:
    stack = Stack(CertificateProvider())
    stack.up(LEAF)
    clock.now = START + 6 * YEAR
    assert stack.up(LEAF) == "update"
    assert stack.outs["not_after"] > x509.rfc3339(clock.now)


def test_a_leaf_that_ends_with_its_authority_is_not_renewed_again_and_again(clock: Clock) -> None:
    stack = Stack(CertificateProvider())
    clock.now = START + 6 * YEAR
    stack.up(LEAF)
    assert stack.outs["not_after"] == x509.rfc3339(x509.validity_of(OWN.certificate_pem).not_after)
    for hours in range(100, 4 * 8_760, 500):
        clock.now = START + 6 * YEAR + hours * HOUR
        assert stack.up(LEAF) == "same"


# Leaves: refused inputs


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
        ({"authority_certificate_pem": "x"}, "authority_certificate_pem: there is no PEM certificate"),
        ({"authority_certificate_pem": None}, "authority_certificate_pem: it is missing"),
        ({"authority_private_key_pem": None}, "authority_private_key_pem: it is missing"),
        ({"authority_private_key_pem": "x"}, "authority_private_key_pem: there is no PEM private key"),
        ({"authority_private_key_pem": OTHER.private_key_pem}, "the private key is not that of 'CN=own'"),
    ],
)
def test_a_bad_leaf_input_is_refused_with_its_value_and_a_fix(change: dict[str, Any], words: str) -> None:
    (reason,) = failures(CertificateProvider(), {**LEAF, **change})
    assert words in reason


def test_an_authority_that_cannot_sign_is_refused_in_the_preview(clock: Clock) -> None:
    provider = CertificateProvider()
    leaf = x509.issue_leaf(OWN, common_name="a", profile="client", now=START)
    no_authority = {
        "authority_certificate_pem": leaf.certificate_pem,
        "authority_private_key_pem": leaf.private_key_pem,
    }
    (reason,) = failures(provider, {**LEAF, **no_authority})
    assert "'CN=a' is no authority" in reason
    clock.now = START + 10 * YEAR
    (reason,) = failures(provider, LEAF)
    assert "the authority 'CN=own' expired at 2039-12-29T23:55:00Z" in reason


@pytest.mark.parametrize(
    "change",
    [
        {"authority_private_key_pem": OTHER.private_key_pem},
        {"authority_private_key_pem": OWN.private_key_pem[:-40]},
        {"authority_certificate_pem": OWN.private_key_pem},
        {
            "authority_certificate_pem": OWN.certificate_pem + OWN.private_key_pem,
            "authority_private_key_pem": "x",
        },
        {"common_name": OWN.private_key_pem},
        {"hosts": [OWN.private_key_pem]},
        {"profile": OWN.private_key_pem},
    ],
)
def test_no_failure_shows_a_key_or_names_a_property_whose_value_the_engine_would_print(
    change: dict[str, Any],
) -> None:
    result = CertificateProvider().check({}, {**LEAF, **change})
    assert result.failures
    key_lines = {*OWN.private_key_pem.splitlines()[1:-1], *OTHER.private_key_pem.splitlines()[1:-1]}
    for failure in result.failures:
        assert not any(line in failure.reason for line in key_lines)
        assert failure.property not in ("authority_certificate_pem", "authority_private_key_pem")


def test_an_issue_that_fails_shows_no_key(clock: Clock) -> None:
    clock.now = START + 11 * YEAR
    with pytest.raises(PkiError, match="expired") as failed:
        CertificateProvider().create({**LEAF, "renew_after": ""})
    assert "PRIVATE KEY" not in str(failed.value)


# Unknown inputs


@pytest.mark.parametrize("unknown", [*([name] for name in LEAF), list(LEAF)], ids=lambda names: "+".join(names))
def test_unknown_inputs_pass_the_preview_of_a_new_and_of_a_live_leaf(unknown: list[str]) -> None:
    program = {**LEAF, **dict.fromkeys(unknown, UNKNOWN)}
    assert Stack(CertificateProvider()).preview(program) == "create"
    live = Stack(CertificateProvider())
    live.up(LEAF)
    only_the_key = unknown == ["authority_private_key_pem"]
    assert live.preview(program) == ("same" if only_the_key else "update")
    assert live.checked["renew_after"] == (live.inputs["renew_after"] if only_the_key else UNKNOWN)
    assert live.up(LEAF) == "same"


def test_an_unknown_host_among_known_ones_passes_the_preview() -> None:
    live = Stack(CertificateProvider())
    live.up(LEAF)
    assert live.preview({**LEAF, "hosts": [UNKNOWN, "m1.etcd.internal"]}) == "update"
    assert live.checked["hosts"] == ["m1.etcd.internal", UNKNOWN]
    assert live.checked["renew_after"] == UNKNOWN
    assert failures(CertificateProvider(), {**LEAF, "hosts": [UNKNOWN, "a b"]})
    assert failures(CertificateProvider(), {**LEAF, "hosts": [UNKNOWN], "profile": "client"})


# State


@pytest.mark.parametrize(
    ("provider", "program"), [(CertificateAuthorityProvider(), AUTHORITY), (CertificateProvider(), LEAF)]
)
def test_a_refresh_changes_nothing(provider: ResourceProvider, program: dict[str, Any]) -> None:
    stack = Stack(provider)
    stack.up(program)
    before = over_the_wire(stack.outs), stack.inputs
    stack.refresh()
    assert (stack.outs, stack.inputs) == before
    assert stack.up(program) == "same"


@pytest.mark.parametrize("provider", [CertificateAuthorityProvider(), CertificateProvider()])
def test_deleting_touches_the_state_only(provider: ResourceProvider) -> None:
    provider.delete("id", {})


@pytest.mark.parametrize("name", ["CertificateAuthorityProvider", "CertificateProvider"])
def test_the_state_names_a_provider_by_its_module_and_holds_no_code(name: str) -> None:
    provider = getattr(resources, name)()
    pickled = base64.b64decode(serialize_provider(provider))
    words = {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}
    assert words == {"etcd_cluster.pki.resources", name}
    assert provider.serialize_as_secret_always is False


# The resources in a program


class Recorder(MockMonitor):
    """Keeps every registration; answers as the engine does: in preview, with the inputs alone."""

    def __init__(self, preview: bool) -> None:
        self.requests: dict[str, Any] = {}
        super().__init__(Answers(preview))

    def RegisterResource(self, request: Any) -> Any:
        self.requests[request.name] = request
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


@dataclass
class Answers(Mocks):
    preview: bool

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs = {name: unwrapped(value) for name, value in args.inputs.items()}
        if self.preview:
            return None, inputs
        is_authority = args.typ.endswith(":CertificateAuthority")
        provider = CertificateAuthorityProvider() if is_authority else CertificateProvider()
        created = provider.create(provider.check({}, over_the_wire(inputs)).inputs)
        return created.id, created.outs or {}

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], None]:
        raise NotImplementedError(args.token)


def unwrapped(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) and SECRET_SIGNATURE.items() <= value.items() else value


def registered(program: Callable[[], object], *, preview: bool = False) -> dict[str, Any]:
    recorder = Recorder(preview)
    set_mocks(recorder.mocks, project="p", stack="s", preview=preview, monitor=recorder)
    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]
    return recorder.requests


def resources_of_a_cluster() -> None:
    authority = CertificateAuthority("ca", CertificateAuthorityArgs("etcd", key_algorithm="ECDSA-P256")).authority
    args = CertificateArgs(authority, "m1", "server", hosts=["m1", pulumi.Output.from_input("10.0.0.1")])
    Certificate("server", args, pulumi.ResourceOptions(additional_secret_outputs=["not_after"], protect=True))
    Certificate("client", CertificateArgs(authority, "root", "client"))


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
    assert list(requests["ca"].additionalSecretOutputs) == ["private_key_pem"]
    assert list(requests["client"].additionalSecretOutputs) == [
        "private_key_pem",
        "authority_private_key_pem",
    ]
    key = MessageToDict(requests["client"].object)["authority_private_key_pem"]
    assert SECRET_SIGNATURE.items() <= key.items()
    assert (UNKNOWN in key.values()) is preview


def test_the_callers_options_are_kept() -> None:
    request = registered(resources_of_a_cluster)["server"]
    assert request.protect
    assert set(request.additionalSecretOutputs) == {
        "not_after",
        "private_key_pem",
        "authority_private_key_pem",
    }


def test_a_program_gets_certificates_that_fit_together(clock: Clock) -> None:
    seen: list[list[Any]] = []

    def program() -> pulumi.Output[None]:
        authority = CertificateAuthority("ca", CertificateAuthorityArgs("etcd", "ECDSA-P256"))
        leaf = Certificate("peer", CertificateArgs(authority.authority, "m1", "peer", hosts=["m1"]))
        outputs = pulumi.Output.all(leaf.certificate_pem, leaf.private_key_pem, authority.certificate_pem)
        return outputs.apply(seen.append)

    registered(program)
    ((certificate_pem, private_key_pem, authority_pem),) = seen
    x509.verify_leaf(x509.KeyPair(certificate_pem, private_key_pem), authority_pem, clock.now)


def test_a_users_own_authority_signs_and_its_key_is_a_secret_though_given_as_plain_text() -> None:
    secret: list[bool] = []

    def program() -> pulumi.Output[None]:
        own = Authority.from_pem(OWN.certificate_pem, OWN.private_key_pem)
        Certificate("client", CertificateArgs(own, "root", "client"))
        is_secret: Any = own.private_key_pem.is_secret()
        return pulumi.Output.from_input(is_secret).apply(secret.append)

    inputs = MessageToDict(registered(program)["client"].object)
    assert secret == [True]
    assert inputs["authority_certificate_pem"] == OWN.certificate_pem
    assert inputs["authority_private_key_pem"] == {**SECRET_SIGNATURE, "value": OWN.private_key_pem}


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
        process.communicate(timeout=10)


def test_the_engines_calls_round_trip_through_the_provider_process(
    provider_process: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    stub = provider_process
    authority = x509.create_authority("own", now=datetime.now(timezone.utc), key_algorithm="ECDSA-P256")
    program = struct(
        {
            **LEAF,
            "authority_certificate_pem": authority.certificate_pem,
            "authority_private_key_pem": authority.private_key_pem,
            "__provider": serialize_provider(CertificateProvider()),
        }
    )
    in_preview = struct({**MessageToDict(program), "authority_certificate_pem": UNKNOWN})
    preview = stub.Check(provider_pb2.CheckRequest(news=in_preview), timeout=30)
    assert not preview.failures
    assert preview.inputs["renew_after"] == UNKNOWN

    inputs = stub.Check(provider_pb2.CheckRequest(news=program), timeout=30).inputs
    created = stub.Create(provider_pb2.CreateRequest(properties=inputs), timeout=30)
    again = stub.Check(provider_pb2.CheckRequest(olds=inputs, news=program), timeout=30).inputs
    assert again == inputs
    diff = provider_pb2.DiffRequest(id=created.id, olds=created.properties, news=inputs)
    assert stub.Diff(diff, timeout=30).changes == provider_pb2.DiffResponse.DIFF_NONE
    read = stub.Read(provider_pb2.ReadRequest(id=created.id, properties=created.properties), timeout=30)
    assert (read.id, read.properties, read.inputs) == (created.id, created.properties, inputs)

    program["hosts"] = ["m9.etcd.internal"]
    changed = stub.Check(provider_pb2.CheckRequest(olds=inputs, news=program), timeout=30).inputs
    diff = provider_pb2.DiffRequest(id=created.id, olds=created.properties, news=changed)
    answer = stub.Diff(diff, timeout=30)
    assert (answer.changes, list(answer.replaces)) == (provider_pb2.DiffResponse.DIFF_SOME, [])
    update = provider_pb2.UpdateRequest(id=created.id, olds=created.properties, news=changed)
    updated = MessageToDict(stub.Update(update, timeout=30).properties)
    pair = x509.KeyPair(updated["certificate_pem"], updated["private_key_pem"])
    x509.verify_leaf(pair, authority.certificate_pem, datetime.now(timezone.utc))
    stub.Delete(provider_pb2.DeleteRequest(id=created.id, properties=created.properties), timeout=30)


def test_a_failure_in_the_provider_process_shows_no_key(
    provider_process: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    provider = serialize_provider(CertificateProvider())
    broken = struct({**LEAF, "authority_private_key_pem": OTHER.private_key_pem, "__provider": provider})
    with pytest.raises(grpc.RpcError) as failed:
        provider_process.Create(provider_pb2.CreateRequest(properties=broken), timeout=30)
    text = str(failed.value)
    assert "PkiError" in text
    for pair in (OWN, OTHER):
        assert not any(line in text for line in pair.private_key_pem.splitlines()[1:-1])
