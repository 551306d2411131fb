"""Stack config as Pulumi hands it over: text at the top, JSON for blocks. Slips are named with their path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from etcd_cluster import (
    AwsMachines,
    ConfigurationError,
    Defragment,
    EtcdClusterArgs,
    HostMachines,
    LocalMachines,
    ProxyCommand,
)
from etcd_cluster.etcd.versions import DEFAULT_VERSION
from etcd_cluster.ssh.missing_key import is_key_missing
from etcd_cluster.stack_config import NAMESPACE, args_from_stack_config
from tests.unit.keys import host_key, private_key

PROJECT = Path(__file__).parents[2]
HOST = {"address": "10.0.0.1", "hostKey": "ssh-ed25519 AAAA"}


def read(**values: Any) -> EtcdClusterArgs:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    pulumi.runtime.set_all_config({f"{NAMESPACE}:{key}": text for key, text in texts.items()})
    return args_from_stack_config()


def test_a_platform_is_all_that_is_needed() -> None:
    assert read(platform="local") == EtcdClusterArgs(machines=LocalMachines())


def test_every_key_reaches_its_argument(tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text(private_key())
    args = read(
        platform="hosts",
        size="medium",
        version="3.5.35",
        tls="false",
        members="1",
        caRotation="2",
        caOverlapHours="0",
        install={
            "from": "archive",
            "archive": "etcd.tar.gz",
            "sha256": "ab",
            "mirror": "http://m",
            "goProxy": "p",
            "proxy": "http://p",
            "noProxy": ["n"],
        },
        ssh={"user": "admin", "port": 2222, "privateKeyFile": str(key), "bastion": {"address": "b", "hostKey": "k"}},
        hosts={"host-1": {**HOST, "sshAddress": "192.0.2.1", "device": "/dev/vdb"}},
        etcd={"heartbeat-interval": 200},
        allowUndersized="true",
        allowUnsafeVersion="true",
        deleteData="true",
    )
    assert (args.size, args.version, args.tls, args.members) == ("medium", "3.5.35", False, 1)
    assert (args.ca_rotation, args.ca_overlap_hours) == (2, 0)
    assert args.allow_undersized
    assert args.allow_unsafe_version
    assert args.delete_data
    assert args.etcd == {"heartbeat-interval": 200}
    assert tuple(vars(args.install).values()) == ("archive", "http://m", "ab", "etcd.tar.gz", "p", "http://p", ["n"])
    assert isinstance(args.machines, HostMachines)
    host, ssh = args.machines.hosts["host-1"], args.machines.ssh
    assert (host.address, host.ssh_address, host.device) == ("10.0.0.1", "192.0.2.1", "/dev/vdb")
    assert (ssh.user, ssh.port) == ("admin", 2222)
    assert ssh.bastion is not None
    assert ssh.bastion.address == "b"


LOGIN = ("private_key", "bastion", "proxy_command")


def test_a_command_to_connect_through_is_read_on_every_platform() -> None:
    ssh = {"proxyCommand": {"command": "tunnel %h %p", "localPort": 5000}}
    machines = read(platform="aws", aws={"subnetIds": ["subnet-a"]}, ssh=ssh).machines
    assert isinstance(machines, AwsMachines)
    assert machines.proxy_command == ProxyCommand("tunnel %h %p", 5000)
    machines.member_names(3)
    hosts = read(platform="hosts", hosts={"host-1": HOST}, ssh=ssh).machines
    assert isinstance(hosts, HostMachines)
    assert hosts.ssh.proxy_command == ProxyCommand("tunnel %h %p", 5000)


def test_every_key_of_aws_reaches_its_argument() -> None:
    block = {
        "subnetIds": ["subnet-a", "subnet-b"],
        "clientCidrs": ["10.0.0.0/16"],
        "clientSecurityGroupIds": ["sg-clients"],
        "sshCidrs": ["10.1.0.0/16"],
        "sshSecurityGroupIds": ["sg-bastion"],
        "securityGroupIds": ["sg-own"],
        "makeSecurityGroup": True,
        "instanceProfile": "profile",
        "userData": "#!/bin/sh",
        "recoveryAlarm": True,
        "spread": False,
        "instanceType": "m7i.large",
        "imageId": "ami-own",
        "volumeGib": 100,
        "kmsKeyId": "arn:aws:kms:r:a:key/1",
        "deletionProtection": True,
        "retainVolumes": False,
        "volumes": {"etcd-1": "vol-1"},
        "networkInterfaces": {"etcd-1": "eni-1"},
        "addresses": {"etcd-2": "10.0.0.5"},
        "hostedZoneId": "Z0123456789ABCDEFGHIJ",
        "monitoringCidrs": ["10.2.0.0/16"],
        "monitoringSecurityGroupIds": ["sg-prometheus"],
        "replaceMember": "etcd-1",
        "replaceDeadMember": "etcd-2",
        "tags": {"team": "storage"},
    }
    ssh = {"privateKey": private_key(), "bastion": {"address": "b", "hostKey": "k"}}
    machines = read(platform="aws", aws=block, ssh=ssh).machines
    assert isinstance(machines, AwsMachines)
    given = {f"{_snake_case(key)}": value for key, value in block.items()}
    assert {key: value for key, value in vars(machines).items() if key not in LOGIN} == given
    assert machines.private_key is not None
    assert machines.bastion is not None
    assert machines.bastion.address == "b"


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def test_aws_needs_little() -> None:
    block = {"subnetIds": ["subnet-a"], "sshCidrs": ["10.0.0.0/16"]}
    assert read(platform="aws", aws=block).machines == AwsMachines(["subnet-a"], ssh_cidrs=["10.0.0.0/16"])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"platform": "hosts", "hosts": {"a": {"address": "10.0.0.1"}}}, "hosts.a.hostKey"),
        ({"platform": "hosts", "hosts": {"a": {**HOST, "adress": "x"}}}, "did you mean address?"),
        ({"platform": "hosts", "hosts": {"a": {**HOST, "device": 5}}}, "hosts.a.device: 5: not text"),
        ({"platform": "aws", "aws": {"subnetIds": "subnet-a"}}, 'aws.subnetIds: "subnet-a": not a list of texts'),
        ({"platform": "aws", "aws": {"subnetIds": ["a"], "sshCidr": []}}, "did you mean sshCidrs?"),
        ({"platform": "aws", "aws": {"tags": {"a": 1}}}, "aws.tags.a: 1: not text"),
        ({"platform": "aws", "aws": {"subnetIds": ["subnet-a"]}, "ssh": {"user": "admin"}}, 'ssh: "user": unknown key'),
        ({"platform": "hosts", "aws": {"replaceMember": "a"}}, 'aws: "replaceMember": unknown key'),
        ({"platform": "mars"}, 'platform: "mars"'),
        ({}, "platform"),
        ({"platform": "local", "sise": "small"}, "did you mean size?"),
        ({"platform": "local", "members": "three"}, 'members: "three": not a whole number'),
        ({"platform": "local", "caRotation": "1.5"}, 'caRotation: "1.5": not a whole number'),
        ({"platform": "local", "caOverlap": 1}, "did you mean caOverlapHours?"),
        ({"platform": "local", "tls": "maybe"}, 'tls: "maybe": not true or false'),
        ({"platform": "local", "local": {"baseport": 1}}, "did you mean basePort?"),
        ({"platform": "local", "install": "release"}, "install"),
        ({"platform": "hosts", "hosts": {"a": HOST}, "ssh": {"bastion": {"hostKey": "k"}}}, "ssh.bastion.address"),
        ({"platform": "hosts", "hosts": {"a": HOST}, "ssh": {"privateKeyFile": "/nowhere"}}, "ssh.privateKeyFile"),
    ],
)
def test_a_slip_is_named_with_its_path(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(**values)
    assert text.lower() in str(refused.value).lower()


@pytest.mark.parametrize(
    "ssh",
    [{"privatekey": "hunter2"}, {"privateKey": {"text": "hunter2"}}, "hunter2", ["hunter2"], {"bastion": "hunter2"}],
)
def test_a_slip_never_shows_a_key(ssh: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(platform="hosts", hosts={"a": HOST}, ssh=ssh)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"garbage", b"\xff\0\1", host_key().encode(), private_key()[:-60].encode()]
)
@pytest.mark.parametrize("block", ["ssh", "bastion"])
@pytest.mark.parametrize("preview", [True, False])
def test_a_file_without_a_private_key_is_refused_by_its_key(
    content: bytes, block: str, preview: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: preview)
    file = tmp_path / "id"
    file.write_bytes(content)
    login: dict[str, Any] = {"privateKeyFile": str(file)}
    if block == "bastion":
        login = {"bastion": {"address": "b", "hostKey": "k", **login}}
    with pytest.raises(ConfigurationError, match=r"^ssh\.(bastion\.)?privateKeyFile: .*Give the (text|path) of"):
        read(platform="hosts", hosts={"a": HOST}, ssh=login)


@pytest.mark.parametrize(
    "path", ["", " ", "~nosuchuser/id", "/", "/dev/zero", "a\nb", "a\0b", "/x" * 3000, "/etc/passwd/id"]
)
def test_a_path_that_leads_to_no_file_is_refused_by_its_key(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ssh\.privateKeyFile"):
        read(platform="hosts", hosts={"a": HOST}, ssh={"privateKeyFile": path})


def test_a_key_is_given_in_one_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^ssh\.privateKeyFile: .*privateKey is given as well"):
        read(platform="hosts", hosts={"a": HOST}, ssh={"privateKeyFile": "id", "privateKey": private_key()})


def test_a_preview_elsewhere_does_not_need_the_key_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    args = read(platform="hosts", hosts={"a": HOST}, ssh={"privateKeyFile": "/nowhere"})
    assert is_key_missing(args.machines)
    assert not warned, "it does not read as one with the file"


def test_a_certificate_beside_the_key_is_named_with_the_way_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    (tmp_path / "id").write_text(private_key())
    for count in (0, 1):
        read(platform="hosts", hosts={"a": HOST}, ssh={"privateKeyFile": str(tmp_path / "id")})
        assert len(warned) == count
        (tmp_path / "id-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA")
    assert "the certificate beside it is not used" in warned[0]
    assert "ssh-add" in warned[0]


def test_declared_defaults_are_the_arguments_own() -> None:
    declared = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"]
    assert declared["version"]["default"] == DEFAULT_VERSION
    defaults = {key: value["default"] for key, value in declared.items() if "default" in value}
    assert read(platform="local", **defaults) == EtcdClusterArgs(machines=LocalMachines())


def test_every_stack_of_this_project_is_valid() -> None:
    for file in PROJECT.glob("Pulumi.*.yaml"):
        config = yaml.safe_load(file.read_text())["config"]
        read(**{key.removeprefix(f"{NAMESPACE}:"): value for key, value in config.items()})


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (None, None),
        ("{}", Defragment()),
        ('{"free": 0.7}', Defragment(free=0.7)),
        ('{"free": "0.7"}', Defragment(free=0.7)),
        ('{"atLeastMib": 64}', Defragment(at_least_mib=64)),
    ],
)
def test_an_empty_block_of_defragmentation_is_one_with_every_default(block: str | None, expected: object) -> None:
    given = {} if block is None else {"defragment": block}
    assert read(platform="local", **given).defragment == expected


@pytest.mark.parametrize("free", ["true", '"half"', "[]", '"0,5"', '"nan"'])
def test_a_share_that_is_no_number_is_refused(free: str) -> None:
    with pytest.raises(ConfigurationError, match=r"defragment\.free"):
        read(platform="local", defragment=f'{{"free": {free}}}')
