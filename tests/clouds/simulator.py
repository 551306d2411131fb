"""A simulator of AWS and Google Cloud: their resources, under the providers' own rules, run by the embedded engine.

An `Account` is what stands in a cloud; a `Stack` is a program's state. A resource of an account outlives the stack that
made it if it is retained, as in a cloud. SSH is not simulated: nothing of etcd is registered in these programs.
"""

from __future__ import annotations

import asyncio
import contextvars
import fnmatch
import io
import ipaddress
import itertools
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from pulumi.runtime import settings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import run_in_stack

from embedded_engine.deployment import DYNAMIC_TYPE, Deployment, StoppedError
from embedded_engine.diff import Difference, difference_of_inputs, keep_ignored
from embedded_engine.display import Display
from embedded_engine.dynamic import Dynamic
from embedded_engine.monitor import Engine, Monitor, _goal
from embedded_engine.passphrase import Crypter
from embedded_engine.provider import CheckFailure, Step, StepError
from embedded_engine.state import Resource, State
from embedded_engine.values import Values, from_struct, plain_values, to_struct
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.machines.gcp.limits import project_of_network
from tests.clouds.rules import RULES, SHRINKS, SOURCES

PROJECT, STACK = "etcd-cluster", "test"
INSTANCE, VOLUME = "aws:ec2/instance:Instance", "aws:ebs/volume:Volume"
ATTACHMENT, INTERFACE = "aws:ec2/volumeAttachment:VolumeAttachment", "aws:ec2/networkInterface:NetworkInterface"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
VM, DISK = "gcp:compute/instance:Instance", "gcp:compute/disk:Disk"
PLACEMENT_GROUP, POLICY = "aws:ec2/placementGroup:PlacementGroup", "gcp:compute/resourcePolicy:ResourcePolicy"
ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
OFFERINGS = "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"
MACHINE_TYPES = "gcp:compute/getMachineTypes:getMachineTypes"
BUCKET, GOOGLE_BUCKET = "aws:s3/bucket:Bucket", "gcp:storage/bucket:Bucket"
BUCKETS = "aws:resourcegroupstaggingapi/getResources:getResources"
RECORD, RECORD_SET = "aws:route53/record:Record", "gcp:dns/recordSet:RecordSet"
ADDRESS, FIREWALL = "gcp:compute/address:Address", "gcp:compute/firewall:Firewall"


@dataclass
class Standing:
    """One resource of an account. made: how many were made before it, over all types."""

    id: str
    type: str
    inputs: dict[str, Any]
    made: int

    @property
    def tags(self) -> Mapping[str, str]:
        return self.inputs.get("labels") or self.inputs.get("tags") or {}


