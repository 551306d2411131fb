"""What AwsMachines registers can be created: every input, through boto3, in an account on a local moto server.

Then it is read back, and compared with the hardware table.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
import pytest

from etcd_cluster import SIZES, AwsMachines, Backup, Dns, EtcdCluster, EtcdClusterArgs, Machine
from tests.unit import test_cluster
from tests.unit.recording import Recorded, Recording, record

for module, packages in {"pulumi_aws": "pulumi-aws", "boto3": "boto3", "moto.server": "'moto[server,ec2,kms]'"}.items():
    pytest.importorskip(module, reason=f"{module} is not installed: pip install {packages}")
aws_account = pytest.importorskip("tests.clouds.aws_account")

if TYPE_CHECKING:
    from tests.clouds.aws_account import Account, Standing

USUAL_SHAPES = ((1, 1), (3, 3), (5, 2))
SHAPES = [
    pytest.param(size, *shape, marks=() if shape in USUAL_SHAPES else pytest.mark.exhaustive)
    for size in SIZES
    for shape in itertools.product((1, 2, 3, 4, 5), (1, 2, 3))
]
"""Size, number of members, number of subnets."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with aws_account.moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield aws_account.Account(url)


@pytest.fixture
def account(server: Account) -> Account:
    """Empty."""
    server.reset()
    return server


@dataclass
class Created:
    """What a program registered, and what then stands in the account."""

    recording: Recording
    ids: dict[str, str]
    standing: Standing
    addresses: dict[str, str]
    devices: dict[str, str]


def names(members: int) -> list[str]:
    return [f"etcd-{number}" for number in range(1, members + 1)]


def create(account: Account, given: AwsMachines, size: str, members: int) -> Created:
    """Provisions as the component does, for counts too that only a cluster under change has."""
    made: list[Machine] = []

    def program() -> None:
        parent = pulumi.ComponentResource("test:index:Machines", "etcd")
        made.extend(given.provision("etcd", names(members), SIZES[size], parent))
        for machine in made:
            pulumi.export(machine.name, [machine.address, machine.device])

    recording = record(program, results=lambda resource: answer(account, resource), calls=account.call)
    outputs: dict[str, Sequence[str]] = recording.outputs["etcd-cluster-test"]
    return Created(
        recording,
        account.ids,
        account.read(),
        {name: outputs[name][0] for name in names(members)},
        {name: outputs[name][1] for name in names(members)},
    )


def answer(account: Account, resource: Recorded) -> dict[str, Any]:
    if resource.type.startswith("aws:"):
        return account.create(resource)
    if resource.type.endswith(":SshKeyPair"):
        return {
            "public_key": f"ssh-ed25519 {'A' * 68}",
            "private_key": pulumi.Output.secret(f"{resource.name}\n{'A' * 70}\n" * 6),
        }
    return test_cluster.results(resource) if ":" in resource.type and "test:" not in resource.type else {}


@pytest.mark.parametrize(("size", "members", "subnets"), SHAPES)
def test_machines_stand_as_the_table_says(account: Account, size: str, members: int, subnets: int) -> None:
    subnet_ids = account.make_network(subnets)
    given = AwsMachines(subnet_ids, client_cidrs=["10.0.0.0/16"], ssh_cidrs=["10.0.0.8/32"], tags={"team": "storage"})
    created = create(account, given, size, members)
    for index, name in enumerate(names(members)):
        check_instance(created, name, size, subnet_ids[index % subnets])
        check_volumes(created, name, size, aws_account.ZONES[index % subnets])
        check_tags(created, name)
    assert len(set(created.addresses.values())) == members
    assert open_to(created) == {
        (2379, "10.0.0.0/16"),
        (2379, created.ids["etcd-members"]),
        (2380, created.ids["etcd-members"]),
        (22, "10.0.0.8/32"),
    }


