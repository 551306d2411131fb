"""Writes a HostRecord on its hosts, and removes members from the hosts that hold it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pulumi.dynamic import CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema, same
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.lines import Record
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
from etcd_cluster.rollout.former_machines import name_of_former_machine
from etcd_cluster.rollout.lifecycle import NotRemovedError, remove

INPUTS = ("cluster", "token", "hosts", "connections", "delete_data")
RECORD_SECONDS = 60


class HostRecordLifecycle(Lifecycle):
    """Gives each record an id of its own and writes it on the hosts.

    A delete acts only on hosts that hold the id: if the resource was replaced, they hold the id of the new one.
    """

    schema: ClassVar[Schema] = Schema(
        defaults={"token": "", "hosts": {}, "former": {}, "connections": {}, "delete_data": False}
    )

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if any input differs. No input replaces the resource."""
        return DiffResult(changes=any(not same(olds.get(name), news.get(name)) for name in INPUTS), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Writes the new record on all hosts."""
        record = secrets.token_hex(8)
        _write(record, {name: _host(props, name) for name in props["hosts"]})
        return CreateResult(record, {**_inputs(props), "record": record, "former": {}})

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Writes the record on new and changed hosts, and keeps unlisted and moved hosts as former ones."""
        before = {name: _host(olds, name) for name in olds["hosts"]}
        after = {name: _host(news, name) for name in news["hosts"]}
        _write(id_, {name: host for name, host in after.items() if not same(before.get(name), host)})
        former = {**olds["former"], **dict(_left(before, after))}
        listed = {_place(host) for host in after.values()}
        former = {name: host for name, host in former.items() if name not in after and _place(host) not in listed}
        return UpdateResult({**_inputs(news), "record": id_, "former": former})

    def delete(self, id_: str, props: Properties) -> None:
        """Removes all members at once; their data too, if deleteData is set. On unlisted hosts, data always stay."""
        members = {name: _host(props, name) for name in props["hosts"]}
        owner = render.remove_variables(props["cluster"], props["token"])
        not_removed: list[str] = []
        for hosts, data in ((members, props["delete_data"] is True), (props["former"], False)):
            left_out = hosts is not members
            if hosts:
                with _machines(hosts, leaving=left_out) as machines:
                    try:
                        remove(
                            list(hosts), machines, owner, len(members), delete_data=data, left_out=left_out, record=id_
                        )
                    except NotRemovedError as error:
                        not_removed.append(str(error))
        if not_removed:
            raise NotRemovedError("\n".join(not_removed))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no host is asked."""
        return ReadResult(id_, props, _inputs(props))


def _host(props: Mapping[str, Any], name: str) -> Properties:
    connections: Mapping[str, Any] = props.get("connections") or {}
    return {**props["hosts"][name], "connection": connections.get(name)}


def _left(before: Mapping[str, Properties], after: Mapping[str, Properties]) -> Iterator[tuple[str, Properties]]:
    """Yields hosts that are no longer listed, and the former hosts of members that have another place by now.

    The latter get names of their own. The mark distinguishes a host that left twice from one that the rollout has dealt
    with.
    """
    for name, host in before.items():
        mark = secrets.token_hex(4)
        if name not in after:
            yield name, {**host, "mark": mark}
        elif _place(host) != _place(after[name]):
            yield name_of_former_machine(name, mark), {**host, "mark": mark, "moved": True}


def _place(host: Mapping[str, Any]) -> tuple[str, str]:
    """Returns which machine it is, as far as its address tells, and where on it.

    A reinstalled machine is the same one.
    """
    connection: Mapping[str, Any] = host.get("connection") or {}
    return str(connection.get("host") or ""), Layout.parse(host.get("layout") or {}).state


def _machines(hosts: Mapping[str, Mapping[str, Any]], *, leaving: bool = False) -> MemberMachines:
    connections = {name: connection for name, host in hosts.items() if (connection := host.get("connection"))}
    places = {name: RecordedPlace.parse(host) for name, host in hosts.items()}
    return MemberMachines(places, connections, places if leaving else ())


def _write(record: str, hosts: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the record on hosts. Raises the first error once all hosts were tried."""
    if not hosts:
        return
    with _machines(hosts) as machines:

        def write(name: str) -> str:
            return machines.run(name, Record(record), say=say, timeout_seconds=RECORD_SECONDS)

        answers = machines.on_all(list(hosts), write)
    for answer in answers.values():
        if isinstance(answer, EtcdClusterError):
            raise answer


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
