"""Describes rclone, which carries backups: its releases, the versions that work, and what users may say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import pulumi

from etcd_cluster.errors import HIDDEN, ConfigurationError
from etcd_cluster.names import FilePath
from etcd_cluster.releases import InstallSource, Project, require_go_proxy
from etcd_cluster.secrecy import as_input, checked_input

DEFAULT_MIRROR = "https://downloads.rclone.org"
"""Each release's page on GitHub has the same files: https://github.com/rclone/rclone/releases/download."""

RCLONE = Project("rclone", "backup.rclone", DEFAULT_MIRROR, ".zip", "zip file")
DEFAULT_VERSION = "1.76.0"
OLDEST_VERSION = "1.65.2"
"""The oldest that was tested with what backups ask of rclone; 1.60, which is Debian 12's, lacks options."""

_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


def is_supported(version: str) -> bool:
    """Returns whether backups work with a release of rclone, such as 1.76.0."""
    return _numbers(version) >= _numbers(OLDEST_VERSION)


def require_version(key: str, version: str) -> None:
    """Raises `ConfigurationError` unless the text is a release of rclone that backups work with."""
    if not _VERSION.fullmatch(version):
        raise ConfigurationError(
            key, version, "not a version of rclone", f"write it like {DEFAULT_VERSION}, without a v"
        )
    if not is_supported(version):
        raise ConfigurationError(
            key,
            version,
            "too old for backups",
            f"choose {OLDEST_VERSION} or later, or leave it out for {DEFAULT_VERSION}",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


@dataclass(frozen=True)
class RcloneInstall:
    """Where rclone comes from, which carries backups. The machine where Pulumi runs gets it, and sends it to hosts."""

    source: InstallSource = "auto"
    """`release` downloads the official zip file; `archive` takes a file of yours; `build` compiles the Go module;
    `auto` (default) takes the first that works of an rclone on PATH that hosts can run, release, build.
    """
    version: Annotated[str, require_version] | None = None
    """Version of rclone; default 1.76.0, or what the archive or PATH has. 1.65.2 is the oldest that works."""
    mirror: pulumi.Input[str] = DEFAULT_MIRROR
    """Base URL of releases, default https://downloads.rclone.org; files are at MIRROR/vVERSION/FILE. Over http it needs
    `sha256`. As a secret it stays out of previews and state, and may contain a password or a query; a program may
    give an output.
    """
    sha256: str | Mapping[str, str] | None = None
    """Pins the sum of the zip file or the archive, or the sums of several by their names, for more than one version or
    architecture; default: the mirror's SHA256SUMS.
    """
    archive: FilePath | None = None
    """Path of an official zip file, or of the program in it."""
    go_proxy: pulumi.Input[Annotated[str, require_go_proxy]] | None = None
    """GOPROXY for `build`; default: the value of `go env`. A secret stays one."""


def validate_rclone(install: RcloneInstall) -> RcloneInstall:
    """Checks what holds between the arguments, whose types are checked already.

    Returns:
        The arguments, with a mirror and a module proxy that are secret Outputs if they are secret.

    Raises:
        ConfigurationError: A value cannot be used, or nothing would use it.
    """
    source = install.source
    if source not in ("auto", "release", "archive", "build"):
        raise ConfigurationError(_key("from"), source, "unknown", "choose auto, release, archive or build")
    if source == "archive" and install.archive is None:
        raise ConfigurationError(_key("archive"), None, "missing", "give the path of an rclone release's zip file")
    unused: dict[str, object] = {
        "archive": install.archive if source != "archive" else None,
        "goProxy": install.go_proxy if source in ("release", "archive") else None,
        "sha256": install.sha256 if source == "build" else None,
    }
    for name, value in unused.items():
        if value is not None:
            raise ConfigurationError(
                _key(name),
                HIDDEN,
                f"nothing uses it, since rclone comes from {source}",
                "take it out, or change backup.rclone.from",
            )
    downloads = source in ("release", "auto")
    if downloads:
        RCLONE.require_pins(install.sha256, install.version or DEFAULT_VERSION)
    else:
        RCLONE.require_sums(install.sha256)
    pins = install.sha256 if downloads else ""
    mirror = checked_input(install.mirror, lambda known: RCLONE.require_mirror(known, pins))
    return replace(install, sha256=as_input(install.sha256), mirror=mirror, go_proxy=as_input(install.go_proxy))


def _key(name: str) -> str:
    return f"{RCLONE.block}.{name}"
