"""An AWS account on a local moto server, and the registrations of a program created in it through boto3.

Every input of a registration is translated or the creation fails: nothing is left out. What neither boto3 nor moto
refuses, though AWS does, is checked here: enumerations, gp3's limits, the size of user data, zones, addresses.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.model import OperationModel
from pulumi.runtime import rpc

from etcd_cluster.machines.aws.instance_types import OFFERINGS
from tests.unit.recording import Recorded

REGION = "eu-central-1"
ZONES = tuple(f"{REGION}{letter}" for letter in "abc")
DEBIAN = "136693071363"
NEWEST_DEBIAN = {"amd64": "ami-0000000000000000b", "arm64": "ami-0000000000000000c"}
USER_DATA_MOST_BYTES = 16 * 1024
ROOT_DEVICE = "/dev/sda1"
IMAGE_GIB = 8
"""AWS takes the size from the image; moto wants to be told."""

START_SECONDS = 600


def _image(id_: str, name: str, architecture: str, created: str, owner: str = DEBIAN) -> dict[str, Any]:
    return {
        "ami_id": id_,
        "name": name,
        "description": name,
        "owner_id": owner,
        "public": True,
        "virtualization_type": "hvm",
        "architecture": architecture,
        "state": "available",
        "platform": None,
        "image_type": "machine",
        "hypervisor": "xen",
        "root_device_name": ROOT_DEVICE,
        "root_device_type": "ebs",
        "sriov": "simple",
        "creation_date": created,
    }


IMAGES = [
    _image("ami-0000000000000000a", "debian-13-amd64-20260101-1000", "x86_64", "2026-01-01T00:00:00.000Z"),
    _image(NEWEST_DEBIAN["amd64"], "debian-13-amd64-20260601-2000", "x86_64", "2026-06-01T00:00:00.000Z"),
    _image(NEWEST_DEBIAN["arm64"], "debian-13-arm64-20260601-2000", "arm64", "2026-06-01T00:00:00.000Z"),
    _image("ami-0000000000000000d", "debian-12-amd64-20260701-2000", "x86_64", "2026-07-01T00:00:00.000Z"),
    # Anybody may call an image so.
    _image("ami-0000000000000000e", "debian-13-amd64-20270101-1", "x86_64", "2027-01-01T00:00:00.000Z", "666666666666"),
]


@contextmanager
def moto_server(folder: Path) -> Iterator[str]:
    """Its URL. Images, key pairs and instance types that do not exist are refused, which moto leaves off by default."""
    images = folder / "images.json"
    images.write_text(json.dumps(IMAGES))
    checks = (
        "MOTO_ENABLE_AMI_VALIDATION",
        "MOTO_ENABLE_KEYPAIR_VALIDATION",
        "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION",
    )
    environment = {**os.environ, "MOTO_AMIS_PATH": str(images), **dict.fromkeys(checks, "true")}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (folder / "moto.log").open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _await_answer(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "moto_server has ended: see moto.log"
            assert time.monotonic() < deadline, f"moto_server does not answer within {START_SECONDS} s"
            time.sleep(0.05)
        else:
            return


@dataclass
class Standing:
    """All that stands in an account, by id, as AWS describes it."""

    instances: dict[str, dict[str, Any]]
    volumes: dict[str, dict[str, Any]]
    interfaces: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, Any]]
    rules: dict[str, dict[str, Any]]

    def root_volume(self, instance: str) -> dict[str, Any]:
        return self.volumes[_root_volume_id(self.instances[instance])]


@dataclass
class _Subnet:
    vpc: str
    zone: str
    free: Iterator[ipaddress.IPv4Address]


class Account:
    """One account, in one region. `create` and `call` are what a recording asks for results; `ids` are of what was
    created, by the names of the resources."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()  # registrations come in threads
        self._subnets: dict[str, _Subnet] = {}
        self._zones: dict[str, str] = {}
        self.ec2 = self._client("ec2")
        self.kms, self.s3, self.iam = self._client("kms"), self._client("s3"), self._client("iam")
        self.tagging = self._client("resourcegroupstaggingapi")
        self.route53 = self._client("route53")
        self.ids: dict[str, str] = {}
        self.ec2.meta.events.register("provide-client-params.ec2", _check_enumerations)

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self._url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 1}),
        )

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self._url}/moto-api/reset", method="POST")).close()
        for kept in (self._subnets, self._zones, self.ids):
            kept.clear()

    def make_network(self, subnets: int) -> list[str]:
        """Ids of that many subnets, in as many zones of one VPC."""
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        for number, zone in enumerate(ZONES[:subnets]):
            range_ = ipaddress.IPv4Network(f"10.0.{number}.0/24")
            made = self.ec2.create_subnet(VpcId=vpc, CidrBlock=str(range_), AvailabilityZone=zone)["Subnet"]
            free = itertools.islice(range_.hosts(), 3, None)  # AWS keeps the first ones
            self._subnets[made["SubnetId"]] = _Subnet(vpc, zone, free)
        return list(self._subnets)

    def make_group(self, name: str) -> str:
        """Id of a security group of the caller's own."""
        vpc = next(iter(self._subnets.values())).vpc
        return str(self.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"])

    def make_key(self) -> str:
        return str(self.kms.create_key()["KeyMetadata"]["Arn"])

    def call(self, token: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the provider's functions answer."""
        with self._lock:
            if token == "aws:ec2/getSubnet:getSubnet":
                subnet = self._subnets[arguments["id"]]
                return {**arguments, "vpcId": subnet.vpc, "availabilityZone": subnet.zone}
            if token == "aws:index/getPartition:getPartition":
                return {"partition": "aws", "dnsSuffix": "amazonaws.com"}
            if token == "aws:resourcegroupstaggingapi/getResources:getResources":
                by_tag = [_capitalized(each) for each in arguments["tagFilters"]]
                found = self.tagging.get_resources(ResourceTypeFilters=["s3"], TagFilters=by_tag)
                assert arguments["resourceTypeFilters"] == ["s3:bucket"]  # moto knows this kind only by its service
                mapped = [
                    {"resourceArn": each["ResourceARN"], "tags": tags_of(each)}
                    for each in found["ResourceTagMappingList"]
                ]
                return {"resourceTagMappingLists": mapped}
            if token == "aws:route53/getZone:getZone":
                return {**arguments, "name": self.route53.get_hosted_zone(Id=arguments["zoneId"])["HostedZone"]["Name"]}
            filters = [{"Name": each["name"], "Values": each["values"]} for each in arguments["filters"]]
            if token == OFFERINGS:
                offered = self.ec2.describe_instance_type_offerings(
                    LocationType=arguments["locationType"], Filters=filters
                )["InstanceTypeOfferings"]
                return {
                    "instanceTypes": [each["InstanceType"] for each in offered],
                    "locations": [each["Location"] for each in offered],
                }
            if token == "aws:ebs/getEbsVolumes:getEbsVolumes":
                volumes = self.ec2.describe_volumes(Filters=filters)["Volumes"]
                return {"ids": [each["VolumeId"] for each in volumes]}
            assert token == "aws:ec2/getAmi:getAmi", token
            found = self.ec2.describe_images(Owners=arguments["owners"], Filters=filters)["Images"]
            assert arguments["mostRecent"]
            return {"id": max(found, key=lambda image: image["CreationDate"])["ImageId"]}

    def create(self, resource: Recorded) -> dict[str, Any]:
        """Creates one registered resource; its outputs, with its id."""
        create = {
            "aws:ec2/securityGroup:SecurityGroup": self._security_group,
            "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": self._ingress_rule,
            "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": self._egress_rule,
            "aws:ec2/networkInterface:NetworkInterface": self._interface,
            "aws:ebs/volume:Volume": self._volume,
            "aws:ec2/instance:Instance": self._instance,
            "aws:ec2/volumeAttachment:VolumeAttachment": self._attachment,
            "aws:s3/bucket:Bucket": self._bucket,
            "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": self._public_access_block,
            "aws:s3/bucketVersioning:BucketVersioning": self._versioning,
            "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": self._encryption,
            "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": self._lifecycle,
            "aws:s3/bucketPolicy:BucketPolicy": self._bucket_policy,
            "aws:iam/role:Role": self._role,
            "aws:iam/rolePolicy:RolePolicy": self._role_policy,
            "aws:iam/instanceProfile:InstanceProfile": self._instance_profile,
            "aws:route53/record:Record": self._record,
        }[resource.type]
        inputs = plain(resource.inputs)
        with self._lock:
            outputs = create(resource.name, dict(inputs))
        self.ids[resource.name] = outputs["id"]
        return {**inputs, **outputs}

    def _security_group(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        made = self.ec2.create_security_group(
            GroupName=f"{name}-1a2b3c4",  # as the engine names it
            Description=inputs.pop("description"),
            VpcId=inputs.pop("vpcId"),
            TagSpecifications=_tagged("security-group", inputs),
        )
        _require_all_taken(name, inputs)
        self.ec2.revoke_security_group_egress(  # the provider does so too
            GroupId=made["GroupId"], IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        )
        return {"id": made["GroupId"]}

    def _ingress_rule(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        return self._rule(name, inputs, self.ec2.authorize_security_group_ingress)

    def _egress_rule(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        return self._rule(name, inputs, self.ec2.authorize_security_group_egress)

    def _rule(self, name: str, inputs: dict[str, Any], authorize: Any) -> dict[str, Any]:
        description = {"Description": inputs.pop("description")}
        permission: dict[str, Any] = {"IpProtocol": inputs.pop("ipProtocol")}
        for key, theirs in {"fromPort": "FromPort", "toPort": "ToPort"}.items():
            if key in inputs:
                permission[theirs] = inputs.pop(key)
        assert len({"cidrIpv4", "cidrIpv6", "referencedSecurityGroupId"} & set(inputs)) == 1, (
            f"{name}: one source a rule"
        )
        if "cidrIpv4" in inputs:
            permission["IpRanges"] = [{"CidrIp": str(ipaddress.IPv4Network(inputs.pop("cidrIpv4"))), **description}]
        elif "cidrIpv6" in inputs:
            permission["Ipv6Ranges"] = [{"CidrIpv6": str(ipaddress.IPv6Network(inputs.pop("cidrIpv6"))), **description}]
        else:
            permission["UserIdGroupPairs"] = [{"GroupId": inputs.pop("referencedSecurityGroupId"), **description}]
        made = authorize(
            GroupId=inputs.pop("securityGroupId"),
            IpPermissions=[permission],
            TagSpecifications=_tagged("security-group-rule", inputs),
        )
        _require_all_taken(name, inputs)
        return {"id": made["SecurityGroupRules"][0]["SecurityGroupRuleId"]}

    def _interface(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        groups, subnet = inputs.pop("securityGroups"), inputs.pop("subnetId")
        self.ec2.describe_security_groups(GroupIds=groups)  # moto takes unknown ones
        made = self.ec2.create_network_interface(
            SubnetId=subnet,
            Groups=groups,
            Description=inputs.pop("description"),
            PrivateIpAddress=str(next(self._subnets[subnet].free)),  # AWS chooses a free one, moto any
            TagSpecifications=_tagged("network-interface", inputs),
        )["NetworkInterface"]
        _require_all_taken(name, inputs)
        self._zones[made["NetworkInterfaceId"]] = self._subnets[subnet].zone
        return {"id": made["NetworkInterfaceId"], "privateIp": made["PrivateIpAddress"]}

    def _volume(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        _require_gp3_limits(name, inputs)
        zone = inputs.pop("availabilityZone")
        assert zone in ZONES
        if "kmsKeyId" in inputs:
            self.kms.describe_key(KeyId=inputs["kmsKeyId"])  # moto takes unknown ones
        made = self.ec2.create_volume(
            AvailabilityZone=zone,
            VolumeType=inputs.pop("type"),
            Size=inputs.pop("size"),
            Iops=inputs.pop("iops"),
            Throughput=inputs.pop("throughput"),
            Encrypted=inputs.pop("encrypted"),
            TagSpecifications=_tagged("volume", inputs),
            **({"KmsKeyId": inputs.pop("kmsKeyId")} if "kmsKeyId" in inputs else {}),
        )
        _require_all_taken(name, inputs)
        self._zones[made["VolumeId"]] = zone
        return {"id": made["VolumeId"]}

    def _instance(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        interface = inputs.pop("primaryNetworkInterface")
        root = inputs.pop("rootBlockDevice")
        root_tags = root.pop("tags")
        metadata = inputs.pop("metadataOptions")
        protected = inputs.pop("disableApiTermination")
        assert inputs.pop("forceDestroy") is True  # matters only when it is deleted
        recovery = inputs.pop("maintenanceOptions")
        placement = {"Placement": {"GroupName": inputs.pop("placementGroup")}} if "placementGroup" in inputs else {}
        profile = inputs.pop("iamInstanceProfile", None)
        user_data = inputs.pop("userData")
        assert len(user_data.encode()) <= USER_DATA_MOST_BYTES
        interface_id = interface.pop("networkInterfaceId")
        made = self.ec2.run_instances(
            MinCount=1,
            MaxCount=1,
            ImageId=inputs.pop("ami"),
            InstanceType=inputs.pop("instanceType"),
            NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": interface_id}],
            BlockDeviceMappings=[{"DeviceName": ROOT_DEVICE, "Ebs": {"VolumeSize": IMAGE_GIB, **_capitalized(root)}}],
            MetadataOptions=_capitalized(metadata),
            MaintenanceOptions=_capitalized(recovery),
            **({"IamInstanceProfile": {"Name": profile}} if profile else {}),
            **placement,
            EbsOptimized=inputs.pop("ebsOptimized"),
            UserData=user_data,
            TagSpecifications=_tagged("instance", inputs),
        )["Instances"][0]
        _require_all_taken(name, {**inputs, **interface})
        id_ = made["InstanceId"]
        self.ec2.modify_instance_attribute(InstanceId=id_, DisableApiTermination={"Value": protected})
        described = self.ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"][0]
        self.ec2.create_tags(Resources=[_root_volume_id(described)], Tags=_pairs(root_tags))
        self._zones[id_] = self._zones[interface_id]  # moto puts every instance into the first zone
        return {"id": id_}

    def _attachment(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        assert inputs.pop("stopInstanceBeforeDetaching") is True  # matters only when it is deleted
        volume, instance = inputs.pop("volumeId"), inputs.pop("instanceId")
        assert self._zones[instance] == self._zones[volume], f"{name}: a volume of another zone"
        self.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=inputs.pop("deviceName"))
        _require_all_taken(name, inputs)
        return {"id": f"vai-{volume}"}

    def _bucket(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        assert inputs.pop("forceDestroy") is False  # matters only when it is deleted
        bucket = inputs.pop("bucket")
        self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _pairs(inputs.pop("tags"))})
        _require_all_taken(name, inputs)
        return {"id": bucket}

    def _public_access_block(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        bucket = inputs.pop("bucket")
        self.s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=_capitalized(inputs))
        return {"id": bucket}

    def _versioning(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        bucket = inputs.pop("bucket")
        configuration = _capitalized(inputs.pop("versioningConfiguration"))
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=configuration)
        _require_all_taken(name, inputs)
        return {"id": bucket}

    def _encryption(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        bucket, (rule,) = inputs.pop("bucket"), inputs.pop("rules")
        default = rule.pop("applyServerSideEncryptionByDefault")
        rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": default.pop("sseAlgorithm")}}]
        self.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
        _require_all_taken(name, {**inputs, **rule, **default})
        return {"id": bucket}

    def _lifecycle(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        bucket, (rule,) = inputs.pop("bucket"), inputs.pop("rules")
        blocks = {key: _capitalized(value) for key, value in rule.items() if isinstance(value, dict)}
        made = {**_capitalized(rule), **_capitalized(blocks), "ID": rule.pop("id")}
        self.s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [{key: made[key] for key in made if key != "Id"}]}
        )
        _require_all_taken(name, inputs)
        return {"id": bucket}

    def _bucket_policy(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        bucket = inputs.pop("bucket")
        self.s3.put_bucket_policy(Bucket=bucket, Policy=inputs.pop("policy"))
        _require_all_taken(name, inputs)
        return {"id": bucket}

    def _role(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        role = f"{name}-1a2b3c4"  # as the engine names it
        self.iam.create_role(
            RoleName=role,
            Description=inputs.pop("description"),
            AssumeRolePolicyDocument=inputs.pop("assumeRolePolicy"),
            Tags=_pairs(inputs.pop("tags")),
        )
        _require_all_taken(name, inputs)
        return {"id": role, "name": role}

    def _role_policy(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        role = inputs.pop("role")
        self.iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=inputs.pop("policy"))
        _require_all_taken(name, inputs)
        return {"id": f"{role}:{name}"}

    def _instance_profile(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        profile = f"{name}-1a2b3c4"
        self.iam.create_instance_profile(InstanceProfileName=profile, Tags=_pairs(inputs.pop("tags")))
        self.iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=inputs.pop("role"))
        _require_all_taken(name, inputs)
        return {"id": profile, "name": profile}

    def make_zone(self, domain: str) -> str:
        """Id of a private hosted zone."""
        made = self.route53.create_hosted_zone(Name=domain, CallerReference=domain)
        return str(made["HostedZone"]["Id"].removeprefix("/hostedzone/"))

    def _record(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        zone = inputs.pop("zoneId")
        record = {
            "Name": inputs.pop("name"),
            "Type": inputs.pop("type"),
            "TTL": inputs.pop("ttl"),
            "ResourceRecords": [{"Value": value} for value in inputs.pop("records")],
        }
        _require_all_taken(name, inputs)
        changes = [{"Action": "CREATE", "ResourceRecordSet": record}]
        self.route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
        return {"id": f"{zone}_{record['Name']}_{record['Type']}"}

    def records(self, zone: str) -> dict[tuple[str, str], tuple[int, set[str]]]:
        """Name and type -> TTL and values, of all that were made in a zone."""
        found = self.route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        return {
            (each["Name"], each["Type"]): (each["TTL"], {value["Value"] for value in each["ResourceRecords"]})
            for each in found
            if each["Type"] not in ("NS", "SOA")
        }

    def read(self) -> Standing:
        """Everything, asked for again."""
        reservations = self.ec2.describe_instances()["Reservations"]
        return Standing(
            {each["InstanceId"]: each for reservation in reservations for each in reservation["Instances"]},
            {each["VolumeId"]: each for each in self.ec2.describe_volumes()["Volumes"]},
            {each["NetworkInterfaceId"]: each for each in self.ec2.describe_network_interfaces()["NetworkInterfaces"]},
            {each["GroupId"]: each for each in self.ec2.describe_security_groups()["SecurityGroups"]},
            {
                each["SecurityGroupRuleId"]: each
                for each in self.ec2.describe_security_group_rules()["SecurityGroupRules"]
            },
        )


def _root_volume_id(instance: Mapping[str, Any]) -> str:
    mappings = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in instance["BlockDeviceMappings"]}
    return str(mappings[instance["RootDeviceName"]])


def plain(value: Any) -> Any:
    """Inputs as a provider gets them: without secret marks, whole numbers as such."""
    value = rpc.unwrap_rpc_secret(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def tags_of(described: Mapping[str, Any]) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in described.get("Tags") or described.get("TagSet") or []}


def _tagged(kind: str, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": _pairs(inputs.pop("tags"))}]


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    assert len(tags) <= 50
    assert not [key for key in tags if key.lower().startswith("aws:") or len(key) > 128]
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _capitalized(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """boto3's names differ from the provider's in the first letter; it refuses those that it does not know."""
    return {key[0].upper() + key[1:]: value for key, value in inputs.items()}


def _require_all_taken(name: str, inputs: Mapping[str, Any]) -> None:
    assert not inputs, f"{name}: inputs that AWS knows nothing of: {inputs}"


def _require_gp3_limits(name: str, volume: Mapping[str, Any]) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""
    assert volume["type"] == "gp3", name
    assert 1 <= volume["size"] <= 16 * 1024, name
    assert 3_000 <= volume["iops"] <= min(16_000, max(3_000, 500 * volume["size"])), name
    assert 125 <= volume["throughput"] <= min(1_000, volume["iops"] / 4), name


def _check_enumerations(params: Mapping[str, Any], model: OperationModel, **_: Any) -> None:
    """boto3 refuses unknown names and wrong types, but not unknown values."""
    if model.input_shape is not None:
        _check_shape(model.input_shape, params, str(model.name))


def _check_shape(shape: Any, value: Any, path: str) -> None:
    if shape.type_name == "structure":
        for key in set(value) & set(shape.members):
            _check_shape(shape.members[key], value[key], f"{path}.{key}")
    elif shape.type_name == "list":
        for item in value:
            _check_shape(shape.member, item, path)
    elif shape.type_name == "string" and shape.enum:
        assert value in shape.enum, f"{path}: {value} is none of {', '.join(shape.enum)}"
