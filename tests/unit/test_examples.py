"""Every program in examples/ passes the type checker, and runs: previewed and brought up against a recording monitor,
with the config that stands beside it, and without a network."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from tests.unit import test_cluster
from tests.unit.recording import Recorded, Recording, record

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "examples"
NAMES = sorted(file.parent.name for file in EXAMPLES.glob("*/__main__.py"))
SDK = {"aws_existing_vpc": "pulumi_aws", "gcp": "pulumi_gcp"}
"""What an example needs besides this package's own dependencies."""

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----\nthe-secret-key\n-----END OPENSSH PRIVATE KEY-----\n"
SECRET_KEYS = ("sshKey", "bastionKey")
"""What a user sets with `pulumi config set --secret`, where an example asks for it."""


def results(resource: Recorded) -> dict[str, Any]:
    """What the providers would answer: what is plain and asked for back, and what they make."""
    if resource.type == "pulumi:pulumi:StackReference":
        names = ("endpoints", "caCertificate", "clientCertificate", "clientKey")
        outputs = {name: f"{name} of the other stack" for name in names}
        return {"outputs": {**outputs, "clientKey": pulumi.Output.secret("the-secret-key")}}
    if resource.type.endswith(":SshKeyPair"):
        return {"public_key": f"ssh-ed25519 of-{resource.name}", "private_key": pulumi.Output.secret("the-secret-key")}
    if resource.type.endswith(":Command") and resource.name.endswith("-host-key"):
        return {"stdout": "ssh-ed25519 told-by-incus"}
    if resource.type == "aws:ec2/networkInterface:NetworkInterface":
        return {"privateIp": f"10.0.0.{len(resource.name)}"}
    if resource.type == "gcp:compute/address:Address":
        return {"address": f"10.0.0.{len(resource.name)}"}
    if resource.type.split(":")[0] in ("aws", "gcp"):
        return {}
    return test_cluster.results(resource)


