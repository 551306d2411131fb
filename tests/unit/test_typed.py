"""Arguments are checked by the types that they declare: every field of every class, by key, value and what to give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pulumi
import pytest
from pulumi_command.remote import ConnectionArgs

from etcd_cluster import (
    AwsMachines,
    Bastion,
    ConfigurationError,
    Defragment,
    EtcdClusterArgs,
    GcpMachines,
    Host,
    HostMachines,
    Install,
    LocalMachines,
    Machine,
    Ports,
    Ssh,
)
from etcd_cluster.errors import SecretText, shown
from etcd_cluster.etcd.options import KNOWN
from etcd_cluster.etcd.versions import Version, within
from etcd_cluster.load_generator import ClientMachine, LoadGenerator
from etcd_cluster.machines.machine import checked_machines
from etcd_cluster.names import require_cluster_name
from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.settings import validate_arguments
from etcd_cluster.typed import hints
from etcd_cluster.users import Permission, User
from tests.unit.keys import host_key, private_key

KEY = host_key(1)
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEhunter2\n-----END OPENSSH PRIVATE KEY-----\n"
BASTION = Bastion("10.0.0.9", host_key(9), private_key=private_key())
LATER: Any = pulumi.Output.from_input("later")


class OurHosts(HostMachines):
    """A caller's own, on the basis of ours."""


def hosts(host: Mapping[str, Any] | None = None, **ssh: Any) -> HostMachines:
    return HostMachines({"a": Host(**{"address": "10.0.0.1", "host_key": KEY, **(host or {})})}, Ssh(**ssh))


def aws(**changes: Any) -> AwsMachines:
    return AwsMachines(**{"subnet_ids": ["subnet-s"], "ssh_cidrs": ["10.0.0.0/8"], "bastion": BASTION, **changes})


def gcp(**changes: Any) -> GcpMachines:
    given = {"network": "n", "subnetwork": "s", "zones": ["europe-west1-b"], "ssh_ranges": ["10.0.0.0/8"]}
    return GcpMachines(**cast(Any, {**given, **changes}))


BOOLEANS = ["false", "true", 0, 1, None, [], LATER]
NUMBERS = ["3", 3.0, True, [], LATER]
TEXTS = [5, True, [], {}]
LISTS: list[Any] = ["text", 5, {"a": "b"}, [5], None]
NEITHER_LISTS_NOR_MAPPINGS = [value for value in LISTS if not isinstance(value, dict)]


