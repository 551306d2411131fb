"""Where etcd's load generator comes from: a build, or a file that is what it says. No network."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.install import go_build
from etcd_cluster.install.errors import InstallError
from etcd_cluster.install.load_generator import benchmark_for, place_benchmark
from etcd_cluster.load_generator import PACKAGE
from tests.unit.test_install_rclone import program

AMD64 = 62
STATED = f"path\t{PACKAGE}\n".encode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a machine without Go."""
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(go_build, "STANDARD_GO", tmp_path / "no-go")
    return tmp_path / "cache"


def archive(folder: Path, content: bytes) -> str:
    file = folder / "loader"
    file.write_bytes(content)
    return str(file)


def test_a_file_of_the_users_is_kept_in_the_cache(tmp_path: Path, cache: Path) -> None:
    file = archive(tmp_path, program() + STATED)
    found = benchmark_for("arm64", "archive", archive=file)
    assert found.is_relative_to(cache)
    assert found.name == "benchmark"
    assert found.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "content", [b"#!/bin/sh\n", program(), program(machine=AMD64) + STATED, program(segment=3) + STATED]
)
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CGO_ENABLED=0") as refused:
        benchmark_for("arm64", "archive", archive=archive(tmp_path, content))
    assert refused.value.key == "loadGenerator.archive"


def test_a_file_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no such file on this machine"):
        place_benchmark(None, {"source": "archive", "archive": "/nowhere/benchmark"})


def test_without_go_the_way_out_is_named() -> None:
    with pytest.raises(InstallError, match=r"there is no Go .* set loadGenerator\.from to archive$"):
        benchmark_for("amd64")
