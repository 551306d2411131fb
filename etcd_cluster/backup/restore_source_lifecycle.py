"""Finds what is restored: a backup in its store, from the first machine that answers, or a file on this machine.

A BackupSource, what a new cluster starts with, is read as the RestoreSource of that one member.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.backup.files import MemberPlace, restore_variables
from etcd_cluster.backup.restore_arguments import SourceKind
from etcd_cluster.backup.schedule_lifecycle import placed_rclone
from etcd_cluster.backup.snapshot_file import SnapshotFileError, read_snapshot_file, require_exists
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.etcd.versions import Version
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema, same
from etcd_cluster.member.lines import FindBackup
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
from etcd_cluster.member.render import encode
from etcd_cluster.ssh.connection import SshError

INPUTS = (
    *("cluster", "token", "key", "request", "kind", "wanted", "version"),
    *("to", "credentials", "rclone", "places", "connections"),
)
IDENTITY = ("token", "request", "kind", "wanted")
COMPARED = (*IDENTITY, "to", "credentials", "places")
BACKUP_INPUTS = (
    "cluster",
    "token",
    "backup",
    "version",
    "to",
    "member",
    "place",
    "credentials",
    "rclone",
    "connection",
)
BACKUP_COMPARED = ("token", "backup", "to", "member", "place", "credentials")
FIND_SECONDS = 300


class NoMachineError(EtcdClusterError):
    """No machine answers from which the store could be asked. The text names each, and why."""


class RestoreSourceLifecycle(Lifecycle):
    """Finds it once. Later runs that go on with a restore that was cut short take the same one."""

    schema: ClassVar[Schema] = Schema(
        defaults={"to": "", "credentials": {}, "rclone": {}, "places": {}, "connections": {}}
    )

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Refuses a file that is not there, before anything is done. Once it was read, nobody needs it for this."""
        is_known = bool(olds) and all(same(olds.get(name), news.get(name)) for name in IDENTITY)
        if news["kind"] != SourceKind.FILE.value or is_known:
            return CheckResult(news, [])
        try:
            require_exists(Path(news["wanted"]).expanduser(), news["key"])
        except SnapshotFileError as error:
            return CheckResult(news, [CheckFailure("", str(error))])
        return CheckResult(news, [])

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if another restore is asked for, or if it needs other credentials or paths."""
        return DiffResult(changes=any(not same(olds.get(name), news.get(name)) for name in COMPARED), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Finds the backup or file, and checks it as far as nothing has to be restored for that."""
        return CreateResult(f"{props['token']}/restore", {**_inputs(props), "found": json.dumps(_find(props))})

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Finds what another restore asks for. For the same one, no machine is asked."""
        if any(not same(olds.get(name), news.get(name)) for name in IDENTITY):
            return UpdateResult({**_inputs(news), "found": json.dumps(_find(news))})
        before: Mapping[str, Any] = json.loads(olds["found"])
        given = {
            name: {**_variables(news, name, each.get("rclone_placed", "")), **_kept(each)}
            for name, each in before["variables"].items()
            if name in news["places"]
        }
        return UpdateResult({**_inputs(news), "found": json.dumps({**before, "variables": given})})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


class BackupSourceLifecycle(Lifecycle):
    """Finds the backup once. Later runs that go on with a restore that was cut short take the same one."""

    schema: ClassVar[Schema] = Schema(defaults={"credentials": {}, "rclone": {}, "connection": None})

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if another backup is asked for, or if its restore needs other credentials or paths."""
        return DiffResult(
            changes=any(not same(olds.get(name), news.get(name)) for name in BACKUP_COMPARED), replaces=[]
        )

    def create(self, props: Properties) -> CreateResult:
        """Finds the backup, and checks its manifest."""
        found = _find_backup(as_restore_source(props))
        return CreateResult(found["backup"], _with_restored(props, found["backup"], found["variables"]))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Finds the other backup; the same one stays, and no machine is asked."""
        source, member = as_restore_source(news), news["member"]
        if olds["backup"] != news["backup"]:
            found = _find_backup(source)
            return UpdateResult(_with_restored(news, found["backup"], found["variables"]))
        before = json.loads(olds["restored"])
        given = {member: _variables(source, member, before["variables"]["rclone_placed"])}
        return UpdateResult(_with_restored(news, before["backup"], given))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _backup_inputs(props))


def as_restore_source(props: Properties) -> Properties:
    """Returns the properties of a BackupSource as those of a RestoreSource."""
    member, connection = props["member"], props.get("connection")
    return {
        "cluster": props["cluster"],
        "token": props["token"],
        "key": "restoreFrom",
        "request": props["backup"],
        "kind": SourceKind.STORE.value,
        "wanted": props["backup"],
        "version": props["version"],
        "to": props["to"],
        "credentials": props["credentials"],
        "rclone": props["rclone"],
        "places": {member: props["place"]},
        "connections": {member: connection} if connection else {},
    }


def _with_restored(props: Properties, backup: str, variables: Mapping[str, Mapping[str, str]]) -> Properties:
    member = props["member"]
    restored = {"backup": backup, "member": member, "variables": variables[member]}
    return {**_backup_inputs(props), "restored": json.dumps(restored)}


def _backup_inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in BACKUP_INPUTS}


def _find(props: Properties) -> dict[str, Any]:
    return _find_file(props) if props["kind"] == SourceKind.FILE.value else _find_backup(props)


def _find_file(props: Properties) -> dict[str, Any]:
    path, key = Path(props["wanted"]).expanduser(), props["key"]
    found = read_snapshot_file(path, key, Version.parse(props["version"]).series)
    if found.is_bare:
        say(
            f"{key}: {path} is a copy of a database, without etcd's own sum at its end: that it is whole shows only by "
            "the test of its restore, and what was in the log beside it is not in it"
        )
    say(f"{key}: {path}: {size_text(found.size)}, of etcd {found.version or 'of an unknown version'}")
    given = {"file_manifest": encode(found.manifest)} if found.manifest else {}
    variables = {name: {**_variables(props, name, ""), **given} for name in props["places"]}
    return {"file": str(path), "sha256": found.sha256, "bare": found.is_bare, "variables": variables}


def _find_backup(props: Properties) -> dict[str, Any]:
    """Asks the machines in turn: the first of them may be lost."""
    connections: Mapping[str, Any] = props["connections"] or {}
    line = FindBackup(props["wanted"], Version.parse(props["version"]).series, props["key"])
    places = {name: RecordedPlace.parse(place) for name, place in props["places"].items()}
    found, unreachable = "", dict[str, EtcdClusterError]()
    variables: dict[str, dict[str, str]] = {}
    with MemberMachines(places, connections) as machines:
        for name in places:
            try:
                given = _variables(props, name, placed_rclone(props, connections.get(name)))
                if not found:
                    found = machines.run(name, line, given, timeout_seconds=FIND_SECONDS, say=say).strip()
                variables[name] = given
            except SshError as error:
                unreachable[name] = error
    if not found:
        reasons = "; ".join(f"{name}: {error}" for name, error in unreachable.items())
        raise NoMachineError(
            str(Explanation(f"no member's machine answers ({reasons})", "one that does", "bring one back"))
        )
    return {"backup": found, "variables": variables}


def _variables(props: Properties, name: str, placed: str) -> dict[str, str]:
    host = RecordedPlace.parse(props["places"][name])
    store = StoreUrl.of(props["to"], props["credentials"] or {}) if props["to"] else None
    place = MemberPlace(name, host.layout, host.ports)
    return restore_variables(
        props["cluster"], props["token"], place, store, props["to"], props["credentials"] or {}, placed
    )


def _kept(before: Mapping[str, str]) -> dict[str, str]:
    return {key: before[key] for key in ("file_manifest",) if key in before}


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
