"""Pure: one function a rule, from a resource's type and inputs to what is wrong with it. Pulumi is not needed here.

Inputs that a preview does not know yet raise when they are read; the pack then says so instead of judging.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Inputs = Mapping[str, Any]

PORTS = {22: "SSH", 2379: "etcd's clients", 2380: "etcd's members", 2382: "etcd's metrics"}
WIDEST_PREFIX = {4: 8, 6: 7}
"""10.0.0.0/8 and fc00::/7. A few wider ones would make up the whole world."""


@dataclass(frozen=True)
class Rule:
    """A rule. `violations` yields one sentence for each thing that breaks it."""

    name: str
    description: str
    violations: Callable[[str, Inputs], Iterator[str]]


def not_open_to_the_world(type_: str, inputs: Inputs) -> Iterator[str]:
    """SSH and etcd's ports, in security groups of AWS and in firewalls of Google Cloud."""
    for ranges, ports in _openings(type_, inputs):
        for port, purpose in PORTS.items():
            if port in ports:
                for text in ranges:
                    if _is_world(text):
                        yield f"port {port} ({purpose}) is open to {text}: name the ranges or groups that need it"


def volumes_encrypted(type_: str, inputs: Inputs) -> Iterator[str]:
    """EBS volumes, and those that an EC2 instance brings. Google Cloud encrypts every disk."""
    if type_ == "aws:ebs/volume:Volume" and inputs.get("encrypted") is not True:
        yield "the volume is not encrypted: set `encrypted`"
    if type_ == "aws:ec2/instance:Instance":
        root = inputs.get("rootBlockDevice")
        if root is None or root.get("encrypted") is not True:
            yield "the root volume is not encrypted: set `encrypted` of `rootBlockDevice`"
        for device in _blocks(inputs, "ebsBlockDevices"):
            if device.get("encrypted") is not True:
                yield f"volume {device.get('deviceName')} is not encrypted: set its `encrypted`"


def backups_kept(type_: str, inputs: Inputs) -> Iterator[str]:
    """Buckets that a cluster makes for its backups, by their tags: not deleted with what is in them, and not public."""
    tags = inputs.get("tags" if type_ == "aws:s3/bucket:Bucket" else "labels")
    if type_ not in ("aws:s3/bucket:Bucket", "gcp:storage/bucket:Bucket") or not tags:
        return
    if not {"etcd:cluster", "etcd-cluster"} & set(tags):
        return
    if inputs.get("forceDestroy") is True:
        yield "the bucket is deleted with the backups in it: take `forceDestroy` out"
    if type_ == "gcp:storage/bucket:Bucket":
        if inputs.get("publicAccessPrevention") != "enforced" or inputs.get("uniformBucketLevelAccess") is not True:
            yield "the bucket can be made public: set `publicAccessPrevention` and `uniformBucketLevelAccess`"
        versioning: Inputs = inputs.get("versioning") or {}
        if versioning.get("enabled") is not True:
            yield "what is deleted in the bucket is gone: set `versioning`"


def host_keys_pinned(type_: str, inputs: Inputs) -> Iterator[str]:
    """Every SSH connection of the command provider, and its bastion's: without a key, it trusts whoever answers."""
    if type_.startswith("command:remote:"):
        connection = inputs["connection"]
        # Only the names are looked at: the key itself may be unknown until the machine is made.
        if "hostKey" not in set(connection):
            yield "the connection trusts any host: set its `hostKey`"
        if "proxy" in set(connection) and "hostKey" not in set(connection["proxy"]):
            yield "the connection's bastion is trusted whoever it is: set the `hostKey` of `proxy`"


def members_odd(type_: str, inputs: Inputs) -> Iterator[str]:
    """An even member adds a machine that can fail, and no failure that is survived."""
    if type_ == "etcd-cluster:index:EtcdCluster":
        count = len(inputs["memberNames"])
        if count % 2 == 0:
            yield f"{count} members: have 1, 3, 5 or 7"


