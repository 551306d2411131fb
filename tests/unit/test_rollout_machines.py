"""How members' machines are reached: over which connection, and what they are given with every step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import machines, runner
from etcd_cluster.member.answers import BUSY
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Line
from etcd_cluster.rollout.machines import ClusterMachines
from etcd_cluster.rollout.observed import BrokenPair
from etcd_cluster.ssh.connection import (
    Connection,
    SshAuthenticationError,
    SshConnectionLostError,
    SshError,
    SshHostKeyError,
    SshNoAnswerError,
    SshUnreachableError,
)
from etcd_cluster.ssh.processes import Completed
from tests.unit.framing import framed
from tests.unit.rollout_model import Goal, Model

ANSWER = "machine=x\nclock=0\n"


@dataclass(frozen=True)
class Place:
    layout: Layout = field(default_factory=Layout.system)
    device: str = ""
    ports: Ports = field(default_factory=lambda: Ports(1001, 1002, 1003))
    tls: bool = True


@dataclass
class Ssh:
    """In place of OpenSSH. failing: host -> what a connection to it ends in."""

    failing: dict[str, SshError] = field(default_factory=dict)
    answer: str = ANSWER
    output: str | None = None
    asked: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    busy: int = 0

    @contextmanager
    def opened(self) -> Iterator[Ssh]:
        yield self

    def run(self, connection: Connection, _line: str, *, stdin: str, **_: Any) -> Completed:
        self.asked.append(connection.host)
        self.scripts.append(stdin)
        if connection.host in self.failing:
            raise self.failing[connection.host]
        if len(self.asked) <= self.busy:
            return Completed(BUSY, "", "error: a: a step of another run is at work on this machine\n", "")
        return Completed(0, framed(self.answer) if self.output is None else self.output, "", self.answer)


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch) -> Ssh:
    found = Ssh()
    monkeypatch.setattr(runner.shutil, "which", lambda _: "/usr/bin/ssh")
    monkeypatch.setattr(runner, "OpenSsh", found.opened)
    return found


def connection(host: str) -> dict[str, str]:
    return {"host": host, "hostKey": "ssh-ed25519 AAAA"}


def looking(before: str) -> ClusterMachines:
    return ClusterMachines(
        {"a": Place()}, {"a": connection("new")}, passing=True, before={"a": connection(before), "gone": {"host": "x"}}
    )


FAILURES: list[Callable[[str], SshError]] = [SshUnreachableError, SshAuthenticationError, SshHostKeyError]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_machine_that_does_not_let_in_by_its_new_connection_is_reached_by_the_one_before(
    ssh: Ssh, failure: Callable[[str], SshError]
) -> None:
    ssh.failing["new"] = failure("no")
    with looking("old") as found:
        assert set(found.observe().hosts) == {"a"}
        found.observe()
    assert ssh.asked == ["new", "old", "old"]


def test_where_neither_lets_in_it_is_the_new_one_that_is_told_of(ssh: Ssh) -> None:
    ssh.failing = {"new": SshUnreachableError("not by the new"), "old": SshAuthenticationError("not by the old")}
    with looking("old") as found:
        assert found.observe().unreachable == {"a": "not by the new"}


@pytest.mark.parametrize(
    ("failure", "is_answering"),
    [
        (SshAuthenticationError, True),
        (SshHostKeyError, True),
        (SshUnreachableError, True),
        (SshConnectionLostError, True),
        (SshNoAnswerError, False),
    ],
)
def test_only_silence_at_its_address_may_mean_that_a_machine_is_gone(
    ssh: Ssh, failure: Callable[[str], SshError], is_answering: bool
) -> None:
    ssh.failing["new"] = failure("no")
    with looking("new") as found:
        assert found.observe().answering == (frozenset("a") if is_answering else frozenset())


def test_a_connection_that_did_not_change_is_tried_once_and_a_step_that_began_is_not_repeated(ssh: Ssh) -> None:
    ssh.failing["new"] = SshUnreachableError("no")
    with looking("new") as found:
        assert found.observe().unreachable == {"a": "no"}
    ssh.failing["new"] = SshConnectionLostError("lost")
    with looking("old") as found:
        assert found.observe().unreachable == {"a": "lost"}
    assert ssh.asked == ["new", "new"]


def test_a_step_of_a_killed_run_is_waited_for_and_not_longer_than_it_may_take(
    ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh.busy = 2
    with looking("old") as found:
        assert found.observe(claim="run").hosts["a"].machine == "x"
    assert ssh.asked == ["new"] * 3
    monkeypatch.setattr(machines, "BUSY_SECONDS", 0)
    ssh.busy = 9
    with looking("old") as found:
        assert "at work on this machine" in found.observe(claim="run").unreachable["a"]


@pytest.mark.parametrize("output", ["", "hello\n", framed(ANSWER)[:-2], ANSWER])
def test_an_output_without_a_whole_answer_is_none(ssh: Ssh, output: str) -> None:
    """What is missing from it would look like a member that has no data, or does not run."""
    ssh.output = output
    with looking("old") as found:
        observation = found.observe()
    assert not observation.hosts
    assert "in place of a whole answer" in observation.unreachable["a"]
    ssh.output = f"hello\n{framed(ANSWER)}bye\n"
    with looking("old") as found:
        assert found.observe().hosts["a"].machine == "x"


def test_every_step_is_given_the_ports_that_the_member_is_to_have(ssh: Ssh) -> None:
    with looking("old") as found:
        found.observe()
    assert "\nclient_port=1001\npeer_port=1002\nmetrics_port=1003\n" in ssh.scripts[0]


@pytest.mark.parametrize(("token", "runs"), [("one", True), ("another", False), ("", True)])
def test_a_machine_that_leaves_and_is_another_clusters_by_now_has_no_member_of_this_one(
    ssh: Ssh, token: str, runs: bool
) -> None:
    ssh.answer = f"token={token}\nowner=a\ndata=yes\npid=7\nclock=1\n"
    both: dict[str, Any] = {"a": Place(), "b": Place()}
    connections = {name: connection(name) for name in both}
    with ClusterMachines(both, connections, ["a"], passing=True, token="one") as found:
        hosts = found.observe().hosts
    assert (bool(hosts["a"].pid), hosts["a"].data) == (runs, runs)
    assert hosts["b"].pid == "7", "it stays: whoever is on it is refused, not overlooked"


def ask(
    monkeypatch: pytest.MonkeyPatch, model: Model, restarted: Collection[str], answer: str
) -> tuple[dict[str, int], Sequence[BrokenPair]]:
    """Member -> how many peers its machine was asked to test, all with that answer; the pairs that are broken then."""
    asked: dict[str, int] = {}

    def run(_: ClusterMachines, name: str, line: Line, **__: object) -> str:
        urls: list[str] = vars(line)["urls"].split(",")
        asked[name] = len(urls)
        return "".join(f"{answer}={url}\n" for url in urls)

    monkeypatch.setattr(ClusterMachines, "run", run)
    with ClusterMachines({}, {}) as found:
        return asked, found._test_peers(model.observe(list(model.machines)), restarted).broken_pairs


@pytest.mark.parametrize("pending", [False, True])
def test_a_pair_counts_as_connected_if_the_peer_port_answers_a_member_that_has_its_files_loaded(
    monkeypatch: pytest.MonkeyPatch, pending: bool
) -> None:
    model = Model.running(Goal())
    model.machines["c"].peer_port_closed = True
    model.machines["a"].pending = pending
    asked, broken = ask(monkeypatch, model, (), "reached")
    assert asked == ({"b": 1} if pending else {"a": 1, "b": 1})
    assert broken == ([BrokenPair("a", "c")] if pending else [])


@pytest.mark.parametrize(("answer", "are_broken"), [("unreached", True), ("reached", False), ("refused", False)])
def test_pairs_of_a_member_that_restarted_are_tested_though_etcd_counts_them_as_connected(
    monkeypatch: pytest.MonkeyPatch, answer: str, are_broken: bool
) -> None:
    asked, broken = ask(monkeypatch, Model.running(Goal()), ["c"], answer)
    assert asked == {"a": 1, "b": 1, "c": 2}
    pairs = [BrokenPair("a", "c"), BrokenPair("b", "c"), BrokenPair("c", "a"), BrokenPair("c", "b")]
    assert broken == (pairs if are_broken else [])


def test_what_does_not_run_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.running(Goal())
    model.machines["c"].process = None
    asked, _ = ask(monkeypatch, model, ["c"], "unreached")
    assert not asked
