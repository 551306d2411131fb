"""A load check from a machine that runs no member, by the real Pulumi CLI: the CA's key is in its state as a secret."""

from __future__ import annotations

from pathlib import Path

from tests.lab.hosts import Lab
from tests.lab.stack import Engine
from tests.lab.test_load_check import loaded_by_an_up


def test_an_up_loads_from_the_machine_that_the_stack_names(lab: Lab, mirror_url: str, tmp_path: Path) -> None:
    loaded_by_an_up(lab, mirror_url, tmp_path, Engine.PULUMI)
