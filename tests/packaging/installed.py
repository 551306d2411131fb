"""A virtual environment that holds the built wheel and what it requires, and nothing else. No network: what it requires
is linked from the environment that runs the tests."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """The project's wheel. Where hatchling is not installed here, pip gets it."""
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation, "--wheel-dir", folder, PROJECT]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("etcd_cluster-*.whl")
    return wheel


class Environment:
    """One such virtual environment. `extras`: those of the package, installed as well."""

    def __init__(self, folder: Path, wheel: Path, extras: Sequence[str] = ()) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.programs = folder / "bin"
        self._python = self.programs / "python"
        self._install(wheel)
        (site,) = folder.glob("lib/python*/site-packages")
        (installed,) = importlib.metadata.distributions(name="etcd-cluster", path=[str(site)])
        for name in closure(installed.requires or [], extras):
            link(name, site)

    def _install(self, wheel: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self._python]
        command = [*pip, "install", "--quiet", "--no-deps", "--no-index", wheel]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, program: str) -> Any:
        """Runs `program` where the project's folder is out of sight; its output is JSON."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PULUMI"))}
        return self._run(["-P" if sys.version_info >= (3, 11) else "-I", "-c", program], environment)

    def run_with_cli(self, program: Path, *arguments: str) -> Any:
        """Runs the file `program`, which may use the Pulumi CLI; its output's last line is JSON."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        kept = {key: value for key, value in kept.items() if key not in ("PULUMI_BACKEND_URL", "PULUMI_STACK")}
        environment = {**kept, "PATH": f"{self.programs}:{os.environ['PATH']}"}  # the engine starts the python there
        return self._run([str(program), *arguments], environment)

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
        done = subprocess.run(
            [self._python, *arguments], cwd=self.programs, env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def closure(requirements: Iterable[str], extras: Sequence[str] = ()) -> set[str]:
    """Names of the distributions here that `requirements` lead to. Markers other than `extra` are taken as true: what
    they rule out is not installed."""
    found: set[str] = set()
    for requirement in requirements:
        marker = re.search(r"extra\s*==\s*['\"]([\w-]+)", requirement)
        if marker and marker[1] not in extras:
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        found |= {name, *_required_by(name)}
    return found


_known: dict[str, set[str]] = {}


def _required_by(name: str) -> set[str]:
    if name not in _known:
        _known[name] = set()
        try:
            _known[name] = closure(importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            return _known[name]
    return _known[name]


def link(name: str, site: Path) -> None:
    """Makes a distribution that is installed here importable from `site`."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(distribution.locate_file(top))))