def fields() -> list[tuple[str, Any, Any]]:
    """Key, arguments that hold the value, value."""

    def of(kind: Any, values: list[Any], **named: Any) -> list[tuple[str, Any, Any]]:
        return [(key, build, value) for key, build in named.items() for value in values]

    def args(**changes: Any) -> EtcdClusterArgs:
        return EtcdClusterArgs(**{"machines": LocalMachines(), **changes})

    rows: list[tuple[str, Any, Any]] = []
    tables: list[tuple[list[Any], str, list[str]]] = [
        (BOOLEANS, "", ["tls", "allow_undersized", "allow_unsafe_version", "allow_plaintext", "delete_data"]),
        ([*NUMBERS, None], "", ["ca_rotation", "ca_overlap_hours"]),
        (NUMBERS, "", ["members"]),
        ([*TEXTS, None, LATER], "", ["size", "version"]),
        (["a", ["a"], 5, LATER, None], "", ["etcd"]),
        (["release", {}, None, LATER], "", ["install"]),
        (["own", 5, LATER], "", ["ca"]),
        (["local", 5, {}, None, LATER], "", ["machines"]),
        ([*TEXTS, LATER], "", ["moved_from", "restore_from"]),
        (["s3://bucket", {}, LATER], "", ["backup"]),
        (["a", ["a"], {"a": "b"}, {1: User(["root"])}, {"a": {}}, LATER, None], "", ["users"]),
        (["a", ["a"], {"a": "b"}, {"a": [5]}, {"a": Permission("read", "/")}, LATER, None], "", ["roles"]),
        (
            [0.5, {}, True, LATER],
            "",
            ["defragment", "restore_in_place", "recover", "dns", "monitoring", "load_generator"],
        ),
        ([*TEXTS, LATER], "", ["load_check"]),
    ]
    for values, _, names in tables:
        rows += [(name, lambda value, name=name: args(**{name: value}), value) for name in names for value in values]

    def platform(prefix: str, build: Any, table: list[tuple[list[Any], list[str]]]) -> None:
        for values, names in table:
            for name in names:
                key = f"{prefix}{name}"
                rows.extend((key, lambda v, n=name: args(machines=build(**{n: v})), value) for value in values)

    platform("local.", LocalMachines, [([*NUMBERS, None], ["base_port"]), ([*TEXTS, LATER], ["directory"])])
    platform("hosts.a.", lambda **it: hosts(it), [(TEXTS, ["address", "host_key", "ssh_address", "device"])])
    platform(
        "ssh.",
        lambda **it: hosts(**it),
        [
            ([*TEXTS, None, LATER], ["user"]),
            ([*NUMBERS, None], ["port", "dial_attempts", "dial_timeout_seconds"]),
            (TEXTS, ["private_key"]),
            (["10.0.0.9", {}, LATER], ["bastion"]),
        ],
    )
    platform(
        "ssh.bastion.",
        lambda **it: hosts(bastion=Bastion(**cast(Any, {"address": "b", "host_key": host_key(9), **it}))),
        [(TEXTS, ["address", "host_key", "private_key"]), ([*NUMBERS, None], ["port"]), ([*TEXTS, LATER], ["user"])],
    )
    client = {"address": "10.0.0.9", "host_key": KEY}
    for values, names in (
        ([*TEXTS, LATER], ["user"]),
        (TEXTS, ["address", "host_key", "private_key"]),
        ([*NUMBERS, None], ["port"]),
    ):
        for name in names:

            def load_from(value: Any, name: str = name) -> Any:
                machine = ClientMachine(**cast(Any, {**client, name: value}))
                return args(load_check="report", load_generator=LoadGenerator(client=machine))

            rows += [(f"loadGenerator.client.{name}", load_from, value) for value in values]
    platform(
        "aws.",
        aws,
        [
            (LISTS, ["subnet_ids", "security_group_ids"]),
            (
                NEITHER_LISTS_NOR_MAPPINGS,
                [
                    *("client_cidrs", "ssh_cidrs", "client_security_group_ids", "ssh_security_group_ids"),
                    *("monitoring_cidrs", "monitoring_security_group_ids"),
                ],
            ),
            (BOOLEANS, ["deletion_protection", "retain_volumes", "make_security_group", "recovery_alarm"]),
            ([each for each in BOOLEANS if each is not None], ["spread"]),
            (NUMBERS, ["volume_gib"]),
            ([*TEXTS, LATER], ["instance_type", "replace_member", "replace_dead_member"]),
            (TEXTS, ["image_id", "kms_key_id", "instance_profile", "user_data", "hosted_zone_id"]),
            (["a", [], {"a": 1}, {1: "a"}, None], ["tags", "volumes", "network_interfaces", "addresses"]),
        ],
    )
    platform(
        "gcp.",
        gcp,
        [
            (LISTS, ["zones", "client_ranges", "client_tags", "ssh_ranges", "ssh_tags"]),
            (LISTS, ["network_tags", "service_account_scopes", "monitoring_ranges", "monitoring_tags"]),
            (BOOLEANS, ["deletion_protection", "retain_disks", "make_firewall", "os_login"]),
            ([each for each in BOOLEANS if each is not None], ["spread"]),
            (NUMBERS, ["disk_gb"]),
            ([*TEXTS, LATER], ["machine_type", "replace_member", "replace_dead_member"]),
            ([*TEXTS, None], ["network", "subnetwork"]),
            (TEXTS, ["image", "kms_key", "service_account", "user_data", "managed_zone"]),
            (["a", [], {"a": 1}, None], ["labels", "disks", "addresses"]),
        ],
    )
    return rows


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


