"""Calls the hooks that a program binds to its resources: functions of the program, run on the program's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from embedded_engine.state import Resource
from embedded_engine.values import Values, to_struct
from etcd_cluster.errors import EtcdClusterError

RETRY_LIMIT = 100

BEFORE_CREATE, AFTER_CREATE = "before_create", "after_create"
BEFORE_UPDATE, AFTER_UPDATE = "before_update", "after_update"
BEFORE_DELETE, AFTER_DELETE = "before_delete", "after_delete"
ON_ERROR = "on_error"


class HookError(EtcdClusterError):
    """A hook failed, or is not there."""


@dataclass(frozen=True)
class _Hook:
    function: Callable[[bytes], Awaitable[Any]]
    loop: asyncio.AbstractEventLoop
    on_dry_run: bool = False
    ignore_errors: bool = False


class Hooks:
    """The hooks that the running program has registered, by name."""

    def __init__(self, dry_run: bool, warn: Callable[[Resource, str], None]) -> None:
        self._dry_run = dry_run
        self._warn = warn
        self._hooks: dict[str, _Hook] = {}

    def register(self, name: str, token: str, *, on_dry_run: bool = False, ignore_errors: bool = False) -> None:
        # Private to the SDK; the other way to a hook's function is a gRPC call of this process to itself.
        from pulumi.runtime import _callbacks

        if not name or name in self._hooks:
            raise HookError(f"resource hook already registered for name {name!r}" if name else "a hook has no name")
        servicers: list[Any] = vars(_callbacks)["_CallbackServicer"]._servicers
        for servicer in servicers:
            if token in servicer._callbacks:
                self._hooks[name] = _Hook(servicer._callbacks[token], servicer._loop, on_dry_run, ignore_errors)
                return
        raise HookError(f"the function of hook {name!r} is not in this process")

    def run(
        self,
        kind: str,
        resource: Resource,
        *,
        new: Resource | None = None,
        old: Resource | None = None,
        done: bool = False,
    ) -> None:
        """Runs a resource's hooks of one kind. done: the operation is over, its outputs are known."""
        names = resource.hooks.get(kind)
        if not names:
            return
        from pulumi.runtime.proto import resource_pb2

        for name in names:
            hook = self._find(name)
            if self._dry_run and not hook.on_dry_run:
                continue
            request = resource_pb2.ResourceHookRequest(
                urn=resource.urn,
                id=resource.id,
                name=resource.name,
                type=resource.type,
                new_inputs=_struct(new.inputs if new is not None else None),
                old_inputs=_struct(old.inputs if old is not None else None),
                new_outputs=_struct(new.outputs if new is not None and done else None),
                old_outputs=_struct(old.outputs if old is not None else None),
            )
            problem = _call(hook, request.SerializeToString()).error
            if problem and hook.ignore_errors:
                self._warn(resource, f"{kind.replace('_', ' ')} hook {name!r} failed: {problem}")
            elif problem:
                raise HookError(f"{kind.partition('_')[0]} hook {name!r} failed: {problem}")

    def wants_retry(
        self, operation: str, resource: Resource, new: Resource | None, old: Resource | None, errors: list[str]
    ) -> bool:
        """Asks the error hooks of a resource. errors: all so far, newest first."""
        names = resource.hooks.get(ON_ERROR)
        if not names:
            return False
        from pulumi.runtime.proto import resource_pb2

        retry = False
        for name in names:
            request = resource_pb2.ErrorHookRequest(
                urn=resource.urn,
                id=resource.id,
                name=resource.name,
                type=resource.type,
                new_inputs=_struct(new.inputs if new is not None else None),
                old_inputs=_struct(old.inputs if old is not None else None),
                old_outputs=_struct(old.outputs if old is not None else None),
                failed_operation=operation,
                errors=errors,
            )
            response = _call(self._find(name), request.SerializeToString())
            if response.error:
                raise HookError(f"error hook {name!r} failed: {response.error}")
            retry = retry or response.retry
        return retry

    def _find(self, name: str) -> _Hook:
        if name not in self._hooks:
            raise HookError(f"hook {name!r} was not registered: the program that defines it is not running")
        return self._hooks[name]


def _call(hook: _Hook, request: bytes) -> Any:
    async def call() -> Any:
        return await hook.function(request)

    return asyncio.run_coroutine_threadsafe(call(), hook.loop).result()


def _struct(values: Values | None) -> Any:
    return to_struct(values) if values is not None else None