def check_instance(created: Created, name: str, size: str, subnet: str) -> None:
    instance = created.standing.instances[created.ids[f"etcd-{name}"]]
    assert instance["InstanceType"] == SIZES[size].aws.instance_type
    assert instance["ImageId"] == aws_account.NEWEST_DEBIAN["amd64"]
    assert instance["EbsOptimized"] is True
    options = instance["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"], options["HttpEndpoint"]) == (
        *("required", 1),
        "enabled",
    )
    (attached,) = instance["NetworkInterfaces"]
    assert attached["NetworkInterfaceId"] == created.ids[f"etcd-{name}-interface"]
    interface = created.standing.interfaces[attached["NetworkInterfaceId"]]
    assert interface["SubnetId"] == subnet
    assert interface["PrivateIpAddress"] == created.addresses[name]
    assert [group["GroupId"] for group in interface["Groups"]] == [created.ids["etcd-members"]]
    assert not interface.get("Association"), "a public address"


def check_volumes(created: Created, name: str, size: str, zone: str, key: str | None = None) -> None:
    standing, row = created.standing, SIZES[size].aws
    instance, volume_id = created.ids[f"etcd-{name}"], created.ids[f"etcd-{name}-data"]
    volume, root = standing.volumes[volume_id], standing.root_volume(instance)
    assert (volume["VolumeType"], volume["Size"], volume["AvailabilityZone"]) == ("gp3", 32, zone)
    assert (volume["Iops"], volume["Throughput"]) == (row.iops, max(125, row.mb_per_second))
    for each in (volume, root):
        assert (each["VolumeType"], each["Encrypted"], each.get("KmsKeyId") if key else None) == ("gp3", True, key)
    (attachment,) = volume["Attachments"]
    assert (attachment["InstanceId"], attachment["Device"]) == (instance, "/dev/sdf")
    assert created.devices[name].split(",") == [
        f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}",
        "/dev/xvdf",
    ]


def check_tags(created: Created, name: str) -> None:
    standing, ids = created.standing, created.ids
    of_cluster = {
        "pulumi:project": "etcd-cluster",
        "pulumi:stack": "test",
        "etcd:cluster": "etcd",
        "team": "storage",
    }
    of_member = {
        f"etcd-{name}": standing.instances[ids[f"etcd-{name}"]],
        f"etcd-{name}-data": standing.volumes[ids[f"etcd-{name}-data"]],
        f"etcd-{name}-root": standing.root_volume(ids[f"etcd-{name}"]),
        f"etcd-{name}-interface": standing.interfaces[ids[f"etcd-{name}-interface"]],
    }
    for own_name, described in of_member.items():
        address = {"etcd:address": created.addresses[name]} if own_name.endswith("-data") else {}
        assert aws_account.tags_of(described) == {**of_cluster, "Name": own_name, "etcd:member": name, **address}
    assert aws_account.tags_of(standing.groups[ids["etcd-members"]]) == {**of_cluster, "Name": "etcd-members"}
    for rule in rules(created):
        tags = aws_account.tags_of(rule)
        assert tags == {**of_cluster, "Name": tags["Name"]}
        assert ids[tags["Name"]] == rule["SecurityGroupRuleId"]


def rules(created: Created) -> list[dict[str, Any]]:
    return [rule for rule in created.standing.rules.values() if rule["GroupId"] == created.ids["etcd-members"]]


def open_to(created: Created) -> set[tuple[int, str]]:
    """Port and source of all that may come in, as AWS has it."""
    found = [rule for rule in rules(created) if not rule["IsEgress"]]
    assert {(rule["IpProtocol"], rule["ToPort"] - rule["FromPort"]) for rule in found} == {("tcp", 0)}
    return {
        (
            rule["FromPort"],
            rule.get("CidrIpv4") or rule.get("CidrIpv6") or rule["ReferencedGroupInfo"]["GroupId"],
        )
        for rule in found
    }


