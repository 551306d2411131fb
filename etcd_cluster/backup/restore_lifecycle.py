"""Finds a BackupSource in its store, from the machine that it is restored to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pulumi.dynamic import CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.backup.files import MemberPlace, restore_variables
from etcd_cluster.backup.schedule_lifecycle import placed_rclone
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.etcd.versions import Version
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema, same
from etcd_cluster.member.lines import FindBackup
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say

INPUTS = ("cluster", "token", "backup", "version", "to", "member", "place", "credentials", "rclone", "connection")
COMPARED = ("token", "backup", "to", "member", "place", "credentials")
FIND_SECONDS = 300


class BackupSourceLifecycle(Lifecycle):
    """Finds the backup once. Later runs that go on with a restore that was cut short take the same one."""

    schema: ClassVar[Schema] = Schema(defaults={"credentials": {}, "rclone": {}, "connection": None})

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if another backup is asked for, or if its restore needs other credentials or paths."""
        return DiffResult(changes=any(not same(olds.get(name), news.get(name)) for name in COMPARED), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Finds the backup, and checks its manifest."""
        restored = _find(props)
        return CreateResult(restored["backup"], {**_inputs(props), "restored": json.dumps(restored)})

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Finds the other backup; the same one stays, and no machine is asked."""
        before = json.loads(olds["restored"])
        if olds["backup"] != news["backup"]:
            return UpdateResult({**_inputs(news), "restored": json.dumps(_find(news))})
        given = _variables(news, before["variables"]["rclone_placed"])
        restored = {**before, "member": news["member"], "variables": given}
        return UpdateResult({**_inputs(news), "restored": json.dumps(restored)})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


def _find(props: Properties) -> dict[str, Any]:
    name, host = props["member"], RecordedPlace.parse(props["place"])
    connection: Mapping[str, Any] | None = props.get("connection")
    given = _variables(props, placed_rclone(props, connection))
    line = FindBackup(props["backup"], Version.parse(props["version"]).series)
    with MemberMachines({name: host}, {name: connection} if connection else {}) as machines:
        found = machines.run(name, line, given, timeout_seconds=FIND_SECONDS, say=say).strip()
    return {"backup": found, "member": name, "variables": given}


def _variables(props: Properties, placed: str) -> dict[str, str]:
    host, store = RecordedPlace.parse(props["place"]), StoreUrl.of(props["to"], props["credentials"] or {})
    member = MemberPlace(props["member"], host.layout, host.ports)
    return restore_variables(props["cluster"], props["token"], member, store, props["to"], props["credentials"], placed)


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