@pytest.mark.parametrize(
    ("key", "build", "value"), [pytest.param(*row, id=f"{row[0]}-{n}") for n, row in enumerate(fields())]
)
def test_a_value_of_another_type_is_refused_by_its_key(key: str, build: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(build(value))
    assert refused.value.key.startswith(camel_case(key)), refused.value
    assert "Give " in str(refused.value)


def test_no_field_of_any_class_is_left_out() -> None:
    covered = {row[0].rpartition(".")[2] for row in fields()}
    for kind in (EtcdClusterArgs, LocalMachines, HostMachines, Host, Ssh, Bastion, AwsMachines, GcpMachines):
        assert set(hints(kind)) - covered <= {"hosts", "ssh", "private_key", "bastion", "proxy_command"}, kind.__name__


@pytest.mark.parametrize(("field", "value"), [("free", "0.5"), ("free", 1), ("free", True), ("at_least_mib", 1.5)])
def test_of_defragment_as_well(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^defragment\."):
        validate_arguments(EtcdClusterArgs(LocalMachines(), defragment=Defragment(**{field: value})))


@pytest.mark.parametrize(
    ("field", "value"),
    [("free", 0.05), ("free", 0.95), ("free", float("nan")), ("at_least_mib", 0), ("at_least_mib", 8193)],
)
def test_what_is_never_free_or_always_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^defragment\.{camel_case(field)}: .*out of range"):
        validate_arguments(EtcdClusterArgs(LocalMachines(), defragment=Defragment(**{field: value})))


@pytest.mark.parametrize("field", ["source", "mirror", "sha256", "archive", "go_proxy", "proxy", "no_proxy"])
@pytest.mark.parametrize("value", [5, True, [5]])
def test_of_install_as_well(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^install\."):
        validate_arguments(EtcdClusterArgs(LocalMachines(), install=Install(**{field: value})))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", 5),
        ("ports", (1, 2, 3)),
        ("ports", Ports(client=cast(Any, "2379"))),
        ("ports", Ports(peer=0)),
        ("ports", Ports(metrics=65_536)),
        ("connection", "10.0.0.1"),
        ("directory", 5),
        ("device", 5),
        ("first_boot", "no"),
        ("depends_on", "a"),
        ("deleted_with", "a"),
    ],
)
def test_of_what_a_platform_of_somebody_elses_yields(field: str, value: Any) -> None:
    given = {"name": "a", "address": "10.0.0.1", "connection": None, field: value}
    with pytest.raises(ConfigurationError, match=rf"^machine\.{camel_case(field)}"):
        checked_machines([Machine(**given)], ["a"])


def test_what_is_right_is_taken() -> None:
    for machines in (LocalMachines(), hosts(), hosts({"device": LATER, "address": LATER}), hosts(bastion=BASTION)):
        validate_arguments(EtcdClusterArgs(machines))
    validate_arguments(EtcdClusterArgs(aws(subnet_ids=LATER, tags={"a": LATER, "b": "c"}, ssh_cidrs=("10.0.0.0/8",))))
    checked_machines([Machine("a", LATER, ConnectionArgs(host="a"), depends_on=[])], ["a"])


@pytest.mark.parametrize(
    "name", [name for name, each in KNOWN.items() if within(Version.parse("3.6.16"), each.releases)]
)
@pytest.mark.parametrize("value", [LATER, object(), b"a", {1}, float("nan"), float("inf"), None])
def test_a_value_of_etcds_that_is_none_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^etcd\.{name}: "):
        validate_arguments(EtcdClusterArgs(LocalMachines(), etcd={name: value}))


@pytest.mark.parametrize("machines", [LocalMachines, HostMachines, AwsMachines, GcpMachines])
def test_a_class_in_the_place_of_machines_is_refused(machines: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^machines: "):
        validate_arguments(EtcdClusterArgs(machines))


@pytest.mark.parametrize(
    "args", [None, {}, {"machines": LocalMachines()}, LocalMachines(), EtcdClusterArgs, LATER, "a"]
)
def test_other_arguments_than_the_components_own_are_refused(args: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^args: .*EtcdClusterArgs"):
        validate_arguments(args)


@pytest.mark.parametrize("name", [None, 5, [], LATER, "", " a", "a\nb", "a" * 101])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^name: "):
        require_cluster_name(name, "project", "stack")


# --- what an error shows


@pytest.mark.parametrize(
    "machines",
    [
        hosts({"address": PEM}),
        hosts({"host_key": PEM}),
        hosts({"ssh_address": PEM}),
        hosts({"device": PEM}),
        hosts(user=PEM),
        hosts(port=PEM),
        hosts(bastion=Bastion(PEM, KEY)),
        hosts(bastion=Bastion("b", PEM)),
        hosts(bastion=Bastion("b", KEY, user=PEM)),
        HostMachines({PEM: Host("a", KEY)}),
        LocalMachines(directory=PEM),
        aws(image_id=PEM),
        aws(tags={"a": PEM}),
        aws(tags={PEM: "a"}),
        aws(ssh_cidrs=[PEM]),
        gcp(network=PEM),
        gcp(labels={"a": PEM}),
    ],
)
def test_a_private_key_in_a_wrong_place_is_refused_and_not_shown(machines: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(EtcdClusterArgs(machines))
    assert "hunter2" not in str(refused.value)
    assert "BEGIN" not in str(refused.value)


@pytest.mark.parametrize("change", [{"etcd": {"auth-token": PEM}}, {"etcd": {PEM: 1}}, {"size": PEM}, {"version": PEM}])
def test_nor_elsewhere(change: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(EtcdClusterArgs(LocalMachines(), **change))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "value", [SecretText("hunter2"), [SecretText("hunter2")], {"a": {"b": SecretText("hunter2")}}, PEM, "hunter2" * 100]
)
def test_no_secret_is_shown(value: object) -> None:
    assert "hunter2" not in shown(value)


def test_any_other_value_is_shown() -> None:
    assert [shown(value) for value in ("a b", 5, None, True, ["é"], {1: 2})] == [
        '"a b"',
        "5",
        "null",
        "true",
        '["é"]',
        '{"1": 2}',
    ]


# --- at the guard itself


@pytest.mark.parametrize(
    ("given", "deletes"), [(True, True), (False, False), ("false", False), ("true", False), (1, False)]
)
def test_data_is_deleted_for_true_alone(given: object, deletes: bool) -> None:
    document = {
        **{"cluster": "c", "token": "t", "version": "3.6.16", "tls": False, "options": {}, "user_options": {}},
        **{"quota_bytes": 1, "trusted": "", "order": [], "members": {}, "delete_data": given},
    }
    assert DesiredCluster.parse(json.dumps(document)).delete_data is deletes
    del document["delete_data"]
    assert DesiredCluster.parse(json.dumps(document)).delete_data is False


def test_a_callers_own_platform_is_checked_as_the_one_that_it_derives_from() -> None:
    machines = OurHosts({"a": Host("10.0.0.1", KEY)}, Ssh(private_key=cast("Any", 5)))
    with pytest.raises(ConfigurationError, match=r"ssh\.privateKey"):
        validate_arguments(EtcdClusterArgs(machines=machines))
