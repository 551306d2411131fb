"""What AwsMachines registers: the exact children, how they hang together, what never changes by itself, and what is
refused."""

from __future__ import annotations

import asyncio
import json
from importlib.util import find_spec
from typing import Any

import pulumi
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from etcd_cluster import AwsMachines, Bastion, ConfigurationError, EtcdCluster, EtcdClusterArgs, Monitoring
from etcd_cluster.etcd.sizes import SIZES
from etcd_cluster.machines.aws import instance_types
from etcd_cluster.machines.aws.limits import architecture, capacity
from etcd_cluster.settings import validate_arguments
from tests.unit import test_cluster
from tests.unit.keys import host_key
from tests.unit.recording import Recorded, Recording, record

needs_sdk = pytest.mark.skipif(find_spec("pulumi_aws") is None, reason="pulumi_aws is not installed")
NAMES = ("etcd-1", "etcd-2", "etcd-3")
SUBNETS = ("subnet-a", "subnet-b", "subnet-c")
OPEN_TO: dict[str, Any] = {"client_cidrs": ["10.0.0.0/16"], "ssh_security_group_ids": ["sg-bastion"]}
KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234"
OWN_KEY = Ed25519PrivateKey.generate()
OWN_KEY_TEXT = OWN_KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
OWN_KEY_LINE = OWN_KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def machines(**changes: Any) -> AwsMachines:
    return AwsMachines(**{"subnet_ids": SUBNETS, **OPEN_TO, **changes})


def results(resource: Recorded) -> dict[str, Any]:
    """What AWS would answer."""
    if resource.type.endswith(":SshKeyPair"):
        return {
            "public_key": f"ssh-ed25519 {resource.name}",
            "private_key": pulumi.Output.secret(f"{resource.name}-private"),
        }
    if resource.type.endswith(":NetworkInterface"):
        return {**resource.inputs, "privateIp": f"10.0.0.1{NAMES.index(resource.name[5:11]) + 1}"}
    if resource.type.startswith("aws:"):
        return dict(resource.inputs)
    return test_cluster.results(resource)


