"""The record of hosts: what is written on which host, what is kept of those that left, and whom a delete may touch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pulumi.output import Unknown

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Line
from etcd_cluster.member.machines import Place
from etcd_cluster.rollout import host_record_lifecycle
from etcd_cluster.rollout.host_record_lifecycle import HostRecordLifecycle
from etcd_cluster.rollout.lifecycle import NotRemovedError
from etcd_cluster.ssh.connection import SshAuthenticationError, SshNoAnswerError
from etcd_cluster.ssh.processes import CommandTimeoutError

PORTS = {"client": 2379.0, "peer": 2380.0, "metrics": 2381.0}
NAMES = ("host-1", "host-2", "host-3")
UNREACHABLE, REFUSED = SshNoAnswerError("no route to host"), SshAuthenticationError("refused the key")


def props(*names: str, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": "project/stack/etcd",
        "token": "the-token",
        "hosts": {name: {"layout": vars(Layout.system()), "ports": PORTS} for name in names or NAMES},
        "connections": {name: {"host": f"address-of-{name}"} for name in names or NAMES},
        "delete_data": False,
        **changes,
    }


@dataclass
class Machines:
    """In place of MemberMachines. said: (host, step, its line's KEY=VALUE). tried_once: hosts that may be gone."""

    said: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    tried_once: set[str] = field(default_factory=set)
    gone: dict[str, EtcdClusterError] = field(default_factory=dict)

    def __call__(
        self, members: Mapping[str, Place], connections: Mapping[str, Any], leaving: Collection[str] = ()
    ) -> Machines:
        assert set(connections) <= set(members)
        self.tried_once |= set(leaving)
        return self

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_all(self, names: list[str], do: Callable[[str], str]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for name in names:
            try:
                answers[name] = do(name)
            except EtcdClusterError as error:
                answers[name] = error
        return answers

    def run(self, name: str, line: Line, variables: Mapping[str, str] | None = None, **how: Any) -> str:
        if name in self.gone:
            raise self.gone[name]
        assert how["timeout_seconds"]
        words = line.words(name)
        assert words.pop("member") == name
        words.pop("run", "")
        self.said.append((name, line.step, {**words, **(variables or {})}))
        return ""

    def steps(self) -> list[str]:
        return [f"{step} {name}" for name, step, _ in self.said]


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    found = Machines()
    monkeypatch.setattr(host_record_lifecycle, "MemberMachines", found)
    return found


def created(machines: Machines, *names: str, **changes: Any) -> dict[str, Any]:
    outs = dict(HostRecordLifecycle().create(props(*names, **changes)).outs or {})
    machines.said.clear()
    return outs


def test_each_has_an_id_of_its_own_and_writes_it_on_every_host(machines: Machines) -> None:
    first, second = (HostRecordLifecycle().create(props()) for _ in range(2))
    assert first.id != second.id
    assert first.outs == {**props(), "record": first.id, "former": {}}
    assert machines.steps() == [f"record {name}" for name in NAMES] * 2
    assert [words for _, _, words in machines.said[3:]] == [{"record": second.id}] * 3


def test_a_host_that_cannot_be_written_to_fails_after_the_others_were(machines: Machines) -> None:
    machines.gone = {"host-1": UNREACHABLE}
    with pytest.raises(SshNoAnswerError, match="no route to host"):
        HostRecordLifecycle().create(props())
    assert machines.steps() == ["record host-2", "record host-3"]


def test_an_update_writes_on_what_is_new_and_keeps_what_left(machines: Machines) -> None:
    before = created(machines)
    moved = props("host-1", "host-3", "host-4")
    moved["connections"]["host-3"] = {"host": "another"}
    after = dict(HostRecordLifecycle().update("id", before, moved).outs or {})
    assert machines.steps() == ["record host-3", "record host-4"]
    assert after["record"] == "id"
    left, moved_away = after["former"].pop("host-2"), list(after["former"].values())
    assert [(host["connection"], host["moved"]) for host in moved_away] == [({"host": "address-of-host-3"}, True)]
    after["former"] = {"host-2": left}
    assert left == {
        "layout": vars(Layout.system()),
        "ports": PORTS,
        "connection": {"host": "address-of-host-2"},
        "mark": left["mark"],
    }
    again = dict(HostRecordLifecycle().update("id", after, props("host-1", "host-2")).outs or {})
    assert set(again["former"]) == {"host-3", "host-4"}
    once_more = dict(HostRecordLifecycle().update("id", again, props("host-1")).outs or {})
    assert set(once_more["former"]) == {"host-2", "host-3", "host-4"}
    assert once_more["former"]["host-2"]["mark"] != left["mark"], "it left twice"
    assert once_more["former"]["host-3"] == again["former"]["host-3"]


def test_the_place_of_a_member_under_another_name_or_reached_in_another_way_has_not_left(machines: Machines) -> None:
    before = created(machines)
    renamed = props("host-1", "host-2", "host-9")
    renamed["connections"]["host-9"] = {"host": "address-of-host-3"}
    renamed["connections"]["host-1"] = {"host": "address-of-host-1", "user": "another", "hostKey": "of a new disk"}
    after = dict(HostRecordLifecycle().update("id", before, renamed).outs or {})
    assert machines.steps() == ["record host-1", "record host-9"]
    assert after["former"] == {}


def test_a_place_that_a_member_has_left_and_comes_back_to_is_not_a_former_one(machines: Machines) -> None:
    elsewhere = props()
    elsewhere["hosts"] = {**props()["hosts"], "host-1": {"layout": vars(Layout.below("/there")), "ports": PORTS}}
    moved = dict(HostRecordLifecycle().update("id", created(machines), elsewhere).outs or {})
    assert [host["layout"]["state"] for host in moved["former"].values()] == [Layout.system().state]
    back = dict(HostRecordLifecycle().update("id", moved, props()).outs or {})
    assert [host["layout"]["state"] for host in back["former"].values()] == ["/there/state"]


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        ({}, False),
        ({"record": None}, False),
        ({"delete_data": True}, True),
        ({"connections": {}}, True),
        ({"connections": Unknown()}, True),
        (props("host-1"), True),
    ],
)
def test_what_is_a_change(change: dict[str, Any], changes: bool, machines: Machines) -> None:
    before = created(machines)
    diff = HostRecordLifecycle().diff("id", before, {**props(), **change})
    assert (diff.changes, diff.replaces, machines.said) == (changes, [], [])


