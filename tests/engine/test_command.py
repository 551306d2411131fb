"""The command `etcd-cluster` for a program that imports the component, on a stack of the real Pulumi CLI."""

from __future__ import annotations

import json
from pathlib import Path

from tests.local.importing import PASSPHRASE, STACK, Importing, assert_every_command_answers


def test_a_program_that_imports_the_component_is_served(tmp_path: Path) -> None:
    program = Importing(tmp_path, "pulumi")
    program.up()
    try:
        assert_every_command_answers(program)

        stacks = json.loads(program.run("pulumi", "stack", "ls", "--json").stdout)
        assert not any(each["current"] for each in stacks), "a command selected the stack"

        del program.environment["PULUMI_CONFIG_PASSPHRASE"]
        members = program.ask("members", "--stack", STACK, "--cluster", "orders")
        assert members.returncode == 0, "members needs no passphrase"
        status = program.ask("status", "--stack", STACK, "--cluster", "orders")
        assert status.returncode == 2
        assert "passphrase" in status.stderr
        missing = program.ask("status", "--stack", "missing")
        assert missing.returncode == 2
        assert "stack missing is not up" in missing.stderr
    finally:
        program.environment["PULUMI_CONFIG_PASSPHRASE"] = PASSPHRASE
        program.destroy()