def calls(token: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if token == "aws:ec2/getSubnet:getSubnet":
        return {**arguments, "availabilityZone": f"zone-of-{arguments['id']}", "vpcId": "vpc-1"}
    if token == instance_types.OFFERINGS:
        return {}  # as mocks do: no answer stops nothing
    if token == "aws:ebs/getEbsVolumes:getEbsVolumes":
        return {"ids": []}
    assert token == "aws:ec2/getAmi:getAmi"
    assert arguments["owners"] == ["136693071363"]
    assert arguments["mostRecent"] is True
    (name,) = arguments["filters"]
    return {"id": f"ami-of-{name['values'][0]}"}


def build(preview: bool = False, size: Any = "small", members: int = 3, **changes: Any) -> Recording:
    def program() -> None:
        EtcdCluster("etcd", EtcdClusterArgs(machines=machines(**changes), size=size, members=members))

    known = (lambda _: {}) if preview else results
    return record(program, preview=preview, results=known, calls=calls)


@pytest.fixture(scope="module")
def three_members() -> Recording:
    return build(tags={"team": "storage"})


def each(suffix: str = "") -> list[str]:
    return [f"etcd-{name}{suffix}" for name in NAMES]


def of_type(recording: Recording, type_: str) -> list[Recorded]:
    return [resource for resource in recording.resources.values() if resource.type.endswith(type_)]


def aws_children(recording: Recording) -> list[Recorded]:
    return [resource for resource in recording.resources.values() if resource.type.startswith("aws:")]


@needs_sdk
def test_children_are_exactly_these(three_members: Recording) -> None:
    rule = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    steps = ("-check", "-prepare")
    assert {name: resource.type for name, resource in three_members.resources.items()} == {
        "etcd": "etcd-cluster:index:EtcdCluster",
        "etcd-members": "aws:ec2/securityGroup:SecurityGroup",
        "etcd-clients-10.0.0.0-16": rule,
        "etcd-members-self": rule,
        "etcd-peers-self": rule,
        "etcd-ssh-sg-bastion": rule,
        "etcd-out": "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        "etcd-login-key": "pulumi-python:dynamic/ssh:LoginKey",
        **dict.fromkeys(["etcd-ssh", *each("-host-key")], "pulumi-python:dynamic/ssh:SshKeyPair"),
        **dict.fromkeys(each("-interface"), "aws:ec2/networkInterface:NetworkInterface"),
        **dict.fromkeys(each("-data"), "aws:ebs/volume:Volume"),
        **dict.fromkeys(each(), "aws:ec2/instance:Instance"),
        **dict.fromkeys(each("-attachment"), "aws:ec2/volumeAttachment:VolumeAttachment"),
        **dict.fromkeys(["etcd-ca", "etcd-peer-ca"], "pulumi-python:dynamic/pki:CertificateAuthority"),
        "etcd-formation": "pulumi-python:dynamic/cluster:Formation",
        "etcd-machine-replacement": "pulumi-python:dynamic/cluster:MachineReplacement",
        "etcd-replacement-request": "pulumi-python:dynamic/cluster:ReplacementRequest",
        "etcd-data-volumes": "pulumi-python:dynamic/cluster:DataVolumes",
        "etcd-rollout": "pulumi-python:dynamic/cluster:Rollout",
        **dict.fromkeys(["etcd-client", *each("-server"), *each("-peer")], "pulumi-python:dynamic/pki:Certificate"),
        **dict.fromkeys([name for step in steps for name in each(step)], "command:remote:Command"),
    }


@needs_sdk
def test_every_child_hangs_below_the_component(three_members: Recording) -> None:
    children = [resource for name, resource in three_members.resources.items() if name != "etcd"]
    assert {resource.request.parent.split("$")[-1] for resource in children} == {"etcd-cluster:index:EtcdCluster::etcd"}


@needs_sdk
def test_nothing_waits_for_a_machine_that_is_going_away(three_members: Recording) -> None:
    """Neither a Command, nor the detaching of a volume, nor the rollout."""
    dependents = of_type(three_members, ":Command") + of_type(three_members, ":VolumeAttachment")
    assert len(dependents) == 3 * 3
    for dependent in dependents:
        member = dependent.name[5:11]
        assert dependent.request.deletedWith.endswith(f"aws:ec2/instance:Instance::etcd-{member}"), dependent.name
    assert not any(member.outlives_destroy for member in test_cluster.desired_of(three_members).members.values())


@needs_sdk
def test_commands_wait_for_instance_and_volume(three_members: Recording) -> None:
    dependencies = test_cluster.dependencies(three_members, "etcd-etcd-2-check")
    assert dependencies >= {"etcd-etcd-2", "etcd-etcd-2-attachment", "etcd-login-key"}


@needs_sdk
def test_a_volume_goes_after_the_machine_that_has_it(three_members: Recording) -> None:
    assert "etcd-etcd-2-data" in test_cluster.dependencies(three_members, "etcd-etcd-2")


TAKEN_UP_BY_A_REPLACEMENT = [
    *("ami", "instanceType", "rootBlockDevice.kmsKeyId", "placementGroup"),
    "primaryNetworkInterface.networkInterfaceId",
]


@needs_sdk
def test_what_would_replace_or_stop_a_running_member_is_ignored(three_members: Recording) -> None:
    ignored = {resource.name: list(resource.request.ignoreChanges) for resource in three_members.resources.values()}
    assert {name: keys for name, keys in ignored.items() if keys} == {
        "etcd-members": ["vpcId"],
        **{name: [*TAKEN_UP_BY_A_REPLACEMENT, "userData"] for name in each()},
        **{name: ["subnetId", "privateIps"] for name in each("-interface")},
        **{name: ["volumeId"] for name in each("-attachment")},
        **{name: ["availabilityZone", "kmsKeyId"] for name in each("-data")},
    }


@needs_sdk
def test_only_the_member_to_replace_takes_a_new_machine_and_keeps_its_volume_and_address() -> None:
    recording = build(replace_member="etcd-2", deletion_protection=True)
    replaced, other = recording.resources["etcd-etcd-2"].request, recording.resources["etcd-etcd-1"].request
    assert (list(replaced.ignoreChanges), replaced.protect) == (TAKEN_UP_BY_A_REPLACEMENT, False)
    assert list(replaced.replaceOnChanges) == ["userData"]
    assert replaced.deleteBeforeReplace
    assert (bool(other.ignoreChanges), other.protect) == (True, True)
    guards = {name for name in each() if "etcd-machine-replacement" in test_cluster.dependencies(recording, name)}
    assert guards == {"etcd-etcd-2"}
    guard = recording.resources["etcd-machine-replacement"]
    assert guard.value("replace_member") == "etcd-2"
    dead = build(replace_dead_member="etcd-2").resources
    assert (
        dead["etcd-machine-replacement"].value("replace_member"),
        dead["etcd-machine-replacement"].value("is_dead"),
    ) == ("etcd-2", True)
    assert dead["etcd-etcd-2"].request.ignoreChanges == replaced.ignoreChanges
    assert set(guard.value("connections")) == {"etcd-1", "etcd-2", "etcd-3"}
    for kept in ("etcd-etcd-2-data", "etcd-etcd-2-interface"):
        assert recording.resources[kept].request.ignoreChanges
        assert recording.resources[kept].request.protect


@needs_sdk
@pytest.mark.parametrize("protected", [False, True])
def test_deletion_protection_covers_instances_volumes_and_interfaces(protected: bool) -> None:
    recording = build(deletion_protection=protected)
    expected = {*each(), *each("-data"), *each("-interface")} if protected else set()
    assert {name for name, resource in recording.resources.items() if resource.request.protect} == expected
    assert [i.value("disableApiTermination") for i in of_type(recording, ":Instance")] == [protected] * 3


@needs_sdk
@pytest.mark.parametrize("retained", [True, False])
def test_data_volumes_are_kept_unless_said_otherwise(retained: bool) -> None:
    recording = build(retain_volumes=retained)
    expected = set(each("-data")) if retained else set()
    assert {name for name, resource in recording.resources.items() if resource.request.retainOnDelete} == expected


@needs_sdk
def test_user_data_is_secret_and_makes_one_operator_and_the_pinned_host_key(three_members: Recording) -> None:
    instance = three_members.resources["etcd-etcd-2"]
    assert instance.is_secret("userData")
    text = instance.value("userData")
    assert text.startswith("#cloud-config\n")
    settings = yaml.safe_load(text)
    assert settings["users"][0]["ssh_authorized_keys"] == ["ssh-ed25519 etcd-ssh"]
    assert settings["ssh_keys"]["ed25519_private"] == "etcd-etcd-2-host-key-private"
    connection = three_members.resources["etcd-etcd-2-check"].value("connection")
    assert connection["hostKey"] == settings["ssh_keys"]["ed25519_public"] == "ssh-ed25519 etcd-etcd-2-host-key"
    assert (connection["host"], connection["user"]) == ("10.0.0.12", settings["users"][0]["name"])


@needs_sdk
def test_no_private_key_is_in_any_plain_input(three_members: Recording) -> None:
    for resource in three_members.resources.values():
        plain = {key: value for key, value in resource.inputs.items() if not resource.is_secret(key)}
        assert "-private" not in json.dumps(plain, default=str).replace("-private_key", ""), resource.name


@needs_sdk
def test_an_own_key_is_used_and_its_public_half_reaches_the_machines() -> None:
    recording = build(private_key=OWN_KEY_TEXT, bastion=Bastion("bastion.example.com", host_key(9), user="jump"))
    assert "etcd-ssh" not in recording.resources
    users = yaml.safe_load(recording.resources["etcd-etcd-1"].value("userData"))["users"]
    assert users[0]["ssh_authorized_keys"] == [OWN_KEY_LINE]
    connection = recording.resources["etcd-etcd-1-check"].value("connection")
    assert connection["privateKey"] == connection["proxy"]["privateKey"] == OWN_KEY_TEXT
    assert (connection["proxy"]["host"], connection["proxy"]["user"]) == ("bastion.example.com", "jump")


@needs_sdk
def test_everything_that_takes_tags_has_them(three_members: Recording) -> None:
    import pulumi_aws as aws

    taking = 0
    for resource in aws_children(three_members):
        _, module, name = resource.type.split(":")
        if not hasattr(getattr(getattr(aws, module.partition("/")[0]), name), "tags"):
            continue
        taking += 1
        tags = resource.value("tags")
        assert tags["Name"].startswith("etcd-")
        assert (tags["team"], tags["etcd:cluster"]) == ("storage", "etcd")
        assert (tags["pulumi:project"], tags["pulumi:stack"]) == ("etcd-cluster", "test")
    assert taking == len(aws_children(three_members)) - len(of_type(three_members, ":VolumeAttachment"))
    for name in NAMES:
        for resource in (f"etcd-{name}", f"etcd-{name}-data", f"etcd-{name}-interface"):
            assert three_members.resources[resource].value("tags")["etcd:member"] == name
        root = three_members.resources[f"etcd-{name}"].value("rootBlockDevice")
        assert (root["tags"]["etcd:member"], root["tags"]["team"]) == (name, "storage")


@needs_sdk
def test_the_metadata_service_needs_a_token_and_answers_one_hop(three_members: Recording) -> None:
    for instance in of_type(three_members, ":Instance"):
        assert instance.value("metadataOptions") == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
        }


