"""The wheel, as somebody installs it: without the cloud SDKs, or with one of them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from etcd_cluster.machines.extras import SDKS
from tests.packaging.installed import PROJECT, Environment

CLOUD_MODULES = ("pulumi_aws", "pulumi_gcp")
INTERNAL = "etcd_cluster.install"
"""What callers never name: where etcd's programs come from."""

CLUSTER = """
import json
import pulumi
from pulumi.runtime import mocks

class Mocks(mocks.Mocks):
    def new_resource(self, args):
        registered.append(args.name)
        return args.name, {}
    def call(self, args):
        return {"id": "subnet", "vpcId": "vpc", "availabilityZone": "z", "rootDeviceName": "/dev/xvda"}

registered = []
mocks.set_mocks(Mocks(), preview=True)
from etcd_cluster import AwsMachines, EtcdCluster, EtcdClusterArgs, EtcdClusterError, GcpMachines, LocalMachines

aws = AwsMachines(subnet_ids=["subnet-1"], client_cidrs=["10.0.0.0/16"], ssh_cidrs=["10.0.0.0/16"])
gcp = GcpMachines("net", "subnet", ["europe-west1-b"], client_ranges=["10.0.0.0/16"], ssh_ranges=["10.0.0.0/16"])

def outcome(machines):
    try:
        EtcdCluster("etcd", EtcdClusterArgs(machines=machines))
    except EtcdClusterError as error:
        return f"{type(error).__name__}: {error}"
    return "works"
"""


def test_the_wheel_holds_scripts_and_types_and_nothing_of_the_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "etcd_cluster").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert {"etcd_cluster/py.typed", "etcd_cluster/member/scripts/prepare.sh"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"etcd_cluster"}


def test_the_embedded_engine_stays_out_of_the_wheel(wheel: Path, plain: Environment) -> None:
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "embedded_engine" in name]
    program = "import importlib.util, json; print(json.dumps(importlib.util.find_spec('embedded_engine') is None))"
    assert plain.run(program)


def test_importing_takes_no_cloud_sdk(plain: Environment) -> None:
    loaded = plain.run("import etcd_cluster, json, sys; print(json.dumps([etcd_cluster.__file__, *sys.modules]))")
    assert "site-packages" in loaded[0]
    assert not set(CLOUD_MODULES) & set(loaded)


def test_importing_takes_no_cloud_sdk_even_where_both_are_installed() -> None:
    """Runs in this environment, whatever it has."""
    program = "import etcd_cluster, sys; print(*[m for m in ('pulumi_aws', 'pulumi_gcp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_a_cluster_can_be_previewed_without_any_cloud_sdk(plain: Environment) -> None:
    program = CLUSTER + "print(json.dumps([outcome(LocalMachines(directory='/srv/etcd')), 'etcd' in registered]))"
    assert plain.run(program)[0] == "works"


def test_the_command_is_installed_and_works_without_the_project(plain: Environment, tmp_path: Path) -> None:
    command = plain.programs / "etcd-cluster"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    (tmp_path / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *words], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
        )

    assert "status" in run("--help").stdout
    refused = run("status", "--stack", "prod")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: stack prod is not up")


@pytest.mark.parametrize(("machines", "extra"), [("aws", "aws"), ("gcp", "gcp")])
def test_a_platform_without_its_extra_says_which_to_install(plain: Environment, machines: str, extra: str) -> None:
    error = plain.run(f"{CLUSTER}print(json.dumps(outcome({machines})))")
    assert error.startswith("MissingExtraError: ")
    assert f"pip install '{SDKS[extra]}'" in error


@pytest.mark.parametrize(("extra", "other"), [("aws", "gcp"), ("gcp", "aws")])
def test_one_platform_works_without_the_sdk_of_the_other(wheel: Path, tmp_path: Path, extra: str, other: str) -> None:
    if importlib.util.find_spec(f"pulumi_{extra}") is None:
        pytest.skip(f"pulumi_{extra} is not installed")
    environment = Environment(tmp_path, wheel, [extra])
    outcomes = environment.run(f"{CLUSTER}print(json.dumps([outcome({extra}), outcome({other})]))")
    assert outcomes[0] == "works"
    assert f"pip install '{SDKS[other]}'" in outcomes[1]


def test_what_an_error_says_to_install_is_what_the_extra_requires() -> None:
    declared = (PROJECT / "pyproject.toml").read_text()
    for extra, sdk in SDKS.items():
        assert f'{extra} = ["{sdk}"]' in declared


def test_callers_get_every_type(plain: Environment) -> None:
    """Completions and strict checkers rely on what the wheel says of itself."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "etcd_cluster", "--ignoreexternal", "--outputjson"],
        cwd=plain.programs,
        env={**os.environ, "PATH": f"{plain.programs}:{os.environ['PATH']}"},  # pyright asks the first Python there
        check=False,
        capture_output=True,
        text=True,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    assert len(symbols) > 500
    incomplete = [each["name"] for each in symbols if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    assert [name for name in incomplete if not name.startswith(INTERNAL)] == []
