"""The real program on the same hosts by both engines, one after the other: same operations, same record, same outputs.

Keys, certificates and random ids differ from run to run, so values are compared by their kind; all else is equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from embedded_engine.passphrase import Crypter
from embedded_engine.state import State, read_document
from embedded_engine.values import Secret
from tests.lab.hosts import Host, Lab
from tests.lab.observed import on_all
from tests.lab.stack import STACK, Engine, Stack, host_config

SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"

Record = Mapping[str, Mapping[str, Any]]


@pytest.fixture
def hosts(lab: Lab) -> Iterator[list[Host]]:
    booted = lab.hosts(3)
    yield booted
    on_all(booted, lambda host: host.remove())


def test_both_engines_do_and_record_the_same(lab: Lab, mirror_url: str, hosts: list[Host], tmp_path: Path) -> None:
    config = host_config(hosts, mirror_url, allowUndersized=True, deleteData=True)
    seen: dict[Engine, list[Any]] = {}
    for engine in (Engine.PULUMI, Engine.EMBEDDED):
        stack = Stack(lab, tmp_path / engine.value, config, engine)
        seen[engine] = story(stack, engine)
    for step, (real, embedded) in enumerate(zip(seen[Engine.PULUMI], seen[Engine.EMBEDDED], strict=True)):
        found = differences(f"step {step}", real, embedded)
        assert not found, "\n".join(found)


def story(stack: Stack, engine: Engine) -> list[Any]:
    """Formed; unchanged; a setting changed; destroyed. After each: what was done, and what is recorded."""
    record = {Engine.PULUMI: pulumi_record, Engine.EMBEDDED: embedded_record}[engine]
    found: list[Any] = [stack.operations("up"), record(stack), kind(stack.outputs()), stack.operations("up")]
    stack.config["etcd"] = {"heartbeat-interval": 200}
    found += [stack.operations("up"), record(stack), kind(stack.outputs()), stack.operations("destroy"), record(stack)]
    return found


def differences(path: str, real: Any, embedded: Any) -> list[str]:
    """Where the two are not equal, and how."""
    if isinstance(real, dict) and isinstance(embedded, dict):
        found = []
        for name in sorted(real.keys() | embedded.keys()):
            found += differences(f"{path}: {name}", real.get(name, "absent"), embedded.get(name, "absent"))
        return found
    return [] if real == embedded else [f"{path}: {real} by Pulumi, {embedded} by the embedded engine"]


def pulumi_record(stack: Stack) -> Record:
    resources = [each for each in stack.exported() if not each["type"].startswith("pulumi:providers:")]
    return {
        each["urn"]: {
            "type": each["type"],
            "custom": each["custom"],
            "parent": each.get("parent", ""),
            "dependencies": sorted(each.get("dependencies", [])),
            "property dependencies": of_properties(each.get("propertyDependencies", {})),
            "protect": each.get("protect", False),
            "deleted with": each.get("deletedWith", ""),
            "timeouts": {name: value for name, value in each.get("customTimeouts", {}).items() if value},
            "inputs": kind(each.get("inputs", {})),
            "outputs": kind(each.get("outputs", {})),
        }
        for each in resources
    }


def embedded_record(stack: Stack) -> Record:
    (file,) = stack.state.glob(f"*/{STACK}.json")
    document = read_document(file)
    passphrase = stack.environment["PULUMI_CONFIG_PASSPHRASE"]
    state = State(file, Crypter(lambda: passphrase, document["encryptionsalt"], str(file)), False)
    state.load(document)
    return {
        each.urn: {
            "type": each.type,
            "custom": each.custom,
            "parent": each.parent,
            "dependencies": sorted(each.dependencies),
            "property dependencies": of_properties(each.property_dependencies),
            "protect": each.protect,
            "deleted with": each.deleted_with,
            "timeouts": dict(each.custom_timeouts),
            "inputs": kind(each.inputs),
            "outputs": kind(each.outputs),
        }
        for each in state.current.values()
    }


def of_properties(dependencies: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: sorted(urns) for name, urns in dependencies.items() if urns}


def kind(value: Any, *, secret: bool = False) -> Any:
    """The value without what is random in it: names and nesting, types, and what is secret (not: twice secret)."""
    if isinstance(value, Secret):
        value, marked = value.value, True
    elif isinstance(value, dict) and value.get(SIGNATURE) == SECRET:
        value, marked = json.loads(value["plaintext"]), True
    else:
        marked = False
    if marked and not secret:
        return ["secret", kind(value, secret=True)]
    if isinstance(value, dict):
        return {name: kind(item, secret=secret or marked) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [kind(item, secret=secret or marked) for item in value]
    if isinstance(value, bool):
        return value
    return "number" if isinstance(value, (int, float)) else type(value).__name__
