"""A Pulumi project in a temporary folder, run without the Pulumi CLI: in this process, or as a program of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from embedded_engine import program
from embedded_engine.display import printable

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Ran:
    """A run that is over."""

    ok: bool
    text: str
    operations: list[tuple[str, str]]
    outputs: dict[str, Any]

    def steps(self, *, unchanged: bool = False) -> list[str]:
        """`create a`, `update b`, ... in the order of completion, without components."""
        return [
            f"{operation} {urn.rsplit('::', 1)[1]}"
            for operation, urn in self.operations
            if (unchanged or operation != "same") and "pulumi:Stack" not in urn
        ]


@dataclass
class Project:
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    stack: str = "dev"

    def write(self, *main: str, **modules: str) -> None:
        """The program, in parts that may each be indented, and modules beside it."""
        (self.folder / "__main__.py").write_text("\n".join(map(textwrap.dedent, main)))
        for name, text in modules.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(text))

    def up(self) -> Ran:
        return self._ran("up")

    def preview(self) -> Ran:
        return self._ran("preview")

    def destroy(self) -> Ran:
        return self._ran("destroy")

    def _ran(self, operation: Literal["up", "preview", "destroy"]) -> Ran:
        stream = io.StringIO()
        result = program.run(operation, self.stack, self.folder, stream=stream)
        return Ran(result.ok, stream.getvalue(), result.operations, printable(result.outputs, show_secrets=True))

    @property
    def state_file(self) -> Path:
        return Path(os.environ["ETCD_CLUSTER_STATE_DIR"]) / "project" / f"{self.stack}.json"

    def resources(self) -> dict[str, dict[str, Any]]:
        """What the state file holds, by the name of the resource."""
        records = json.loads(self.state_file.read_text())["resources"]
        return {record["urn"].rsplit("::", 1)[1]: record for record in records}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The command line, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "embedded_engine", *arguments, "--directory", str(self.folder)],
            cwd=options.pop("cwd", ROOT),
            stdout=subprocess.PIPE,
            stderr=options.pop("stderr", subprocess.STDOUT),
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
            **options,
        )

    def command(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        text, _ = process.communicate(timeout=600)
        return process.returncode, text


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ETCD_CLUSTER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "correct horse")
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        # Modules of a program; another test's program may have others by the same name.
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: project\nruntime: python\n")
    return Project(folder)
