"""A program declares resources without planner, SSH or cryptography, which the provider process loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

ONLY_FOR_LIFECYCLES = ("etcd_cluster.rollout.planner", "etcd_cluster.ssh.client", "cryptography")


@pytest.mark.parametrize(
    "module",
    [
        "formation",
        "rollout.resource",
        "rollout.host_record",
        "rollout.machine_replacement",
        "rollout",
        "monitoring.endpoints",
    ],
)
def test_a_resource_is_declared_without_what_its_lifecycle_needs(module: str) -> None:
    program = f"import sys, etcd_cluster.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert f"etcd_cluster.{module}" in loaded
    assert [name for name in loaded if name in ONLY_FOR_LIFECYCLES] == []
