"""Every file passes its linter and its type checker. A failure shows what the tool said."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
PYTHON_TOOLS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}
SH_SCRIPTS = [
    PROJECT / "scripts" / name for name in ("up", "down", "env", "status", "backup", "test", "lint", "lock", "lib.sh")
]
BASH_SCRIPTS = [PROJECT / ".ci" / "run", *sorted((PROJECT / "etcd_cluster" / "member" / "scripts").glob("*.sh"))]
PINNED = re.compile(r"^([\w.-]+)(?:\[.*\])?==(\S+)", re.MULTILINE)
TIMEOUT_SECONDS = 3000


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("tool", PYTHON_TOOLS)
def test_python_passes(tool: str) -> None:
    run(sys.executable, "-m", *PYTHON_TOOLS[tool])


@pytest.mark.parametrize("script", SH_SCRIPTS, ids=lambda path: path.name)
def test_entry_points_pass_shellcheck_as_posix_sh(script: Path) -> None:
    run(shellcheck(), "--shell", "sh", script)


@pytest.mark.parametrize("script", BASH_SCRIPTS, ids=lambda path: path.name)
def test_bash_passes_shellcheck(script: Path) -> None:
    run(shellcheck(), script)


def shellcheck() -> str:
    """The locked one, else any."""
    found = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    assert found, "shellcheck is missing: scripts/test installs it"
    return found


def test_the_locks_pin_the_same_versions() -> None:
    runtime, development = (
        dict(PINNED.findall((PROJECT / name).read_text())) for name in ("requirements.txt", "requirements-dev.txt")
    )
    assert runtime.items() <= development.items()


def test_the_lock_holds_what_the_package_depends_on() -> None:
    block = re.search(r"^dependencies = \[(.*?)^\]", (PROJECT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert block
    names = set(re.findall(r'"([\w-]+)', block[1]))
    assert names <= set(dict(PINNED.findall((PROJECT / "requirements.txt").read_text())))


def test_the_lock_names_the_extras_that_its_distributions_ask_for() -> None:
    """Without them, older releases of pip refuse the lock as soon as a newer version of such a distribution is out."""
    lock = (PROJECT / "requirements-dev.txt").read_text()
    locked = [Requirement(line) for line in re.findall(r"^[\w.-]+.*==[^\\\n]+", lock, re.MULTILINE)]
    extras = {canonicalize_name(one.name): one.extras for one in locked}
    here = [one for one in locked if one.marker is None or one.marker.evaluate()]
    asked = [
        needed
        for one in here
        for needed in map(Requirement, metadata.requires(one.name) or ())
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in one.extras or {""})
    ]
    assert any(needed.extras for needed in asked)
    assert [str(needed) for needed in asked if not needed.extras <= extras[canonicalize_name(needed.name)]] == []


def test_hooks_check_the_scripts_that_are_checked_here() -> None:
    (config,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    patterns = {hook["id"]: re.compile(hook["files"]) for hook in config["hooks"] if "files" in hook}
    for kind, scripts in (("shellcheck-sh", SH_SCRIPTS), ("shellcheck-bash", BASH_SCRIPTS)):
        assert all(patterns[kind].search(str(script.relative_to(PROJECT))) for script in scripts)


@pytest.mark.parametrize(
    "name", [".github/dependabot.yml", ".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"]
)
def test_files_for_github_are_yaml(name: str) -> None:
    assert yaml.safe_load((PROJECT / name).read_text())


def test_every_entry_point_can_be_run_and_is_checked() -> None:
    files = [path for path in (PROJECT / "scripts").iterdir() if path.is_file()]
    runnable = {path for path in files if path.read_text().startswith("#!/bin/sh")}
    assert runnable == {path for path in SH_SCRIPTS if path.name != "lib.sh"}
    assert all(os.access(path, os.X_OK) for path in runnable)
