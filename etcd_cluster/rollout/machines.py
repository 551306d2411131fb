"""Runs scripts on the members' machines, over OpenSSH or here, and asks all of them what is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

from etcd_cluster.clocks import offset
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.lines import Health, Line, Observe
from etcd_cluster.member.runner import Runner, Say
from etcd_cluster.rollout.observed import (
    Host,
    Observation,
    combine,
    counted_as_connected,
    is_whole,
    parse_answers,
    parse_host,
    unanswered,
    with_answers,
    without_member,
)
from etcd_cluster.ssh.connection import SshError, SshUnreachableError
from etcd_cluster.ssh.processes import CommandTimeoutError

OBSERVATION_SECONDS = 60
STEP_SECONDS = 1800
"""More than any step waits by itself."""


class Place(Protocol):
    """Where a member is. device: that of its data; "" where they have none of their own. ports: those that it is to
    have. tls: whether it is to serve clients in TLS."""

    @property
    def layout(self) -> Layout: ...
    @property
    def device(self) -> str: ...
    @property
    def ports(self) -> Ports: ...
    @property
    def tls(self) -> bool: ...


@dataclass(frozen=True)
class FormerHost:
    """Where a member was, or was to be. Its device is of no interest any more. tls: tried first; a member that answers
    plain HTTP is found all the same."""

    layout: Layout
    ports: Ports
    tls: bool = True
    device: str = ""

    @staticmethod
    def parse(properties: Mapping[str, Any]) -> FormerHost:
        return FormerHost(Layout.parse(properties.get("layout") or {}), Ports.parse(properties.get("ports") or {}))


class StepFailedError(EtcdClusterError):
    """A script ended with an error on a machine. Its text is what the script said."""


class MemberMachines:
    """The machines of `members`, for as long as the context lasts. connections: member name -> SSH connection, in the
    form of pulumi-command; a member without one is on this machine. leaving: names of those that may be gone: one that
    cannot be reached is not tried again. passing: they may be replaced next, so no connection to them is kept, and none
    is waited for that does not boot. before: connections as they were, for a machine that does not answer by its own.
    token: the cluster's; a machine that leaves and is another one's by now has no member of this one.

    Raises `NoSshClientError` where SSH is needed and there is no `ssh` program.
    """

    def __init__(
        self,
        members: Mapping[str, Place],
        connections: Mapping[str, Mapping[str, Any]],
        leaving: Collection[str] = (),
        *,
        passing: bool = False,
        before: Mapping[str, Mapping[str, Any]] | None = None,
        token: str = "",
    ) -> None:
        self._members = members
        self._leaving = leaving
        self._token = token
        self._gone: dict[str, SshUnreachableError] = {}
        self._schemes: dict[str, str] = {}
        self._runner = Runner(connections, passing=passing, before=before)

    def __enter__(self) -> MemberMachines:
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
            name: Of the member.
            line: The step, and the words of its line.
            variables: Shell variables of its script.
            timeout_seconds: After which it is ended.
            run: Id of the run.
            progress: Text that the script prints when it begins.
            say: Is called with each line of progress.

        Returns:
            What the script prints.

        Raises:
            StepFailedError: The script ended with an error.
            CommandTimeoutError: It did not end in time.
            SshError: The machine cannot be reached.
        """
        member = self._members[name]
        script = render.script(line.step, member.layout, {**render.port_variables(member.ports), **(variables or {})})
        if name in self._gone:
            raise self._gone[name]
        try:
            done = self._runner.run(
                name, line.text(name, run, progress), stdin=script, timeout_seconds=timeout_seconds, say=say
            )
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
        return done.stdout

    def on_all(self, names: Sequence[str], do: Callable[[str], Any]) -> dict[str, Any]:
        """`do` for every name, at once; its answers, or what it raised."""

        def attempt(name: str) -> Any:
            try:
                return do(name)
            except EtcdClusterError as error:
                return error

        with ThreadPoolExecutor(max(1, len(names))) as threads:
            return dict(zip(names, threads.map(attempt, names), strict=True))

    def observe(self, *, claim: str = "", rights: bool = False, disk: bool = False) -> Observation:
        """Returns what is there now.

        Args:
            claim: Id of the run that takes all machines over; "" for none.
            rights: Whether members' certificates may change the cluster is asked as well.
            disk: The space on the disks is asked for as well.
        """
        asked = Observe(claim=claim, rights=rights, disk=disk)
        hosts: dict[str, Host] = {}
        reports: dict[str, Mapping[str, str]] = {}
        unreachable: dict[str, str] = {}
        clocks: dict[str, float] = {}
        began = time.time()

        def note(answers: Mapping[str, Any]) -> None:
            for name, answer in answers.items():
                if isinstance(answer, SshError | StepFailedError | CommandTimeoutError):
                    unreachable[name] = str(answer)
                elif isinstance(answer, EtcdClusterError):
                    raise answer
                else:
                    said: Mapping[str, str]
                    hosts[name], said = parse_host(answer)
                    if name in self._leaving and self._is_anothers(hosts[name]):
                        hosts[name], said = without_member(hosts[name]), dict[str, str]()
                    self._schemes[name] = said.get("scheme") or self._schemes.get(name, "")
                    clocks[name] = offset(hosts[name].clock, began, time.time(), resolution=1.0)
                    reports[name] = said

        note(self.on_all(list(self._members), lambda name: self._observe(name, asked)))
        observation = combine(hosts, reports, unreachable)
        following = [name for name, host in hosts.items() if host.live and host.live.has_leader]
        others = [name for name in following if not reports[name].get("members")]
        if observation.status_source is None and others:
            # The leader's machine is not among these, cannot be reached, or gets no answer itself.
            note(self.on_all(others, lambda name: self._observe(name, replace(asked, as_status_source=True))))
            observation = combine(hosts, reports, unreachable)
        return replace(self._ask_for_others(observation), clocks=clocks)

    def _is_anothers(self, host: Host) -> bool:
        return bool(self._token) and host.token not in ("", self._token)

    def _ask_for_others(self, observation: Observation) -> Observation:
        """Members of which nothing good was heard on their own machines: asked for on the status source's."""
        left = unanswered(observation)
        if observation.status_source is None or not left:
            return observation
        others = ",".join(sorted(counted_as_connected(observation)))
        line = Health(",".join(member.client_url for member in left), others)
        try:
            text = self.run(observation.status_source, line, timeout_seconds=OBSERVATION_SECONDS)
        except (SshError, StepFailedError, CommandTimeoutError):
            text = ""
        return with_answers(observation, *parse_answers(text))

    def _observe(self, name: str, asked: Observe) -> str:
        member = self._members[name]
        scheme = self._schemes.get(name) or ("https" if member.tls else "http")
        token = self._token if asked.claim else ""
        line = replace(asked, scheme=scheme, device=member.device, token=token)
        text = self.run(name, line, timeout_seconds=OBSERVATION_SECONDS)
        if not is_whole(text):
            raise StepFailedError(f"{name}: the answer of its machine is cut short; run `pulumi up` again")
        return text


def layout_of(directory: str | None) -> Layout:
    """Everything below a folder of the caller's, or the system's standard places."""
    return Layout.below(directory) if directory else Layout.system()


def _error(said: str) -> str:
    """From the script's own error on; what came before was shown as it came."""
    position = said.rfind("error: ")
    return said[position + len("error: ") :].strip() if position >= 0 else said.strip()[-2000:]
