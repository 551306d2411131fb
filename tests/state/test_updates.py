"""What earlier releases left is changed and destroyed by today's code, by the real engine, on machines in memory.

A model of the cluster (tests/unit/rollout_model.py) stands in for the machines: it has the record's own certificates,
and raises where a step would break a real cluster.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from embedded_engine import program
from embedded_engine.commands import RemoteCommand
from embedded_engine.values import Secret, Values, encode
from etcd_cluster.formation_lifecycle import FormationLifecycle
from etcd_cluster.lifecycle import SCHEMA, SCHEMA_VERSION
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import Record as RecordLine
from etcd_cluster.pki import lifecycles as pki_lifecycles
from etcd_cluster.pki.x509 import KeyPair
from etcd_cluster.rollout import host_record_lifecycle, lifecycle
from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.ssh.processes import Completed
from tests.lab.stack import PASSPHRASE, STACK
from tests.state.recorded import CONFIG, KEY_FILE, Record, embedded_state, outputs, records
from tests.unit import rollout_model
from tests.unit.rollout_model import Goal, Model
from tests.unit.test_rollout_resource import Machines

LIFECYCLES = {
    "etcd-formation": FormationLifecycle,
    "etcd-hosts": host_record_lifecycle.HostRecordLifecycle,
    "etcd-rollout": lifecycle.RolloutLifecycle,
}
"""Those whose schema has defaults."""
ALL = [*records("embedded"), *records("pulumi")]


class RecordedMachines(Machines):
    """These note the HostRecord's id as well."""

    def run(self, name: str, line: Line, *rest: Any, **options: Any) -> str:
        if isinstance(line, RecordLine):
            self.lines.append(f"{line.step} {name}")
            return ""
        return super().run(name, line, *rest, **options)


class RecordedGoal(Goal):
    """What the record's stack asks for, in place of what the model makes up."""

    _recorded: DesiredCluster

    @property
    def desired(self) -> DesiredCluster:
        return self._recorded

    def __init__(self, recorded: DesiredCluster) -> None:
        members = recorded.members
        super().__init__(
            names=tuple(members),
            version=recorded.version,
            founders={name: member.founder for name, member in members.items()},
            token=recorded.token,
        )
        object.__setattr__(self, "_recorded", recorded)

    def address(self, name: str) -> str:
        return self._recorded.members[name].address


