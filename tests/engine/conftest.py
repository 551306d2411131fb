"""Fixtures of the tests that need the real Pulumi CLI, and a loud skip where it is absent.

They look for `pulumi` on PATH and for the plugin `command` in its home, and install neither. Those that also need hosts
take the lab's fixtures. With ETCD_ENGINE=required, tests that cannot run fail instead.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess

import pytest

from tests.lab.conftest import lab, mirror_url  # noqa: F401  fixtures
from tests.lab.hosts import requirements as lab_requirements

CANNOT_RUN = "the real engine cannot be tested here: "


@functools.cache
def _missing() -> list[str]:
    """Why the engine cannot run here; empty when it can."""
    if not shutil.which("pulumi"):
        return ["pulumi is not on PATH (https://www.pulumi.com/docs/install/)"]
    listed = subprocess.run(["pulumi", "plugin", "ls", "--json"], capture_output=True, text=True, check=False)
    plugins = json.loads(listed.stdout) if listed.returncode == 0 else []
    if not any(plugin["name"] == "command" for plugin in plugins):
        return ["Pulumi has no plugin `command` (pulumi plugin install resource command)"]
    return []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip (or fail) before any fixture is set up."""
    needs_lab = "lab" in getattr(item, "fixturenames", ())
    reasons = _missing() or (lab_requirements() if needs_lab else [])
    if not reasons:
        return
    text = CANNOT_RUN + "; ".join(reasons)
    if os.environ.get("ETCD_ENGINE") == "required":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, whatever the verbosity."""
    said = [each.longrepr[2] for each in terminalreporter.stats.get("skipped", []) if isinstance(each.longrepr, tuple)]
    untested = [text.partition(CANNOT_RUN)[2] for text in said if CANNOT_RUN in text]
    if untested:
        terminalreporter.section("engine", yellow=True)
        terminalreporter.line(f"{len(untested)} tests need the real Pulumi CLI and did not run here:")
        for reason in dict.fromkeys(untested):
            terminalreporter.line(f"  - {reason}")