@needs_sdk
def test_volumes_are_encrypted_by_the_customers_key_if_given() -> None:
    recording = build(kms_key_id=KEY_ARN)
    for name in NAMES:
        volume, root = (
            recording.resources[f"etcd-{name}-data"].inputs,
            recording.resources[f"etcd-{name}"].value("rootBlockDevice"),
        )
        assert (volume["encrypted"], volume["kmsKeyId"]) == (root["encrypted"], root["kmsKeyId"]) == (True, KEY_ARN)


@needs_sdk
def test_the_device_is_named_by_its_volume_on_nitro_and_by_its_attachment_on_xen(three_members: Recording) -> None:
    line = three_members.resources["etcd-etcd-1-check"].value("create")
    assert (
        "device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + "etcdetcd1dataid" + ",/dev/xvdf boot=first" in line
    )
    assert three_members.resources["etcd-etcd-1-attachment"].value("deviceName") == "/dev/sdf"


@needs_sdk
@pytest.mark.parametrize("subnets", [1, 2, 3])
def test_members_are_spread_over_the_subnets_each_with_its_volume_in_the_same_zone(subnets: int) -> None:
    recording = build(subnet_ids=SUBNETS[:subnets])
    placed = [recording.resources[name].value("subnetId") for name in each("-interface")]
    assert placed == [SUBNETS[index % subnets] for index in range(3)]
    zones = [recording.resources[name].value("availabilityZone") for name in each("-data")]
    assert zones == [f"zone-of-{subnet}" for subnet in placed]


