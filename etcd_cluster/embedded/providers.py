"""What carries out steps: command:local:Command, command:remote:Command, and dynamic resources written in Python."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, cast

from etcd_cluster.embedded.plan import Difference, difference_of_inputs
from etcd_cluster.embedded.state import Resource
from etcd_cluster.embedded.values import (
    UNKNOWN,
    Secret,
    Value,
    Values,
    from_struct,
    plain,
    plain_values,
    to_struct,
    with_secrecy_of,
)
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.openssh import ChildProcesses, CommandTimeoutError, Completed, Connection, OpenSsh

_SHOWN_LINES = 40
_SHOWN_BYTES = 8192
_SHOWN_COMMAND = 300
_PREVIOUS_STDOUT = "PULUMI_COMMAND_STDOUT"
_PREVIOUS_STDERR = "PULUMI_COMMAND_STDERR"
_PROVIDER_KEY = "__provider"
_DYNAMIC_TYPE = "pulumi-python:dynamic"

_CONNECTION_DEFAULTS: Values = {"user": "root", "port": 22.0, "dialErrorLimit": 10.0, "perDialTimeout": 15.0}
_UNSUPPORTED = {"password": "privateKey", "privateKeyPassword": "an unencrypted privateKey, or the ssh-agent"}

Say = Callable[[str], None]


class StepError(EtcdClusterError):
    """A step of one resource failed; the text is meant for a person."""


class UnsupportedTypeError(EtcdClusterError):
    """A resource that only the Pulumi engine can manage."""


class CheckFailure(NamedTuple):
    property: str
    reason: str


@dataclass(frozen=True)
class Step:
    """What a provider gets beside the resource. say: shows a line of progress."""

    say: Say
    timeout_seconds: float | None = None


class Provider(Protocol):
    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]: ...
    def diff(self, old: Resource, goal: Resource) -> Difference: ...
    def create(self, goal: Resource, step: Step) -> tuple[str, Values]: ...
    def update(self, old: Resource, goal: Resource, step: Step) -> Values: ...
    def delete(self, old: Resource, step: Step) -> None: ...


class Providers:
    """Finds the provider of a type, and owns what providers share: child processes and SSH connections."""

    def __init__(self, project: str, config: Mapping[str, str]) -> None:
        self.processes = ChildProcesses()
        self._ssh = OpenSsh(self.processes)
        self._by_type: dict[str, Provider] = {
            "command:local:Command": _LocalCommand(self.processes),
            "command:remote:Command": _RemoteCommand(self._ssh),
        }
        self._dynamic = _Dynamic(project, config)

    def of(self, type_: str) -> Provider:
        if type_.startswith(_DYNAMIC_TYPE):
            return self._dynamic
        if type_ in self._by_type:
            return self._by_type[type_]
        raise UnsupportedTypeError(
            f"resources of type {type_} need the Pulumi CLI, and this run works without it. Install the CLI "
            "(https://www.pulumi.com/docs/install/, or: curl -fsSL https://get.pulumi.com | sh) and run `pulumi up`"
        )

    def close(self) -> None:
        self._ssh.close()


class _Command:
    """What local and remote commands have in common."""

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        failures = []
        for key in ("create", "update", "delete", "stdin"):
            given = plain(goal.inputs.get(key))
            if given is not None and not isinstance(given, str):
                failures.append(CheckFailure(key, f"should be a string, is {type(given).__name__}"))
        return goal.inputs, failures

    def diff(self, old: Resource, goal: Resource) -> Difference:
        # Becoming a secret, or ceasing to be one, is a change to this provider.
        found = difference_of_inputs(old.inputs, goal.inputs, secrecy_counts=True)
        # The list as a whole; for its items the SDK sets `replace_on_changes`.
        return replace(found, replace_paths=tuple(path for path in found.paths if path == ("triggers",)))

    def create(self, goal: Resource, step: Step) -> tuple[str, Values]:
        outputs = self._run(goal.inputs, goal.inputs.get("create"), {}, goal, step)
        return goal.name + secrets.token_hex(8), outputs

    def update(self, old: Resource, goal: Resource, step: Step) -> Values:
        command = goal.inputs.get("update")
        return self._run(
            goal.inputs, command if command is not None else goal.inputs.get("create"), old.outputs, goal, step
        )

    def delete(self, old: Resource, step: Step) -> None:
        self._run(old.outputs, old.outputs.get("delete"), old.outputs, old, step)

    def _run(self, inputs: Values, command: Value, previous: Values, resource: Resource, step: Step) -> Values:
        streams: Values = {key: previous.get(key, "") for key in ("stdout", "stderr")}
        if command is not None:
            logging = plain(inputs.get("logging")) or "default"
            hidden = resource.additional_secret_outputs
            say_out = step.say if logging in ("stdout", "stdoutAndStderr") and "stdout" not in hidden else None
            say_err = step.say if logging not in ("stdout", "none") and "stderr" not in hidden else None
            text = cast(str, plain(command))
            try:
                completed = self._execute(
                    plain_values(inputs), text, {k: str(plain(v)) for k, v in streams.items()}, step, say_out, say_err
                )
            except CommandTimeoutError as error:
                raise StepError(f"running {_quoted(command)}: {_tail(str(error))}") from None
            if completed.returncode != 0:
                status, tail = self._status(completed.returncode), _tail(completed.combined)
                raise StepError(f"{status}: running {_quoted(command)}:\n{tail}".rstrip())
            streams = {"stdout": completed.stdout.removesuffix("\n"), "stderr": completed.stderr.removesuffix("\n")}
        kept = {key: value for key, value in inputs.items() if key not in streams}
        return {**kept, **streams}

    def _execute(
        self,
        inputs: Values,
        command: str,
        previous: dict[str, str],
        step: Step,
        say_out: Say | None,
        say_err: Say | None,
    ) -> Completed:
        raise NotImplementedError

    def _status(self, returncode: int) -> str:
        return f"exit status {returncode}"


class _LocalCommand(_Command):
    def __init__(self, processes: ChildProcesses) -> None:
        self._processes = processes

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        inputs, failures = super().check(goal, old)
        for key in ("archivePaths", "assetPaths"):
            if plain(inputs.get(key)) is not None:
                failures.append(CheckFailure(key, "is not supported without the Pulumi CLI"))
        return inputs, failures

    def _execute(
        self,
        inputs: Values,
        command: str,
        previous: dict[str, str],
        step: Step,
        say_out: Say | None,
        say_err: Say | None,
    ) -> Completed:
        environment = {**os.environ, **cast("dict[str, str]", inputs.get("environment") or {})}
        if inputs.get("addPreviousOutputInEnv") is not False:
            for name, key in ((_PREVIOUS_STDOUT, "stdout"), (_PREVIOUS_STDERR, "stderr")):
                if previous[key]:
                    environment[name] = previous[key]
        interpreter = cast("list[str]", inputs.get("interpreter") or ["/bin/sh", "-c"])
        try:
            return self._processes.run(
                [*interpreter, command],
                stdin=cast("str | None", inputs.get("stdin")),
                on_stdout_line=say_out,
                on_stderr_line=say_err,
                environment=environment,
                directory=cast("str | None", inputs.get("dir")),
                timeout_seconds=step.timeout_seconds,
            )
        except OSError as error:
            raise StepError(
                f"cannot start {interpreter[0]} in {inputs.get('dir') or os.getcwd()}: {error.strerror}"
            ) from None

    def _status(self, returncode: int) -> str:
        if returncode < 0:
            return f"signal: {signal.Signals(-returncode).name}"
        return super()._status(returncode)


class _RemoteCommand(_Command):
    def __init__(self, ssh: OpenSsh) -> None:
        self._ssh = ssh

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        inputs, failures = super().check(goal, old)
        if plain(inputs.get("environment")) not in (None, {}):
            reason = "is not supported without the Pulumi CLI: write `NAME=value command` instead"
            failures.append(CheckFailure("environment", reason))
        connection = plain(inputs.get("connection"))
        if isinstance(connection, dict):
            proxy = connection.get("proxy")
            with_defaults: Values = {**_CONNECTION_DEFAULTS, **connection}
            if isinstance(proxy, dict):
                with_defaults["proxy"] = {**_CONNECTION_DEFAULTS, **proxy}
            inputs = {**inputs, "connection": Secret(with_defaults)}
            hops = [("connection", connection), *([("connection.proxy", proxy)] if isinstance(proxy, dict) else [])]
            for path, hop in hops:
                failures += self._check_hop(path, hop)
        elif connection != UNKNOWN:
            failures.append(CheckFailure("connection", "missing: say which machine to run on"))
        return inputs, failures

    def _check_hop(self, path: str, hop: Values) -> list[CheckFailure]:
        failures = []
        if not hop.get("host"):
            failures.append(CheckFailure(f"{path}.host", "missing"))
        for key, instead in _UNSUPPORTED.items():
            if hop.get(key) is not None:
                reason = f"is not supported without the Pulumi CLI: use {instead}"
                failures.append(CheckFailure(f"{path}.{key}", reason))
        return failures

    def _execute(
        self,
        inputs: Values,
        command: str,
        previous: dict[str, str],
        step: Step,
        say_out: Say | None,
        say_err: Say | None,
    ) -> Completed:
        return self._ssh.run(
            _connection(cast(Values, inputs["connection"])),
            command,
            stdin=cast("str | None", inputs.get("stdin")),
            on_stdout_line=say_out,
            on_stderr_line=say_err,
            timeout_seconds=step.timeout_seconds,
        )

    def _status(self, returncode: int) -> str:
        return f"Process exited with status {returncode}"


def _connection(given: Values) -> Connection:
    def number(key: str, default: int) -> int:
        value = given.get(key)
        return int(cast(float, value)) if value is not None else default

    def text(key: str) -> str | None:
        return cast("str | None", given.get(key)) or None

    proxy = given.get("proxy")
    return Connection(
        host=text("host") or "",
        port=number("port", 22),
        user=text("user") or "root",
        private_key=text("privateKey"),
        host_key=text("hostKey"),
        proxy=_connection(cast(Values, proxy)) if proxy else None,
        per_dial_timeout_seconds=number("perDialTimeout", 15),
        dial_error_limit=number("dialErrorLimit", 10),
        agent_socket=text("agentSocketPath"),
    )


def _quoted(command: Value) -> str:
    if isinstance(command, Secret):
        return "[secret]"
    text = str(command)
    return json.dumps(text if len(text) <= _SHOWN_COMMAND else text[:_SHOWN_COMMAND] + "...", ensure_ascii=False)


def _tail(output: str) -> str:
    """The last lines of an output: where the reason of a failure is."""
    lines = output.rstrip("\n").splitlines()
    text = "\n".join(lines[-_SHOWN_LINES:])[-_SHOWN_BYTES:]
    return text if len(text) >= len(output.rstrip("\n")) else f"[... cut to the end]\n{text}"


class _Dynamic:
    """Python dynamic providers, called as the engine's plugin for them calls them, but in this process."""

    def __init__(self, project: str, config: Mapping[str, str]) -> None:
        self._project = project
        self._config = config
        self._unpickled: dict[str, Any] = {}
        self._unpickling = threading.Lock()

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        olds = _as_received(old.inputs if old is not None else {}, unknowns=True)
        news = _as_received(goal.inputs, unknowns=True)
        pickled = goal.inputs[_PROVIDER_KEY]
        with _readable_errors("check"):
            result = self._provider(goal.inputs, old.inputs if old is not None else {}).check(olds, news)
            failures = [CheckFailure(each.property, each.reason) for each in result.failures or []]
            return self._answer(result.inputs, pickled, goal), failures

    def diff(self, old: Resource, goal: Resource) -> Difference:
        olds, news = _as_received(old.outputs, unknowns=True), _as_received(goal.inputs, unknowns=True)
        with _readable_errors("diff"):
            result = self._provider(goal.inputs, old.outputs).diff(old.id, olds, news)
        replaces = tuple((str(key),) for key in result.replaces or ())
        delete_first = bool(result.delete_before_replace)
        if result.changes is None:
            by_inputs = difference_of_inputs(old.inputs, goal.inputs)
            return Difference(by_inputs.changed, by_inputs.paths, replaces, delete_first)
        return Difference(bool(result.changes), (), replaces, delete_first)

    def create(self, goal: Resource, step: Step) -> tuple[str, Values]:
        with _readable_errors("create"):
            result = self._provider(goal.inputs).create(_as_received(goal.inputs))
            if not result.id:
                raise StepError("the provider's create returned no id")
            return str(result.id), self._answer(result.outs, goal.inputs[_PROVIDER_KEY], goal)

    def update(self, old: Resource, goal: Resource, step: Step) -> Values:
        olds, news = _as_received(old.outputs), _as_received(goal.inputs)
        with _readable_errors("update"):
            result = self._provider(goal.inputs).update(old.id, olds, news)
            return self._answer(result.outs, goal.inputs[_PROVIDER_KEY], goal)

    def delete(self, old: Resource, step: Step) -> None:
        with _readable_errors("delete"):
            self._provider(old.outputs).delete(old.id, _as_received(old.outputs))

    def _answer(self, values: dict[str, Any] | None, pickled: Value, goal: Resource) -> Values:
        """What a provider answered, as it is remembered: with its pickled self, and as secret as the inputs."""
        return with_secrecy_of(_as_serialized({**(values or {}), _PROVIDER_KEY: plain(pickled)}), goal.inputs)

    def _provider(self, *sources: Values) -> Any:
        from pulumi.runtime._serialization import _deserialize

        candidates = [plain(each.get(_PROVIDER_KEY)) for each in sources]
        text = next((each for each in candidates if isinstance(each, str) and each != UNKNOWN), None)
        if text is None:
            raise StepError(f"its state holds no {_PROVIDER_KEY}")
        with self._unpickling:
            if text not in self._unpickled:
                import dill  # type: ignore[import-untyped]

                pickled = base64.b64decode(text)
                try:
                    # What it runs came from the program itself, or from its state.
                    provider = _deserialize(lambda: dill.loads(pickled))  # noqa: S301
                except (ImportError, AttributeError) as error:
                    raise StepError(
                        f"its provider cannot be loaded: {error}. A provider's module and class must stay importable "
                        "for as long as a stack holds resources of it"
                    ) from error
                self._configure(provider)
                self._unpickled[text] = provider
            return self._unpickled[text]

    def _configure(self, provider: Any) -> None:
        from pulumi.dynamic import Config, ConfigureRequest

        provider.configure(ConfigureRequest(config=Config(dict(self._config), self._project)))


@contextlib.contextmanager
def _readable_errors(method: str) -> Iterator[None]:
    try:
        yield
    except EtcdClusterError:
        raise
    except Exception as error:
        import traceback

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
