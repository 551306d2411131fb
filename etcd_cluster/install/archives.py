"""Packs, unpacks and checks tarballs in the form of etcd's official releases."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.releases import binary_names, release_directory, release_name
from etcd_cluster.install.cache import cache_directory
from etcd_cluster.install.elf import require_linux_program, runs_here
from etcd_cluster.install.errors import ChecksumMismatch, InstallError
from etcd_cluster.install.programs import run
from etcd_cluster.releases import Architecture

# Go's build information, which every binary carries as plain text, names etcd's own modules.
STATED_VERSION = re.compile(rb"\tgo\.etcd\.io/etcd/api/v3\tv([0-9][0-9A-Za-z.-]*)[\t\n]")
# Any fixed time makes the tarball reproducible; GNU tar warns of one in 1970.
PACKED_AT = 1577836800
RUN_TIMEOUT_SECONDS = 30


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 sum of a file, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def require_sha256(path: Path, expected: str | None, source: str = "install.sha256") -> str:
    """Returns the sum of the file. Raises `ChecksumMismatch` unless it is `expected`, or `expected` is None."""
    actual = sha256_of(path)
    if expected is not None and actual != expected.lower():
        raise ChecksumMismatch(
            f"{path.name}: its sha256 is {actual}; expected was {expected.lower()} ({source}). "
            "Find out which of the two is wrong before you trust the file"
        )
    return actual


def verify_archive(
    path: Path,
    version: str,
    architecture: Architecture,
    sha256: str | None = None,
    *,
    key: str = "install.archive",
) -> str:
    """Returns the sha256 of a tarball that holds that version for that architecture, packed like an official release.

    Args:
        path: The tarball.
        version: What it must hold.
        architecture: What its programs must be for.
        sha256: What its sum must be; None for any.
        key: The setting that errors name.

    Raises:
        ConfigurationError: It holds something else.
        ChecksumMismatch: It has another sum.
    """
    actual = require_sha256(path, sha256)
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=cache_directory()) as scratch:
        unpack(path, version, architecture, Path(scratch), key=key)
    return actual


def unpack(path: Path, version: str, architecture: Architecture, into: Path, *, key: str = "install.archive") -> None:
    """Writes the binaries, and nothing else of the tarball, into a directory, and checks each one."""
    folder = release_directory(version, architecture)
    missing = [f"{folder}/{name}" for name in binary_names(version)]
    found: set[str] = set()
    try:
        with tarfile.open(path, "r:gz") as tar:
            for entry in tar:
                found.add(entry.name.split("/")[0])
                content = tar.extractfile(entry) if entry.name in missing and entry.isfile() else None
                if content is None:
                    continue
                missing.remove(entry.name)
                with open(into / Path(entry.name).name, "wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigurationError(
            key,
            str(path),
            f"not a whole .tar.gz file ({error})",
            f"give {release_name(version, architecture)} again",
        ) from None
    if missing:
        raise ConfigurationError(
            key,
            str(path),
            f"lacks {', '.join(missing)} (at its top: {', '.join(sorted(found)[:5]) or 'nothing'})",
            f"give {release_name(version, architecture)}, or a file packed like it",
        )
    for name in binary_names(version):
        (into / name).chmod(0o755)
        try:
            require_binary(into / name, version, architecture)
        except InstallError as error:
            raise ConfigurationError(
                key, str(path), str(error), f"give {release_name(version, architecture)}"
            ) from None


def pack(binaries: Path, version: str, architecture: Architecture, target: Path) -> None:
    """Packs a directory of binaries like an official release. The same binaries give the same bytes."""
    folder = release_directory(version, architecture)
    top = tarfile.TarInfo(folder)
    top.type, top.mode, top.mtime = tarfile.DIRTYPE, 0o755, PACKED_AT
    with (
        open(target, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=PACKED_AT) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(top)
        for name in sorted(binary_names(version)):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = (binaries / name).stat().st_size, 0o755, PACKED_AT
            with open(binaries / name, "rb") as file:
                tar.addfile(entry, file)


def require_binary(binary: Path, version: str, architecture: Architecture) -> None:
    """Raises `InstallError` unless the file is a Linux program of that version for that architecture.

    It is run where this machine can run it; elsewhere the version is looked for in its bytes.
    """
    require_linux_program(binary, architecture)
    if runs_here(architecture):
        actual = reported_version(binary)
    else:
        content = binary.read_bytes()
        stated = STATED_VERSION.search(content)
        # 3.4 has no module for its version: all that can be seen is whether the text occurs.
        occurs = version if version.encode() in content else "another version"
        actual = stated[1].decode() if stated else occurs
    if actual != version:
        raise InstallError(f"{binary.name} is {actual}, not {version}")


def reported_version(binary: Path) -> str:
    """Returns the version that the program prints. Raises `InstallError` if it does not run, or prints none."""
    environment = {"PATH": os.environ.get("PATH", os.defpath)}  # no ETCD_ variable, no library
    command = [str(binary), "--version" if binary.name == "etcd" else "version"]
    done = run(command, environment=environment, timeout_seconds=RUN_TIMEOUT_SECONDS)
    match = re.search(r"^etcd(?:ctl|utl)? version: (\S+)", done.stdout, re.MULTILINE | re.IGNORECASE)
    if match is None:
        raise InstallError(f"{binary} prints no version (exit status {done.returncode})")
    return match[1]
