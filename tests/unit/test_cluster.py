"""What EtcdCluster registers: the exact children, how they hang together, and what is secret."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pulumi
import pytest

from etcd_cluster import (
    CA,
    ConfigurationError,
    EtcdCluster,
    EtcdClusterArgs,
    Host,
    HostMachines,
    Install,
    LocalMachines,
    Ssh,
)
from etcd_cluster.pki import x509
from etcd_cluster.rollout.desired import DesiredCluster
from tests.unit.framing import framed
from tests.unit.keys import host_key, private_key
from tests.unit.recording import Recorded, Recording, record

SSH_KEY = private_key()
HOSTS = HostMachines(
    {f"host-{number}": Host(f"10.0.0.{number}", host_key(number), device="/dev/nvme1n1") for number in (1, 2, 3)},
    Ssh(user="admin", private_key=SSH_KEY),
)
MEMBERS = ("host-1", "host-2", "host-3")
CLIENT_CA, PEER_CA = (
    x509.create_ca(name, now=datetime.now(timezone.utc), key_algorithm="ECDSA-P256")
    for name in ("etcd CA", "etcd peer CA")
)


def results(resource: Recorded) -> dict[str, Any]:
    """What the real providers would answer, with markers instead of PEM, but for the CA's certificate."""
    name = resource.name
    if resource.type.endswith(":CertificateAuthority"):
        ca = PEER_CA if name.endswith("-peer-ca") else CLIENT_CA
        return {"certificate_pem": ca.certificate_pem, "private_key_pem": secret(f"{name}-key")}
    if resource.type.endswith(":Certificate"):
        return {"certificate_pem": f"{name}-pem", "private_key_pem": secret(f"{name}-key")}
    if resource.type.endswith(":Formation"):
        return {
            "token": "the-token",
            "founders": {member: f"machine-of-{member}" for member in resource.value("reports")},
        }
    if resource.type.endswith(":HostRecord"):
        return {"record": "the-record", "former": {}}
    if resource.type.endswith(":LocalBinaries"):
        return {"directory": "/cache/etcd", "installed_version": "3.6.16"}
    if resource.type.endswith(":DeliveredBinaries"):
        return {"path": "/opt/etcd/archives/etcd.tar.gz", "delivered_sha256": "ab" * 32}
    return {"stdout": framed(json.dumps({"machine": name, "token": "", "running": False, "clock": 1}))}


def secret(value: str) -> pulumi.Output[str]:
    return pulumi.Output.secret(value)


def build(preview: bool = False, **changes: Any) -> Recording:
    arguments = {"machines": HOSTS, **changes}
    known = (lambda _: {}) if preview else results
    return record(lambda: EtcdCluster("etcd", EtcdClusterArgs(**arguments)), preview=preview, results=known)


@pytest.fixture(scope="module")
def three_hosts() -> Recording:
    return build()


def steps(name: str) -> list[str]:
    return [f"etcd-{member}-{name}" for member in MEMBERS]


def test_children_are_exactly_these(three_hosts: Recording) -> None:
    assert {name: resource.type for name, resource in three_hosts.resources.items()} == {
        "etcd": "etcd-cluster:index:EtcdCluster",
        **dict.fromkeys(["etcd-ca", "etcd-peer-ca"], "pulumi-python:dynamic/pki:CertificateAuthority"),
        "etcd-client": "pulumi-python:dynamic/pki:Certificate",
        "etcd-formation": "pulumi-python:dynamic/cluster:Formation",
        "etcd-hosts": "pulumi-python:dynamic/cluster:HostRecord",
        **dict.fromkeys(steps("server") + steps("peer"), "pulumi-python:dynamic/pki:Certificate"),
        **dict.fromkeys(steps("check") + steps("prepare"), "command:remote:Command"),
        "etcd-rollout": "pulumi-python:dynamic/cluster:Rollout",
    }


def test_every_child_hangs_below_the_component(three_hosts: Recording) -> None:
    children = [resource for name, resource in three_hosts.resources.items() if name != "etcd"]
    assert {resource.request.parent.split("$")[-1] for resource in children} == {"etcd-cluster:index:EtcdCluster::etcd"}


def dependencies(recording: Recording, name: str) -> set[str]:
    return {urn.split("::")[-1] for urn in recording.resources[name].request.dependencies}


def test_nothing_is_prepared_before_every_machine_was_checked_and_the_forming_recorded(three_hosts: Recording) -> None:
    assert dependencies(three_hosts, "etcd-formation") >= set(steps("check"))
    for prepare in steps("prepare"):
        assert "etcd-formation" in dependencies(three_hosts, prepare)


