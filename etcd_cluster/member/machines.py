"""Runs scripts on the members' machines, over OpenSSH or on this machine."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.answers import BUSY, NoAnswerError, framed_answer
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Line
from etcd_cluster.member.runner import Runner, Say
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import SshUnreachableError, parse_connection
from etcd_cluster.ssh.processes import CommandTimeoutError

STEP_SECONDS = 1800
"""Limit for a step: more than any script waits by itself."""
BUSY_SECONDS = 1200
"""Limit for waiting for a step of another run on a machine: a killed run's step ends by itself, at the latest then."""


_Machines = TypeVar("_Machines", bound="MemberMachines")


class Place(Protocol):
    """Where a member is."""

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        ...

    @property
    def device(self) -> str:
        """Block device of its data; "" if they have none of their own."""
        ...

    @property
    def ports(self) -> Ports:
        """The ports that it is to have."""
        ...

    @property
    def tls(self) -> bool:
        """Whether it is to serve clients in TLS."""
        ...


@dataclass(frozen=True)
class RecordedPlace:
    """Where a member is, was or was to be, as state has it.

    Args:
        layout: Where its files are.
        ports: Ports of the member.
        tls: Whether TLS is tried first, default True; a member that answers plain HTTP is found all the same.
        device: Default "": the device does not matter any more.
    """

    layout: Layout
    ports: Ports
    tls: bool = True
    device: str = ""

    @staticmethod
    def parse(properties: Mapping[str, Any]) -> RecordedPlace:
        """Reads a place from "layout" and "ports"."""
        return RecordedPlace(Layout.parse(properties.get("layout") or {}), Ports.parse(properties.get("ports") or {}))


class StepFailedError(EtcdClusterError):
    """A script ended with an error on a machine. The text is the script's own."""


class MemberMachines:
    """The machines of some members, for as long as the context lasts.

    Args:
        members: Member name -> where it is.
        connections: Member name -> SSH connection, in the form of pulumi-command; a member without one is on this
            machine.
        leaving: Names of members that may be gone: an unreachable one is not tried again.
        passing: The machines may be replaced next: no connection is kept, and a machine that does not boot is not
            waited for.
        before: Connections as they were, for a machine that gives no answer over its own; None for none.

    Raises:
        NoSshClientError: SSH is needed, and there is no `ssh` program.
    """

    def __init__(
        self,
        members: Mapping[str, Place],
        connections: Mapping[str, Mapping[str, Any]],
        leaving: Collection[str] = (),
        *,
        passing: bool = False,
        before: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._members = members
        self._connections = connections
        self._leaving = leaving
        self._gone: dict[str, SshUnreachableError] = {}
        self._runner = Runner(connections, passing=passing, before=before)

    def __enter__(self: _Machines) -> _Machines:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def run(
        self,
        name: str,
        line: Line,
        variables: Mapping[str, str] | None = None,
        *,
        timeout_seconds: int,
        run: str = "",
        progress: str = "",
        say: Say | None = None,
    ) -> str:
        """Runs a step's script on a member's machine.

        Args:
            name: Name of the member.
            line: The step, and the words of its line.
            variables: Shell variables of its script.
            timeout_seconds: Limit, after which the script is ended.
            run: Id of the run.
            progress: Text that the script prints when it begins.
            say: Called with each line of progress.

        Returns:
            The script's output.

        Raises:
            StepFailedError: The script ended with an error.
            CommandTimeoutError: The script did not end in time.
            SshError: The machine is unreachable.
        """
        member = self._members[name]
        script = render.script(line.step, member.layout, {**render.port_variables(member.ports), **(variables or {})})
        if name in self._gone:
            raise self._gone[name]
        text, latest = line.text(name, run, progress), time.monotonic() + BUSY_SECONDS
        try:
            done = self._runner.run(name, text, stdin=script, timeout_seconds=timeout_seconds, say=say)
            while done.returncode == BUSY and time.monotonic() < latest:
                done = self._runner.run(name, text, stdin=script, timeout_seconds=timeout_seconds, say=say)
        except CommandTimeoutError:
            raise CommandTimeoutError(
                f"{name}: {line.step} did not end within {timeout_seconds} seconds. Find out what hangs on that "
                "machine, then run again"
            ) from None
        except SshUnreachableError as error:
            if name in self._leaving:
                self._gone[name] = error
            raise
        if done.returncode != 0:
            raise StepFailedError(_error(done.stderr) or f"{name}: {line.step} ended with {done.returncode}")
        try:
            return framed_answer(done.stdout, f"{name}: {line.step}")
        except NoAnswerError as error:
            raise StepFailedError(str(error)) from None

    def connection(self, name: str) -> Mapping[str, Any] | None:
        """Returns the SSH connection of a member's machine; None for this one."""
        return self._connections.get(name)

    def deliver(self, name: str, file: Path, path: str, sha256: str) -> None:
        """Sends a file to a member's machine, unless the machine holds it already. It is complete or absent there.

        Args:
            name: Name of the member.
            file: The file on this machine.
            path: Its absolute path on the member's.
            sha256: Its sum.

        Raises:
            EtcdClusterError: There is no such file any more, or the machine does not take it.
        """
        if not file.is_file():
            problem = f"{file}: no such file on this machine"
            raise StepFailedError(str(Explanation(problem, "the file that is restored", "put it back")))
        say(f"{name}: getting {file} ({size_text(file.stat().st_size)})")
        if name in self._connections:
            from etcd_cluster.install.delivery import Destination  # lazily: of all runs, few send a file

            with OpenSsh.for_one_task() as ssh:
                Destination(ssh, parse_connection(self._connections[name])).send_file(file, path, sha256)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}")
        partial.touch(mode=0o600)
        shutil.copyfile(file, partial)  # the step that reads it compares its sum
        partial.replace(target)

    def on_all(self, names: Sequence[str], do: Callable[[str], Any]) -> dict[str, Any]:
        """Calls `do` for every name, at once; returns name -> answer, or the error that it raised."""

        def attempt(name: str) -> Any:
            try:
                return do(name)
            except EtcdClusterError as error:
                return error

        with ThreadPoolExecutor(max(1, len(names))) as threads:
            return dict(zip(names, threads.map(attempt, names), strict=True))


def say(line: str) -> None:
    """Writes a line to standard error, which the engine shows. If the engine is gone, the work goes on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")  # in one write: several machines print at once
        sys.stderr.flush()


def _error(said: str) -> str:
    """Returns the script's text from its own error on. What came before was shown as it came."""
    found = re.search(r"^error: (.*)", said, re.MULTILINE | re.DOTALL)  # etcd's own words may hold another one
    return found[1].strip() if found else said.strip()[-2000:]