@dataclass
class Stack:
    """A record's stack, its machines, and the clock at the time of the record."""

    project: Path
    state_file: Path
    machines: Machines

    @property
    def model(self) -> Model:
        return self.machines.model

    def run(self, operation: Literal["up", "preview", "destroy"]) -> tuple[program.Result, str]:
        stream = io.StringIO()
        result = program.run(operation, STACK, self.project, stream=stream)
        return result, stream.getvalue()

    def succeed(self, operation: Literal["up", "preview", "destroy"]) -> list[str]:
        """Runs an operation. Returns what it did, as `OPERATION NAME`."""
        result, shown = self.run(operation)
        assert result.ok, shown
        return [f"{step} {urn.rpartition('::')[2]}" for step, urn in result.operations if step != "same"]

    def set(self, key: str, value: object) -> None:
        file = self.project / CONFIG
        document = yaml.safe_load(file.read_text())
        document["config"][f"etcd-cluster:{key}"] = value
        file.write_text(yaml.safe_dump(document))

    def change_state(self, change: Callable[[str, Values], None]) -> None:
        """Calls `change` with the name, and the inputs or outputs, of every dynamic resource."""
        state = embedded_state(self.state_file)
        document = json.loads(self.state_file.read_text())
        by_urn = state.current
        for each in document["resources"]:
            found = by_urn[each["urn"]]
            if found.type.startswith("pulumi-python:dynamic/"):
                for part, values in (("inputs", found.inputs), ("outputs", found.outputs)):
                    change(found.name, values)
                    each[part] = encode(values, state._crypter.encrypt)
        self.state_file.write_text(json.dumps(document))

    def dynamic(self) -> dict[str, dict[str, Any]]:
        found = outputs(embedded_state(self.state_file))
        return {name: each for name, each in found.items() if each["type"].startswith("pulumi-python:dynamic/")}


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    record: Record = request.param
    state_file = tmp_path / "state" / "etcd-cluster" / f"{STACK}.json"
    record.write_embedded(state_file)
    recorded = outputs(embedded_state(state_file))
    project = record.project(tmp_path)
    connection = next(each["connection"] for each in recorded.values() if "connection" in each)
    (project / KEY_FILE).write_text(connection["privateKey"])
    monkeypatch.setenv("ETCD_CLUSTER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(sys, "path", list(sys.path))

    cas = [recorded[name] for name in ("etcd-ca", "etcd-peer-ca")]
    pairs = tuple(KeyPair(each["certificate_pem"], each["private_key_pem"]) for each in cas)
    for cached in (rollout_model.issuer, rollout_model._is_valid):
        cached.cache_clear()
    monkeypatch.setattr(rollout_model, "CAS", (*rollout_model.CAS, *pairs))
    monkeypatch.setattr(rollout_model, "NOW", record.time)
    monkeypatch.setattr(pki_lifecycles, "current_time", lambda: record.time)

    goal = RecordedGoal(DesiredCluster.parse(recorded["etcd-rollout"]["desired"]))
    model = Model.blank(goal)
    for name, founder in recorded["etcd-formation"]["founders"].items():
        model.machines[name].identity = founder
        model.machines[name].token = goal.token
    model.run(goal, context=RunContext(forming=True))
    model.log.clear()
    model.restarts.clear()
    machines = RecordedMachines(model, goal)
    monkeypatch.setattr(lifecycle, "ClusterMachines", machines)
    monkeypatch.setattr(host_record_lifecycle, "MemberMachines", machines)

    def as_before(_self: object, _command: str, _inputs: Values, previous: Values, _options: object) -> Completed:
        return Completed(0, str(previous["stdout"]), str(previous["stderr"]), "")

    monkeypatch.setattr(RemoteCommand, "_execute", as_before)
    return Stack(project, state_file, machines)


def as_it_is(_name: str, _values: Values) -> None:
    """Changes nothing."""


def without_schema_number(_name: str, values: Values) -> None:
    values.pop(SCHEMA, None)


def with_unknown_keys(_name: str, values: Values) -> None:
    values["unknown"] = {"later": [1.0, "two"]}


def without_keys_that_have_defaults(name: str, values: Values) -> None:
    defaults = LIFECYCLES[name].schema.defaults if name in LIFECYCLES else {}
    for key in defaults.keys() - {"hosts", "connections"}:  # which machines they are
        values.pop(key, None)
    if isinstance(desired := values.get("desired"), Secret):
        known = json.loads(str(desired.value))
        for key in ("tls", "user_options", "peer_trusted", "order", "delete_data", "client"):
            del known[key]
        values["desired"] = Secret(json.dumps(known))


def of_a_newer_release(_name: str, values: Values) -> None:
    if SCHEMA in values:
        values[SCHEMA] = SCHEMA_VERSION + 1.0


@pytest.mark.parametrize(
    ("stack", "change"),
    [(record, as_it_is) for record in ALL]
    + [
        (record, change)
        for record in records("embedded")
        for change in (without_schema_number, with_unknown_keys, without_keys_that_have_defaults)
    ],
    ids=lambda value: value.name if isinstance(value, Record) else value.__name__.replace("_", " "),
    indirect=["stack"],
)
def test_a_setting_changes_then_nothing_is_left_to_do_and_then_all_is_destroyed(
    stack: Stack, change: Callable[[str, Values], None]
) -> None:
    stack.change_state(change)
    stack.succeed("up")
    assert stack.model.restarts == [], "a release alone restarts nobody"

    stack.set("etcd", {"heartbeat-interval": 200, "election-timeout": 2000})
    assert stack.succeed("up") == ["update etcd-rollout"]
    assert sorted(stack.model.restarts) == sorted(stack.model.machines)
    for machine in stack.model.machines.values():
        assert "heartbeat-interval: 200" in machine.content(rollout_model.CONFIGURATION)

    assert stack.succeed("up") == []
    stack.succeed("destroy")
    assert [name for name, machine in stack.model.machines.items() if machine.process] == []
    assert stack.dynamic() == {}


@pytest.mark.parametrize("change", [without_schema_number, with_unknown_keys, without_keys_that_have_defaults])
@pytest.mark.parametrize("stack", records("embedded"), ids=lambda record: record.name, indirect=True)
def test_it_is_destroyed_without_an_up_before(stack: Stack, change: Callable[[str, Values], None]) -> None:
    stack.change_state(change)
    stack.succeed("destroy")
    assert [name for name, machine in stack.model.machines.items() if machine.process] == []


@pytest.mark.parametrize("operation", ["preview", "up", "destroy"])
@pytest.mark.parametrize("stack", ALL, ids=lambda record: record.name, indirect=True)
def test_a_newer_state_is_refused_before_anything_is_touched(
    stack: Stack, operation: Literal["preview", "up", "destroy"]
) -> None:
    stack.change_state(of_a_newer_release)
    before = stack.dynamic()
    result, shown = stack.run(operation)
    assert not result.ok
    assert f"made by a newer etcd-cluster: its state has schema {SCHEMA_VERSION + 1}" in shown
    assert (stack.machines.lines, stack.model.log) == ([], [])
    assert stack.dynamic() == before
