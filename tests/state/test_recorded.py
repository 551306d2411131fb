"""What earlier releases left goes on: no difference in a preview, no restart, and everything can be destroyed."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import dill  # type: ignore[import-untyped]
import pytest

from etcd_cluster import providers
from etcd_cluster.cli.stacks import without_marks
from etcd_cluster.errors import is_private_key
from etcd_cluster.member.line import Line
from etcd_cluster.rollout import host_record_lifecycle, lifecycle
from tests.lab.stack import PASSPHRASE, STACK
from tests.state.recorded import (
    CONFIG,
    FILES,
    KEY_FILE,
    STATE,
    WITH_ADDITIONS,
    Record,
    embedded_state,
    outputs,
    records,
    started_files,
)

AT_THE_TIME = """
import runpy, sys
from datetime import datetime
from etcd_cluster.pki import lifecycles
now = datetime.fromisoformat(sys.argv.pop(1))
lifecycles.current_time = lambda: now
runpy.run_module("embedded_engine", run_name="__main__", alter_sys=True)
"""
"""Runs the engine as if it were then: certificates fall due later."""

ONLY_A_SCRIPT = re.compile(
    r"  ~ (command:remote:Command etcd-host-[123]-(check|prepare): update \[stdin\]"
    r"|cluster:(BackupSchedule etcd-backups|MetricsEndpoints etcd-metrics): update \[members(, unknown, schema)?\])"
)
"""A later release may have other scripts. They run again, compare, and do nothing where nothing differs."""
EACH = pytest.mark.parametrize(
    "record", [*records("embedded"), *records(WITH_ADDITIONS)], ids=lambda record: record.name
)
EMBEDDED = pytest.mark.parametrize("record", records("embedded"), ids=lambda record: record.name)


def test_there_is_a_record_and_no_key_in_it_can_be_read_and_no_path_of_the_machine_that_made_it() -> None:
    assert records("embedded")
    found = [path for record in (*records("embedded"), *records("pulumi")) for path in record.folder.rglob("*")]
    texts = {path: path.read_text() for path in found if path.is_file()}
    assert not [path for path, text in texts.items() if is_private_key(text)]
    assert not [path for path, text in texts.items() if "site-packages" in text or "sourcePosition" in text]
    assert {record.folder.parent for record in records("pulumi")} == {
        record.folder.parent for record in records("embedded")
    }


@pytest.mark.parametrize(
    ("older", "has_key_file"),
    [(False, True), (True, True), (False, False)],
    ids=["", "without schema numbers", "no key"],
)
@EACH
def test_a_preview_shows_no_difference(record: Record, older: bool, has_key_file: bool, tmp_path: Path) -> None:
    project = record.project(tmp_path)
    state = tmp_path / "state" / "etcd-cluster" / f"{STACK}.json"
    state.parent.mkdir(parents=True)
    text = (record.folder / STATE).read_text()
    state.write_text(text.replace('"schema"', '"unknown"') if older else text)
    machine = next(each for each in outputs(embedded_state(state)).values() if "connection" in each)
    if has_key_file:
        (project / KEY_FILE).write_text(machine["connection"]["privateKey"])
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ETCD_CLUSTER_STATE_DIR": str(state.parents[1]),
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-c", AT_THE_TIME, record.time.isoformat(), "preview", "--stack", STACK]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    changes = [line for line in said.splitlines() if re.match("  [~+-]", line)]
    assert [line for line in changes if not ONLY_A_SCRIPT.fullmatch(line)] == [], said
    assert f"{len(changes)} to update" in said if changes else "no changes" in said, said


@EACH
def test_a_release_alone_changes_nothing_that_a_member_starts_from(record: Record) -> None:
    """If it has to, the changelog says so, and the record's files are taken anew."""
    found = {
        str(path.relative_to(record.folder / FILES)): path.read_text()
        for path in sorted((record.folder / FILES).rglob("*"))
        if path.is_file()
    }
    desired = outputs(embedded_state(record.folder / STATE))["etcd-rollout"]["desired"]
    assert found
    assert started_files(desired) == found


class Machines:
    """In place of MemberMachines: notes what is run where."""

    steps: list[tuple[str, str]]

    def __init__(self, members: Collection[str], connections: Mapping[str, Any], *_: Any, **__: Any) -> None:
        assert set(connections) == set(members)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_all(self, names: Collection[str], do: Any) -> dict[str, Any]:
        return {name: do(name) for name in names}

    def run(self, name: str, line: Line, *_: Any, **__: Any) -> str:
        Machines.steps.append((line.step, name))
        return ""


@EMBEDDED
def test_everything_is_deleted_and_members_are_taken_off_their_hosts(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machines.steps = []
    monkeypatch.setattr(lifecycle, "ClusterMachines", Machines)
    monkeypatch.setattr(host_record_lifecycle, "MemberMachines", Machines)
    found = outputs(embedded_state(record.folder / STATE))
    dynamic = {name: each for name, each in found.items() if each["type"].startswith("pulumi-python:dynamic/")}
    assert len(dynamic) > 10
    for name, each in dynamic.items():
        kind = each.pop("type").rpartition(":")[2]
        provider: Any = dill.loads(base64.b64decode(each["__provider"]))
        assert type(provider) is getattr(providers, f"{kind}Provider")
        provider.delete(name, each)
        assert provider.read(name, each).outs
    assert sorted(Machines.steps) == [("remove", f"host-{number}") for number in (1, 2, 3)]


@pytest.mark.parametrize("record", records("pulumi"), ids=lambda record: record.name)
def test_the_pulumi_cli_shows_no_difference_either(record: Record, tmp_path: Path) -> None:
    if shutil.which("pulumi") is None:
        pytest.skip("pulumi is not on PATH")
    project, backend = record.project(tmp_path), tmp_path / "backend"
    backend.mkdir()
    (project / ".venv").symlink_to(sys.prefix)
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "NO_COLOR": "1",
    }

    def pulumi(*arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--stack", STACK],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    config = (project / CONFIG).read_text()
    pulumi("stack", "init")
    (project / CONFIG).write_text(config)
    pulumi("stack", "import", "--file", str(record.folder / STATE))
    shown = json.loads(pulumi("stack", "export", "--show-secrets"))
    found = [without_marks(each["inputs"]) for each in shown["deployment"]["resources"] if "inputs" in each]
    keys = {each["connection"]["privateKey"] for each in found if "connection" in each}
    (project / KEY_FILE).write_text(keys.pop())

    def preview() -> tuple[dict[str, Any], str]:
        steps = json.loads(pulumi("preview", "--json"))["steps"]
        text = pulumi("preview", "--diff").partition("Duration")[0]
        return {step["urn"]: step.get("diffReasons") for step in steps if step["op"] != "same"}, text

    changed, text = preview()
    (project / KEY_FILE).unlink()
    assert preview() == (changed, text), "a preview without the key file does not read as one with it"
    assert all(re.search(r"-(check|prepare)$", urn) and why == ["stdin"] for urn, why in changed.items()), changed
