"""Runs a program against a monitor that records every registration as the SDK sends it, and creates nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from unittest import mock

from pulumi.runtime import mocks, rpc, settings
from pulumi.runtime.settings import is_dry_run
from pulumi.runtime.stack import run_in_stack
from pulumi.runtime.sync_await import _ensure_event_loop

from etcd_cluster import dns_lookup, names
from etcd_cluster.dns_lookup import Addresses

PROJECT, STACK = "etcd-cluster", "test"


@dataclass
class Recorded:
    """One registration. `request` is the SDK's own; `inputs` are its properties, with secrets still marked."""

    request: Any
    inputs: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.request.name)

    @property
    def type(self) -> str:
        return str(self.request.type)

    def is_secret(self, key: str) -> bool:
        return bool(rpc.is_rpc_secret(self.inputs[key]))

    def value(self, key: str) -> Any:
        """The input, secret or not."""
        return rpc.unwrap_rpc_secret(self.inputs[key])


@dataclass
class Recording:
    """All registrations of one program, by name, and the outputs of the component and the stack by URN's last part."""

    resources: dict[str, Recorded] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


Results = Callable[[Recorded], dict[str, Any]]
Calls = Callable[[str, dict[str, Any]], dict[str, Any]]


def no_calls(token: str, _arguments: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(f"the program called {token}: machines are known without asking anyone")


class _Monitor(mocks.MockMonitor):
    def __init__(self, recording: Recording, results: Results, calls: Calls) -> None:
        super().__init__(_Mocks(recording, results, calls))
        self._recording = recording

    def ReadResource(self, request: Any) -> Any:
        _ensure_event_loop()
        inputs = rpc.deserialize_properties(request.properties, keep_unknowns=True)
        self._recording.resources[request.name] = Recorded(request, inputs)
        return super().ReadResource(request)

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            _ensure_event_loop()  # registrations come in threads of their own
            inputs = rpc.deserialize_properties(request.object, keep_unknowns=True)
            self._recording.resources[request.name] = Recorded(request, inputs)
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        _ensure_event_loop()
        outputs = rpc.deserialize_properties(request.outputs, keep_unknowns=True)
        self._recording.outputs[request.urn.split("::")[-1]] = outputs
        return super().RegisterResourceOutputs(request)


class _Mocks(mocks.Mocks):
    def __init__(self, recording: Recording, results: Results, calls: Calls) -> None:
        self._recording = recording
        self._results = results
        self._calls = calls

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        return self._calls(args.token, args.args), []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = dict(self._results(self._recording.resources[args.name]))
        return outputs.pop("id", None if is_dry_run() else f"{args.name}-id"), outputs


class _Engine(mocks.MockEngine):
    def __init__(self, recording: Recording) -> None:
        super().__init__(None)
        self._recording = recording

    def Log(self, request: Any) -> None:
        self._recording.warnings.append(request.message)


def record(
    program: Callable[[], object],
    *,
    preview: bool = False,
    results: Results = lambda _: {},
    calls: Calls = no_calls,
    project: str = PROJECT,
    resolves: Mapping[str, Sequence[str]] = {},
) -> Recording:
    """Runs `program`. `results` gives the outputs of each resource, and its id if that matters; what it leaves out
    is unknown in a preview. `calls` answers functions of providers, by token and arguments. `resolves`: what names
    stand for; no resolver is asked."""
    recording = Recording()

    async def addresses_of(name: str) -> Addresses:
        return frozenset(map(ip_address, resolves.get(name, [name] if names.ip_address(name) else [])))

    with event_loop() as loop, mock.patch.object(dns_lookup, "addresses_of", addresses_of):
        settings.configure(
            settings.Settings(
                project=project,
                stack=STACK,
                dry_run=preview,
                monitor=_Monitor(recording, results, calls),
                engine=_Engine(recording),
            )
        )
        settings.ROOT.set(None)  # tests with the SDK's own mocks leave their stack behind
        loop.run_until_complete(run_in_stack(lambda: _discard(program())))
    return recording


def _discard(_: object) -> None:
    return None


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        loop.close()
        asyncio.set_event_loop(asyncio.new_event_loop())  # the SDK's own helpers expect one
