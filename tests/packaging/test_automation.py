"""Pulumi's Automation API on the real engine: an inline program of somebody who has the wheel installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.packaging.installed import PROJECT, Environment

PROGRAM = PROJECT / "tests" / "packaging" / "automation_program.py"
RESOURCES = 14
"""The stack, the component around the cluster, the cluster, and eleven below it."""


def why_not() -> str | None:
    if shutil.which("pulumi") is None:
        return "the Pulumi CLI is not installed"
    listed = subprocess.run(["pulumi", "plugin", "ls"], check=False, capture_output=True, text=True).stdout
    return None if "command" in listed else "the Pulumi CLI lacks its plugin `command`"


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return min(int(listener.getsockname()[1]), 60_000)


def test_an_inline_program_with_a_nested_cluster_that_is_moved_protected_and_destroyed(
    plain: Environment, tmp_path: Path
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    found = plain.run_with_cli(PROGRAM, str(tmp_path / "work"), str(free_port()))
    assert found["preview"] == {"create": RESOURCES}
    assert found["endpoints"][0].startswith("https://127.0.0.1:")
    assert found["key_is_secret"]
    assert found["again"] == {"same": RESOURCES}
    assert found["moved"] == {"same": RESOURCES - 1, "delete": 1}, "only the component around the cluster is gone"
    assert not found["key_is_shown"]
    assert found["teams"] == [{"TEAM": "storage"}] * 2
    assert len(found["protected"]) == RESOURCES - 2
    assert found["destroy"], "a protected cluster was not refused"
    assert found["destroyed"] == {"delete": RESOURCES - 1}