def test_the_cluster_is_changed_once_every_machine_is_ready(three_hosts: Recording) -> None:
    assert dependencies(three_hosts, "etcd-rollout") >= {*steps("check"), *steps("prepare"), "etcd-formation"}


def test_preparing_does_not_wait_for_other_members(three_hosts: Recording) -> None:
    assert not dependencies(three_hosts, "etcd-host-2-prepare") & {"etcd-host-1-prepare", "etcd-rollout"}


def test_lines_say_what_a_reviewer_wants_to_see_and_nothing_else(three_hosts: Recording) -> None:
    commands = three_hosts.resources
    assert commands["etcd-host-1-check"].value("create") == (
        "bash -s -- check member=host-1 address=10.0.0.1 ports=2379,2380,2381 install=release device=/dev/nvme1n1 "
        "size=small vcpus=2 memory-mib=6912 disk-gib=8 undersized=refuse"
    )
    assert commands["etcd-host-1-prepare"].value("create") == (
        "bash -s -- prepare member=host-1 version=3.6.16 device=/dev/nvme1n1 install=release "
        "mirror=https://github.com/etcd-io/etcd/releases/download"
    )


def test_where_etcd_cannot_choose_the_source_of_its_connections_the_preflight_compares_the_routes() -> None:
    line = build(version="3.5.35").resources["etcd-host-2-check"].value("create")
    assert " source=10.0.0.2 peers=10.0.0.1,10.0.0.3 " in line
    assert "source=" not in build(version="3.5.35", tls=False).resources["etcd-host-2-check"].value("create")


def test_no_command_runs_anything_when_it_is_destroyed(three_hosts: Recording) -> None:
    """The record of hosts stops members: it does not hang on a machine that is gone."""
    assert not [command.name for command in commands_of(three_hosts) if "delete" in command.inputs]


def test_the_rollout_shows_all_that_a_reviewer_wants_to_see_and_hides_the_rest() -> None:
    etcd = {"heartbeat-interval": 200, "election-timeout": 2000}
    rollout = build(etcd=etcd, delete_data=True).resources["etcd-rollout"]
    plain = {key: value for key, value in rollout.inputs.items() if not rollout.is_secret(key) and key != "__provider"}
    assert plain == {
        "version": "3.6.16",
        "tls": True,
        "size": "small",
        "etcd": etcd,
        "members": {f"host-{number}": f"10.0.0.{number}" for number in (1, 2, 3)},
        "places": {f"host-{number}": {"device": "/dev/nvme1n1", "ports": "2379,2380,2381"} for number in (1, 2, 3)},
        "ca_fingerprints": [x509.fingerprint(CLIENT_CA.certificate_pem)[:16]],
        "peer_ca_fingerprints": [x509.fingerprint(PEER_CA.certificate_pem)[:16]],
        "allow_plaintext": False,
        "users": {},
        "roles": {},
        "restore_from": "",
        "delete_data": True,
        "record": "the-record",
        "looks": True,
    }
    assert {key for key in rollout.inputs if rollout.is_secret(key)} == {"desired", "connections", "former"}


def test_hosts_are_looked_at_in_an_up_only() -> None:
    assert build().resources["etcd-rollout"].value("looks") is True
    assert build(preview=True).resources["etcd-rollout"].value("looks") is False


def desired_of(recording: Recording) -> DesiredCluster:
    return DesiredCluster.parse(recording.resources["etcd-rollout"].value("desired"))


def test_the_rollout_knows_all_that_a_member_is_made_of(three_hosts: Recording) -> None:
    desired = desired_of(three_hosts)
    assert (desired.cluster, desired.token, desired.version) == ("etcd-cluster/test/etcd", "the-token", "3.6.16")
    assert list(desired.members) == list(MEMBERS)
    assert list(desired.trusted) == x509.split_bundle(CLIENT_CA.certificate_pem)
    assert list(desired.peer_trusted) == x509.split_bundle(PEER_CA.certificate_pem)
    member = desired.members["host-2"]
    assert (member.address, member.device, member.outlives_destroy) == ("10.0.0.2", "/dev/nvme1n1", True)
    assert member.founder == "machine-of-host-2"
    assert member.prepare_line == three_hosts.resources["etcd-host-2-prepare"].value("create")
    assert member.prepare_variables["token"] == "the-token"
    assert member.server
    assert member.peer
    assert (member.server.certificate, member.server.key) == ("etcd-host-2-server-pem", "etcd-host-2-server-key")
    assert (member.peer.certificate, member.peer.key) == ("etcd-host-2-peer-pem", "etcd-host-2-peer-key")


def test_the_rollout_reaches_hosts_as_commands_do(three_hosts: Recording) -> None:
    connections = three_hosts.resources["etcd-rollout"].value("connections")
    assert set(connections) == set(MEMBERS)
    prepare = three_hosts.resources["etcd-host-2-prepare"].value("connection")
    assert {key: connections["host-2"][key] for key in prepare} == prepare


