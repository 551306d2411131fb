"""Real etcd binaries of exact versions, and a release mirror packed from them.

Nothing is downloaded from the releases: `go` builds etcd's own modules, from wherever GOPROXY points.
Hosts live in hosts.py.

    ensure("3.6.16")                         -> folder with etcd, etcdctl, etcdutl
    mirror(tmp_path, ["3.6.16", "3.7.3"])    -> folder to serve, laid out as BASE/vX.Y.Z/FILE

From the shell, to fill the cache ahead: `nice python3 -m tests.lab.binaries 3.6.16 3.7.3`.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.install.go_build import go_packages

from .hosts import cache_dir, locked

# What the official tarballs carry: a tar run by root keeps it unless told otherwise.
RELEASE_UID, RELEASE_GID = 528287, 89939
BUILD_TIMEOUT_SECONDS = 1800


class BuildError(Exception):
    """A version cannot be built here; the message says why."""


def requirements() -> list[str]:
    """Why etcd cannot be built on this machine; empty when it can."""
    return [] if shutil.which("go") else ["go is not on PATH (etcd is built from its Go modules)"]


def architecture() -> str:
    """The Go name of this machine's architecture, as in the names of etcd's releases."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def ensure(version: str) -> Path:
    """The folder with the static binaries of `version` ("3.6.16"), built if the cache lacks them.

    It holds `etcd`, `etcdctl` and, from 3.5 on, `etcdutl`. Parallel callers build once.
    Raises BuildError.
    """
    try:
        packages = go_packages(version)
    except EtcdClusterError as error:
        raise BuildError(str(error)) from None
    target = cache_dir() / "etcd" / f"v{version}-{architecture()}"
    if target.is_dir():
        return target
    with locked(target):
        if not target.is_dir():
            _build(version, packages, target)
    return target


def archive(version: str) -> Path:
    """The cached release tarball of `version`, packed if the cache lacks it."""
    binaries = ensure(version)
    top = f"etcd-v{version}-linux-{architecture()}"
    target = cache_dir() / "release" / f"{top}.tar.gz"
    if target.is_file():
        return target
    with locked(target):
        if not target.is_file():
            release_sums.cache_clear()
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            _pack(binaries, top, partial)
            partial.rename(target)
    return target


def mirror(folder: Path, versions: list[str]) -> Path:
    """Lay out `folder` as the official download site: vX.Y.Z/etcd-vX.Y.Z-linux-ARCH.tar.gz and vX.Y.Z/SHA256SUMS.

    Files are copies: a test may spoil them.
    """
    for version in versions:
        source = archive(version)
        release = folder / f"v{version}"
        release.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, release / source.name)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        (release / "SHA256SUMS").write_text(f"{digest}  {source.name}\n")
    return folder


@functools.cache
def release_sums() -> dict[str, str]:
    """Name of a tarball -> its SHA-256 sum, for all that the lab has so far. Over http, they have to be pinned."""
    files = sorted((cache_dir() / "release").glob("etcd-v*.tar.gz"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def go_install(package: str, target: Path) -> None:
    """Builds PACKAGE@VERSION, static, into the folder `target`, which is whole or absent."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as name:
        out = Path(name, "out")
        out.mkdir()
        go(Path(name), "install", package, GOBIN=str(out))
        out.rename(target)


def build_main(name: str, source: str, *modules: str) -> Path:
    """A static program of this main package, with modules at MODULE@VERSION; built if the cache lacks it."""
    unique = hashlib.sha256("\n".join([source, *modules]).encode()).hexdigest()[:12]
    target = cache_dir() / f"{name}-{unique}"
    if not target.is_file():
        with locked(target), tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
            if not target.is_file():
                Path(folder, "main.go").write_text(source)
                go(Path(folder), "mod", "init", f"lab.invalid/{name}")
                go(Path(folder), "get", *modules)
                go(Path(folder), "mod", "tidy")
                go(Path(folder), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(Path(folder, name)), ".")
                Path(folder, name).rename(target)
    return target


def _build(version: str, packages: dict[str, tuple[str, str]], target: Path) -> None:
    """Build into a neighbour of `target`, check, then rename: `target` is whole or absent."""
    missing = requirements()
    if missing:
        raise BuildError(f"etcd {version}: {missing[0]}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as name:
        module, out = Path(name, "module"), Path(name, "out")
        module.mkdir()
        out.mkdir()
        go(module, "mod", "init", "lab.invalid/etcd")
        # Modules with replace directives refuse `go install pkg@version`: require them from this one.
        go(module, "get", "-tool", *(f"{package}@{release}" for package, release in packages.values()))
        for binary, (package, _) in packages.items():
            go(module, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(out / binary), package)
        _check_version(out / "etcd", version)
        out.rename(target)
    print(f"lab: built etcd {version} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def go(folder: Path, *arguments: str, **variables: str) -> str:
    """What `go ARGUMENTS...` prints in a folder; without cgo, so that programs are static. Raises BuildError."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **variables}
    done = subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        raise BuildError(f"go {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _check_version(etcd: Path, version: str) -> None:
    said = subprocess.run([etcd, "--version"], check=True, capture_output=True, text=True, timeout=300).stdout
    if f"etcd Version: {version}\n" not in said:
        raise BuildError(f"built etcd {version}, but it says {said.splitlines()[:1]}")


def _pack(binaries: Path, top: str, target: Path) -> None:
    def released(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid, entry.gid, entry.uname, entry.gname = RELEASE_UID, RELEASE_GID, "", ""
        entry.mode, entry.mtime = 0o755, 0
        return entry

    with (
        gzip.GzipFile(target, "wb", compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        tar.add(binaries, top, recursive=False, filter=released)
        for binary in sorted(binaries.iterdir()):
            tar.add(binary, f"{top}/{binary.name}", filter=released)


if __name__ == "__main__":
    for asked in sys.argv[1:]:
        print(ensure(asked), archive(asked))
