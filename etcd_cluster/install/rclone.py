"""Gets rclone on the machine where Pulumi runs: from PATH, a release, an archive, or a build.

It is one static program, which runs on any Linux host of its architecture.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.install.archives import require_sha256, sha256_of
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.delivery import Destination
from etcd_cluster.install.download import download_file
from etcd_cluster.install.elf import require_linux_program, require_static, runs_here
from etcd_cluster.install.errors import ChecksumMismatch, InstallError, excerpt
from etcd_cluster.install.go_build import build_programs
from etcd_cluster.install.programs import run
from etcd_cluster.install.sources import archive_path, first_available, pinned_here, this_architecture
from etcd_cluster.rclone import DEFAULT_MIRROR, DEFAULT_VERSION, OLDEST_VERSION, RCLONE, is_supported, require_version
from etcd_cluster.releases import Architecture, InstallSource, Pins
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import Connection

MODULE = "github.com/rclone/rclone"
RUN_TIMEOUT_SECONDS = 30

_ENTRY = re.compile(r"rclone-v([0-9.]+)-linux-(\w+)/rclone")
# Distributions build without a version; then rclone adds -DEV to the one in its source.
_REPORTED = re.compile(r"^rclone v([0-9]+\.[0-9]+\.[0-9]+)(?:-DEV)?$", re.MULTILINE)
_STATED = re.compile(rb"\tgithub\.com/rclone/rclone\tv([0-9]+\.[0-9]+\.[0-9]+)[+\t\n]")


class Rclone(NamedTuple):
    """A static Linux program, in the cache, and its version."""

    program: Path
    version: str


def place_rclone(connection: Connection | None, install: Mapping[str, Any], say: Say = discard) -> str:
    """Returns the path of rclone on a machine, after sending it there if the machine does not hold it already.

    Args:
        connection: How to reach the machine; None for this one, which uses what is in the cache.
        install: The fields of `RcloneInstall`, with values that are known.
        say: Called with each step.

    Raises:
        SshError: The machine cannot be reached.
        EtcdClusterError: As for `rclone_for`, or the machine does not take it.
    """
    if connection is None:
        return str(rclone_for(this_architecture(), **install, say=say).program)
    with OpenSsh.for_one_task() as ssh:
        host = Destination(ssh, connection)
        found = rclone_for(host.architecture(), **install, say=say)
        return host.send_program(found.program, "rclone", found.version, say)


def rclone_for(
    architecture: Architecture,
    source: InstallSource = "auto",
    *,
    version: str | None = None,
    mirror: str = DEFAULT_MIRROR,
    sha256: Pins | None = None,
    archive: str | None = None,
    go_proxy: str | None = None,
    say: Say = discard,
) -> Rclone:
    """Returns rclone for hosts of that architecture. The other arguments are those of `RcloneInstall`.

    Args:
        architecture: Architecture of the host.
        source: `release`, `archive` and `build` mean just that. `auto` tries, in this order: an rclone on PATH that the
            host can run; the release; a build by Go.
        version: Version of rclone; None for any that works on PATH or in the archive, else 1.76.0.
        mirror: Base URL of releases.
        sha256: Pins the sum of the zip file or the archive; `auto` then accepts nothing but the release with that sum.
        archive: Path of a zip file or a program, for `archive`.
        go_proxy: GOPROXY of a build; None leaves it to `go env`.
        say: Called with each step.

    Raises:
        ConfigurationError: A version, or the file that a setting names, cannot be used.
        ChecksumMismatch: The file has another sum.
        InstallError: rclone is unavailable; for `auto`, the text lists every attempt and why it failed.
    """
    if version is not None:
        require_version(f"{RCLONE.block}.version", version)
    made = version or DEFAULT_VERSION

    def from_path() -> Rclone:
        return _from_path(architecture, version)

    def from_release() -> Rclone:
        pinned = pinned_here(RCLONE, sha256, made, architecture)
        file = download_file(RCLONE, made, RCLONE.file(made, architecture), mirror, pinned, say)
        return _from_file(file, architecture, made, "mirror")

    def from_archive() -> Rclone:
        file = archive_path(RCLONE, archive)
        require_sha256(file, _pinned_archive(sha256, file), f"{RCLONE.block}.sha256")
        return _from_file(file, architecture, version, "archive")

    def from_build() -> Rclone:
        return Rclone(_build(architecture, made, go_proxy, say), made)

    exact = {"release": from_release, "archive": from_archive, "build": from_build}
    if source != "auto":
        return exact[source]()
    if sha256:
        return from_release()
    return first_available(RCLONE, made, {"PATH": from_path, "release": from_release, "build": from_build}, say)


def _from_path(architecture: Architecture, version: str | None) -> Rclone:
    found = shutil.which("rclone")
    if found is None:
        raise InstallError("there is no rclone on PATH")
    program = Path(found)
    actual = _require_usable(program, architecture, version)
    return Rclone(_kept(program, lambda kept: shutil.copyfile(program, kept)), actual)


def _from_file(file: Path, architecture: Architecture, version: str | None, setting: str) -> Rclone:
    """Returns the program of a release's zip file, or one that is a file of its own; errors name the setting."""
    try:
        if _is_program(file):
            program, stated = _kept(file, lambda kept: shutil.copyfile(file, kept)), version
        else:
            entry, stated = _entry(file, architecture)
            program = _kept(file, lambda kept: _extract(file, entry, kept))
        return Rclone(program, _require_usable(program, architecture, version, stated))
    except InstallError as error:
        wanted = RCLONE.file(version or DEFAULT_VERSION, architecture)
        raise ConfigurationError(
            f"{RCLONE.block}.{setting}", str(file), str(error), f"give {wanted}, or the program in it"
        ) from None


