"""command:local:Command and command:remote:Command, as the provider of that package carries them out."""

from __future__ import annotations

import json
import os
import secrets
import signal
from dataclasses import replace
from typing import cast

from embedded_engine.contract import CheckFailure, Say, Step, StepError
from embedded_engine.plan import Difference, difference_of_inputs
from embedded_engine.state import Resource
from embedded_engine.values import UNKNOWN, Secret, Value, Values, plain, plain_values
from etcd_cluster.openssh import ChildProcesses, CommandTimeoutError, Completed, OpenSsh, parse_connection

_SHOWN_LINES = 40
_SHOWN_BYTES = 8192
_SHOWN_COMMAND = 300
_PREVIOUS_STDOUT = "PULUMI_COMMAND_STDOUT"
_PREVIOUS_STDERR = "PULUMI_COMMAND_STDERR"
_CONNECTION_DEFAULTS: Values = {"user": "root", "port": 22.0, "dialErrorLimit": 10.0, "perDialTimeout": 15.0}
_UNSUPPORTED = {"password": "privateKey", "privateKeyPassword": "an unencrypted privateKey, or the ssh-agent"}


class _Command:
    """What local and remote commands have in common."""

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        failures: list[CheckFailure] = []
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


class LocalCommand(_Command):
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


class RemoteCommand(_Command):
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
        failures: list[CheckFailure] = []
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
            parse_connection(cast(Values, inputs["connection"])),
            command,
            stdin=cast("str | None", inputs.get("stdin")),
            on_stdout_line=say_out,
            on_stderr_line=say_err,
            timeout_seconds=step.timeout_seconds,
        )

    def _status(self, returncode: int) -> str:
        return f"Process exited with status {returncode}"


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