def rules(recording: Recording) -> set[tuple[str, int, str]]:
    """Name, port and source of all that may come in."""
    found = of_type(recording, ":SecurityGroupIngressRule")
    assert {(rule.value("ipProtocol"), rule.value("fromPort") - rule.value("toPort")) for rule in found} == {("tcp", 0)}
    keys = ("cidrIpv4", "cidrIpv6", "referencedSecurityGroupId")
    return {
        (rule.name, int(rule.value("fromPort")), next(rule.value(key) for key in keys if key in rule.inputs))
        for rule in found
    }


@needs_sdk
def test_ports_are_open_to_named_sources_alone() -> None:
    recording = build(
        client_cidrs=["10.1.0.0/16", "fd00:1::/32"],
        client_security_group_ids=["sg-clients", pulumi.Output.from_input("sg-later")],
        ssh_cidrs=["10.9.9.9"],
        security_group_ids=["sg-own"],
    )
    assert rules(recording) == {
        ("etcd-clients-10.1.0.0-16", 2379, "10.1.0.0/16"),
        ("etcd-clients-fd00.1..-32", 2379, "fd00:1::/32"),
        ("etcd-clients-sg-clients", 2379, "sg-clients"),
        ("etcd-clients-group", 2379, "sg-later"),
        ("etcd-members-self", 2379, "etcd-members-id"),
        ("etcd-peers-self", 2380, "etcd-members-id"),
        ("etcd-ssh-10.9.9.9-32", 22, "10.9.9.9/32"),
        ("etcd-ssh-sg-bastion", 22, "sg-bastion"),
    }
    assert recording.resources["etcd-etcd-1-interface"].value("securityGroups") == ["etcd-members-id", "sg-own"]