@pytest.mark.parametrize("delete_data", [False, True])
def test_a_delete_acts_for_its_own_id_and_never_deletes_data_of_hosts_that_left(
    delete_data: bool, machines: Machines
) -> None:
    record = HostRecordLifecycle().update("id", created(machines), props("host-1", delete_data=delete_data)).outs
    machines.said.clear()
    HostRecordLifecycle().delete("id", dict(record or {}))
    common = {"record": "id", "members": "1", **render.remove_variables("project/stack/etcd", "the-token")}
    assert machines.said == [
        ("host-1", "remove", {**common, "delete-data": "yes"} if delete_data else common),
        ("host-2", "remove", common),
        ("host-3", "remove", common),
    ]
    assert machines.tried_once == {"host-2", "host-3"}


@pytest.mark.parametrize(
    ("member", "error", "forgotten", "is_passed_over"),
    [
        (True, UNREACHABLE, "", False),
        (True, UNREACHABLE, "host-2", True),
        (True, REFUSED, "host-2", False),
        (False, UNREACHABLE, "", True),
        (False, REFUSED, "", False),
        (False, REFUSED, "host-2", True),
        (True, CommandTimeoutError("hung"), "host-2", False),
        (False, CommandTimeoutError("hung"), "", False),
        (False, CommandTimeoutError("hung"), "host-2", True),
    ],
)
def test_only_a_host_that_nothing_answers_on_or_that_left_may_be_named_as_gone(
    member: bool,
    error: EtcdClusterError,
    forgotten: str,
    is_passed_over: bool,
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ETCD_CLUSTER_FORGET", forgotten)
    record = created(machines)
    if not member:
        record = dict(HostRecordLifecycle().update("id", record, props("host-1", "host-3")).outs or {})
    machines.said.clear()
    machines.gone = {"host-2": error}
    if is_passed_over:
        HostRecordLifecycle().delete("id", record)
        assert "warning: host-2: its etcd was not stopped, and nothing was removed from" in capfd.readouterr().err
    else:
        with pytest.raises(NotRemovedError, match=rf"host-2: .*etcd was (not )?stopped: {error}\."):
            HostRecordLifecycle().delete("id", record)
    assert machines.steps() == ["remove host-1", "remove host-3"]


def test_hosts_that_left_are_cleaned_though_a_member_is_not(machines: Machines) -> None:
    record = dict(HostRecordLifecycle().update("id", created(machines), props("host-1", "host-2")).outs or {})
    machines.said.clear()
    machines.gone = {"host-1": UNREACHABLE, "host-3": REFUSED}
    with pytest.raises(NotRemovedError, match=r"(?s)host-1: its etcd was not.*host-3: its etcd was not"):
        HostRecordLifecycle().delete("id", record)
    assert machines.steps() == ["remove host-2"]


def test_members_on_this_machine_have_no_connection(machines: Machines) -> None:
    """And Pulumi drops what is None."""
    hosts = {name: {"layout": vars(Layout.below(f"/members/{name}")), "ports": PORTS} for name in NAMES}
    before = created(machines, connections={}, hosts=hosts)
    first = {"host-1": hosts["host-1"]}
    outs = dict(HostRecordLifecycle().update("id", before, props(connections={}, hosts=first)).outs or {})
    for left in outs["former"].values():
        assert left.pop("connection") is None
    HostRecordLifecycle().delete("id", outs)
    assert machines.steps() == [f"remove {name}" for name in NAMES]


def test_a_state_without_one_of_its_paths_is_read(machines: Machines) -> None:
    before = created(machines)
    for path in vars(Layout.system()).keys() - {"supervisor"}:
        hosts = {name: {"layout": {**vars(Layout.system())}, "ports": PORTS} for name in NAMES}
        del hosts["host-3"]["layout"][path]
        HostRecordLifecycle().update("id", {**before, "hosts": hosts}, props("host-1"))
