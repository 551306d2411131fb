"""The command `etcd-cluster` for a program that imports the component, by the engine in process."""

from __future__ import annotations

from pathlib import Path

from tests.local.importing import Importing, assert_every_command_answers


def test_a_program_that_imports_the_component_is_served(tmp_path: Path) -> None:
    program = Importing(tmp_path, "embedded")
    program.up()
    try:
        assert_every_command_answers(program)
    finally:
        program.destroy()
