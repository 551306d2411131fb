"""Records what this release leaves in a stack: `scripts/test tests/state/record.py`, as root, with `pulumi` on PATH.

It forms a cluster in the lab, by either engine, and writes records/VERSION anew. Every release commits its own.
"""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.lab.clusters import Cluster
from tests.lab.conftest import lab, mirror_url  # noqa: F401  fixtures
from tests.lab.hosts import Lab
from tests.lab.stack import PROJECT, Engine, Stack, host_config
from tests.state import recorded

MIRROR_VERSIONS = ["3.6.16"]
VERSION = re.findall(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[0]


@pytest.mark.parametrize("engine", Engine, ids=lambda engine: engine.value)
def test_record(engine: Engine, lab: Lab, mirror_url: str, tmp_path: Path) -> None:  # noqa: F811
    if engine is Engine.PULUMI and shutil.which("pulumi") is None:
        pytest.skip("pulumi is not on PATH")
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    config["ssh"]["privateKeyFile"] = recorded.KEY_FILE
    stack = Stack(lab, tmp_path, config, engine)
    (stack.folder / recorded.KEY_FILE).symlink_to(hosts[0].private_key_file)
    cluster = Cluster(lab, hosts, stack, engine)
    cluster.up()

    folder = recorded.FOLDER / VERSION / engine.value
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(stack.folder / recorded.CONFIG, folder)
    (folder / recorded.TIME).write_text(f"{datetime.now(timezone.utc).isoformat(timespec='seconds')}\n")
    if engine is Engine.EMBEDDED:
        (file,) = stack.state.glob(f"*/{stack.name}.json")
        shutil.copy(file, folder / recorded.STATE)
    else:
        (folder / recorded.STATE).write_text(recorded.without_positions(stack.exported_text()))
    desired = cluster.in_state("etcd-rollout")["desired"] if engine is Engine.EMBEDDED else None
    for path, content in recorded.started_files(desired).items() if desired else ():
        (folder / recorded.FILES / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / recorded.FILES / path).write_text(content)
    for host in hosts:
        host.remove()
