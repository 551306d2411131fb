"""Each rule of the policy pack, on inputs that keep it and that break it; then on what the component registers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

POLICY = Path(__file__).parents[2] / "policy"
sys.path.insert(0, str(POLICY))

from rules import RULES, Rule  # noqa: E402  # pyright: ignore[reportMissingImports]  found by the path above

BY_NAME = {rule.name.removeprefix("etcd-"): rule for rule in RULES}
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
OLD_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
FIREWALL = "gcp:compute/firewall:Firewall"
VOLUME, INSTANCE = "aws:ebs/volume:Volume", "aws:ec2/instance:Instance"
S3, GCS = "aws:s3/bucket:Bucket", "gcp:storage/bucket:Bucket"
CLOSED: dict[str, Any] = {
    "labels": {"etcd-cluster": "etcd"},
    "publicAccessPrevention": "enforced",
    "uniformBucketLevelAccess": True,
    "versioning": {"enabled": True},
}
REMOTE = "command:remote:Command"
CLUSTER = "etcd-cluster:index:EtcdCluster"
TCP_2379 = {"ipProtocol": "tcp", "fromPort": 2379.0, "toPort": 2379.0}

KEPT: list[tuple[str, str, dict[str, Any]]] = [
    ("not-open-to-the-world", INGRESS, {**TCP_2379, "cidrIpv4": "10.0.0.0/8"}),
    ("not-open-to-the-world", INGRESS, {**TCP_2379, "cidrIpv6": "fc00::/7"}),
    ("not-open-to-the-world", INGRESS, {**TCP_2379, "referencedSecurityGroupId": "sg-1"}),
    ("not-open-to-the-world", INGRESS, {"ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "cidrIpv4": "0.0.0.0/0"}),
    ("not-open-to-the-world", INGRESS, {"ipProtocol": "icmp", "fromPort": -1, "toPort": -1, "cidrIpv4": "0.0.0.0/0"}),
    ("not-open-to-the-world", OLD_RULE, {"type": "egress", "protocol": "-1", "cidrBlocks": ["0.0.0.0/0"]}),
    ("not-open-to-the-world", GROUP, {"egress": [{"protocol": "-1", "cidrBlocks": ["0.0.0.0/0"]}]}),
    ("not-open-to-the-world", FIREWALL, {"allows": [{"protocol": "tcp", "ports": ["22"]}], "sourceTags": ["bastion"]}),
    ("not-open-to-the-world", FIREWALL, {"direction": "EGRESS", "allows": [{"protocol": "all"}]}),
    ("not-open-to-the-world", FIREWALL, {"allows": [{"protocol": "tcp", "ports": ["80", "443"]}]}),
    ("volumes-encrypted", VOLUME, {"encrypted": True}),
    ("volumes-encrypted", INSTANCE, {"rootBlockDevice": {"encrypted": True}}),
    ("backups-kept", S3, {"tags": {"etcd:cluster": "etcd"}, "forceDestroy": False}),
    ("backups-kept", S3, {"tags": {"team": "web"}, "forceDestroy": True}),
    ("backups-kept", GCS, CLOSED),
    ("backups-kept", GCS, {"labels": {"team": "web"}, "publicAccessPrevention": "inherited"}),
    ("host-keys-pinned", REMOTE, {"connection": {"host": "a", "hostKey": "ssh-ed25519 A"}}),
    ("host-keys-pinned", REMOTE, {"connection": {"host": "a", "hostKey": "k", "proxy": {"host": "b", "hostKey": "k"}}}),
    ("host-keys-pinned", "command:local:Command", {"create": "true"}),
    ("members-odd", CLUSTER, {"memberNames": ["a", "b", "c"]}),
]
BROKEN: list[tuple[str, str, dict[str, Any], str]] = [
    ("not-open-to-the-world", INGRESS, {**TCP_2379, "cidrIpv4": "0.0.0.0/0"}, "port 2379 (etcd's clients) is open to"),
    ("not-open-to-the-world", INGRESS, {**TCP_2379, "cidrIpv4": "0.0.0.0/1"}, "open to 0.0.0.0/1"),
    ("not-open-to-the-world", INGRESS, {**TCP_2379, "cidrIpv6": "::/0"}, "open to ::/0"),
    ("not-open-to-the-world", INGRESS, {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"}, "port 22 (SSH)"),
    (
        "not-open-to-the-world",
        OLD_RULE,
        {"type": "ingress", "protocol": "tcp", "fromPort": 2000, "toPort": 3000, "cidrBlocks": ["0.0.0.0/0"]},
        "port 2380 (etcd's members)",
    ),
    (
        "not-open-to-the-world",
        GROUP,
        {"ingress": [{"protocol": "tcp", "fromPort": 22, "toPort": 22, "ipv6CidrBlocks": ["::/0"]}]},
        "port 22 (SSH) is open to ::/0",
    ),
    ("not-open-to-the-world", FIREWALL, {"allows": [{"protocol": "tcp", "ports": ["2379-2380"]}]}, "0.0.0.0/0"),
    ("not-open-to-the-world", FIREWALL, {"allows": [{"protocol": "all"}], "sourceRanges": ["0.0.0.0/0"]}, "port 22"),
    (
        "not-open-to-the-world",
        FIREWALL,
        {"allows": [{"protocol": "tcp"}], "sourceRanges": ["0.0.0.0/0"], "sourceTags": ["a"]},
        "port 22",
    ),
    ("volumes-encrypted", VOLUME, {}, "the volume is not encrypted"),
    ("volumes-encrypted", VOLUME, {"encrypted": False}, "the volume is not encrypted"),
    ("volumes-encrypted", INSTANCE, {}, "the root volume is not encrypted"),
    (
        "volumes-encrypted",
        INSTANCE,
        {"rootBlockDevice": {"encrypted": True}, "ebsBlockDevices": [{"deviceName": "/dev/sdf"}]},
        "volume /dev/sdf is not encrypted",
    ),
    ("backups-kept", S3, {"tags": {"etcd:cluster": "etcd"}, "forceDestroy": True}, "deleted with the backups"),
    ("backups-kept", GCS, {**CLOSED, "forceDestroy": True}, "deleted with the backups"),
    ("backups-kept", GCS, {**CLOSED, "publicAccessPrevention": "inherited"}, "can be made public"),
    ("backups-kept", GCS, {**CLOSED, "uniformBucketLevelAccess": False}, "can be made public"),
    ("backups-kept", GCS, {**CLOSED, "versioning": {"enabled": False}}, "is gone"),
    ("host-keys-pinned", REMOTE, {"connection": {"host": "a"}}, "trusts any host"),
    ("host-keys-pinned", "command:remote:CopyToRemote", {"connection": {"host": "a"}}, "trusts any host"),
    ("host-keys-pinned", REMOTE, {"connection": {"hostKey": "k", "proxy": {"host": "b"}}}, "bastion"),
    ("members-odd", CLUSTER, {"memberNames": ["a", "b"]}, "2 members: have 1, 3, 5 or 7"),
]


@pytest.mark.parametrize(("rule", "type_", "inputs"), KEPT)
def test_what_keeps_a_rule_passes(rule: str, type_: str, inputs: dict[str, Any]) -> None:
    assert list(BY_NAME[rule].violations(type_, inputs)) == []


@pytest.mark.parametrize(("rule", "type_", "inputs", "text"), BROKEN)
def test_what_breaks_a_rule_is_named(rule: str, type_: str, inputs: dict[str, Any], text: str) -> None:
    found = list(BY_NAME[rule].violations(type_, inputs))
    assert any(text in violation for violation in found), found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_other_resources_are_left_alone(rule: Rule) -> None:
    assert list(rule.violations("random:index/randomId:RandomId", {})) == []


# --- What the component registers ---


@pytest.mark.parametrize("example", ["aws_existing_vpc", "gcp", "own_hosts"])
def test_the_component_keeps_every_rule(example: str) -> None:
    pytest.importorskip("pulumi_command", reason="the policies' own environment has no cluster in it")
    from tests.unit.test_examples import run

    resources = run(example).resources.values()
    for resource in resources:
        inputs = {key: resource.value(key) for key in resource.inputs}
        for rule in RULES:
            assert list(rule.violations(resource.type, inputs)) == [], resource.name
    assert any(resource.type == REMOTE for resource in resources)


# --- As a pack ---

needs_pulumi_policy = pytest.mark.skipif(
    importlib.util.find_spec("pulumi_policy") is None,
    reason="pulumi-policy is not installed; it needs an environment of its own: see policy/requirements.txt",
)


@needs_pulumi_policy
@pytest.mark.parametrize(("rule", "type_", "inputs", "text"), BROKEN)
def test_the_pack_reports_what_a_rule_finds(rule: str, type_: str, inputs: dict[str, Any], text: str) -> None:
    assert any(text in violation for violation in reported(rule, type_, inputs))


@needs_pulumi_policy
def test_the_pack_judges_a_key_that_is_not_known_yet_as_pinned() -> None:
    unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # how Pulumi writes text that a preview does not know
    assert reported("host-keys-pinned", REMOTE, {"connection": {"host": unknown, "hostKey": unknown}}) == []


def reported(rule: str, type_: str, inputs: dict[str, Any]) -> list[str]:
    """What a policy of the pack says, asked as the engine asks: no engine is needed."""
    import runpy

    from pulumi_policy import (  # pyright: ignore[reportMissingImports]  of policy/requirements.txt
        PolicyResourceOptions,
        ResourceValidationArgs,
    )
    from pulumi_policy.proxy import unknown_checking_proxy  # pyright: ignore[reportMissingImports]

    policy = runpy.run_path(str(POLICY / "__main__.py"), run_name="pack")["policy"](BY_NAME[rule])
    options = PolicyResourceOptions(False, [], [], None, [], {}, None)
    found: list[str] = []
    args = ResourceValidationArgs(type_, unknown_checking_proxy(inputs), "urn", "name", options, None)
    policy.validate(args, lambda message, urn=None: found.append(message))
    return found
