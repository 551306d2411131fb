"""Gets `benchmark`, etcd's own load generator, on the machine where Pulumi runs: a build, or a file of the user's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.install.archives import sha256_of
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.delivery import Destination
from etcd_cluster.install.elf import require_linux_program, require_static
from etcd_cluster.install.errors import InstallError
from etcd_cluster.install.go_build import build_programs
from etcd_cluster.install.sources import archive_path, this_architecture
from etcd_cluster.load_generator import BENCHMARK, MODULE, PACKAGE, VERSION
from etcd_cluster.releases import Architecture
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import Connection


def place_benchmark(connection: Connection | None, install: Mapping[str, Any], say: Say = discard) -> str:
    """Returns the path of `benchmark` on a machine, after sending it there if the machine does not hold it already.

    Args:
        connection: How to reach the machine; None for this one, which uses what is in the cache.
        install: The fields of `LoadGenerator`, with values that are known.
        say: Called with each step.

    Raises:
        SshError: The machine cannot be reached.
        EtcdClusterError: The program is unavailable, cannot be used, or the machine does not take it.
    """
    if connection is None:
        return str(benchmark_for(this_architecture(), **install, say=say))
    with OpenSsh.for_one_task() as ssh:
        host = Destination(ssh, connection)
        program = benchmark_for(host.architecture(), **install, say=say)
        version = VERSION if install.get("source") != "archive" else sha256_of(program)[:16]
        return host.send_program(program, BENCHMARK.name, version, say)


def benchmark_for(
    architecture: Architecture,
    source: str = "build",
    *,
    archive: str | None = None,
    go_proxy: str | None = None,
    say: Say = discard,
) -> Path:
    """Returns `benchmark` for hosts of that architecture. The other arguments are those of `LoadGenerator`.

    Raises:
        ConfigurationError: The file that a setting names cannot be used.
        InstallError: The program cannot be built.
    """
    return _from_file(archive, architecture) if source == "archive" else _build(architecture, go_proxy, say)


def _from_file(archive: str | None, architecture: Architecture) -> Path:
    file = archive_path(BENCHMARK, archive)
    try:
        _require_usable(file, architecture)
    except InstallError as error:
        raise ConfigurationError(
            f"{BENCHMARK.block}.archive",
            str(file),
            str(error),
            f"build it for linux/{architecture} with CGO_ENABLED=0 from {PACKAGE}",
        ) from None

    def make(partial: Path) -> None:
        partial.mkdir()
        shutil.copyfile(file, partial / BENCHMARK.name)
        (partial / BENCHMARK.name).chmod(0o755)

    return make_once(cache_directory() / BENCHMARK.name / sha256_of(file)[:16], make) / BENCHMARK.name


def _build(architecture: Architecture, go_proxy: str | None, say: Say) -> Path:
    def make(partial: Path) -> None:
        packages = {BENCHMARK.name: (PACKAGE, f"v{VERSION}")}
        build_programs(BENCHMARK, VERSION, packages, architecture, partial, go_proxy=go_proxy, say=say)
        _require_usable(partial / BENCHMARK.name, architecture)

    return make_once(cache_directory() / "builds" / BENCHMARK.folder(VERSION, architecture), make, say) / BENCHMARK.name


def _require_usable(program: Path, architecture: Architecture) -> None:
    """Raises `InstallError` for another program, or one for other machines. Go notes in it what it is made of."""
    require_linux_program(program, architecture)
    require_static(program)
    if f"path\t{PACKAGE}\n".encode() not in program.read_bytes():
        raise InstallError(f"{program.name} is not {PACKAGE} of the module {MODULE}")
