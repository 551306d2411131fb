"""What GcpMachines registers: the exact resources and options, for every size; and what is refused before that."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from etcd_cluster import Bastion, ConfigurationError, EtcdCluster, EtcdClusterArgs, GcpMachines, Monitoring
from etcd_cluster.etcd.sizes import SIZES
from etcd_cluster.machines.gcp import limits, machine_types
from etcd_cluster.stack_config import NAMESPACE, args_from_stack_config
from tests.unit import test_cluster
from tests.unit.keys import host_key
from tests.unit.recording import PROJECT, STACK, Recorded, Recording, record

pulumi_gcp = pytest.importorskip("pulumi_gcp", reason="needs the extra etcd-cluster[gcp]")

ZONES = ("europe-west1-b", "europe-west1-c", "europe-west1-d")
KMS_KEY = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
TAG = limits.network_tag(PROJECT, STACK, "etcd")
OWN_KEY = """\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBJQNGWphsQmTrDWHLGF9someARZcTLMdwge01kt6AEYgAAAJipZ9/fqWff
3wAAAAtzc2gtZWQyNTUxOQAAACBJQNGWphsQmTrDWHLGF9someARZcTLMdwge01kt6AEYg
AAAECX46NMABlRrCVaaj8RfKrMW9ROp2QiRRqL4kMYhgqqSUlA0ZamGxCZOsNYcsYX2yiZ
4BFlxMsx3CB7TWS3oARiAAAAEHVzZXJAZXhhbXBsZS5jb20BAgMEBQ==
-----END OPENSSH PRIVATE KEY-----
"""


def given(**changes: Any) -> GcpMachines:
    arguments: dict[str, Any] = {
        "network": "net",
        "subnetwork": "subnet",
        "zones": ZONES,
        "client_ranges": ["10.1.0.0/16"],
        "client_tags": ["app"],
        "ssh_ranges": ["10.9.0.5/32"],
        "ssh_tags": ["bastion"],
        **changes,
    }
    return GcpMachines(**arguments)


def results(resource: Recorded) -> dict[str, Any]:
    if resource.type == "gcp:compute/address:Address":
        return {"address": f"10.0.0.{resource.name.split('-')[2]}"}
    if resource.type.endswith(":SshKeyPair"):
        private_key = pulumi.Output.secret(f"{resource.name}-private")
        return {"public_key": f"ssh-ed25519 {resource.name}-public", "private_key": private_key}
    if resource.type.startswith("gcp:"):
        return {}
    return test_cluster.results(resource)


def calls(token: str, _: dict[str, Any]) -> dict[str, Any]:
    """As mocks answer: no answer stops nothing."""
    assert token in (machine_types.MACHINE_TYPES, "gcp:compute/getDisk:getDisk")
    return {}


def build(
    preview: bool = False, opts: Any = None, arguments: dict[str, Any] | None = None, **changes: Any
) -> Recording:
    known = (lambda _: {}) if preview else results

    def program() -> None:
        EtcdCluster("etcd", EtcdClusterArgs(machines=given(**changes), **arguments or {}), opts() if opts else None)

    return record(program, preview=preview, results=known, calls=calls)


def test_what_a_users_mocks_do_not_give_ends_no_test() -> None:
    def program() -> None:
        own: Any = pulumi.Output.from_input("mocked").apply(lambda _: None)
        EtcdCluster("etcd", EtcdClusterArgs(machines=given(network=own, subnetwork=own)))

    assert record(program, calls=lambda *_: {}).resources


@pytest.fixture(scope="module")
def three() -> Recording:
    return build()


def of_google(recording: Recording) -> list[Recorded]:
    return [resource for resource in recording.resources.values() if resource.type.startswith("gcp:")]


def each(what: str = "") -> list[str]:
    return [f"etcd-{member}{what}" for member in MEMBERS]


# --- what there is ---


def test_resources_are_exactly_these(three: Recording) -> None:
    types = {name: resource.type for name, resource in three.resources.items()}
    machines = {n: t for n, t in types.items() if t.startswith("gcp:") or t.endswith("SshKeyPair")}
    assert machines == {
        **dict.fromkeys(each(), "gcp:compute/instance:Instance"),
        **dict.fromkeys(each("-data"), "gcp:compute/disk:Disk"),
        **dict.fromkeys(each("-address"), "gcp:compute/address:Address"),
        **dict.fromkeys(["etcd-ssh", *each("-host-key")], "pulumi-python:dynamic/ssh:SshKeyPair"),
        **dict.fromkeys([f"etcd-allow-{who}" for who in ("clients", "peers", "ssh")], "gcp:compute/firewall:Firewall"),
    }


def test_every_resource_hangs_below_the_component(three: Recording) -> None:
    children = [resource for name, resource in three.resources.items() if name != "etcd"]
    assert {child.request.parent.split("::")[-1] for child in children} == {"etcd"}


@pytest.mark.parametrize("size", SIZES)
def test_hardware_is_the_table_row(size: str) -> None:
    row = SIZES[size].gce
    recording = build(arguments={"size": size})
    for name in each():
        assert recording.resources[name].value("machineType") == row.machine_type
        data = recording.resources[f"{name}-data"]
        assert (data.value("type"), data.value("size")) == ("pd-ssd", row.disk_gb)


@pytest.mark.parametrize("members", [1, 3, 5])
@pytest.mark.parametrize("zones", [ZONES[:1], ZONES[:2], ZONES])
def test_members_are_spread_over_the_zones_and_their_disks_with_them(zones: tuple[str, ...], members: int) -> None:
    recording = build(arguments={"members": members}, zones=zones)
    placed = [recording.resources[f"etcd-etcd-{number}"].value("zone") for number in range(1, members + 1)]
    assert placed == [zones[number % len(zones)] for number in range(members)]
    for number, zone in enumerate(placed, 1):
        assert recording.resources[f"etcd-etcd-{number}-data"].value("zone") == zone
        assert recording.resources[f"etcd-etcd-{number}-address"].value("region") == "europe-west1"


def test_an_address_is_internal_static_and_where_the_member_is_reached(three: Recording) -> None:
    address = three.resources["etcd-etcd-2-address"]
    assert (address.value("addressType"), address.value("subnetwork")) == ("INTERNAL", "subnet")
    assert three.resources["etcd-etcd-2"].value("networkInterfaces") == [
        {"subnetwork": "subnet", "networkIp": "10.0.0.2"}
    ], "one interface, and no accessConfigs, which would be a public address"
    assert three.outputs["etcd"]["endpoints"] == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]


def test_the_disk_is_attached_by_a_name_that_the_machine_finds(three: Recording) -> None:
    instance = three.resources["etcd-etcd-1"]
    assert instance.value("attachedDisks") == [{"source": "etcd-etcd-1-data-id", "deviceName": "etcd-data"}]
    assert " device=/dev/disk/by-id/google-etcd-data " in three.resources["etcd-etcd-1-check"].value("create")


def test_machines_are_hardened(three: Recording) -> None:
    for name in each():
        instance = three.resources[name]
        assert "serviceAccount" not in instance.inputs, "no credentials on the machine"
        assert instance.value("shieldedInstanceConfig") == {
            "enableSecureBoot": True,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        }
        metadata = instance.value("metadata")
        assert {key: value for key, value in metadata.items() if key != "user-data"} == {
            "block-project-ssh-keys": "true",
            "enable-oslogin": "false",
            "serial-port-enable": "false",
        }


def test_the_firewall_lets_in_what_is_named_and_nothing_else(three: Recording) -> None:
    rules = {
        resource.value("allows")[0]["ports"][0]: (
            resource.inputs.get("sourceRanges"),
            resource.inputs.get("sourceTags"),
        )
        for resource in of_google(three)
        if resource.type.endswith(":Firewall")
    }
    assert rules == {
        "2379": (["10.1.0.0/16"], ["app", TAG]),
        "2380": (None, [TAG]),
        "22": (["10.9.0.5/32"], ["bastion"]),
    }
    for resource in of_google(three):
        if resource.type.endswith(":Firewall"):
            assert resource.value("direction") == "INGRESS"
            assert resource.value("allows") == [{"protocol": "tcp", "ports": resource.value("allows")[0]["ports"]}]
            assert resource.value("targetTags") == [TAG]
        if resource.type.endswith(":Instance"):
            assert resource.value("tags") == [TAG]


def test_without_clients_only_members_reach_etcd() -> None:
    clients = build(client_ranges=(), client_tags=()).resources["etcd-allow-clients"]
    assert clients.value("sourceTags") == [TAG]
    assert "sourceRanges" not in clients.inputs


def test_metrics_are_open_to_where_prometheus_runs_alone() -> None:
    assert "etcd-allow-monitoring" not in build().resources
    exposed = build(
        arguments={"monitoring": Monitoring()}, monitoring_ranges=["10.9.0.0/24"], monitoring_tags=["prometheus"]
    )
    rule = exposed.resources["etcd-allow-monitoring"]
    assert (rule.value("sourceRanges"), rule.value("sourceTags")) == (["10.9.0.0/24"], ["prometheus"])
    assert rule.value("allows") == [{"protocol": "tcp", "ports": ["2382"]}]


def test_ranges_tags_and_labels_may_be_known_later() -> None:
    later: Any = pulumi.Output.from_input
    recording = build(
        client_ranges=[later("10.7.0.0/16"), "10.8.0.0/16"], ssh_tags=[later("bastion")], labels={"team": later("a")}
    )
    assert recording.resources["etcd-allow-clients"].value("sourceRanges") == ["10.7.0.0/16", "10.8.0.0/16"]
    assert recording.resources["etcd-allow-ssh"].value("sourceTags") == ["bastion"]
    assert recording.resources["etcd-etcd-1"].value("labels")["team"] == "a"
    with pytest.raises(ConfigurationError, match=r"^gcp\.clientRanges: .*the whole world"):
        build(client_ranges=[later("0.0.0.0/0")])


def test_everything_that_takes_labels_has_the_same_ones() -> None:
    recording = build(labels={"team": "platform"})
    labelled = [*each(), *each("-data"), *each("-address")]
    for name in labelled:
        member = name.removeprefix("etcd-")[: len("etcd-1")]
        assert recording.resources[name].value("labels") == {
            "team": "platform",
            "pulumi-project": PROJECT,
            "pulumi-stack": STACK,
            "etcd-cluster": "etcd",
            "etcd-member": member,
            **({"etcd-address": f"10-0-0-{member[-1]}"} if name.endswith("-data") else {}),
        }
    for name in each():
        instance = recording.resources[name]
        assert instance.value("bootDisk")["initializeParams"]["labels"] == instance.value("labels")


def test_a_customer_key_is_for_all_disks(three: Recording) -> None:
    recording = build(kms_key=KMS_KEY)
    for name in each():
        assert recording.resources[f"{name}-data"].value("diskEncryptionKey") == {"kmsKeySelfLink": KMS_KEY}
        assert recording.resources[name].value("bootDisk")["kmsKeySelfLink"] == KMS_KEY
        assert "diskEncryptionKey" not in three.resources[f"{name}-data"].inputs


def test_the_callers_choices_take_the_place_of_the_defaults() -> None:
    instance = build(machine_type="n2-standard-8", image="projects/p/global/images/i").resources["etcd-etcd-1"]
    assert instance.value("machineType") == "n2-standard-8"
    assert instance.value("bootDisk")["initializeParams"]["image"] == "projects/p/global/images/i"
    assert build(disk_gb=600).resources["etcd-etcd-1-data"].value("size") == 600


def test_providers_are_the_components() -> None:
    def opts() -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(providers=[pulumi_gcp.Provider("own", project="p", region="europe-west1")])

    for resource in of_google(build(opts=opts)):
        assert "::own::" in resource.request.provider, resource.name


# --- what changes may do ---

PLACE = ["zone", "networkInterfaces", "attachedDisks"]
TAKEN_UP_BY_A_REPLACEMENT = ["machineType", "bootDisk", "serviceAccount", "resourcePolicies"]


def options(resource: Recorded) -> tuple[bool, bool, list[str]]:
    request = resource.request
    return request.protect, request.retainOnDelete, list(request.ignoreChanges)


def test_a_running_member_is_never_replaced_moved_or_stopped_by_a_change(three: Recording) -> None:
    for name in each():
        assert options(three.resources[name]) == (False, False, [*PLACE, *TAKEN_UP_BY_A_REPLACEMENT, "metadata"])
        assert options(three.resources[f"{name}-data"]) == (
            False,
            True,
            ["name", "zone", "type", "diskEncryptionKey", "size"],
        )
        assert options(three.resources[f"{name}-address"]) == (False, False, ["region", "subnetwork", "address"])
        assert "allowStoppingForUpdate" not in three.resources[name].inputs


def test_a_replaced_machine_goes_before_its_successor_comes(three: Recording) -> None:
    """Address and disk belong to one machine at a time."""
    for name in each():
        assert three.resources[name].request.deleteBeforeReplace
        assert list(three.resources[name].request.replaceOnChanges) == ["metadata"]


def test_only_the_replaced_member_takes_up_changes(three: Recording) -> None:
    recording = build(replace_member="etcd-2")
    differing = {
        name for name in three.resources if options(three.resources[name]) != options(recording.resources[name])
    }
    assert differing == {"etcd-etcd-2"}
    guarded = {name for name in each() if "etcd-machine-replacement" in test_cluster.dependencies(recording, name)}
    assert guarded == {"etcd-etcd-2"}
    assert recording.resources["etcd-machine-replacement"].value("replace_member") == "etcd-2"
    assert options(recording.resources["etcd-etcd-2"]) == (False, False, [*PLACE, *TAKEN_UP_BY_A_REPLACEMENT])
    # Its disk does where its size is known: tests/clouds.


def test_a_member_named_as_dead_is_replaced_as_by_replace_member_and_the_guard_is_told() -> None:
    recording, replaced = build(replace_dead_member="etcd-2"), build(replace_member="etcd-2")
    assert {name: options(each) for name, each in recording.resources.items()} == {
        name: options(each) for name, each in replaced.resources.items()
    }
    guard = recording.resources["etcd-machine-replacement"]
    assert (guard.value("replace_member"), guard.value("is_dead")) == ("etcd-2", True)


def test_deletion_protection_holds_for_what_a_member_is_made_of() -> None:
    recording = build(deletion_protection=True)
    for name in [*each(), *each("-data"), *each("-address")]:
        assert recording.resources[name].request.protect, name
    assert recording.resources["etcd-etcd-1"].value("deletionProtection") is True


def test_data_disks_are_given_up_by_name_only() -> None:
    recording = build(retain_disks=False)
    assert not any(recording.resources[name].request.retainOnDelete for name in each("-data"))


def test_nothing_is_run_on_a_machine_that_goes_away(three: Recording) -> None:
    commands = [resource for resource in three.resources.values() if resource.type == "command:remote:Command"]
    assert len(commands) == 3 * 2
    for command in commands:
        instance = f"etcd-{command.name.removeprefix('etcd-')[: len('etcd-1')]}"
        assert command.request.deletedWith.split("::")[-1] == instance
        assert instance in test_cluster.dependencies(three, command.name)
    assert not any(member.outlives_destroy for member in test_cluster.desired_of(three).members.values())


# --- how machines are reached ---


def test_a_machine_is_reached_as_the_operator_with_its_host_key_pinned(three: Recording) -> None:
    connection = three.resources["etcd-etcd-3-check"].value("connection")
    assert (connection["host"], connection["user"]) == ("10.0.0.3", "etcd-operator")
    assert connection["hostKey"] == "ssh-ed25519 etcd-etcd-3-host-key-public"
    assert connection["privateKey"] == "etcd-ssh-private"


def test_first_boot_is_awaited_with_patience_and_later_steps_give_up_within_seconds(three: Recording) -> None:
    def patience(step: str) -> float:
        connection = three.resources[f"etcd-etcd-1-{step}"].value("connection")
        return float(connection["dialErrorLimit"] * connection["perDialTimeout"])

    assert " boot=first" in three.resources["etcd-etcd-1-check"].value("create")
    assert 180 <= patience("check") <= 1200
    assert patience("prepare") <= 15
    rollout = three.resources["etcd-rollout"].value("connections")["etcd-1"]
    assert rollout["dialErrorLimit"] * rollout["perDialTimeout"] <= 15


def test_user_data_carries_this_machines_keys_and_is_secret(three: Recording) -> None:
    for name in each():
        instance = three.resources[name]
        assert instance.is_secret("metadata")
        user_data = instance.value("metadata")["user-data"]
        assert user_data.startswith("#cloud-config\n")
        assert f"{name}-host-key-private" in user_data
        assert "ssh-ed25519 etcd-ssh-public" in user_data
        assert "etcd-ssh-private" not in user_data, "the key to log in with stays here"
        assert "metadata" in instance.request.additionalSecretOutputs


def test_no_private_key_is_in_a_plain_input(three: Recording) -> None:
    for resource in three.resources.values():
        plain = json.dumps({key: _plain(value) for key, value in resource.inputs.items()}, default=str)
        assert "-private" not in plain, resource.name


def _plain(value: Any) -> Any:
    if pulumi.runtime.rpc.is_rpc_secret(value):
        return "[secret]"
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def test_an_own_key_and_a_bastion_are_used_as_given() -> None:
    bastion = Bastion("203.0.113.7", host_key(9), user="jump")
    recording = build(private_key=OWN_KEY, bastion=bastion)
    keys = {name for name, resource in recording.resources.items() if resource.type.endswith("SshKeyPair")}
    assert keys == set(each("-host-key")), "none is made to log in with"
    connection = recording.resources["etcd-etcd-1-prepare"].value("connection")
    assert connection["privateKey"] == OWN_KEY
    proxy = connection["proxy"]
    assert (proxy["host"], proxy["user"], proxy["hostKey"]) == ("203.0.113.7", "jump", host_key(9))


# --- preview ---


def test_preview_of_a_new_cluster_works_with_everything_unknown(three: Recording) -> None:
    preview = build(preview=True)
    assert set(preview.resources) == set(three.resources)
    assert preview.resources["etcd-etcd-1"].value("machineType") == "n1-standard-2"


def test_preview_works_with_a_network_that_is_made_in_the_same_program() -> None:
    def program() -> None:
        network = pulumi_gcp.compute.Network("net")
        subnetwork = pulumi_gcp.compute.Subnetwork("subnet", network=network.id, ip_cidr_range="10.0.0.0/24")
        machines = given(network=network.self_link, subnetwork=subnetwork.self_link)
        EtcdCluster("etcd", EtcdClusterArgs(machines=machines))

    assert "etcd-etcd-3" in record(program, preview=True, calls=calls).resources


# --- stack config ---


def from_stack_config(gcp: dict[str, Any], **others: Any) -> GcpMachines:
    blocks = {"gcp": gcp, **others}
    pulumi.runtime.set_all_config(
        {f"{NAMESPACE}:{key}": json.dumps(block) for key, block in blocks.items()} | {f"{NAMESPACE}:platform": "gcp"}
    )
    machines = args_from_stack_config().machines
    assert isinstance(machines, GcpMachines)
    return machines


def test_every_key_of_stack_config_reaches_its_argument() -> None:
    values: dict[str, Any] = {
        "network": "net",
        "subnetwork": "subnet",
        "zones": ["europe-west1-b"],
        "clientRanges": ["10.1.0.0/16"],
        "clientTags": ["app"],
        "sshRanges": ["10.9.0.5/32"],
        "sshTags": ["bastion"],
        "machineType": "n2-standard-4",
        "image": "i",
        "diskGb": 100,
        "kmsKey": KMS_KEY,
        "deletionProtection": True,
        "retainDisks": False,
        "replaceMember": "etcd-2",
        "replaceDeadMember": "etcd-3",
        "labels": {"team": "platform"},
    }
    bastion = {"address": "b", "hostKey": host_key(9), "user": "jump"}
    machines = from_stack_config(values, ssh={"privateKey": OWN_KEY, "bastion": bastion})
    for key, value in values.items():
        assert getattr(machines, "".join(f"_{c.lower()}" if c.isupper() else c for c in key)) == value, key
    assert machines.bastion is not None
    assert (machines.bastion.address, machines.bastion.user) == ("b", "jump")
    assert machines.private_key is not None


@pytest.mark.parametrize(
    ("gcp", "text"),
    [
        ({"subnetwork": "s"}, "gcp.network"),
        ({"network": "n", "subnetwork": "s", "zone": "z"}, "did you mean zones"),
        ({"network": "n", "subnetwork": "s", "zones": "europe-west1-b"}, "gcp.zones"),
        ({"network": "n", "subnetwork": "s", "zones": ["europe-west1-b"], "labels": {"team": 5}}, "gcp.labels.team"),
    ],
)
def test_a_slip_in_stack_config_is_named_with_its_path(gcp: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        from_stack_config(gcp)
    assert text in str(refused.value).lower()


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"zones": ()}, "gcp.zones"),
        ({"zones": ("europe-west1",)}, 'gcp.zones[0]: "europe-west1": not a zone'),
        ({"zones": ("europe-west1-b", "europe-west2-b")}, "not of one region"),
        ({"zones": ("europe-west1-b", "europe-west1-b")}, "listed twice"),
        ({"client_ranges": ["0.0.0.0/0"]}, 'gcp.clientRanges: "0.0.0.0/0": the whole world'),
        ({"ssh_ranges": ["0.0.0.0/1", "128.0.0.0/1"]}, 'gcp.sshRanges: "0.0.0.0/1": the whole world'),
        ({"ssh_ranges": ["10.0.0.1/8"]}, "host bits"),
        ({"client_ranges": ["fd00::/64"]}, "not a range of IPv4 addresses"),
        ({"ssh_ranges": (), "ssh_tags": ()}, "nobody could reach the machines by SSH"),
        ({"ssh_tags": ["Bastion"]}, 'gcp.sshTags[0]: "Bastion": not a network tag'),
        ({"client_tags": ["a" * 64]}, "gcp.clientTags"),
        ({"labels": {"Team": "x"}}, "gcp.labels.Team"),
        ({"labels": {"team": "Platform"}}, 'gcp.labels.team: "Platform"'),
        ({"labels": {"1st": "x"}}, "gcp.labels.1st"),
        ({"labels": {"etcd-member": "x"}}, "set by the cluster"),
        ({"kms_key": "my-key"}, 'gcp.kmsKey: "my-key"'),
        ({"replace_member": "etcd-4"}, 'gcp.replaceMember: "etcd-4": no such member'),
        ({"replace_dead_member": "etcd-4"}, 'gcp.replaceDeadMember: "etcd-4": no such member'),
        ({"replace_member": "etcd-1", "replace_dead_member": "etcd-2"}, "one machine is replaced at a time"),
        ({"replace_dead_member": "etcd-1", "deletion_protection": True}, "protected from deletion"),
        ({"replace_member": "etcd-1", "deletion_protection": True}, "protected from deletion"),
        ({"private_key": "hunter2"}, "not an SSH private key"),
        ({"bastion": Bastion("b", host_key(9))}, "ssh.bastion"),
        ({"machine_type": "n1-standard-1"}, "size small needs 2 vCPUs and 7.5 GB"),
        ({"machine_type": "n1-highcpu-2"}, "size small needs 2 vCPUs and 7.5 GB"),
        ({"machine_type": "n4-standard-4"}, "no pd-ssd"),
        ({"machine_type": "c4a-standard-4"}, "no pd-ssd"),
        ({"machine_type": "t2a-standard-4"}, "no secure boot"),
        ({"disk_gb": 20}, "gcp.diskGb: 20: size small needs 50 for its IOPS"),
    ],
)
def test_what_cannot_work_is_refused_by_name_and_nothing_is_registered(changes: dict[str, Any], text: str) -> None:
    registered: list[str] = []

    def program() -> None:
        with pytest.raises(ConfigurationError) as refused:
            EtcdCluster("etcd", EtcdClusterArgs(machines=given(**changes)))
        assert text in str(refused.value)
        assert "hunter2" not in str(refused.value)
        registered.append("refused")

    assert record(program).resources == {}
    assert registered


@pytest.mark.parametrize(
    ("arguments", "changes", "text"),
    [
        ({"size": "xlarge"}, {"machine_type": "n1-standard-8"}, "size xlarge needs 16 vCPUs and 60 GB"),
        ({"allow_undersized": True}, {"disk_gb": 6}, "gcp.diskGb: 6: size small needs 8 for its quota"),
        ({"delete_data": True}, {}, "gcp.retainDisks: false"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: dict[str, Any], changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        build(arguments=arguments, **changes)


def test_smaller_machines_may_be_asked_for() -> None:
    recording = build(arguments={"allow_undersized": True}, machine_type="e2-small", disk_gb=10)
    assert recording.resources["etcd-etcd-1"].value("machineType") == "e2-small"


@pytest.mark.parametrize("name", ["Etcd", "etcd_1", "1etcd", "e" * 41])
def test_a_name_that_google_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        record(lambda: EtcdCluster(name, EtcdClusterArgs(machines=given())), results=results)


def test_two_clusters_of_one_network_never_share_a_tag() -> None:
    identities = [("p", "prod", "etcd"), ("q", "prod", "etcd"), ("p", "prod-etcd", "x"), ("p", "prod", "etcd-x")]
    identities += [("p", "prod." + "long" * 30, "etcd"), ("p", "prod." + "long" * 30, "other")]
    tags = [limits.network_tag(*identity) for identity in identities]
    assert len(set(tags)) == len(identities)
    for tag in tags:
        assert len(tag) <= 63
        assert limits.NAME.fullmatch(tag)


def test_own_names_become_valid_labels() -> None:
    assert limits.label("Prod.EU/1") == "prod-eu-1"
    assert len(limits.label("x" * 100)) == 63