def commands_of(recording: Recording) -> list[Recorded]:
    return [resource for resource in recording.resources.values() if "Command" in resource.type]


def test_scripts_and_connections_are_secret(three_hosts: Recording) -> None:
    for command in commands_of(three_hosts):
        assert command.is_secret("stdin")
        assert command.is_secret("connection")
        assert command.request.hideDiffs == ["stdin"]
        assert command.inputs["addPreviousOutputInEnv"] is False


def test_no_key_is_in_any_plain_input(three_hosts: Recording) -> None:
    for resource in three_hosts.resources.values():
        plain = {key: value for key, value in resource.inputs.items() if not resource.is_secret(key)}
        assert "-key" not in json.dumps(plain, default=str).replace("host-key", ""), resource.name
        assert "ssh-secret" not in json.dumps(plain, default=str), resource.name


def test_commands_never_replace(three_hosts: Recording) -> None:
    """A replacement runs the new step before the old one's removal: nothing about a step is worth that."""
    for command in commands_of(three_hosts):
        assert "triggers" not in command.inputs


def test_connections_are_pinned_and_give_up_within_seconds(three_hosts: Recording) -> None:
    connection = three_hosts.resources["etcd-host-2-check"].value("connection")
    assert connection["hostKey"] == host_key(2)
    assert connection["host"] == "10.0.0.2"
    assert connection["user"] == "admin"
    assert connection["dialErrorLimit"] * connection["perDialTimeout"] <= 15


def test_steps_are_bounded_in_time(three_hosts: Recording) -> None:
    for command in commands_of(three_hosts):
        assert command.request.customTimeouts.create
        assert command.request.customTimeouts.update


def test_outputs_are_for_clients_and_the_key_is_secret(three_hosts: Recording) -> None:
    outputs = three_hosts.outputs["etcd"]
    assert outputs["endpoints"] == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]
    assert outputs["members"]["host-3"] == {
        "address": "10.0.0.3",
        "clientUrl": "https://10.0.0.3:2379",
        "peerUrl": "https://10.0.0.3:2380",
    }
    assert outputs["caCertificate"] == CLIENT_CA.certificate_pem
    assert outputs["clientCertificate"] == "etcd-client-pem"
    assert pulumi.runtime.rpc.is_rpc_secret(outputs["clientKey"])
    assert outputs["version"] == "3.6.16"


def test_a_certificate_names_the_member_its_address_and_loopback(three_hosts: Recording) -> None:
    server = three_hosts.resources["etcd-host-2-server"]
    assert server.value("hosts") == ["host-2", "10.0.0.2", "localhost", "127.0.0.1", "::1"]
    assert server.value("profile") == "server"
    client = three_hosts.resources["etcd-client"]
    assert (client.value("hosts"), client.value("profile")) == ([], "client")


@pytest.mark.parametrize("own", [False, True], ids=["made", "own"])
def test_what_members_show_one_another_is_signed_by_a_ca_that_signs_nothing_else(own: bool) -> None:
    """So that nothing a client has opens the peer port: neither made here, nor by a company's own CA."""

    def program() -> None:
        ca = CA.from_pem(CLIENT_CA.certificate_pem, "own-ca-key") if own else None
        EtcdCluster("etcd", EtcdClusterArgs(machines=HOSTS, ca=ca, ca_rotation=1))

    resources = record(program, results=results).resources
    signed_by = {
        name: resource.value("ca_certificate_pem")
        for name, resource in resources.items()
        if resource.type.endswith(":Certificate")
    }
    by_peer_ca = {name for name, ca in signed_by.items() if ca == PEER_CA.certificate_pem}
    assert by_peer_ca == set(steps("peer"))
    assert {signed_by[name] for name in {*steps("server"), "etcd-client"}} == {CLIENT_CA.certificate_pem}
    made = {
        name: each.value("rotation") for name, each in resources.items() if each.type.endswith(":CertificateAuthority")
    }
    assert made == {"etcd-peer-ca": 1, **({} if own else {"etcd-ca": 1})}


