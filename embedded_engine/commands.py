"""command:local:Command and command:remote:Command, as the provider of that package carries them out."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from embedded_engine.diff import Difference, difference_of_inputs
from embedded_engine.provider import INSTALL, CheckFailure, Step, StepError
from embedded_engine.state import Resource
from embedded_engine.values import UNKNOWN, Secret, Value, Values, plain, plain_values
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import parse_connection
from etcd_cluster.ssh.processes import ChildProcesses, CommandTimeoutError, Completed

_SHOWN_LINES = 40
_SHOWN_BYTES = 8192
_SHOWN_COMMAND = 300
_CONNECTION_DEFAULTS: Values = {"user": "root", "port": 22.0, "dialErrorLimit": 10.0, "perDialTimeout": 15.0}
_UNSUPPORTED_OF_LOCAL = ("archivePaths", "assetPaths")
# Key -> what to use instead.
_UNSUPPORTED_OF_CONNECTION = {
    "password": "privateKey",
    "privateKeyPassword": "an unencrypted privateKey, or the ssh-agent",
}


class _Command:
    """What local and remote commands have in common. status: how the package's provider words a failure."""

    status: ClassVar[str]

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        """Refuses commands that are not strings."""
        failures: list[CheckFailure] = []
        for key in ("create", "update", "delete", "stdin"):
            value = plain(goal.inputs.get(key))
            if value is not None and not isinstance(value, str):
                failures.append(CheckFailure(key, f"should be a string, is {type(value).__name__}"))
        return goal.inputs, failures

    def diff(self, old: Resource, goal: Resource) -> Difference:
        """Compares inputs; changed triggers replace."""
        # Becoming a secret, or ceasing to be one, is a change to this provider.
        found = difference_of_inputs(old.inputs, goal.inputs, secrecy_counts=True)
        return replace(found, replacing=("triggers",)) if "triggers" in found.inputs else found

    def create(self, goal: Resource, step: Step) -> tuple[str, Values]:
        """Runs `create`."""
        outputs = self._run(goal.inputs, goal.inputs.get("create"), {}, goal, step)
        return goal.name + secrets.token_hex(8), outputs

    def update(self, old: Resource, goal: Resource, step: Step) -> Values:
        """Runs `update`, or `create` again."""
        command = goal.inputs.get("update")
        if command is None:
            command = goal.inputs.get("create")
        return self._run(goal.inputs, command, old.outputs, goal, step)

    def delete(self, old: Resource, step: Step) -> None:
        """Runs `delete`."""
        self._run(old.outputs, old.outputs.get("delete"), old.outputs, old, step)

    def _run(self, inputs: Values, command: Value, previous: Values, resource: Resource, step: Step) -> Values:
        streams: Values = {key: previous.get(key, "") for key in ("stdout", "stderr")}
        if command is not None:
            logging = plain(inputs.get("logging")) or "default"
            hidden = resource.additional_secret_outputs
            shows_stdout = logging in ("stdout", "stdoutAndStderr") and "stdout" not in hidden
            shows_stderr = logging not in ("stdout", "none") and "stderr" not in hidden
            options = {
                "stdin": plain(inputs.get("stdin")),
                "on_stdout_line": step.log if shows_stdout else None,
                "on_stderr_line": step.log if shows_stderr else None,
                "timeout_seconds": step.timeout_seconds,
            }
            try:
                completed = self._execute(str(plain(command)), plain_values(inputs), plain_values(streams), options)
            except CommandTimeoutError as error:
                raise StepError(f"running {_quoted(command)}: {_tail(str(error))}") from None
            if completed.returncode != 0:
                status = f"{self.status} {completed.returncode}"
                if completed.returncode < 0:
                    status = f"signal: {signal.Signals(-completed.returncode).name}"
                raise StepError(f"{status}: running {_quoted(command)}:\n{_tail(completed.combined)}".rstrip())
            streams = {"stdout": completed.stdout.removesuffix("\n"), "stderr": completed.stderr.removesuffix("\n")}
        return {**{key: value for key, value in inputs.items() if key not in streams}, **streams}

    def _execute(self, command: str, inputs: Values, previous: Values, options: Mapping[str, Any]) -> Completed:
        """Runs a command.

        Args:
            command: The command.
            inputs: Those of the resource, without secrecy.
            previous: `stdout` and `stderr` of the last command of the resource.
            options: For `ChildProcesses.run` or `OpenSsh.run`.
        """
        raise NotImplementedError