RULES = (
    Rule("etcd-not-open-to-the-world", "SSH and etcd are reachable from named places alone.", not_open_to_the_world),
    Rule("etcd-volumes-encrypted", "Everything that etcd writes is encrypted at rest.", volumes_encrypted),
    Rule("etcd-backups-kept", "The bucket of backups is private, and outlives the stack.", backups_kept),
    Rule("etcd-host-keys-pinned", "SSH connections check the host that answers.", host_keys_pinned),
    Rule("etcd-members-odd", "A cluster has an odd number of members.", members_odd),
)


class Ports:
    """Port ranges, both ends included."""

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self._ranges = ranges

    def __contains__(self, port: int) -> bool:
        return any(first <= port <= last for first, last in self._ranges)


EVERY_PORT = Ports((0, 65535))
NO_PORT = Ports()


def _openings(type_: str, inputs: Inputs) -> Iterator[tuple[Sequence[str], Ports]]:
    """The ranges of addresses that may come in, with the ports that each may reach."""
    if type_ in (
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "aws:ec2/securityGroupIngressRule:SecurityGroupIngressRule",
    ):
        ranges = [inputs[key] for key in ("cidrIpv4", "cidrIpv6") if key in set(inputs)]
        yield ranges, _aws_ports(inputs, "ipProtocol")
    elif type_ == "aws:ec2/securityGroupRule:SecurityGroupRule" and inputs["type"] == "ingress":
        yield _aws_ranges(inputs), _aws_ports(inputs, "protocol")
    elif type_ == "aws:ec2/securityGroup:SecurityGroup":
        for rule in _blocks(inputs, "ingress"):
            yield _aws_ranges(rule), _aws_ports(rule, "protocol")
    elif type_ == "gcp:compute/firewall:Firewall" and inputs.get("direction", "INGRESS") == "INGRESS":
        for rule in _blocks(inputs, "allows"):
            yield _gcp_ranges(inputs), _gcp_ports(rule)


def _aws_ranges(rule: Inputs) -> list[str]:
    return [*_texts(rule, "cidrBlocks"), *_texts(rule, "ipv6CidrBlocks")]


def _aws_ports(rule: Inputs, protocol_key: str) -> Ports:
    protocol = str(rule.get(protocol_key, "-1")).lower()
    if protocol in ("-1", "all"):
        return EVERY_PORT
    if protocol not in ("tcp", "6"):
        return NO_PORT
    first, last = rule.get("fromPort"), rule.get("toPort")
    return EVERY_PORT if first is None or last is None or first == -1 else Ports((int(first), int(last)))


def _gcp_ranges(firewall: Inputs) -> Sequence[str]:
    """Without any source, everybody may come in."""
    ranges = _texts(firewall, "sourceRanges")
    others = firewall.get("sourceTags") or firewall.get("sourceServiceAccounts")
    return ranges if ranges or others else ["0.0.0.0/0"]


def _gcp_ports(rule: Inputs) -> Ports:
    protocol = str(rule["protocol"]).lower()
    if protocol not in ("tcp", "6", "all"):
        return NO_PORT
    ports = _texts(rule, "ports")
    if protocol == "all" or not ports:
        return EVERY_PORT
    ends = [text.split("-") for text in ports]
    return Ports(*((int(each[0]), int(each[-1])) for each in ends))


def _blocks(inputs: Inputs, key: str) -> Sequence[Inputs]:
    found: Sequence[Inputs] | None = inputs.get(key)
    return found or ()


def _texts(inputs: Inputs, key: str) -> Sequence[str]:
    found: Sequence[str] | None = inputs.get(key)
    return found or ()


def _is_world(text: str) -> bool:
    network = ipaddress.ip_network(text, strict=False)
    return network.prefixlen < WIDEST_PREFIX[network.version]
