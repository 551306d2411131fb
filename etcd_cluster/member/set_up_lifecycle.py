"""Brings about what is set up beside etcd on every member's machine, such as backups. etcd is not touched for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.lifecycle import Lifecycle, Properties, same
from etcd_cluster.member.line import Line
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say

LOOK_SECONDS = 60


class SetUpLifecycle(Lifecycle):
    """Sets something up on every member's machine. An `up` without changes looks whether it still is.

    Attributes:
        subject: What that is, in the resource's id and in lines about it.
        compared: Inputs of which each change sets it up anew. "members" and "connections" are among them.
        others: Inputs that are stored besides.
        look: The step that prints what differs on a machine, a line each.
        remove: The step that removes it.
    """

    subject: ClassVar[str]
    compared: ClassVar[Sequence[str]]
    others: ClassVar[Sequence[str]]
    look: ClassVar[Line]
    remove: ClassVar[Line]

    def variables(self, props: Properties, name: str) -> dict[str, str]:
        """Returns the shell variables of these steps on the machine of a member."""
        raise NotImplementedError

    def set_up(self, machines: MemberMachines, props: Properties, name: str) -> str:
        """Sets it up on the machine of a member."""
        raise NotImplementedError

    def failures(self, news: Properties) -> list[CheckFailure]:
        """Returns what is wrong with the inputs."""
        return []

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Refuses inputs that are wrong, and looks for drift in an `up` without changes."""
        news = dict(news)
        looks = news.pop("looks")
        failures = self.failures(news)
        news["drift"] = self._drift(news) if olds and looks and not failures and not self._changed(olds, news) else []
        return CheckResult(news, failures)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if an input differs, or if there is drift."""
        return DiffResult(changes=self._changed(olds, news) or bool(news["drift"]), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Sets it up on all machines."""
        self._set_up_all(props)
        return CreateResult(f"{props['token']}/{self.subject}", self._inputs(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Sets up anew what differs."""
        for line in news["drift"] or ():
            say(line)
        self._set_up_all(news)
        return UpdateResult(self._inputs(news))

    def delete(self, id_: str, props: Properties) -> None:
        """Removes it from machines that can be reached."""
        for name, answer in self._answers(props, self._doing(self.remove, props), passing=True).items():
            if isinstance(answer, EtcdClusterError):
                say(f"{name}: its {self.subject} could not be ended: {answer}")

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, self._inputs(props))

    def _drift(self, props: Properties) -> list[str]:
        """Returns what differs on the machines, one line each; nothing of a machine that gives no answer."""
        return [
            f"{name}: {self.subject}: {line}"
            for name, answer in self._answers(props, self._doing(self.look, props)).items()
            if isinstance(answer, str)
            for line in answer.splitlines()
        ]

    def _set_up_all(self, props: Properties) -> None:
        """Raises the first error once all machines were tried."""
        for answer in self._answers(props, lambda machines, name: self.set_up(machines, props, name)).values():
            if isinstance(answer, EtcdClusterError):
                raise answer

    def _doing(self, line: Line, props: Properties) -> Callable[[MemberMachines, str], str]:
        return lambda machines, name: machines.run(
            name, line, self.variables(props, name), timeout_seconds=LOOK_SECONDS, say=say
        )

    def _answers(
        self, props: Properties, do: Callable[[MemberMachines, str], str], *, passing: bool = False
    ) -> dict[str, Any]:
        places = {name: RecordedPlace.parse(host) for name, host in props["members"].items()}
        with MemberMachines(places, props["connections"] or {}, passing=passing) as machines:
            return machines.on_all(list(places), lambda name: do(machines, name))

    def _changed(self, olds: Properties, news: Properties) -> bool:
        return any(not same(olds.get(name), news.get(name)) for name in self.compared)

    def _inputs(self, props: Properties) -> Properties:
        return {name: props.get(name) for name in (*self.compared, *self.others, "drift")}