def calls(token: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a cloud knows of a network that exists already."""
    known = {
        "aws:ec2/getSubnet:getSubnet": {"vpcId": "vpc-1", "availabilityZone": "eu-central-1a"},
        "aws:ec2/getAmi:getAmi": {"id": "ami-1", "rootDeviceName": "/dev/xvda"},
        "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": {},
        "gcp:compute/getMachineTypes:getMachineTypes": {},
        "aws:ebs/getEbsVolumes:getEbsVolumes": {"ids": []},
        "gcp:compute/getDisk:getDisk": {"size": None},
        "gcp:compute/getNetwork:getNetwork": {"selfLink": "projects/p/global/networks/platform"},
        "gcp:compute/getSubnetwork:getSubnetwork": {"selfLink": "projects/p/regions/r/subnetworks/platform"},
    }
    return {**arguments, "id": "an-id", **known[token]}


def run(name: str, *, preview: bool = False) -> Recording:
    """One example, with its example stack's config. In a preview, only what no provider has to make is known."""
    if name in SDK and importlib.util.find_spec(SDK[name]) is None:
        pytest.skip(f"{SDK[name]} is not installed")
    config = yaml.safe_load((EXAMPLES / name / "Pulumi.example.yaml").read_text())["config"]
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    secrets = {f"{name}:{key}": SECRET for key in SECRET_KEYS}
    pulumi.runtime.set_all_config({**texts, **secrets}, list(secrets))

    def program() -> None:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    def known(resource: Recorded) -> dict[str, Any]:
        return {} if preview and resource.type != "pulumi:pulumi:StackReference" else results(resource)

    try:
        return record(program, preview=preview, results=known, calls=calls, project=name)
    finally:
        pulumi.runtime.set_all_config({})


def outputs(name: str) -> dict[str, Any]:
    return run(name).outputs[f"{name}-test"]


def test_there_is_one_for_each_way_of_use() -> None:
    assert NAMES == [
        "aws_existing_vpc",
        "gcp",
        "kubernetes_control_plane",
        "outputs_from_another_stack",
        "own_hosts",
        "own_machines",
        "two_clusters",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes_the_type_checker_as_a_callers_program(name: str) -> None:
    """Alone in its folder, as a user has it."""
    if name in SDK and importlib.util.find_spec(SDK[name]) is None:
        pytest.skip(f"{SDK[name]} is not installed")
    cache = PROJECT / ".mypy_cache" / "examples"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", cache, "."],
        cwd=EXAMPLES / name,
        env={"MYPYPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_project(name: str) -> None:
    project = yaml.safe_load((EXAMPLES / name / "Pulumi.yaml").read_text())
    assert project["name"] == name
    assert project["runtime"]["name"] == "python"
    extra = SDK.get(name, "").removeprefix("pulumi_")
    requirements = (EXAMPLES / name / "requirements.txt").read_text().splitlines()
    assert requirements[-1] == (f"../..[{extra}]" if extra else "../..")


@pytest.mark.parametrize("name", NAMES)
def test_a_preview_shows_what_up_registers(name: str) -> None:
    assert set(run(name, preview=True).resources) == set(run(name).resources)


@pytest.mark.parametrize("name", NAMES)
def test_no_key_is_plain_in_what_an_example_registers_or_exports(name: str) -> None:
    recording = run(name)
    for resource in recording.resources.values():
        plain = {key: value for key, value in resource.inputs.items() if not resource.is_secret(key)}
        assert "the-secret-key" not in json.dumps(_plain(plain), default=str), resource.name
    assert "the-secret-key" not in json.dumps(_plain(recording.outputs), default=str)


def _plain(value: Any) -> Any:
    """Without what is marked as secret."""
    if pulumi.runtime.rpc.is_rpc_secret(value):
        return "[secret]"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def test_the_program_in_the_documentation_runs() -> None:
    if importlib.util.find_spec("pulumi_aws") is None:
        pytest.skip("pulumi_aws is not installed")
    text = (PROJECT / "docs" / "using-from-a-program.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    recording = record(lambda: exec(program, {}), results=results, calls=calls)
    assert len(recording.outputs["etcd-cluster-test"]["endpoints"]) == 3


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*/*.sh")), ids=lambda path: path.name)
def test_scripts_of_examples_pass_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_members_in_an_existing_vpc_are_reached_by_named_groups_alone() -> None:
    rules = [r for r in run("aws_existing_vpc").resources.values() if r.type.endswith(":SecurityGroupIngressRule")]
    assert rules
    assert not [rule.name for rule in rules if "cidrIpv4" in rule.inputs or "cidrIpv6" in rule.inputs]
    ssh = [rule.value("referencedSecurityGroupId") for rule in rules if rule.value("toPort") == 22]
    assert ssh == ["sg-0a1b2c3d4e5f60718"]


def test_members_on_google_cloud_live_in_three_zones_without_public_addresses() -> None:
    instances = [r for r in run("gcp").resources.values() if r.type == "gcp:compute/instance:Instance"]
    assert sorted(r.value("zone") for r in instances) == [f"europe-west3-{zone}" for zone in "abc"]
    assert not [i for r in instances for i in r.value("networkInterfaces") if "accessConfigs" in i]


def test_an_api_server_gets_flags_and_the_files_that_they_name() -> None:
    assert outputs("kubernetes_control_plane")["kubeApiserverFlags"] == [
        "--etcd-servers=https://10.0.1.11:2379,https://10.0.2.11:2379,https://10.0.3.11:2379",
        "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
        "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
    ]


def test_certificates_are_really_written_by_what_a_control_plane_host_runs(tmp_path: Path) -> None:
    command = run("kubernetes_control_plane").resources["control-a-etcd-certificates"]
    script = command.value("stdin").replace("/etc/kubernetes", str(tmp_path))
    for _ in range(2):
        subprocess.run(["bash", "-s", "--", "put-etcd-certificates"], input=script, text=True, check=True)
    written = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: (path.read_text(), path.stat().st_mode & 0o777) for name, path in written.items()} == {
        "pki/etcd/ca.crt": (test_cluster.CLIENT_CA.certificate_pem, 0o644),
        "pki/apiserver-etcd-client.crt": ("etcd-client-pem\n", 0o644),
        "pki/apiserver-etcd-client.key": ("etcd-client-key\n", 0o600),
    }


def test_events_have_a_cluster_of_their_own_under_the_same_ca() -> None:
    assert outputs("two_clusters")["kubeApiserverFlags"] == [
        "--etcd-servers=https://10.0.1.11:2379,https://10.0.2.11:2379,https://10.0.3.11:2379",
        "--etcd-servers-overrides=/events#https://10.0.1.12:2379;https://10.0.2.12:2379;https://10.0.3.12:2379",
    ]
    resources = run("two_clusters").resources.items()
    made = {name for name, resource in resources if resource.type == "pulumi-python:dynamic/pki:CertificateAuthority"}
    assert made == {"kubernetes-etcd", "main-peer-ca", "events-peer-ca"}


def test_another_stacks_outputs_arrive_and_its_key_stays_secret() -> None:
    connection = outputs("outputs_from_another_stack")["etcdConnection"]
    assert pulumi.runtime.rpc.is_rpc_secret(connection)
    known = json.loads(pulumi.runtime.rpc.unwrap_rpc_secret(connection))
    assert known["endpoints"] == "endpoints of the other stack"
    assert known["clientKey"] == "the-secret-key"


def test_own_machines_are_made_first_pinned_and_never_dialled_once_gone() -> None:
    resources = run("own_machines").resources
    assert resources["etcd-etcd-1-volume"].inputs.get("delete") is None
    for step in ("check", "prepare"):
        command = resources[f"etcd-etcd-2-{step}"]
        assert command.value("connection")["hostKey"] == "ssh-ed25519 told-by-incus"
        assert command.request.deletedWith.endswith("::etcd-etcd-2-machine")
        assert "etcd-etcd-2-machine" in {urn.split("::")[-1] for urn in command.request.dependencies}
    assert not test_cluster.desired_of(run("own_machines")).members["etcd-2"].outlives_destroy
    assert "device=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_incus_etcd" in resources["etcd-etcd-2-check"].value(
        "create"
    )
