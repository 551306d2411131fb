"""Which folder may import which. Imports inside functions count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ENGINE = "embedded_engine"
FOR_THE_ENGINE = {
    "etcd_cluster.errors",
    "etcd_cluster.ssh.client",
    "etcd_cluster.ssh.connection",
    "etcd_cluster.ssh.processes",
}
"""All that the engine needs of the package. Each further entry ties the two together: think twice."""


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def sources(folder: str) -> list[Path]:
    found = sorted((PROJECT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("folder", ["etcd_cluster", "examples", "policy"])
def test_only_scripts_and_tests_import_the_embedded_engine(folder: str) -> None:
    offenders = [
        f"{file.relative_to(PROJECT)} imports {name}"
        for file in [*sources(folder), PROJECT / "__main__.py"]
        for name in imported(file)
        if name.split(".")[0] == ENGINE
    ]
    assert offenders == []


def test_the_embedded_engine_imports_ssh_and_errors_of_the_package_and_no_more() -> None:
    used = {name for file in sources(ENGINE) for name in imported(file) if name.split(".")[0] == "etcd_cluster"}
    assert used <= FOR_THE_ENGINE