def test_clients_by_lists_of_ranges_and_groups(account: Account) -> None:
    subnet_ids = account.make_network(3)
    groups = [account.make_group(name) for name in ("apps", "bastion", "own")]
    given = AwsMachines(
        subnet_ids,
        client_cidrs=["10.0.0.0/16", "192.168.7.0/24", "172.16.0.9", "fd00:1::/32"],
        client_security_group_ids=groups[:1],
        ssh_security_group_ids=groups[1:2],
        security_group_ids=groups[2:],
    )
    created = create(account, given, "small", 3)
    members = created.ids["etcd-members"]
    assert open_to(created) == {
        *((2379, source) for source in ("10.0.0.0/16", "192.168.7.0/24", "172.16.0.9/32", "fd00:1::/32", groups[0])),
        *((2379, members), (2380, members), (22, groups[1])),
    }
    interface = created.standing.interfaces[created.ids["etcd-etcd-3-interface"]]
    assert {group["GroupId"] for group in interface["Groups"]} == {members, groups[2]}


@pytest.mark.parametrize("size", SIZES)
def test_a_customer_key_encrypts_data_and_root(account: Account, size: str) -> None:
    key = account.make_key()
    given = AwsMachines(account.make_network(1), ssh_cidrs=["10.0.0.8/32"], kms_key_id=key)
    created = create(account, given, size, 1)
    check_volumes(created, "etcd-1", size, aws_account.ZONES[0], key)


def test_a_type_of_arm64_gets_an_image_of_arm64(account: Account) -> None:
    given = AwsMachines(account.make_network(1), ssh_cidrs=["10.0.0.8/32"], instance_type="m7g.large")
    created = create(account, given, "small", 1)
    instance = created.standing.instances[created.ids["etcd-etcd-1"]]
    assert (instance["ImageId"], instance["Architecture"]) == (aws_account.NEWEST_DEBIAN["arm64"], "arm64")


@pytest.mark.parametrize("protected", [True, False])
def test_deletion_protection_is_what_was_asked_for(account: Account, protected: bool) -> None:
    given = AwsMachines(account.make_network(1), ssh_cidrs=["10.0.0.8/32"], deletion_protection=protected)
    instance = create(account, given, "small", 1).ids["etcd-etcd-1"]
    attribute = account.ec2.describe_instance_attribute(InstanceId=instance, Attribute="disableApiTermination")
    assert attribute["DisableApiTermination"]["Value"] is protected


def test_address_and_data_outlive_the_instance_and_take_another(account: Account) -> None:
    given = AwsMachines(account.make_network(1), ssh_cidrs=["10.0.0.8/32"])
    created = create(account, given, "small", 1)
    instance, volume = created.ids["etcd-etcd-1"], created.ids["etcd-etcd-1-data"]

    account.ec2.terminate_instances(InstanceIds=[instance])
    left = account.read()
    assert {id_: each["State"] for id_, each in left.volumes.items()} == {volume: "available"}, (
        "the root volume is gone"
    )
    interface = left.interfaces[created.ids["etcd-etcd-1-interface"]]
    assert interface["PrivateIpAddress"] == created.addresses["etcd-1"]

    account.create(created.recording.resources["etcd-etcd-1"])
    attachment = created.recording.resources["etcd-etcd-1-attachment"]
    attachment.inputs["instanceId"] = created.ids["etcd-etcd-1"]
    account.create(attachment)
    created.standing = account.read()
    assert created.ids["etcd-etcd-1"] != instance
    check_instance(created, "etcd-1", "small", interface["SubnetId"])
    check_volumes(created, "etcd-1", "small", aws_account.ZONES[0])


