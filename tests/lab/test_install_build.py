"""Really builds etcd and rclone from their Go modules, and runs them. Needs Go and a module proxy, no host or root."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcd_cluster.install import go_build
from etcd_cluster.install.archives import sha256_of, verify_archive
from etcd_cluster.install.errors import InstallError
from etcd_cluster.install.go_build import build
from etcd_cluster.install.rclone import rclone_for
from etcd_cluster.install.sources import local_binaries

pytestmark = pytest.mark.exhaustive

VERSION = "3.6.16"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        go_build.find_go()
    except InstallError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "cache"))


def test_a_build_runs_and_is_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = local_binaries(VERSION, "build")
    assert found.version == VERSION
    for command in (["etcd", "--version"], ["etcdctl", "version"], ["etcdutl", "version"]):
        done = subprocess.run([found.directory / command[0], *command[1:]], capture_output=True, text=True, check=True)
        assert f"ersion: {VERSION}\n" in done.stdout
    first = sha256_of(build(VERSION, "amd64"))
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "other"))
    assert sha256_of(build(VERSION, "amd64")) == first


@pytest.mark.parametrize("version", sorted(go_build.PSEUDO_VERSIONS_3_4))
def test_3_4_is_built_from_its_commit(version: str) -> None:
    tarball = build(version, "amd64")
    verify_archive(tarball, version, "amd64")


def test_a_build_for_the_other_architecture_passes_as_that_release() -> None:
    tarball = build(VERSION, "arm64")
    verify_archive(tarball, VERSION, "arm64")


def test_rclone_is_built_from_its_module_and_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rclone_for("amd64", "build")
    done = subprocess.run([found.program, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"rclone v{found.version}\n")
    assert "go/linking: static" in done.stdout
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "other"))
    assert sha256_of(rclone_for("amd64", "build").program) == sha256_of(found.program)
