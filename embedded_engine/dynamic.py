"""Python dynamic resources: their providers are called as the engine's plugin for them calls them, in this process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import traceback
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from embedded_engine.diff import Difference, difference_of_inputs
from embedded_engine.provider import CheckFailure, Step, StepError
from embedded_engine.state import Resource
from embedded_engine.values import (
    UNKNOWN,
    Values,
    from_struct,
    plain,
    plain_values,
    to_struct,
    with_secrecy_of,
)
from etcd_cluster.errors import EtcdClusterError

_PROVIDER_KEY = "__provider"


class Dynamic:
    """Python dynamic providers, called as the engine's plugin for them calls them, but in this process."""

    def __init__(self, project: str, config: Mapping[str, str]) -> None:
        """Gives each provider the name of the project and its configuration."""
        self._project = project
        self._config = config
        self._unpickled: dict[str, Any] = {}
        self._unpickling = threading.Lock()

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        """Calls the provider's check."""
        old_inputs = old.inputs if old is not None else {}
        olds, news = _as_received(old_inputs, unknowns=True), _as_received(goal.inputs, unknowns=True)
        with _readable_errors("check"):
            result = self._provider(goal.inputs, old_inputs).check(olds, news)
            found: list[Any] = result.failures or []
            failures = [CheckFailure(str(each.property), str(each.reason)) for each in found]
            return _answer(result.inputs, goal), failures

    def diff(self, old: Resource, goal: Resource) -> Difference:
        """Calls the provider's diff; where that does not say whether anything changes, compares the inputs."""
        olds, news = _as_received(old.outputs, unknowns=True), _as_received(goal.inputs, unknowns=True)
        with _readable_errors("diff"):
            result = self._provider(goal.inputs, old.outputs).diff(old.id, olds, news)
        found = difference_of_inputs(old.inputs, goal.inputs)
        if result.changes is not None:
            found = Difference(bool(result.changes))
        replacing = tuple(str(key) for key in result.replaces or ())
        return replace(found, replacing=replacing, delete_before_replace=bool(result.delete_before_replace))

    def create(self, goal: Resource, step: Step) -> tuple[str, Values]:
        """Calls the provider's create."""
        with _readable_errors("create"):
            result = self._provider(goal.inputs).create(_as_received(goal.inputs))
            if not result.id:
                raise StepError("the provider's create returned no id")
            return str(result.id), _answer(result.outs, goal)

    def update(self, old: Resource, goal: Resource, step: Step) -> Values:
        """Calls the provider's update."""
        olds, news = _as_received(old.outputs), _as_received(goal.inputs)
        with _readable_errors("update"):
            result = self._provider(goal.inputs).update(old.id, olds, news)
            return _answer(result.outs, goal)

    def delete(self, old: Resource, step: Step) -> None:
        """Calls the provider's delete."""
        with _readable_errors("delete"):
            self._provider(old.outputs).delete(old.id, _as_received(old.outputs))

    def _provider(self, *sources: Values) -> Any:
        """The provider that the first of the sources holds, unpickled and configured once."""
        from pulumi.dynamic import Config, ConfigureRequest
        from pulumi.runtime import _serialization

        candidates = [plain(each.get(_PROVIDER_KEY)) for each in sources]
        text = next((each for each in candidates if isinstance(each, str) and each != UNKNOWN), None)
        if text is None:
            raise StepError(f"its state holds no {_PROVIDER_KEY}")
        with self._unpickling:
            if text not in self._unpickled:
                import dill  # type: ignore[import-untyped]

                # What this runs came from the program itself, or from its state.
                loads: Any = vars(dill)["loads"]
                pickled = base64.b64decode(text)
                try:
                    provider = vars(_serialization)["_deserialize"](lambda: loads(pickled))
                except (ImportError, AttributeError) as error:
                    raise StepError(
                        f"its provider cannot be loaded: {error}. A provider's module and class must stay importable "
                        "for as long as a stack holds resources of it"
                    ) from error
                provider.configure(ConfigureRequest(config=Config(dict(self._config), self._project)))
                self._unpickled[text] = provider
            return self._unpickled[text]


def _answer(values: dict[str, Any] | None, goal: Resource) -> Values:
    """What a provider answered, as it is recorded: with its pickled self, and as secret as the inputs."""
    pickled = plain(goal.inputs[_PROVIDER_KEY])
    return with_secrecy_of(_as_serialized({**(values or {}), _PROVIDER_KEY: pickled}), goal.inputs)


@contextlib.contextmanager
def _readable_errors(method: str) -> Generator[None]:
    try:
        yield
    except EtcdClusterError:
        raise
    except Exception as error:
        # The frames of the provider only: neither ours nor the interpreter's say anything to its author.
        frames = traceback.extract_tb(error.__traceback__)[1:]
        trace = "".join(traceback.format_list(frames[-4:]))
        raise StepError(f"its provider's {method} failed: {type(error).__name__}: {error}\n{trace}".rstrip()) from error


def _as_received(values: Values, *, unknowns: bool = False) -> dict[str, Any]:
    """Values as the SDK hands them to a provider: without secrecy, and with `Unknown` objects in place of unknowns."""
    from pulumi.runtime import rpc

    received: dict[str, Any] = rpc.deserialize_properties(to_struct(plain_values(values)), unknowns)
    return received


def _as_serialized(values: dict[str, Any]) -> Values:
    """The values after a trip through the wire format: numbers are floats, tuples lists, absent what is None."""
    from pulumi.runtime import rpc

    loop = asyncio.new_event_loop()
    try:
        return from_struct(loop.run_until_complete(rpc.serialize_properties(values, {})))
    finally:
        loop.close()