@dataclass
class Account:
    """What stands in a cloud. image: what a family or a search for the newest image finds now.

    refuses_new: the type of which nothing is made now, as in a zone that has run out of machines. refuses_growth: no
    disk gets larger, as at the end of a quota. key_of_aliases: the key that each alias points to. offered: type of
    machine -> zones that have it; None for all everywhere. domain: what every DNS zone is for. denied: the function
    that credentials do not cover. asked: the functions that were called.
    """

    standing: dict[str, Standing] = field(default_factory=dict[str, Standing])
    image: str = "image-1"
    refuses_new: str | None = None
    refuses_growth: bool = False
    key_of_aliases: str = "key-1"
    offered: Mapping[str, Collection[str]] | None = None
    domain: str = "example.com"
    denied: str = ""
    asked: list[str] = field(default_factory=list[str])
    _zones: set[str] = field(default_factory=set[str])
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: Any = field(default_factory=threading.Lock)

    def of_type(self, type_: str) -> list[Standing]:
        return [each for each in self.standing.values() if each.type == type_]

    def zone_of_subnet(self, subnet: str) -> str:
        return f"zone-of-{subnet}"

    # --- what is asked ---

    def call(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(token)
        if token == self.denied:
            raise StepError(f"{token}: AccessDenied")
        if token == "aws:ec2/getSubnet:getSubnet":
            self._zones.add(self.zone_of_subnet(arguments["id"]))
            found = {"availabilityZone": self.zone_of_subnet(arguments["id"]), "vpcId": "vpc-1"}
            return {**arguments, **found, "cidrBlock": range_of_subnet(arguments["id"])}
        if token == "aws:ec2/getNetworkInterface:getNetworkInterface":
            return {**self._existing(arguments["id"]).inputs, **arguments}
        if token == "aws:ebs/getEbsVolumes:getEbsVolumes":
            return {"ids": [each.id for each in self.of_type(VOLUME) if self._passes(each, arguments["filters"])]}
        if token == "aws:ebs/getVolume:getVolume":
            (volume,) = (each for each in self.of_type(VOLUME) if self._passes(each, arguments["filters"]))
            return {**volume.inputs, "id": volume.id, "volumeId": volume.id}
        if token == "gcp:compute/getDisk:getDisk":
            # google/services/compute/data_source_google_compute_disk.go: "%s not found"
            id_ = f"projects/p/zones/{arguments['zone']}/disks/{arguments['name']}"
            if id_ not in self.standing:
                raise StepError(f"{id_} not found")
            disk = self._existing(id_)
            users = [each.id for each in self.of_type(VM) if disk.id in _disks(each.inputs)]
            return {**disk.inputs, "id": disk.id, "users": users}
        if token == "aws:kms/getKey:getKey":
            return {**arguments, "arn": f"{arguments['keyId'].partition(':alias/')[0]}:key/{self.key_of_aliases}"}
        if token == "aws:ec2/getAmi:getAmi":
            return {"id": f"ami-{self.image}", "name": arguments["filters"][0]["values"][0]}
        if token == OFFERINGS:
            # docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html: pairs in two lists
            (types,) = (each["values"] for each in arguments["filters"] if each["name"] == "instance-type")
            assert arguments["locationType"] == "availability-zone"
            pairs = [(type_, zone) for type_ in types for zone in self._zones_with(type_)]
            return {"instanceTypes": [type_ for type_, _ in pairs], "locations": [zone for _, zone in pairs]}
        if token == MACHINE_TYPES:
            # cloud.google.com/compute/docs/reference/rest/v1/machineTypes/list
            names = re.findall(r'name = "([^"]+)"', arguments["filter"])
            return {"machineTypes": [{"name": each} for each in names if arguments["zone"] in self._zones_with(each)]}
        if token == "aws:index/getPartition:getPartition":
            return {"partition": "aws-cn", "dnsSuffix": "amazonaws.com.cn"}
        if token == BUCKETS:
            # docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html: all filters
            assert arguments["resourceTypeFilters"] == ["s3:bucket"]
            found = [
                each
                for each in self.of_type(BUCKET)
                if all(each.tags.get(one["key"]) in one["values"] for one in arguments["tagFilters"])
            ]
            mapped = [{"resourceArn": f"arn:aws-cn:s3:::{each.id}", "tags": each.tags} for each in found]
            return {"resourceTagMappingLists": mapped}
        if token == "gcp:storage/getBuckets:getBuckets":
            buckets = [each for each in self.of_type(GOOGLE_BUCKET) if each.id.startswith(arguments["prefix"])]
            return {"buckets": [{"name": each.id, "labels": each.tags} for each in buckets]}
        if token == "aws:route53/getZone:getZone":
            return {**arguments, "name": self.domain}
        if token == "gcp:dns/getManagedZone:getManagedZone":
            return {**arguments, "dnsName": f"{self.domain}."}
        raise AssertionError(f"the simulator knows no function {token}")

    def _zones_with(self, type_: str) -> Collection[str]:
        everywhere = {*self._zones, *("europe-west1-b", "europe-west1-c", "europe-west1-d")}
        return everywhere if self.offered is None else self.offered.get(type_, ())

    def _passes(self, volume: Standing, filters: list[Mapping[str, Any]]) -> bool:
        """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumes.html: all filters, wildcards."""
        known = {f"tag:{key}": value for key, value in volume.tags.items()}
        known |= {"volume-id": volume.id, "status": "in-use" if self._user(volume) else "available"}
        return all(
            any(fnmatch.fnmatchcase(known.get(each["name"], ""), value) for value in each["values"]) for each in filters
        )

    # --- what is made, changed and deleted ---

    def create(self, type_: str, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        with self._lock:
            if type_ == self.refuses_new:
                raise StepError("InsufficientInstanceCapacity")
            self._refuse(type_, inputs, None)
            number = next(self._numbers)
            id_ = f"{type_.partition(':')[0]}-{type_.rpartition(':')[2].lower()}-{number}"
            if type_ == DISK:
                id_ = f"projects/p/zones/{inputs['zone']}/disks/{inputs['name']}"
            if type_ in (BUCKET, GOOGLE_BUCKET):
                id_ = inputs["bucket" if type_ == BUCKET else "name"]
            elif type_.startswith("aws:s3/"):  # a part of the bucket, which is written, and not made
                id_ = f"{type_}/{inputs['bucket']}"
            outputs = {**inputs, **self._computed(type_, id_, number, inputs)}
            self.standing[id_] = Standing(id_, type_, outputs, number)
            return id_, outputs

    def update(self, type_: str, id_: str, inputs: dict[str, Any], changed: tuple[str, ...]) -> dict[str, Any]:
        with self._lock:
            here = self._existing(id_)
            for key in changed:
                if key in RULES[type_].refuses_in_place:
                    raise StepError(RULES[type_].refuses_in_place[key])
            if self.refuses_growth and type_ == DISK and inputs["size"] > here.inputs["size"]:
                raise StepError("QUOTA_EXCEEDED: SSD_TOTAL_GB")
            if type_ == VOLUME and inputs["size"] < here.inputs["size"]:
                raise StepError(SHRINKS)
            self._refuse(type_, inputs, id_)
            here.inputs = {**here.inputs, **inputs}
            return here.inputs

    def delete(self, id_: str) -> None:
        with self._lock:
            if id_ not in self.standing:
                return  # what is gone already is gone, for providers as well
            here = self.standing[id_]
            if user := self._user(here):
                raise StepError(f"{id_} is in use by {user}")
            if here.type == VM and here.inputs.get("deletionProtection"):
                # https://cloud.google.com/compute/docs/instances/preventing-accidental-vm-deletion
                raise StepError(f"Resource cannot be deleted if it's protected against deletion: {id_}")
            if here.type == INSTANCE and here.inputs.get("disableApiTermination") and not here.inputs["forceDestroy"]:
                # docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html
                raise StepError(f"OperationNotPermitted: the instance {id_} may not be terminated")
            del self.standing[id_]
            for each in self.of_type(ATTACHMENT):  # an instance that ends detaches its volumes
                if each.inputs["instanceId"] == id_:
                    del self.standing[each.id]

    def _existing(self, id_: str) -> Standing:
        if id_ not in self.standing:
            raise StepError(f"{id_} does not exist")
        return self.standing[id_]

    def _user(self, here: Standing) -> str | None:
        """What holds on to a resource: VolumeInUse, DependencyViolation, resourceInUseByAnotherResource."""
        for each in self.standing.values():
            inputs = each.inputs
            if (
                (here.type == INTERFACE and each.type == INSTANCE and _interface(inputs) == here.id)
                or (here.type == VOLUME and each.type == ATTACHMENT and inputs["volumeId"] == here.id)
                or (here.type == GROUP and each.type == INTERFACE and here.id in inputs["securityGroups"])
                or (here.type == DISK and each.type == VM and here.id in _disks(inputs))
                # InvalidPlacementGroup.InUse, resourceInUseByAnotherResource
                or (here.type == PLACEMENT_GROUP and inputs.get("placementGroup") == here.inputs["name"])
                or (here.type == POLICY and inputs.get("resourcePolicies") == here.inputs["selfLink"])
                or (here.type == ADDRESS and each.type == VM and _ip(inputs) == here.inputs["address"])
            ):
                return each.id
        return None

    def _refuse(self, type_: str, inputs: Mapping[str, Any], own: str | None) -> None:
        others = [each for each in self.of_type(type_) if each.id != own]
        if type_ == BUCKET and any(each.inputs["bucket"] == inputs["bucket"] for each in others):
            # docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
            raise StepError(f"BucketAlreadyOwnedByYou: {inputs['bucket']}")
        if type_ == RECORD and own is None and any(_record(each.inputs) == _record(inputs) for each in others):
            # internal/service/route53/record.go creates, and overwrites nothing: InvalidChangeBatch
            raise StepError(f"Tried to create resource record set {_record(inputs)} but it already exists")
        if type_ == RECORD_SET:
            # google/services/dns/resource_dns_record_set.go: what stands under the name is deleted first
            for each in [each for each in others if _record(each.inputs) == _record(inputs)]:
                del self.standing[each.id]
        elif type_.startswith("gcp:") and any(_name(each.inputs) == _name(inputs) for each in others):
            # https://cloud.google.com/compute/docs/naming-resources: unique in a zone, or in a region
            raise StepError(f"alreadyExists: the resource {inputs['name']} already exists")
        if type_ == INGRESS and any(_permission(each.inputs) == _permission(inputs) for each in others):
            # docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html: InvalidPermission.Duplicate
            raise StepError(f"InvalidPermission.Duplicate: the specified rule {_permission(inputs)} already exists")
        if type_ == FIREWALL and inputs.get("project") != project_of_network(inputs["network"]):
            # https://cloud.google.com/vpc/docs/shared-vpc: rules are in the project of their network
            raise StepError("Invalid value for field 'resource.network': it is of another project")
        if type_ == INTERFACE and own is None:
            # docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
            for address in inputs.get("privateIps") or ():
                if ipaddress.ip_address(address) not in ipaddress.ip_network(range_of_subnet(inputs["subnetId"])):
                    raise StepError(f"InvalidParameterValue: {address} is not within {inputs['subnetId']}")
                if any(each.inputs["privateIp"] == address for each in others):
                    raise StepError(f"InvalidIPAddress.InUse: Address {address} is in use")
        if type_ == ADDRESS and own is None and any(each.inputs["address"] == inputs.get("address") for each in others):
            # https://cloud.google.com/compute/docs/ip-addresses/configure-static-internal-ip-address
            raise StepError(f"IP_IN_USE_BY_ANOTHER_RESOURCE: {inputs['address']}")
        if type_ == INSTANCE:
            interface = self._existing(_interface(inputs))
            if any(_interface(each.inputs) == interface.id for each in others):
                raise StepError(f"InvalidNetworkInterface.InUse: {interface.id}")
        if type_ == ATTACHMENT:
            # docs.aws.amazon.com/ebs/latest/userguide/ebs-attaching-volume.html: the same zone, and one instance
            volume, instance = self._existing(inputs["volumeId"]), self._existing(inputs["instanceId"])
            zones = volume.inputs["availabilityZone"], instance.inputs["availabilityZone"]
            if len(set(zones)) != 1:
                raise StepError(f"InvalidVolume.ZoneMismatch: {zones}")
            if any(each.inputs["volumeId"] == volume.id for each in others):
                raise StepError(f"VolumeInUse: {volume.id}")
        if type_ == VM:
            # https://cloud.google.com/compute/docs/disks/add-persistent-disk: zonal disks, one writer each
            for disk in map(self._existing, _disks(inputs)):
                if disk.inputs["zone"] != inputs["zone"]:
                    raise StepError(f"the disk is in {disk.inputs['zone']}, the instance is to be in {inputs['zone']}")
                if any(disk.id in _disks(each.inputs) for each in others):
                    raise StepError(f"RESOURCE_IN_USE_BY_ANOTHER_RESOURCE: {disk.id}")
            subnet = inputs["networkInterfaces"][0]["subnetwork"]
            for address in self.of_type(ADDRESS):
                # https://cloud.google.com/compute/docs/ip-addresses/configure-static-internal-ip-address
                if _ip(inputs) == address.inputs["address"] and address.inputs["subnetwork"] != subnet:
                    raise StepError(f"{_ip(inputs)} is of {address.inputs['subnetwork']}, and not of {subnet}")
                if _ip(inputs) == address.inputs["address"] and any(_ip(each.inputs) == _ip(inputs) for each in others):
                    raise StepError(f"IP_IN_USE_BY_ANOTHER_RESOURCE: {_ip(inputs)}")

    def _computed(self, type_: str, id_: str, number: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if type_ == INTERFACE:
            given = inputs.get("privateIps")
            return {
                "privateIp": given[0] if given else range_of_subnet(inputs["subnetId"]).replace("0/24", str(number))
            }
        if type_ == INSTANCE:
            subnet = self._existing(_interface(inputs)).inputs["subnetId"]
            arn = f"arn:aws-cn:ec2:cn-north-1:111122223333:instance/{id_}"
            return {"availabilityZone": self.zone_of_subnet(subnet), "arn": arn}
        if type_ in ("aws:iam/role:Role", "aws:iam/instanceProfile:InstanceProfile"):
            return {"name": id_}
        if type_ == "gcp:serviceaccount/account:Account":
            return {"email": f"{inputs['accountId']}@p.iam.gserviceaccount.com"}
        if type_ == PLACEMENT_GROUP:
            return {"name": id_}
        if type_ == POLICY:
            return {"selfLink": f"https://www.googleapis.com/compute/v1/{id_}"}
        if type_ == ADDRESS:
            return {"address": inputs.get("address") or f"10.0.0.{number}"}
        if type_ == VM:
            return {"bootImage": self.image}  # a family is resolved when the instance is made
        return {}


def range_of_subnet(subnet: str) -> str:
    """Each subnet has a range of its own, by the last letter of its id."""
    return f"10.0.{ord(subnet[-1])}.0/24"


def _name(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return inputs["name"], inputs.get("zone"), inputs.get("region")


def _record(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return inputs.get("zoneId") or inputs.get("managedZone"), inputs["name"], inputs["type"]


def _interface(inputs: Mapping[str, Any]) -> str:
    return str(inputs["primaryNetworkInterface"]["networkInterfaceId"])


def _disks(inputs: Mapping[str, Any]) -> list[str]:
    return [each["source"] for each in inputs.get("attachedDisks") or ()]


def _ip(inputs: Mapping[str, Any]) -> str:
    return str(inputs["networkInterfaces"][0]["networkIp"])


def _permission(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(inputs.get(key) for key in ("securityGroupId", "ipProtocol", "fromPort", "toPort", *SOURCES))


# --- the engine's side ---


class CloudProvider:
    """Answers the embedded engine for all types of both clouds."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        if not goal.type.startswith("gcp:") or "name" in goal.inputs:
            return goal.inputs, []
        # Pulumi's automatic names: at random for each new one, and kept.
        name = old.inputs["name"] if old else f"{goal.name}-{next(self._account._numbers):07x}"
        return {**goal.inputs, "name": name}, []

    def diff(self, old: Resource, goal: Resource) -> Difference:
        before, after = plain_values(old.inputs), plain_values(goal.inputs)
        changed = difference_of_inputs(before, after)
        of_type = RULES[goal.type]
        replacing = [
            key
            for key in changed.inputs
            if key in of_type.replaces
            or (key in of_type.replaces_if and of_type.replaces_if[key](before.get(key), after.get(key)))
        ]
        return replace(changed, replacing=tuple(replacing))

    def create(self, goal: Resource, step: Step) -> tuple[str, Values]:
        return self._account.create(goal.type, plain_values(goal.inputs))

    def update(self, old: Resource, goal: Resource, step: Step) -> Values:
        changed = difference_of_inputs(plain_values(old.inputs), plain_values(goal.inputs)).inputs
        return dict(self._account.update(goal.type, old.id, plain_values(goal.inputs), changed))

    def delete(self, old: Resource, step: Step) -> None:
        self._account.delete(old.id)


class FailedCallError(grpc.RpcError):
    """A function of a provider failed, as the SDK sees it: the program may go on."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return str(self.args[0])


class CloudMonitor(Monitor):
    """Knows functions of providers and aliases as well, which the embedded engine has no use for."""

    def __init__(
        self, stack: str, account: Account, state: State, deployment: Deployment, leaving_out: Collection[str] = ()
    ) -> None:
        super().__init__(stack, PROJECT, deployment)
        self._account, self._state, self._leaving_out = account, state, leaving_out

    def Invoke(self, request: Any) -> Any:
        try:
            answer = self._account.call(request.tok, from_struct(request.args))
        except StepError as error:
            raise FailedCallError(str(error)) from None
        fields: dict[str, Any] = {"return": to_struct(answer)}
        return resource_pb2.ResourceInvokeResponse(**fields)

    def RegisterResource(self, request: Any) -> Any:
        urn = self._urn(request.parent, request.type, request.name)
        for alias in request.aliases:
            before = alias.urn or self._urn(request.parent, alias.spec.type or request.type, alias.spec.name)
            olds = self._deployment._olds
            if before in olds and urn not in olds:
                olds[urn] = replace(olds.pop(before), urn=urn)
                self._state.current[urn] = replace(self._state.current.pop(before), urn=urn)
        request.ClearField("aliases")
        if request.name in self._leaving_out:
            self._deployment._registered.add(urn)
            left = self._state.current[urn]
            return resource_pb2.RegisterResourceResponse(urn=urn, id=left.id, object=to_struct(left.outputs))
        if request.importId:
            self._import(urn, request)
            request.ClearField("importId")
        return super().RegisterResource(request)

    def _import(self, urn: str, request: Any) -> None:
        """Reads the resource into the state, and goes on with it as with any other.

        github.com/pulumi/pulumi, pkg/resource/deploy/step_generator.go: nothing is imported if the state has that id;
        if it has another one, that resource is replaced, protected or not; and the imported one is never replaced.
        """
        old, olds = self._state.current.get(urn), self._deployment._olds
        if old is not None and old.id == request.importId:
            return
        if old is not None:
            self._deployment._display.operations.append(("import-replacement", urn))
        standing = self._account._existing(request.importId)
        goal = _goal(request, urn)
        read = {key: value for key, value in standing.inputs.items() if key in goal.inputs}
        imported = replace(goal, id=standing.id, inputs=read, outputs=standing.inputs)
        self._deployment._display.operations.append(("import", urn))
        olds[urn] = imported
        self._state.put(imported)
        ignored = keep_ignored(read, goal.inputs, goal.ignore_changes)
        forced = CloudProvider(self._account).diff(imported, replace(goal, inputs=ignored)).replacing
        if forced:
            raise StepError(f"previously-imported resources that still specify an ID may not be replaced: {forced}")


@dataclass
class Run:
    """What a run did: (operation, name of the resource), in the order of completion."""

    ok: bool
    steps: list[tuple[str, str]]
    text: str

    def of(self, operation: str) -> set[str]:
        return {name for done, name in self.steps if done == operation}


@dataclass
class Stack:
    """A program's state over an account."""

    account: Account
    name: str = STACK
    state: State = field(default_factory=lambda: State(Path("nowhere"), Crypter(lambda: "", "", ""), False))

    def up(self, program: Callable[[], object], leaving_out: Collection[str] = ()) -> Run:
        """leaving_out: names of resources that the run does not touch, as `--target` and `--exclude` say."""
        return self._run(self.state, program, dry_run=False, leaving_out=leaving_out)

    def preview(self, program: Callable[[], object]) -> Run:
        copy = State(Path("nowhere"), Crypter(lambda: "", "", ""), False)
        copy.current, copy.replaced = deepcopy(self.state.current), deepcopy(self.state.replaced)
        return self._run(copy, program, dry_run=True)

    def destroy(self) -> Run:
        return self._run(self.state, None, dry_run=False)

    def _run(
        self,
        state: State,
        program: Callable[[], object] | None,
        *,
        dry_run: bool,
        leaving_out: Collection[str] = (),
    ) -> Run:
        shown = io.StringIO()
        display = Display(shown, dry_run=dry_run)
        cloud = CloudProvider(self.account)
        providers: dict[str, Any] = {DYNAMIC_TYPE: Dynamic(PROJECT, {}), **dict.fromkeys(RULES, cloud)}
        deployment = Deployment(state, providers, display, dry_run=dry_run)
        if program is None:
            deployment.destroy()
            deployment.close()
        else:
            monitor = CloudMonitor(self.name, self.account, state, deployment, leaving_out)
            contextvars.copy_context().run(_run_program, program, self.name, monitor, deployment, display, dry_run)
        steps = [(done, urn.rpartition("::")[2]) for done, urn in display.operations if done != "same"]
        return Run(deployment.ok, steps, shown.getvalue())


def _run_program(
    program: Callable[[], object], stack: str, monitor: Monitor, deployment: Deployment, display: Display, dry_run: bool
) -> None:
    settings.ROOT.set(None)
    settings.configure(
        settings.Settings(project=PROJECT, stack=stack, monitor=monitor, engine=Engine(display), dry_run=dry_run)
    )
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def main() -> None:
        program()

    try:
        loop.run_until_complete(run_in_stack(main))
    except (StepError, StoppedError):
        deployment.failed = True
    except EtcdClusterError as error:
        deployment.failed = True
        display.note("error", str(error))
    finally:
        loop.run_until_complete(loop.run_in_executor(None, deployment.close))
        loop.close()
        asyncio.set_event_loop(asyncio.new_event_loop())  # the SDK's own helpers expect one
