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
