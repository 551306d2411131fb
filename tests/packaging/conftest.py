"""The built wheel, and environments that hold it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.packaging.installed import Environment, build_wheel

EXTRAS = ("aws", "gcp")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Without any cloud's SDK."""
    return Environment(tmp_path_factory.mktemp("plain"), wheel)


@pytest.fixture(scope="session")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With the SDKs of all clouds."""
    missing = [f"pulumi_{extra}" for extra in EXTRAS if importlib.util.find_spec(f"pulumi_{extra}") is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return Environment(tmp_path_factory.mktemp("complete"), wheel, EXTRAS)