class LocalCommand(_Command):
    """command:local:Command."""

    status = "exit status"

    def __init__(self, processes: ChildProcesses) -> None:
        """Runs commands as children of this process."""
        self._processes = processes

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        """Refuses assets and archives."""
        inputs, failures = super().check(goal, old)
        for key in _UNSUPPORTED_OF_LOCAL:
            if plain(inputs.get(key)) is not None:
                failures.append(CheckFailure(key, f"not supported without the Pulumi CLI. {INSTALL}"))
        return inputs, failures

    def _execute(self, command: str, inputs: Values, previous: Values, options: Mapping[str, Any]) -> Completed:
        environment = {**os.environ, **cast("dict[str, str]", inputs.get("environment") or {})}
        if inputs.get("addPreviousOutputInEnv") is not False:
            for key, output in previous.items():
                if output:
                    environment[f"PULUMI_COMMAND_{key.upper()}"] = str(output)
        interpreter = cast("list[str]", inputs.get("interpreter") or ["/bin/sh", "-c"])
        directory = cast("str | None", inputs.get("dir"))
        try:
            return self._processes.run([*interpreter, command], environment=environment, directory=directory, **options)
        except OSError as error:
            where = directory or os.getcwd()
            raise StepError(f"cannot start {interpreter[0]} in {where}: {error.strerror}") from None


class RemoteCommand(_Command):
    """command:remote:Command."""

    status = "Process exited with status"

    def __init__(self, ssh: OpenSsh) -> None:
        """Runs commands over these connections."""
        self._ssh = ssh

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        """Adds the defaults of a connection, and refuses what OpenSSH's client is not given."""
        inputs, failures = super().check(goal, old)
        if plain(inputs.get("environment")) not in (None, {}):
            reason = "is not supported without the Pulumi CLI: write `NAME=value command` instead"
            failures.append(CheckFailure("environment", reason))
        connection = plain(inputs.get("connection"))
        if isinstance(connection, dict):
            connection = {**_CONNECTION_DEFAULTS, **connection}
            failures += _check_hop("connection", connection)
            proxy = connection.get("proxy")
            if isinstance(proxy, dict):
                connection["proxy"] = {**_CONNECTION_DEFAULTS, **proxy}
                failures += _check_hop("connection.proxy", proxy)
            inputs = {**inputs, "connection": Secret(connection)}
        elif connection != UNKNOWN:
            failures.append(CheckFailure("connection", "missing: say which machine to run on"))
        return inputs, failures

    def _execute(self, command: str, inputs: Values, previous: Values, options: Mapping[str, Any]) -> Completed:
        return self._ssh.run(parse_connection(cast(Values, inputs["connection"])), command, **options)


def _check_hop(path: str, hop: Values) -> list[CheckFailure]:
    failures = [] if hop.get("host") else [CheckFailure(f"{path}.host", "missing")]
    for key, instead in _UNSUPPORTED_OF_CONNECTION.items():
        if hop.get(key) is not None:
            reason = f"is not supported without the Pulumi CLI: use {instead}"
            failures.append(CheckFailure(f"{path}.{key}", reason))
    return failures


def _quoted(command: Value) -> str:
    if isinstance(command, Secret):
        return "[secret]"
    text = str(command)
    return json.dumps(text if len(text) <= _SHOWN_COMMAND else text[:_SHOWN_COMMAND] + "...", ensure_ascii=False)


def _tail(output: str) -> str:
    """The last lines of an output: where the reason of a failure is."""
    output = output.rstrip("\n")
    text = "\n".join(output.splitlines()[-_SHOWN_LINES:])[-_SHOWN_BYTES:]
    return text if len(text) >= len(output) else f"[... cut to the end]\n{text}"