def test_preview_of_a_new_cluster_works_with_everything_unknown() -> None:
    recording = build(preview=True)
    assert set(recording.resources) == set(build().resources)
    assert recording.resources["etcd-host-1-prepare"].value("create").startswith("bash -s -- prepare member=host-1")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"version": "3.6.15"}, {*steps("prepare"), "etcd-rollout", "etcd"}),
        ({"etcd": {"heartbeat-interval": 200, "election-timeout": 2000}}, {"etcd-rollout"}),
        ({"size": "medium"}, {*steps("check"), "etcd-rollout", "etcd"}),
        ({"allow_undersized": True}, {*steps("check")}),
        ({"allow_plaintext": True}, {"etcd-rollout"}),
        ({"delete_data": True}, {"etcd-rollout", "etcd-hosts"}),
    ],
)
def test_a_change_shows_in_the_lines_it_concerns(
    three_hosts: Recording, change: dict[str, Any], changed: set[str]
) -> None:
    def visible(recording: Recording) -> dict[str, str]:
        return {
            name: json.dumps({k: v for k, v in r.inputs.items() if not r.is_secret(k)}, default=str, sort_keys=True)
            for name, r in recording.resources.items()
        }

    before, after = visible(three_hosts), visible(build(**change))
    assert {name for name in before if before[name] != after[name]} == changed


def test_plaintext_has_no_certificates_and_says_that_it_is_unsafe() -> None:
    recording = build(tls=False)
    assert not [name for name, resource in recording.resources.items() if "pki" in resource.type]
    assert recording.outputs["etcd"]["endpoints"][0] == "http://10.0.0.1:2379"
    assert any(warning.startswith("tls: false") for warning in recording.warnings)


def test_an_own_ca_signs_instead_of_a_new_one() -> None:
    def program() -> None:
        own = CA.from_pem(CLIENT_CA.certificate_pem, "own-ca-key")
        EtcdCluster("etcd", EtcdClusterArgs(machines=HOSTS, ca=own))

    recording = record(program, results=results)
    assert "etcd-ca" not in recording.resources
    assert recording.resources["etcd-client"].value("ca_certificate_pem") == CLIENT_CA.certificate_pem
    assert recording.outputs["etcd"]["caCertificate"] == CLIENT_CA.certificate_pem


@pytest.mark.parametrize("source", ["archive", "build"])
def test_programs_are_sent_only_after_the_preflight(source: str) -> None:
    archive = "/tmp/etcd.tar.gz" if source == "archive" else None
    recording = build(install=Install(source=source, archive=archive))  # type: ignore[arg-type]
    assert "etcd-formation" in dependencies(recording, "etcd-host-1-binaries")
    assert recording.resources["etcd-host-1-binaries"].is_secret("connection")
    assert "etcd-host-1-binaries" in dependencies(recording, "etcd-host-1-prepare")


def test_members_on_this_machine_use_local_commands_and_one_set_of_programs() -> None:
    recording = build(machines=LocalMachines(directory="/srv/etcd"))
    commands = commands_of(recording)
    assert {command.type for command in commands} == {"command:local:Command"}
    assert [name for name in recording.resources if name.endswith("binaries")] == ["etcd-binaries"]
    assert recording.outputs["etcd"]["endpoints"] == [f"https://127.0.0.1:{port}" for port in (2379, 2389, 2399)]
    assert recording.resources["etcd-rollout"].value("connections") == {}
    assert {member.layout.supervisor for member in desired_of(recording).members.values()} == {"process"}


def test_two_clusters_live_in_one_program() -> None:
    def program() -> None:
        EtcdCluster("main", EtcdClusterArgs(machines=LocalMachines(2379, "/srv/a")))
        EtcdCluster("events", EtcdClusterArgs(machines=LocalMachines(3379, "/srv/b")))

    recording = record(program, results=results)
    names = [name.partition("-")[0] for name in recording.resources]
    assert names.count("main") == names.count("events")


def test_bad_arguments_are_refused_before_anything_is_registered() -> None:
    def program() -> None:
        with pytest.raises(ConfigurationError, match='size: "tiny": unknown'):
            EtcdCluster("etcd", EtcdClusterArgs(machines=HOSTS, size="tiny"))  # type: ignore[arg-type]

    recording = record(program)
    assert recording.resources == {}


@pytest.mark.parametrize("length", [1, 51, 52, 100])
def test_a_long_name_is_shortened_in_the_subjects_of_its_cas(length: int) -> None:
    """RFC 5280 allows 64 characters there."""
    subjects = [ca_subjects("a" * length), ca_subjects("a" * (length - 1) + "b")]
    assert all(len(each) <= 64 and each.endswith(("etcd CA", "etcd peer CA")) for pair in subjects for each in pair)
    assert not set(subjects[0]) & set(subjects[1])
    if length <= 51:
        assert subjects[0] == ["a" * length + " etcd CA", "a" * length + " etcd peer CA"]


def ca_subjects(name: str) -> list[str]:
    def program() -> None:
        EtcdCluster(name, EtcdClusterArgs(machines=LocalMachines()))

    resources = record(program, results=results).resources
    return [resources[f"{name}-{ca}"].value("common_name") for ca in ("ca", "peer-ca")]