@needs_sdk
def test_metrics_are_open_to_where_prometheus_runs_alone() -> None:
    given = machines(monitoring_cidrs=["10.9.0.0/24"], monitoring_security_group_ids=["sg-prometheus"])
    args = EtcdClusterArgs(machines=given, monitoring=Monitoring())
    recording = record(lambda: EtcdCluster("etcd", args), results=results, calls=calls)
    assert {rule for rule in rules(recording) if rule[1] == 2382} == {
        ("etcd-monitoring-10.9.0.0-24", 2382, "10.9.0.0/24"),
        ("etcd-monitoring-sg-prometheus", 2382, "sg-prometheus"),
    }
    assert 2382 not in {port for _, port, _ in rules(build())}


@needs_sdk
def test_ranges_that_are_known_later_are_let_in_by_name_and_checked_then() -> None:
    def later(text: str) -> Any:
        return {"vpn": pulumi.Output.from_input(text)}

    recording = build(client_cidrs={**later("10.1.0.0/16"), "six": "fd00:1::/32"}, ssh_cidrs=later("fd00:2::/32"))
    assert rules(recording) >= {
        ("etcd-clients-vpn", 2379, "10.1.0.0/16"),
        ("etcd-clients-fd00.1..-32", 2379, "fd00:1::/32"),
        ("etcd-ssh-vpn", 22, "fd00:2::/32"),
    }
    with pytest.raises(ConfigurationError, match=r"^aws\.clientCidrs\.vpn: .*the whole world"):
        build(client_cidrs=later("0.0.0.0/0"))
    with pytest.raises(ConfigurationError, match=r"^aws\.clientCidrs: .*a security group has this name as well"):
        build(client_cidrs=later("10.1.0.0/16"), client_security_group_ids=later("sg-1"))


@pytest.mark.parametrize(
    ("ranges", "groups"),
    [
        ({"sg-1": "10.1.0.0/16"}, ["sg-1"]),
        (["10.1.0.0/16"], {"10.1.0.0-16": "sg-1"}),
        ({"group": "10.1.0.0/16"}, [pulumi.Output.from_input("sg-1")]),
    ],
)
@needs_sdk
def test_no_rule_takes_another_s_place_by_its_name(ranges: Any, groups: Any) -> None:
    """The range would not be let in, and nothing would say so."""
    recording = build(ssh_cidrs=ranges, ssh_security_group_ids=groups)
    assert {source for _, port, source in rules(recording) if port == 22} == {"10.1.0.0/16", "sg-1"}


def not_given() -> Any:
    """What a mocked resource of the caller's has where its provider would compute it."""
    return pulumi.Output.from_input("mocked").apply(lambda _: None)


@needs_sdk
@pytest.mark.parametrize("key", ["recovery_alarm", "kms_key_id", "subnet_ids"])
def test_what_a_users_mocks_do_not_give_ends_no_test(key: str) -> None:
    def program() -> None:
        own: Any = {key: True if key == "recovery_alarm" else not_given()}
        EtcdCluster("etcd", EtcdClusterArgs(machines=machines(**own)))

    assert record(program, calls=lambda *_: {}).resources


@needs_sdk
def test_a_source_that_goes_leaves_the_other_rules_alone() -> None:
    both, one = build(client_cidrs=["10.1.0.0/16", "10.2.0.0/16"]), build(client_cidrs=["10.2.0.0/16"])
    assert rules(both) - rules(one) == {("etcd-clients-10.1.0.0-16", 2379, "10.1.0.0/16")}


@needs_sdk
@pytest.mark.parametrize(
    ("instance_type", "image"),
    [(None, "debian-13-amd64-*"), ("m7i.large", "debian-13-amd64-*"), ("m7g.large", "debian-13-arm64-*")],
)
def test_the_image_is_the_newest_debian_for_the_types_processor(instance_type: str | None, image: str) -> None:
    recording = build(instance_type=instance_type)
    instance = recording.resources["etcd-etcd-1"]
    assert (instance.value("ami"), instance.value("instanceType")) == (f"ami-of-{image}", instance_type or "m4.large")


@needs_sdk
def test_an_own_image_is_taken_without_asking() -> None:
    assert build(image_id="ami-own").resources["etcd-etcd-3"].value("ami") == "ami-own"


@needs_sdk
@pytest.mark.parametrize("size", SIZES)
def test_hardware_is_the_rows(size: str) -> None:
    recording, row = build(size=size, members=1), SIZES[size].aws
    volume = recording.resources["etcd-etcd-1-data"]
    assert recording.resources["etcd-etcd-1"].value("instanceType") == row.instance_type
    assert (volume.value("type"), volume.value("size"), volume.value("iops")) == ("gp3", 32, row.iops)
    assert volume.value("throughput") == {"xlarge": 250}.get(size, 125)


