"""Runs a command on a member's machine, over OpenSSH or on this machine. Nothing else does that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import (
    Connection,
    SshAuthenticationError,
    SshError,
    SshHostKeyError,
    SshUnreachableError,
    parse_connection,
)
from etcd_cluster.ssh.processes import ChildProcesses, Completed

PASSING_DIALS = 2

Say = Callable[[str], None]


class NoSshClientError(EtcdClusterError):
    """There is no `ssh` program to reach the hosts with."""


class Runner:
    """The machines of some members, for as long as the context lasts.

    Args:
        connections: Member name -> SSH connection, in the form of pulumi-command; a member without one is on this
            machine.
        passing: The machines may be replaced next: no connection is kept, and a machine that does not boot is not
            waited for.
        before: Connections as they were, for a machine that gives no answer over its own; None for none.

    Raises:
        NoSshClientError: SSH is needed, and there is no `ssh` program.
    """

    def __init__(
        self,
        connections: Mapping[str, Mapping[str, Any]],
        *,
        passing: bool = False,
        before: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._passing = passing
        self._connections = {name: self._parsed(each) for name, each in connections.items()}
        others = {name: each for name, each in (before or {}).items() if name in connections}
        self._before = {name: self._parsed(each) for name, each in others.items() if each != connections[name]}
        self._processes = ChildProcesses()
        self._context = ExitStack()
        if self._connections and shutil.which("ssh") is None:
            raise NoSshClientError("there is no `ssh` program here to reach the hosts with; install an OpenSSH client")

    def __enter__(self) -> Runner:
        self._ssh = self._context.enter_context(OpenSsh() if self._passing else OpenSsh.for_one_task())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()

    def run(self, name: str, command: str, *, stdin: str, timeout_seconds: int, say: Say | None = None) -> Completed:
        """Runs a command, with a shell, on the machine of a member.

        Args:
            name: Name of the member.
            command: The command.
            stdin: What it reads.
            timeout_seconds: Limit, after which it is ended.
            say: Called with each line of standard error.

        Raises:
            CommandTimeoutError: The command did not end in time.
            SshError: The machine is unreachable.
        """
        how: dict[str, Any] = {"stdin": stdin, "timeout_seconds": timeout_seconds, "on_stderr_line": say}
        if name not in self._connections:
            return self._processes.run(["sh", "-c", command], **how)
        try:
            return self._ssh.run(self._connections[name], command, **how)
        except (SshUnreachableError, SshAuthenticationError, SshHostKeyError) as error:
            # If the new connection cannot be established, the former one is used, and from then on that one.
            before = self._before.pop(name, None)
            if before is None:
                raise
            try:
                done = self._ssh.run(before, command, **how)
            except SshError:
                raise error from None
            self._connections[name] = before
            return done

    def _parsed(self, connection: Mapping[str, Any]) -> Connection:
        parsed = parse_connection(connection)
        return replace(parsed, dial_error_limit=PASSING_DIALS) if self._passing else parsed
