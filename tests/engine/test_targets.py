"""No machine is replaced by a run that leaves out the resource that asks the other members: `pulumi up --target`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os

import pulumi
from pulumi_command import local

from etcd_cluster.rollout import MachineReplacement

member = os.environ.get("MEMBER") or None
guard = MachineReplacement(
    "guard",
    replace_member=member,
    is_dead=True,  # nobody is there to be asked
    connections={},
    quota_bytes=2**31,
    opts=pulumi.ResourceOptions(),
)
depends_on = [guard.once_asked()] if member else None
opts = pulumi.ResourceOptions(depends_on=depends_on)
machine = local.Command("machine", local.CommandArgs(create=os.environ["MACHINE"]), opts)
pulumi.export("machine", machine.stdout)
"""


class Program:
    """A machine, of which the guard decides whether it is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "passphrase",
            "PYTHONPATH": str(CHECKOUT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        (folder / "Pulumi.yaml").write_text("name: guard\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        assert self.run("stack", "init", "test").returncode == 0

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["pulumi", *arguments, "--non-interactive"]
        environment = {**self.environment, **environment}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def up(self, machine: str, member: str = "", *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--yes", "--skip-preview", *options, MACHINE=f"echo {machine}", MEMBER=member)

    @property
    def machine(self) -> str:
        return self.run("stack", "output", "machine").stdout.strip()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_run_with_other_targets_replaces_nothing(program: Program) -> None:
    assert program.up("first").returncode == 0
    refused = program.up("second", "etcd-2", "--target", "**machine")
    assert refused.returncode != 0
    assert "this run leaves out the resource that asks the other members" in refused.stdout
    assert program.machine == "first"

    assert program.up("second", "etcd-2").returncode == 0
    assert program.machine == "second"
    refused = program.up("third", "etcd-2", "--target", "**machine")
    assert "this run leaves out the resource that asks the other members" in refused.stdout
    assert program.machine == "second"

    allowed = program.up("third", "etcd-2", "--target", "**machine", "--target", "**guard")
    assert allowed.returncode == 0, allowed.stdout
    assert program.machine == "third"
