"""The component in the programs and tests of those who install it: what Pulumi lets every component's user do."""

from __future__ import annotations

import pytest

from tests.packaging.installed import Environment

PLATFORMS = """
import json
import pulumi
from etcd_cluster import AwsMachines, EtcdCluster, EtcdClusterArgs, GcpMachines, Host, HostMachines, LocalMachines

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "{:A>43}"
RANGES = ["10.0.0.0/16"]
PLATFORMS = {
    "local": LocalMachines(directory="/srv/etcd"),
    "hosts": HostMachines({f"etcd-{n}": Host(f"10.0.0.{n}", HOST_KEY.format(n)) for n in (1, 2, 3)}),
    "aws": AwsMachines(["subnet-1", "subnet-2", "subnet-3"], client_cidrs=RANGES, ssh_cidrs=RANGES),
    "gcp": GcpMachines(
        "net", "subnet", [f"europe-west1-{z}" for z in "bcd"], client_ranges=RANGES, ssh_ranges=RANGES
    ),
}
"""

# As in https://www.pulumi.com/docs/iac/guides/testing/unit/: what somebody writes who knows nothing of the component.
MOCKS = """
import pulumi

class MyMocks(pulumi.runtime.Mocks):
    def new_resource(self, args):
        registered.append(args)
        return [args.name + "_id", args.inputs]
    def call(self, args):
        return ANSWER

registered = []
pulumi.runtime.set_mocks(MyMocks(), preview=PREVIEW)
"""

TEST = """
found = {}

@pulumi.runtime.test
def test_endpoints(platform):
    def check(endpoints):
        found[platform] = endpoints
    return EtcdCluster(platform, EtcdClusterArgs(machines=PLATFORMS[platform])).endpoints.apply(check)

for platform in PLATFORMS:
    test_endpoints(platform)
print(json.dumps([found, [each.name for each in registered]]))
"""


@pytest.mark.parametrize("answer", ["{}", "args.args"])
@pytest.mark.parametrize("preview", [True, False])
def test_mocks_as_pulumi_documents_them_work_on_every_platform(
    complete: Environment, preview: bool, answer: str
) -> None:
    mocks = MOCKS.replace("PREVIEW", str(preview)).replace("ANSWER", answer)
    endpoints, registered = complete.run(mocks + PLATFORMS + TEST)
    for platform in ("local", "hosts", "aws", "gcp"):
        assert {f"{platform}-formation", f"{platform}-rollout"} <= set(registered)
    if preview:
        return  # what a cloud's machines have is unknown then
    assert endpoints["hosts"] == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]
    assert endpoints["aws"] == endpoints["gcp"] == ["https://?:2379"] * 3


def test_addresses_that_mocks_give_are_those_of_the_endpoints(complete: Environment) -> None:
    answers = """
    def new_resource(self, args):
        registered.append(args)
        number = args.name.split("-")[2:3]
        given = {"aws:ec2/networkInterface:NetworkInterface": "privateIp", "gcp:compute/address:Address": "address"}
        own = {given[args.typ]: f"10.0.0.{number[0]}"} if args.typ in given else {}
        return [args.name + "_id", {**args.inputs, **own}]
"""
    mocks = MOCKS.replace("PREVIEW", "False").replace("ANSWER", "{}") + f"class Answers(MyMocks):{answers}"
    mocks += "pulumi.runtime.set_mocks(Answers(), preview=False)\n"
    endpoints, _ = complete.run(mocks + PLATFORMS + TEST)
    assert endpoints["aws"] == endpoints["gcp"] == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]


REGISTRATIONS = """
import json
import pulumi
from pulumi.runtime import mocks, rpc

class MyMocks(mocks.Mocks):
    def new_resource(self, args):
        return args.name + "_id", args.inputs
    def call(self, args):
        calls.append(args)
        return {}

class Monitor(mocks.MockMonitor):
    def RegisterResource(self, request):
        requests.append(request)
        return super().RegisterResource(request)

calls, requests = [], []
mocks.set_mocks(MyMocks(), preview=False, monitor=Monitor(MyMocks()))
"""

