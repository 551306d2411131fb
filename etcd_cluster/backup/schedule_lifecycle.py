"""Brings a BackupSchedule about: sends rclone, writes program, configuration and timer, tries the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure

from etcd_cluster.backup.files import MemberPlace, schedule_of, set_up_variables, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.errors import ConfigurationError
from etcd_cluster.lifecycle import Properties, Schema
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import SetUpBackups
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
from etcd_cluster.member.set_up_lifecycle import SetUpLifecycle
from etcd_cluster.ssh.connection import parse_connection

SET_UP_SECONDS = 600
ROLE_SECONDS = 120
"""A role that was made just now has its rights on a machine after so long."""
ENCRYPTED = (
    "backups are encrypted: without backup.encryptionPassword nobody can read them. Keep it where neither the cluster "
    "nor this stack can take it along"
)


class BackupScheduleLifecycle(SetUpLifecycle):
    """Sets backups up on every member's machine. The store keeps what it has when they end."""

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
    subject: ClassVar[str] = "backups"
    compared: ClassVar[Sequence[str]] = (
        "token",
        "to",
        "every",
        "keep",
        "test",
        "append_only",
        "members",
        "credentials",
        "rclone",
        "connections",
    )
    others: ClassVar[Sequence[str]] = ("cluster", "make_bucket")
    look: ClassVar[Line] = SetUpBackups(look=True)
    remove: ClassVar[Line] = SetUpBackups(remove=True)

    def failures(self, news: Properties) -> list[CheckFailure]:
        """Refuses a store that is none."""
        try:
            if isinstance(news["to"], str):
                StoreUrl.parse(news["to"])
        except ConfigurationError as error:
            return [CheckFailure("to", str(error))]
        return []

    def variables(self, props: Properties, name: str) -> dict[str, str]:
        """Returns the shell variables of backup_setup.sh on the machine of a member."""
        own, store = run_variables(props, name), StoreUrl.of(props["to"], props["credentials"] or {})
        return set_up_variables(_place(props, name), own, store, props["credentials"], props["token"], props["every"])

    def set_up(self, machines: MemberMachines, props: Properties, name: str) -> str:
        """Sends rclone, and sets backups up."""
        connections: Mapping[str, Mapping[str, Any]] = props["connections"] or {}
        given = {
            **self.variables(props, name),
            "rclone_placed": placed_rclone(props, connections.get(name)),
            "role_seconds": str(ROLE_SECONDS if props["make_bucket"] else 0),
        }
        return machines.run(name, SetUpBackups(), given, timeout_seconds=SET_UP_SECONDS, say=say)

    def _set_up_all(self, props: Properties) -> None:
        super()._set_up_all(props)
        credentials: Mapping[str, str] = props["credentials"] or {}
        if credentials.get("encryption_password"):
            say(ENCRYPTED)


def placed_rclone(props: Properties, connection: Mapping[str, Any] | None) -> str:
    """Returns the path of rclone on a machine, after sending it there; "" for a store that needs none."""
    if not StoreUrl.of(props["to"], props["credentials"] or {}).needs_rclone:
        return ""
    from etcd_cluster.install.rclone import place_rclone

    return place_rclone(parse_connection(connection) if connection else None, props["rclone"] or {}, say)


def run_variables(props: Mapping[str, Any], name: str) -> dict[str, str]:
    """Returns the shell variables of backup.sh on the machine of a member."""
    store, place = StoreUrl.of(props["to"], props["credentials"] or {}), _place(props, name)
    return variables(props["cluster"], props["token"], place, store, props["to"], schedule_of(props))


def _place(props: Mapping[str, Any], name: str) -> MemberPlace:
    host = RecordedPlace.parse(props["members"][name])
    return MemberPlace(name, host.layout, host.ports)
