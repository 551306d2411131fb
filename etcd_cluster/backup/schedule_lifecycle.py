"""Brings a BackupSchedule about: sends rclone, writes program, configuration and timer, tries the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.backup.files import MemberPlace, schedule_of, set_up_variables, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.errors import ConfigurationError, EtcdClusterError
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema, same
from etcd_cluster.member.lines import SetUpBackups
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
from etcd_cluster.ssh.connection import parse_connection

COMPARED = ("token", "to", "every", "keep", "test", "append_only", "members", "credentials", "rclone", "connections")
INPUTS = ("cluster", *COMPARED, "make_bucket", "drift")
SET_UP_SECONDS = 600
ROLE_SECONDS = 120
"""A role that was made just now has its rights on a machine after so long."""
ENCRYPTED = (
    "backups are encrypted: without backup.encryptionPassword nobody can read them. Keep it where neither the cluster "
    "nor this stack can take it along"
)
LOOK_SECONDS = 60


class BackupScheduleLifecycle(Lifecycle):
    """Sets backups up on every member's machine. An `up` without changes looks whether they still are."""

    schema: ClassVar[Schema] = Schema(
        defaults={
            "connections": {},
            "credentials": {},
            "append_only": False,
            "make_bucket": False,
            "members": {},
            "rclone": {},
            "drift": [],
        }
    )

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Refuses a store that is none, and looks for drift in an `up` without changes."""
        news = dict(news)
        looks = news.pop("looks")
        news["drift"] = []
        try:
            if isinstance(news["to"], str):
                StoreUrl.parse(news["to"])
        except ConfigurationError as error:
            return CheckResult(news, [CheckFailure("to", str(error))])
        if olds and looks and not _changed(olds, news):
            news["drift"] = drift(news)
        return CheckResult(news, [])

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if an input differs, or if there is drift."""
        return DiffResult(changes=_changed(olds, news) or bool(news["drift"]), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Sets backups up on all machines."""
        _set_up(props)
        return CreateResult(f"{props['token']}/backups", _inputs(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Sets backups up anew where something differs."""
        for line in news["drift"] or ():
            say(line)
        _set_up(news)
        return UpdateResult(_inputs(news))

    def delete(self, id_: str, props: Properties) -> None:
        """Ends the backups on machines that can be reached. The store keeps what it has."""
        with _machines(props, passing=True) as machines:
            for name, answer in _on_all(machines, props, SetUpBackups(remove=True)).items():
                if isinstance(answer, EtcdClusterError):
                    say(f"{name}: its backups could not be ended: {answer}")

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


def drift(props: Properties) -> list[str]:
    """Returns what differs on the machines, one line each; nothing of a machine that gives no answer."""
    with _machines(props) as machines:
        answers = _on_all(machines, props, SetUpBackups(look=True))
    return [
        f"{name}: backups: {line}"
        for name, answer in answers.items()
        if isinstance(answer, str)
        for line in answer.splitlines()
    ]


def _set_up(props: Properties) -> None:
    """Raises the first error once all machines were tried."""
    connections: Mapping[str, Mapping[str, Any]] = props["connections"] or {}
    with _machines(props) as machines:

        def set_up(name: str) -> str:
            placed = placed_rclone(props, connections.get(name))
            role_seconds = str(ROLE_SECONDS if props["make_bucket"] else 0)
            variables = {**_variables(props, name), "rclone_placed": placed, "role_seconds": role_seconds}
            return machines.run(name, SetUpBackups(), variables, timeout_seconds=SET_UP_SECONDS, say=say)

        answers = machines.on_all(list(props["members"]), set_up)
    for answer in answers.values():
        if isinstance(answer, EtcdClusterError):
            raise answer
    credentials: Mapping[str, str] = props["credentials"] or {}
    if credentials.get("encryption_password"):
        say(ENCRYPTED)


def placed_rclone(props: Properties, connection: Mapping[str, Any] | None) -> str:
    """Returns the path of rclone on a machine, after sending it there; "" for a store that needs none."""
    if not StoreUrl.of(props["to"], props["credentials"] or {}).needs_rclone:
        return ""
    from etcd_cluster.install.rclone import place_rclone

    return place_rclone(parse_connection(connection) if connection else None, props["rclone"] or {}, say)


def _on_all(machines: MemberMachines, props: Properties, line: SetUpBackups) -> dict[str, Any]:
    def run(name: str) -> str:
        return machines.run(name, line, _variables(props, name), timeout_seconds=LOOK_SECONDS)

    return machines.on_all(list(props["members"]), run)


def _variables(props: Properties, name: str) -> dict[str, str]:
    own, store = run_variables(props, name), StoreUrl.of(props["to"], props["credentials"] or {})
    return set_up_variables(_place(props, name), own, store, props["credentials"], props["token"], props["every"])


def run_variables(props: Mapping[str, Any], name: str) -> dict[str, str]:
    """Returns the shell variables of backup.sh on the machine of a member."""
    store, place = StoreUrl.of(props["to"], props["credentials"] or {}), _place(props, name)
    return variables(props["cluster"], props["token"], place, store, props["to"], schedule_of(props))


def _place(props: Mapping[str, Any], name: str) -> MemberPlace:
    host = RecordedPlace.parse(props["members"][name])
    return MemberPlace(name, host.layout, host.ports)


def _machines(props: Properties, *, passing: bool = False) -> MemberMachines:
    places = {name: RecordedPlace.parse(host) for name, host in props["members"].items()}
    return MemberMachines(places, props["connections"] or {}, passing=passing)


def _changed(olds: Properties, news: Properties) -> bool:
    return any(not same(olds.get(name), news.get(name)) for name in COMPARED)


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