@pytest.mark.parametrize("append_only", [False, True])
def test_a_bucket_of_backups_is_private_encrypted_versioned_and_written_by_a_role(
    account: Account, append_only: bool
) -> None:
    def program() -> None:
        given = AwsMachines(account.make_network(1), ssh_cidrs=["10.0.0.8/32"], tags={"team": "storage"})
        backup = Backup("s3://shop-backups/etcd", make_bucket=True, append_only=append_only)
        cluster = EtcdCluster("etcd", EtcdClusterArgs(machines=given, members=1, backup=backup))
        assert cluster.backup_policy is not None
        pulumi.export("backupPolicy", cluster.backup_policy)

    recording = record(program, results=lambda resource: answer(account, resource), calls=account.call)
    s3, bucket = account.s3, {"Bucket": "shop-backups"}
    tags = aws_account.tags_of(s3.get_bucket_tagging(**bucket))
    assert tags == {
        **{"pulumi:project": "etcd-cluster", "pulumi:stack": "test", "etcd:cluster": "etcd"},
        **{"Name": "etcd-backup-bucket", "team": "storage"},
    }
    assert set(s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (rule,) = s3.get_bucket_lifecycle_configuration(**bucket)["Rules"]
    assert rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7
    assert "Days" not in rule["Expiration"], "no rule ends what is current: the newest backup may be old"
    (denied,) = json.loads(s3.get_bucket_policy(**bucket)["Policy"])["Statement"]
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})

    instance = account.read().instances[account.ids["etcd-etcd-1"]]
    profile = instance["IamInstanceProfile"]["Arn"].rpartition("/")[2]
    (role,) = account.iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    (name,) = account.iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    document = account.iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
    assert document == json.loads(recording.outputs["etcd-cluster-test"]["backupPolicy"])
    allowed = {action for each in document["Statement"] for action in [each["Action"]] if isinstance(action, str)}
    allowed |= {
        action for each in document["Statement"] if isinstance(each["Action"], list) for action in each["Action"]
    }
    assert ("s3:DeleteObject" in allowed) == (not append_only)
    assert allowed - {"s3:DeleteObject"} == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
    kept = [each for each in recording.resources.values() if each.type.startswith("aws:s3/")]
    assert len(kept) == 6
    assert all(each.request.retainOnDelete for each in kept)


@pytest.mark.parametrize("members", [1, 3, 5])
def test_the_whole_component_connects_to_what_stands(account: Account, members: int) -> None:
    """The machines' real addresses and devices reach Commands, certificates and endpoints."""

    def program() -> None:
        given = AwsMachines(account.make_network(3), client_cidrs=["10.0.0.0/16"], ssh_cidrs=["10.0.0.8/32"])
        EtcdCluster("etcd", EtcdClusterArgs(machines=given, members=members))

    recording = record(program, results=lambda resource: answer(account, resource), calls=account.call)
    standing, endpoints = account.read(), []
    for name in names(members):
        address = standing.instances[account.ids[f"etcd-{name}"]]["PrivateIpAddress"]
        check = recording.resources[f"etcd-{name}-check"]
        assert check.value("connection")["host"] == address
        assert account.ids[f"etcd-{name}-data"].replace("-", "") in check.value("create")
        assert address in recording.resources[f"etcd-{name}-server"].value("hosts")
        endpoints.append(f"https://{address}:2379")
    assert recording.outputs["etcd"]["endpoints"] == endpoints


def test_records_stand_in_the_hosted_zone(account: Account) -> None:
    subnet_ids, zone = account.make_network(3), account.make_zone("example.com")
    given = AwsMachines(subnet_ids, ssh_cidrs=["10.0.0.8/32"], hosted_zone_id=zone)
    arguments = EtcdClusterArgs(machines=given, dns=Dns("etcd.example.com", ttl_seconds=30))
    recording = record(
        lambda: EtcdCluster("etcd", arguments),
        results=lambda resource: answer(account, resource),
        calls=account.call,
    )
    addresses = [
        account.read().interfaces[account.ids[f"etcd-{name}-interface"]]["PrivateIpAddress"] for name in names(3)
    ]
    assert account.records(zone) == {
        ("etcd.example.com.", "A"): (30, set(addresses)),
        **{
            (f"{name}.etcd.example.com.", "A"): (30, {address})
            for name, address in zip(names(3), addresses, strict=True)
        },
        ("_etcd-client-ssl._tcp.etcd.example.com.", "SRV"): (
            *(30, {f"0 0 2379 {name}.etcd.example.com" for name in names(3)}),
        ),
    }
    for name, resource in recording.resources.items():
        if resource.type == "aws:route53/record:Record":
            rollout = {urn.split("::")[-1] for urn in resource.request.dependencies}
            assert "etcd-rollout" in rollout, name