@needs_sdk
def test_preview_works_with_everything_unknown() -> None:
    asked: list[str] = []

    def program() -> None:
        subnet_ids = pulumi.Output(set(), _done(pulumi.runtime.rpc.UNKNOWN), _done(False))
        EtcdCluster("etcd", EtcdClusterArgs(machines=machines(subnet_ids=subnet_ids)))

    def ask(token: str, arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append(token)
        return calls(token, arguments)

    recording = record(program, preview=True, results=lambda _: {}, calls=ask)
    assert set(recording.resources) == set(build().resources)
    assert set(asked) <= {"aws:ec2/getAmi:getAmi", "aws:ebs/getEbsVolumes:getEbsVolumes"}
    assert isinstance(recording.resources["etcd-etcd-1-interface"].value("subnetId"), pulumi.output.Unknown)


def _done(value: Any) -> Any:
    future: asyncio.Future[Any] = asyncio.get_event_loop().create_future()
    future.set_result(value)
    return future


@needs_sdk
def test_children_and_lookups_use_the_components_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    import pulumi_aws as aws
    from pulumi.runtime import mocks

    looked_up_by: list[str] = []
    original = mocks.MockMonitor.Invoke

    def invoke(self: Any, request: Any) -> Any:
        looked_up_by.append(request.provider)
        return original(self, request)

    monkeypatch.setattr(mocks.MockMonitor, "Invoke", invoke)

    def program() -> None:
        provider = aws.Provider("frankfurt", region="eu-central-1")
        EtcdCluster("etcd", EtcdClusterArgs(machines=machines()), pulumi.ResourceOptions(providers=[provider]))

    recording = record(program, results=results, calls=calls)
    providers = {resource.request.provider.split("::")[-2] for resource in aws_children(recording)}
    assert providers == {"frankfurt"}
    assert looked_up_by
    assert all("::frankfurt::" in provider for provider in looked_up_by)


@needs_sdk
def test_two_clusters_live_in_one_program() -> None:
    def program() -> None:
        EtcdCluster("main", EtcdClusterArgs(machines=machines(), members=1))
        EtcdCluster("events", EtcdClusterArgs(machines=machines(), members=1))

    def answer(resource: Recorded) -> dict[str, Any]:
        if resource.type.endswith(":NetworkInterface"):
            return {"privateIp": "10.0.0.1"}
        return results(resource)

    names = [name.partition("-")[0] for name in record(program, results=answer, calls=calls).resources]
    assert names.count("main") == names.count("events")


LATER: Any = pulumi.Output.from_input("sg-later")
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"client_cidrs": ["0.0.0.0/0"]}, {}, "aws.clientCidrs", "world"),
    ({"client_cidrs": ["10.0.0.0/8", "::/0"]}, {}, "aws.clientCidrs", "world"),
    ({"ssh_cidrs": ["0.0.0.0/1", "128.0.0.0/1"]}, {}, "aws.sshCidrs", "world"),
    ({"ssh_cidrs": ["10.0.0.1/16"]}, {}, "aws.sshCidrs", "10.0.0.0/16"),
    ({"ssh_security_group_ids": []}, {}, "aws.sshCidrs", "nobody could reach"),
    (
        {"client_security_group_ids": [LATER, LATER]},
        {},
        "aws.clientSecurityGroupIds",
        "would be told apart only by their places in the list",
    ),
    ({"client_security_group_ids": {"a": "sg-0", "b": "sg-0"}}, {}, "aws.clientSecurityGroupIds", "listed twice"),
    ({"ssh_security_group_ids": {"a": "0"}}, {}, "aws.sshSecurityGroupIds.a", "sg-0a1b2c"),
    ({"subnet_ids": []}, {}, "aws.subnetIds", "List private subnets"),
    ({"subnet_ids": "subnet-a"}, {}, "aws.subnetIds", "not a list"),
    ({"instance_type": "m4.large"}, {"size": "medium"}, "aws.instanceType", "Use m4.xlarge or larger"),
    ({"instance_type": "c7i.large"}, {}, "aws.instanceType", "it has 2 vCPUs and 4 GiB"),
    ({"instance_type": "r7i.large"}, {"size": "medium"}, "aws.instanceType", "it has 2 vCPUs and 16 GiB"),
    ({"instance_type": "t3.medium"}, {}, "aws.instanceType", "it has 2 vCPUs and 4 GiB"),
    ({"instance_type": "large"}, {}, "aws.instanceType", "not an instance type"),
    ({"volume_gib": 7}, {}, "aws.volumeGib", "needs 8 GiB"),
    ({"volume_gib": 31}, {"size": "xlarge"}, "aws.volumeGib", "needs 32 GiB for its quota and 16000 IOPS"),
    ({"replace_member": "etcd-4"}, {}, "aws.replaceMember", "etcd-1, etcd-2, etcd-3"),
    ({"replace_dead_member": "etcd-4"}, {}, "aws.replaceDeadMember", "etcd-1, etcd-2, etcd-3"),
    (
        {"replace_member": "etcd-1", "replace_dead_member": "etcd-1"},
        {},
        "aws.replaceDeadMember",
        "one machine is replaced at a time",
    ),
    ({"kms_key_id": "1234"}, {}, "aws.kmsKeyId", "arn:aws:kms"),
    ({"tags": {"Name": "x"}}, {}, "aws.tags.Name", "another name"),
    ({"tags": {"AWS:x": "x"}}, {}, "aws.tags.AWS:x", "another name"),
    ({"private_key": "hunter2"}, {}, "ssh.privateKey", "not an SSH private key"),
    ({"bastion": Bastion("b", host_key(9))}, {}, "ssh.bastion.privateKey", "cannot log in to the bastion"),
    ({}, {"delete_data": True}, "deleteData", "aws.retainVolumes: false"),
]