def _is_program(file: Path) -> bool:
    with open(file, "rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _entry(file: Path, architecture: Architecture) -> tuple[str, str]:
    """Returns the name of the program in a zip file, and the version that this name states."""
    try:
        with zipfile.ZipFile(file) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, EOFError) as error:
        raise InstallError(f"not a whole zip file ({error})") from None
    for name in names:
        match = _ENTRY.fullmatch(name)
        if match and match[2] == architecture:
            return name, match[1]
    top = ", ".join(sorted({name.split("/")[0] for name in names})[:5]) or "nothing"
    raise InstallError(f"lacks rclone-vVERSION-linux-{architecture}/rclone (at its top: {top})")


def _extract(file: Path, entry: str, into: Path) -> None:
    try:
        with zipfile.ZipFile(file) as opened, opened.open(entry) as content, open(into, "wb") as kept:
            shutil.copyfileobj(content, kept)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InstallError(f"not a whole zip file ({error})") from None


def _kept(origin: Path, copy: Callable[[Path], object]) -> Path:
    """Returns the program's place in the cache, named by what it comes from: no package manager can change it there."""

    def make(partial: Path) -> None:
        partial.mkdir()
        copy(partial / "rclone")
        (partial / "rclone").chmod(0o755)

    return make_once(cache_directory() / "rclone" / sha256_of(origin)[:16], make) / "rclone"


def _build(architecture: Architecture, version: str, go_proxy: str | None, say: Say) -> Path:
    def make(partial: Path) -> None:
        # Without this, rclone takes itself for a development version.
        flags = f"-X {MODULE}/fs.Version=v{version}"
        packages = {"rclone": (MODULE, f"v{version}")}
        build_programs(RCLONE, version, packages, architecture, partial, go_proxy=go_proxy, linker_flags=flags, say=say)
        _require_usable(partial / "rclone", architecture, version, version)

    return make_once(cache_directory() / "builds" / RCLONE.folder(version, architecture), make, say) / "rclone"


def _pinned_archive(pins: Pins | None, file: Path) -> str | None:
    if pins is None or isinstance(pins, str):
        return pins
    if file.name not in pins:
        raise ChecksumMismatch(f"{RCLONE.block}.sha256 has no sum for {file.name}: add it")
    return pins[file.name]


def _require_usable(program: Path, architecture: Architecture, version: str | None, stated: str | None = None) -> str:
    """Returns the program's version.

    Args:
        program: The program. It is run where this machine can run it; elsewhere, its bytes are looked at.
        architecture: What it must be for.
        version: What it must be; None for any that works.
        stated: What it is by the name of its file, if that is known.

    Raises:
        InstallError: It is another program, for other machines, or too old.
    """
    require_linux_program(program, architecture)
    require_static(program)
    actual = _reported_version(program) if runs_here(architecture) else _stated_version(program, stated)
    if version is not None and actual != version:
        raise InstallError(f"{program.name} is {actual}, not {version}")
    if not is_supported(actual):
        raise InstallError(f"{program.name} is {actual}, and backups need {OLDEST_VERSION} or later")
    return actual


def _reported_version(program: Path) -> str:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "RCLONE_CONFIG": os.devnull}
    done = run([str(program), "version"], environment=environment, timeout_seconds=RUN_TIMEOUT_SECONDS)
    found = _REPORTED.search(done.stdout)
    if found is None:
        first = done.stdout.partition("\n")[0] or excerpt(done.stderr)
        raise InstallError(f"{program.name} is no release of rclone (it prints: {first[:100]})")
    return found[1]


def _stated_version(program: Path, stated: str | None) -> str:
    content = program.read_bytes()
    if stated is not None and f"v{stated}".encode() in content:
        return stated
    found = _STATED.search(content)
    if found is None:
        raise InstallError(f"the version of {program.name} cannot be seen on this machine")
    return found[1].decode()
