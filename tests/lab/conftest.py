"""Fixtures of the lab's tests, and a loud skip where the lab cannot run.

A module that needs other releases in its mirror than the default says so: `MIRROR_VERSIONS = ["3.5.35", "3.6.16"]`.
With ETCD_LAB=required, tests that cannot run fail instead.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from tests.lab import binaries
from tests.lab.hosts import Lab, requirements

MIRROR_VERSIONS = ["3.6.16"]

_missing = functools.cache(requirements)
CANNOT_RUN = "the lab cannot run here: "


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip (or fail) before any fixture is set up."""
    if _missing():
        _give_up(_missing())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, whatever the verbosity."""
    untested = [each for each in terminalreporter.stats.get("skipped", []) if CANNOT_RUN in str(each.longrepr)]
    if untested:
        terminalreporter.section("lab", yellow=True)
        terminalreporter.line(f"{len(untested)} tests need real hosts and did not run here:")
        for reason in _missing():
            terminalreporter.line(f"  - {reason}")


def _give_up(reasons: list[str]) -> None:
    reason = CANNOT_RUN + "; ".join(reasons)
    if os.environ.get("ETCD_LAB") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab without hosts yet, closed after the module's last test."""
    with Lab() as opened:
        yield opened


@pytest.fixture(scope="module")
def mirror_url(lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A release mirror inside the lab, with the module's MIRROR_VERSIONS."""
    versions: list[str] = getattr(request.module, "MIRROR_VERSIONS", MIRROR_VERSIONS)
    try:
        folder = binaries.mirror(tmp_path_factory.mktemp("mirror"), versions)
    except binaries.BuildError as error:
        _give_up([str(error)])
        raise
    return lab.mirror(folder)