@pytest.mark.parametrize(("changes", "arguments", "key", "text"), REFUSED)
def test_what_cannot_work_is_refused(changes: dict[str, Any], arguments: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_arguments(EtcdClusterArgs(machines=machines(**changes), **arguments))
    assert refused.value.key == key
    assert text in str(refused.value)
    assert "hunter2" not in str(refused.value)


@needs_sdk
@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"instance_type": "t3.medium"}, {"allow_undersized": True}),
        ({"instance_type": "x2gd.medium"}, {}),  # not in the tables: the preflight on the machine measures it
        ({"instance_type": "r7g.xlarge"}, {"size": "medium"}),
        ({"retain_volumes": False}, {"delete_data": True}),
        ({"ssh_security_group_ids": [], "security_group_ids": ["sg-own"]}, {}),
    ],
)
def test_what_can_work_is_not(changes: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert validate_arguments(EtcdClusterArgs(machines=machines(**changes), **arguments)).names == NAMES


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_rows_own_type_and_the_default_volume_are_large_enough(size: Any) -> None:
    assert capacity(size.aws.instance_type) == (size.aws.vcpus, size.aws.memory_gb)
    assert AwsMachines(SUBNETS).volume_gib_for(size) == 32


@pytest.mark.parametrize(
    ("instance_type", "expected"),
    [
        *[
            (f"{family}.large", "arm64")
            for family in ("a1", "t4g", "m6gd", "m7g", "c6gn", "c7gn", "r8g", "x2gd", "is4gen")
        ],
        *[
            (f"{family}.large", "amd64")
            for family in ("m4", "m5", "t3", "m7i-flex", "m6a", "g5", "c6in", "i3en", "r5dn")
        ],
    ],
)
def test_processors_are_told_by_the_types_name(instance_type: str, expected: str) -> None:
    assert architecture(instance_type) == expected


def test_a_named_groups_rule_is_that_of_the_list_before() -> None:
    pytest.importorskip("pulumi_aws")
    from etcd_cluster.machines.aws.provisioning import former_names

    apps, jobs = pulumi.Output.from_input("sg-2"), pulumi.Output.from_input("sg-3")
    assert former_names((), {"office": "sg-1", "apps": apps, "jobs": jobs}) == {
        "sg-1": ["office"],
        "apps": ["group-1", "group"],
        "jobs": ["group-2"],
    }
    assert former_names(["10.0.0.0/8"], ["sg-1", apps]) == {"group": ["group-1"]}
    assert former_names({"vpn": "10.1.2.0/24", "vpc": apps}, ()) == {"10.1.2.0-24": ["vpn"]}
