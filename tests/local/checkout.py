"""A checkout of the project with folders of its own for everything that its scripts keep. Members run on free ports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).parents[2]
FILES = (
    "Pulumi.yaml",
    "Pulumi.dev.yaml",
    "__main__.py",
    "etcd_cluster",
    "embedded_engine",
    "scripts",
    "requirements.txt",
)
SET_UP = (Path(sys.prefix) / "requirements.txt").is_file()
"""Whether scripts/test made the environment that runs this: the scripts then have nothing to install."""
NOT_SET_UP = "the Python that runs this is not the .venv of scripts/test"

PASSED_ON = ("PULUMI_HOME", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION")
TIMEOUT_SECONDS = 1800
"""Enough to build etcd, where it cannot be downloaded and nobody has built it before."""
PORTS = 30


class Checkout:
    """Below `folder`, whose name may be anything."""

    def __init__(self, folder: Path, engine: str = "embedded") -> None:
        self.project, self.home = folder / "project", folder / "home"
        for path in (self.project, self.home):
            path.mkdir(parents=True)
        for name in FILES:
            copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
            copy(PROJECT / name, self.project / name)
        (self.project / ".venv").symlink_to(sys.prefix)
        self.local: dict[str, str | int] = {}
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        cache = os.environ.get("ETCD_CLUSTER_CACHE_DIR") or str(Path.home() / ".cache" / "etcd-cluster")
        self.members = self.home / ".local" / "share" / "etcd-cluster" / "etcd-cluster" / "dev" / "etcd"
        self.environment = {
            **passed_on,
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "ETCD_CLUSTER_CACHE_DIR": cache,  # etcd is built, or downloaded, once
            "ETCD_CLUSTER_ENGINE": engine,
            "PYTHONDONTWRITEBYTECODE": "1",
            "CI": "true",
        }

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "etcd-cluster" / "etcd-cluster"

    @property
    def stack_file(self) -> Path:
        return self.project / "Pulumi.dev.yaml"

    def use_free_ports(self, directory: Path | None = None) -> None:
        """directory: of the members; default the project's own."""
        self.configure_local({"basePort": free_ports(), **({"directory": str(directory)} if directory else {})})
        if directory is not None:
            self.members = directory / "etcd"

    def configure_local(self, settings: Mapping[str, str | int]) -> None:
        """Sets what etcd-cluster:local is, in place of what it was."""
        self.local = dict(settings)
        lines = [line for line in self.stack_file.read_text().splitlines() if "etcd-cluster:local:" not in line]
        lines.append(f"  etcd-cluster:local: {json.dumps(self.local)}")  # JSON is YAML too
        self.stack_file.write_text("\n".join(lines) + "\n")

    def script(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs scripts/NAME from another folder; with `check`, fails with all that it said."""
        command = [str(self.project / "scripts" / name), *arguments]
        return self._run(command, check)

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `etcd-cluster` of this checkout."""
        return self._run(["env", f"PYTHONPATH={self.project}", sys.executable, "-m", "etcd_cluster.cli", *words], check)

    def shell(self, commands: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs commands in a shell that has asked scripts/env first."""
        environment = 'eval "$("$1/scripts/env")"; '
        return self._run(["sh", "-ec", environment + commands, "sh", str(self.project)], check)

    def processes(self) -> dict[str, str]:
        """Member -> id of its process."""
        return {path.parts[-3]: path.read_text().strip() for path in sorted(self.members.glob("*/state/etcd.pid"))}

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done


def free_ports() -> int:
    """The first of a row of ports on which nothing listens; from etcd's own on. Tests that run beside these begin
    elsewhere."""
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for base in range(2379 + 15000 * (beside % 2), 30000, 1000):
        if all(_is_free(base + offset) for offset in range(PORTS)):
            return base
    raise AssertionError("there are no free ports here")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
