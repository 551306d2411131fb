"""Records what this release leaves in a stack: `scripts/test tests/state/record.py`, as root, with `pulumi` on PATH.

It forms a cluster in the lab, by either engine, and writes records/VERSION anew. Every release commits its own. One
more, by the embedded engine, has what a stack may add: backups, users, metrics.
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
from tests.lab.object_store import ObjectStore
from tests.lab.stack import PROJECT, Engine, Stack, host_config
from tests.lab.test_backup import backup_config
from tests.state import recorded

MIRROR_VERSIONS = ["3.6.16"]
VERSION = re.findall(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[0]


ADDITIONS = {
    "users": {"client": {"roles": ["root"]}, "app": {"roles": ["app"]}},
    "roles": {"app": [{"prefix": "/app/", "access": "readwrite"}]},
    "monitoring": {"onFailure": 'logger "$1 $2"'},
    "defragment": {"free": 0.5},
}


@pytest.mark.parametrize(
    ("engine", "name"), [*((each, each.value) for each in Engine), (Engine.EMBEDDED, recorded.WITH_ADDITIONS)]
)
def test_record(engine: Engine, name: str, lab: Lab, mirror_url: str, tmp_path: Path) -> None:  # noqa: F811
    if engine is Engine.PULUMI and shutil.which("pulumi") is None:
        pytest.skip("pulumi is not on PATH")
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    config["ssh"]["privateKeyFile"] = recorded.KEY_FILE
    if name == recorded.WITH_ADDITIONS:
        store = ObjectStore(lab, tmp_path / "objects")
        store.start()
        config.update(ADDITIONS, backup=backup_config(store, every="24h"))
    stack = Stack(lab, tmp_path, config, engine)
    (stack.folder / recorded.KEY_FILE).symlink_to(hosts[0].private_key_file)
    cluster = Cluster(lab, hosts, stack, engine)
    cluster.up()

    folder = recorded.FOLDER / VERSION / name
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
