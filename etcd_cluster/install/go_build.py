"""Builds programs from their Go modules with the Go of this machine; etcd's are packed like an official release."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from etcd_cluster.etcd.releases import ETCD, OLDEST_WITH_ETCDUTL, binary_names, parse_release, release_name
from etcd_cluster.install.archives import pack, require_binary
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.errors import InstallError, excerpt
from etcd_cluster.install.programs import run
from etcd_cluster.releases import Architecture, Project

# 3.4 predates semantic import versioning: to Go its tags are no versions, only their commits are.
PSEUDO_VERSIONS_3_4 = {
    "3.4.9": "v0.5.0-alpha.5.0.20200520232829-54ba9589114f",
    "3.4.13": "v0.5.0-alpha.5.0.20200824191128-ae9734ed278b",
}
# From 1.21 on, Go itself fetches the newer toolchain that a module asks for.
OLDEST_GO = (1, 21)
STANDARD_GO = Path("/usr/local/go/bin/go")
GO_TIMEOUT_SECONDS = 1800
CHANGING_PROGRAMS = ("GOFLAGS", "GOEXPERIMENT", "GODEBUG")
"""Variables of a shell that would change the programs that are built. Others say how modules are downloaded."""


def build(version: str, architecture: Architecture, go_proxy: str | None = None, say: Say = discard) -> Path:
    """Returns a tarball of static binaries, built once and kept in the cache.

    Args:
        version: Version of etcd.
        architecture: Architecture of the programs.
        go_proxy: GOPROXY for this build; default None leaves it to `go env`.
        say: Called with each step.

    Raises:
        InstallError: Go is missing, too old, or cannot fetch or build the modules.
    """
    packages = go_packages(version)
    target = cache_directory() / "builds" / release_name(version, architecture)

    def make(partial: Path) -> None:
        binaries = partial.parent / "binaries"
        build_programs(ETCD, version, packages, architecture, binaries, go_proxy=go_proxy, say=say)
        for name in packages:
            require_binary(binaries / name, version, architecture)
        pack(binaries, version, architecture, partial)

    return make_once(target, make, say)


def build_programs(
    project: Project,
    version: str,
    packages: Mapping[str, tuple[str, str]],
    architecture: Architecture,
    into: Path,
    *,
    go_proxy: str | None = None,
    linker_flags: str = "",
    say: Say = discard,
) -> None:
    """Builds static Linux programs into a folder. A folder `module` beside it is used for the build.

    Args:
        project: Whose programs; its block of settings is named in errors.
        version: Version of the project, for messages.
        packages: Name of a program -> its main package and the version of the module that holds it.
        architecture: Architecture of the programs.
        into: The folder, which Go makes.
        go_proxy: GOPROXY for this build; default None leaves it to `go env`.
        linker_flags: Flags of Go's linker, in addition to those that leave out symbols.
        say: Called with each step.

    Raises:
        InstallError: Go is missing, too old, or cannot fetch or build the modules.
    """
    module = into.with_name("module")
    module.mkdir()
    go = _Go(module, architecture, go_proxy, project)
    say(f"{project.name} {version}: fetching its Go modules")
    # A module with replace directives refuses `go install PACKAGE@VERSION`: require it from a throw-away one.
    go.run("mod", "init", "etcd-cluster.invalid/build")
    go.run("get", *(f"{package}@{module_version}" for package, module_version in packages.values()))
    flags = ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {linker_flags}".rstrip()]
    for name, (package, _) in packages.items():
        say(f"{project.name} {version}: building {name} for {architecture}")
        go.run("build", *flags, "-o", str(into / name), package)


def go_packages(version: str) -> dict[str, tuple[str, str]]:
    """Returns the name of a binary -> its main package and the version of the module that holds it.

    Raises:
        InstallError: No Go module proxy knows the release.
    """
    if parse_release(version) >= OLDEST_WITH_ETCDUTL:  # and with modules of its own
        paths = {"etcd": "server"}
        return {name: (f"go.etcd.io/etcd/{paths.get(name, name)}/v3", f"v{version}") for name in binary_names(version)}
    if version not in PSEUDO_VERSIONS_3_4:
        raise InstallError(
            f"etcd {version}: cannot be built from Go modules (before 3.5, only {', '.join(PSEUDO_VERSIONS_3_4)} can); "
            "set install.from to release or archive"
        )
    module_version = PSEUDO_VERSIONS_3_4[version]
    return {
        "etcd": ("go.etcd.io/etcd", module_version),
        "etcdctl": ("go.etcd.io/etcd/etcdctl", module_version),
    }


class _Go:
    """The go command, run in one directory for one target, at low priority."""

    def __init__(self, directory: Path, architecture: Architecture, go_proxy: str | None, project: Project) -> None:
        self._directory = directory
        self._project = project
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in CHANGING_PROGRAMS},
            "GO111MODULE": "on",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
            "GOOS": "linux",
            "GOARCH": architecture,
            # The oldest instruction sets: the host may be older than this machine.
            "GOAMD64": "v1",
            "GOARM64": "v8.0",
        }
        self._proxies = [each for each in re.split("[,|]", go_proxy or "") if "://" in each]
        self._go = find_go(project)
        if go_proxy:
            self._use_proxy(go_proxy)
        version = re.search(r"go(\d+)\.(\d+)", self.run("version"))
        if version is None or (int(version[1]), int(version[2])) < OLDEST_GO:
            raise InstallError(
                f"{self._go} is too old ({version[0] if version else 'no version'}); {_install_go(OLDEST_GO, project)}"
            )

    def run(self, *arguments: str) -> str:
        """Returns standard output. Raises `InstallError` with the end of what Go wrote to standard error."""
        done = run(
            ["nice", self._go, *arguments],
            directory=self._directory,
            environment=self._environment,
            timeout_seconds=GO_TIMEOUT_SECONDS,
        )
        if done.returncode == 0:
            return done.stdout
        required = re.search(r"requires go >= (\d+)\.(\d+)", done.stderr)
        if required:
            fix = _install_go((int(required[1]), int(required[2])), self._project)
            raise InstallError(f"{self._go} is too old; {fix}, or set GOTOOLCHAIN=auto")
        said = done.stderr
        for proxy in self._proxies:
            said = said.replace(proxy.rstrip("/"), f"{self._project.block}.goProxy")
        raise InstallError(f"go {arguments[0]} failed: {excerpt(said)}")

    def _use_proxy(self, go_proxy: str) -> None:
        """Sets GOPROXY in a file that replaces the user's `go env` file, and keeps the settings of that one.

        It may hold a token, and other users can read an environment.
        """
        theirs = Path(self.run("env", "GOENV").strip())
        lines = theirs.read_text().splitlines() if theirs.is_file() else []
        kept = [line for line in lines if not line.startswith("GOPROXY=")]
        own = self._directory.parent / "go.env"
        own.touch(mode=0o600)
        own.write_text("\n".join([*kept, f"GOPROXY={go_proxy}", ""]))
        self._environment.pop("GOPROXY", None)
        self._environment["GOENV"] = str(own)


def find_go(project: Project = ETCD) -> str:
    """Returns the go command. Raises `InstallError`, which names that project's settings, if there is none."""
    go = shutil.which("go") or (str(STANDARD_GO) if os.access(STANDARD_GO, os.X_OK) else None)
    if go is None:
        raise InstallError(f"there is no Go (neither on PATH nor {STANDARD_GO}); {_install_go(OLDEST_GO, project)}")
    return go


def _install_go(oldest: tuple[int, int], project: Project) -> str:
    others = f"set {project.block}.from to {project.other_sources}"
    return f"install Go {oldest[0]}.{oldest[1]} or later (https://go.dev/dl), or {others}"