OPTIONS = """
import pulumi_aws, pulumi_command, pulumi_gcp
from pulumi.runtime.stack import run_pulumi_func
from pulumi.runtime.sync_await import _sync_await

class Department(pulumi.ComponentResource):
    def __init__(self):
        super().__init__("shop:index:Department", "department", None, None)
        self.opts = pulumi.ResourceOptions(parent=self)

async def program():
    providers = [
        pulumi_aws.Provider("own-aws", region="eu-central-1"),
        pulumi_gcp.Provider("own-gcp", project="shop"),
        pulumi_command.Provider("own-command"),
    ]
    for platform, machines in PLATFORMS.items():
        EtcdCluster(
            platform,
            EtcdClusterArgs(machines=machines),
            pulumi.ResourceOptions(parent=Department(), providers=providers, protect=True),
        )

_sync_await(run_pulumi_func(program))
rows = [
    [each.type, each.name, each.provider, each.protect, each.parent.split("::")[-1], each.custom]
    for each in requests if each.parent.split("::")[-1] in PLATFORMS
]
print(json.dumps([rows, [[each.token, each.provider] for each in calls]]))
"""


def test_providers_and_protection_of_the_component_reach_every_resource_and_call(complete: Environment) -> None:
    rows, calls = complete.run(REGISTRATIONS + PLATFORMS + OPTIONS)
    assert {parent for *_, parent, _ in rows} == {"local", "hosts", "aws", "gcp"}
    for type_, name, provider, protect, parent, custom in rows:
        assert custom
        assert protect, name
        assert name.startswith(f"{parent}-"), "an alias of the component would not hold for it"
        package = type_.partition(":")[0]
        if package != "pulumi-python":
            assert f"::own-{package}::" in provider, name
    assert {token.partition(":")[0] for token, _ in calls} == {"aws", "gcp"}
    assert [token for token, provider in calls if f"::own-{token.partition(':')[0]}::" not in provider] == []


SECRETS = """
from pulumi.runtime.stack import run_pulumi_func
from pulumi.runtime.sync_await import _sync_await
from etcd_cluster import CA, Install

async def program():
    for platform, machines in PLATFORMS.items():
        EtcdCluster(
            platform,
            EtcdClusterArgs(
                machines=machines, install=Install(mirror=pulumi.Output.secret("https://hunter2@mirror.example"))
            ),
        )

def plain(value):
    if isinstance(value, dict):
        if rpc.is_rpc_secret(value):
            return []
        return [text for item in value.values() for text in plain(item)]
    if isinstance(value, list):
        return [text for item in value for text in plain(item)]
    return [value]

class Keys(MyMocks):
    def new_resource(self, args):
        made = {
            "pulumi-python:dynamic/ssh:SshKeyPair": ["private_key"],
            "pulumi-python:dynamic/pki:CertificateAuthority": ["private_key_pem"],
            "pulumi-python:dynamic/pki:Certificate": ["private_key_pem"],
        }
        secret = {rpc._special_sig_key: rpc._special_secret_sig, "value": "hunter2"}  # as the engine answers
        return args.name + "_id", {**args.inputs, **dict.fromkeys(made.get(args.typ, []), secret)}

mocks.set_mocks(Keys(), preview=False, monitor=Monitor(Keys()))
_sync_await(run_pulumi_func(program))
shown = [
    [each.name, key] for each in requests
    for key, value in rpc.deserialize_properties(each.object, keep_unknowns=True).items()
    if any("hunter2" in str(text) for text in plain(value))
]
hidden = [each.name for each in requests if "hunter2" in str(each.object)]
print(json.dumps([shown, hidden]))
"""


def test_what_is_secret_is_so_in_every_input(complete: Environment) -> None:
    shown, hidden = complete.run(REGISTRATIONS + PLATFORMS + SECRETS)
    assert shown == []
    rollouts = {f"{platform}-rollout" for platform in ("local", "hosts", "aws", "gcp")}
    assert {*rollouts, "aws-login-key", "gcp-login-key", "aws-etcd-1", "gcp-etcd-1"} <= set(hidden)
