"""Runs scripts on the members' machines, over OpenSSH or on this machine, and observes all of them."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from etcd_cluster.clocks import offset
from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.answers import BUSY, NoAnswerError, framed_answer
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import HashKeys, Health, Observe, Reach
from etcd_cluster.member.runner import Runner, Say
from etcd_cluster.rollout.observed import (
    CORRUPT,
    BrokenPair,
    Host,
    KeyHash,
    Observation,
    PeerTest,
    combine,
    connected_without_report,
    parse_answers,
    parse_hash,
    parse_host,
    unanswered,
    with_answers,
    with_peer_tests,
    without_member,
)
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import SshError, SshNoAnswerError, SshUnreachableError, parse_connection
from etcd_cluster.ssh.processes import CommandTimeoutError

OBSERVATION_SECONDS = 60
HASH_SECONDS = 120
"""Limit for the hash of a member's keys: etcd reads its whole database for it."""
STEP_SECONDS = 1800
"""Limit for a step: more than any script waits by itself."""
BUSY_SECONDS = 1200
"""Limit for waiting for a step of another run on a machine: a killed run's step ends by itself, at the latest then."""


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
class FormerHost:
    """Where a member was, or was to be.

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
    def parse(properties: Mapping[str, Any]) -> FormerHost:
        """Reads a host from the properties of a HostRecord."""
        return FormerHost(Layout.parse(properties.get("layout") or {}), Ports.parse(properties.get("ports") or {}))


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
        token: Token of the cluster. A leaving machine that belongs to another cluster by now has no member of this one.

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
        token: str = "",
    ) -> None:
        self._members = members
        self._connections = connections
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

    def observe(
        self,
        *,
        claim: str = "",
        rights: bool = False,
        disk: bool = False,
        users: bool = False,
        restarted: Collection[str] = (),
    ) -> Observation:
        """Returns what is there now.

        Args:
            claim: Id of the run that takes all machines over; "" for none.
            rights: Also asks whether members' certificates may change the cluster.
            disk: Also asks for the space on the disks.
            users: Also asks for etcd's users and roles.
            restarted: Members of which is tested whether they and the others reach one another.
        """
        asked = Observe(claim=claim, rights=rights, disk=disk, users=users)
        hosts: dict[str, Host] = {}
        reports: dict[str, Mapping[str, str]] = {}
        unreachable: dict[str, str] = {}
        answering: set[str] = set()
        clocks: dict[str, float] = {}
        began = time.time()

        def note(answers: Mapping[str, Any]) -> None:
            for name, answer in answers.items():
                if isinstance(answer, SshError | StepFailedError | CommandTimeoutError):
                    unreachable[name] = str(answer)
                    if not isinstance(answer, SshNoAnswerError):
                        answering.add(name)
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
            # The leader's machine is not one of `hosts`, is unreachable, or gets no answer itself.
            note(self.on_all(others, lambda name: self._observe(name, replace(asked, as_status_source=True))))
            observation = combine(hosts, reports, unreachable)
        observation = self._ask_for_hashes(self._test_peers(self._ask_for_others(observation), restarted))
        return replace(observation, clocks=clocks, answering=frozenset(answering))

    def _is_anothers(self, host: Host) -> bool:
        return bool(self._token) and host.token not in ("", self._token)

    def _ask_for_others(self, observation: Observation) -> Observation:
        """Asks the status source's machine for members that do not show on their own machines that they serve."""
        left = unanswered(observation)
        if observation.status_source is None or not left:
            return observation
        peers = ",".join(sorted(connected_without_report(observation)))
        line = Health(",".join(member.client_url for member in left), peers)
        try:
            text = self.run(observation.status_source, line, timeout_seconds=OBSERVATION_SECONDS)
        except (SshError, StepFailedError, CommandTimeoutError):
            text = ""
        return with_answers(observation, *parse_answers(text))

    def _test_peers(self, observation: Observation, restarted: Collection[str]) -> Observation:
        """Tests the pairs of healthy members of which etcd's own count may be wrong, from each one's machine.

        These are the ones that it calls broken, and those with a member that was restarted. Not where the member may
        have been started before its files were written: it may not reach what they reach.
        """
        healthy = [member for member in observation.members if observation.is_healthy(member.name)]
        urls: dict[str, list[str]] = {}
        for member, peer in permutations(healthy, 2):
            host = observation.hosts.get(member.name)
            is_broken = BrokenPair(member.name, peer.name) in observation.broken_pairs
            is_doubtful = is_broken or member.name in restarted or peer.name in restarted
            if is_doubtful and peer.peer_url and host and host.live and not host.pending:
                urls.setdefault(member.name, []).append(peer.peer_url)
        if not urls:
            return observation

        def test(name: str) -> PeerTest:
            line = Reach(",".join(urls[name]), observation.hosts[name].source_address)
            return PeerTest.parse(self.run(name, line, timeout_seconds=OBSERVATION_SECONDS))

        answers = self.on_all(list(urls), test)
        tests = {name: answer for name, answer in answers.items() if not isinstance(answer, EtcdClusterError)}
        return with_peer_tests(observation, tests)

    def _ask_for_hashes(self, observation: Observation) -> Observation:
        """Asks every member for the hash of its keys while the alarm CORRUPT stands: nothing is written then."""
        if not any(alarm.kind == CORRUPT for alarm in observation.alarms or ()):
            return observation
        names = [name for name, host in observation.hosts.items() if host.live]

        def ask(name: str) -> tuple[str, KeyHash] | None:
            return parse_hash(
                self.run(name, HashKeys(HASH_SECONDS), timeout_seconds=HASH_SECONDS + OBSERVATION_SECONDS)
            )

        answers: list[tuple[str, KeyHash] | EtcdClusterError | None] = [*self.on_all(names, ask).values()]
        return replace(observation, hashes=dict(answer for answer in answers if isinstance(answer, tuple)))

    def _observe(self, name: str, asked: Observe) -> str:
        member = self._members[name]
        scheme = self._schemes.get(name) or ("https" if member.tls else "http")
        token = self._token if asked.claim else ""
        line = replace(asked, scheme=scheme, device=member.device, token=token)
        # Only a claim has progress to tell: it may have to wait.
        return self.run(name, line, timeout_seconds=OBSERVATION_SECONDS, say=say if asked.claim else None)


def say(line: str) -> None:
    """Writes a line to standard error, which the engine shows. If the engine is gone, the work goes on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")  # in one write: several machines print at once
        sys.stderr.flush()


def layout_of(directory: str | None) -> Layout:
    """Returns the layout below a folder of the caller's, or the system's standard one."""
    return Layout.below(directory) if directory else Layout.system()


def _error(said: str) -> str:
    """Returns the script's text from its own error on. What came before was shown as it came."""
    found = re.search(r"^error: (.*)", said, re.MULTILINE | re.DOTALL)  # etcd's own words may hold another one
    return found[1].strip() if found else said.strip()[-2000:]
