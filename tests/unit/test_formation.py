"""The record of forming: who may form, what may never change, and that a second cluster is never made."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

import pulumi
import pytest

from etcd_cluster import clocks
from etcd_cluster import formation_lifecycle as formation
from etcd_cluster.formation_lifecycle import (
    FormationLifecycle,
    agree_on_token,
    founders,
    just_made,
    require_clocks_together,
)
from etcd_cluster.formation_refusals import EXPLANATIONS, FormationError, Obstacle
from etcd_cluster.member.layout import FOUNDING
from tests.unit.framing import framed

MEMBERS = ("host-1", "host-2", "host-3")
FORMED: dict[str, Any] = {
    "cluster": "etcd-cluster/prod/etcd",
    "reports": {},
    "connections": {},
}


THREE, FIVE = "1,2,3", "1,2,3,4,5"


def report(
    machine: str,
    token: str = "",
    running: bool = False,
    *,
    data: bool = False,
    history: str | None = None,
    formed: str = "",
) -> dict[str, Any]:
    """As check.sh prints it. token: of the marker."""
    return {
        "machine": machine,
        "token": token,
        "data": data,
        "history": history,
        "formed": formed,
        "running": running,
        "clock": time.time(),
    }


def blank(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Three new machines; changes: host_2={"data": True}."""
    return {name: report(f"machine-of-{name}", **changes.get(name.replace("-", "_"), {})) for name in MEMBERS}


def held(token: str = "old", history: str | None = THREE) -> dict[str, Any]:
    """What a destroyed member leaves."""
    return {"token": token, "data": True, "history": history, "formed": token}


def lost(token: str = "old", history: str | None = THREE) -> dict[str, Any]:
    """The same, with the data folder deleted."""
    return {**held(token, history), "data": False}


def test_blank_machines_form_under_a_new_token_each_time() -> None:
    first, second = agree_on_token(blank()), agree_on_token(blank())
    assert len(first) == 32
    assert first != second
    assert founders(blank()) == {name: f"machine-of-{name}" for name in MEMBERS}


def test_what_is_noted_before_the_first_start_is_no_sign_of_data() -> None:
    """A first `up` that was killed between the two."""
    reports = blank(host_1={"token": "old", "history": FOUNDING})
    assert agree_on_token(reports) != "old"
    assert set(founders(reports)) == set(MEMBERS)


@pytest.mark.parametrize("tokens", [("old", "old", "old"), ("old", "", "other")], ids=str)
def test_a_marker_beside_no_data_says_nothing(tokens: tuple[str, str, str]) -> None:
    """A first `up` that failed may have left it."""
    reports = {name: report(name, token) for name, token in zip(MEMBERS, tokens, strict=True)}
    assert agree_on_token(reports) not in tokens
    assert set(founders(reports)) == set(MEMBERS)


@pytest.mark.parametrize(
    "reports",
    [
        blank(host_1=held(), host_2=held(), host_3=held()),
        blank(host_1=held(), host_2=held(), host_3=lost()),
        blank(host_1=held(), host_2=held()),
        blank(host_1=held(), host_2=held(), host_3={"formed": "old"}),
        blank(host_1=held(history=FOUNDING), host_2=held(history=FOUNDING), host_3={"token": "old"}),
        # docs/recover.md: the history is removed beside the data that are restored.
        blank(host_1=held(history=None), host_2=lost(), host_3=lost()),
        blank(host_1=held(history=None), host_2=lost(history=FIVE)),
    ],
)
def test_where_some_hold_data_their_token_stays_and_nobody_forms(reports: dict[str, dict[str, Any]]) -> None:
    assert agree_on_token(reports) == "old"
    assert founders(reports) == {}


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        (blank(host_1=held(), host_2=lost(), host_3=lost()), "host-2, host-3: no data, and with those of host-1 alone"),
        (blank(host_1=held()), "host-2, host-3: no data, and with those of host-1 alone, 1 of 3 members"),
        (blank(host_1=held(history=FOUNDING)), "host-2, host-3: no data"),
        (blank(host_1=held(history=FIVE), host_2=held(history=FIVE)), "2 of 5 members"),
        (blank(host_1=lost(), host_2=lost(), host_3=lost()), "no data, and with those of no machine alone"),
        (blank(host_1={"formed": "old"}), "no data, and with those of no machine alone"),
        (blank(host_1={"history": THREE}), "no data, and with those of no machine alone"),
        (blank(host_1=held(), host_2=held("other")), "host-1: old; host-2: other; host-3: nothing"),
        (blank(host_1=held(), host_2=held(), host_3=lost("other")), "host-3: other (its data are gone)"),
        (
            {name: report(name, running=name == "host-3", **held()) for name in MEMBERS},
            "host-3: a member of this cluster",
        ),
        ({**blank(), "host-3": report("machine-of-host-1")}, "host-3 and host-1 are the same machine"),
    ],
)
def test_anything_between_is_refused_and_nothing_was_changed(reports: dict[str, dict[str, Any]], text: str) -> None:
    with pytest.raises(FormationError) as refused:
        agree_on_token(reports)
    assert text in str(refused.value)
    assert "nothing was changed" in str(refused.value)


def test_of_a_report_by_an_earlier_release_the_marker_stands_for_data() -> None:
    reports = {name: {"machine": name, "token": "old", "running": False, "clock": 0} for name in MEMBERS}
    assert agree_on_token(reports) == "old"
    assert founders(reports) == {}


def test_clocks_apart_are_refused_and_close_ones_are_not() -> None:
    require_clocks_together({"host-1": 0.2, "host-2": -4.9})
    with pytest.raises(FormationError, match="clock of host-2 is 300 s behind"):
        require_clocks_together({"host-1": 0.2, "host-2": -300.0})


@pytest.mark.parametrize(("age", "fresh"), [(0.5, True), (4.9, True), (-4.9, True), (6, False), (-300, False)])
def test_reports_are_taken_as_they_are_only_if_they_were_made_just_now(age: float, fresh: bool) -> None:
    reports = {"host-1": {"clock": 1000.0}, "host-2": {"clock": 1000.0 - age}}
    assert just_made(reports, 1000.0) is fresh


def created() -> dict[str, Any]:
    reports = {name: json.dumps(value) for name, value in blank().items()}
    return dict(FormationLifecycle().create({**FORMED, "reports": reports}).outs or {})


def test_the_record_holds_token_and_founders() -> None:
    outs = created()
    assert outs["founders"] == {name: f"machine-of-{name}" for name in MEMBERS}
    assert outs["token"]


def test_an_update_keeps_token_and_founders_whatever_the_machines_report_now() -> None:
    before = created()
    later = {**FORMED, "reports": {name: json.dumps(report("new")) for name in (*MEMBERS, "host-4")}}
    after = FormationLifecycle().update("id", before, later).outs or {}
    assert (after["token"], after["founders"]) == (before["token"], before["founders"])


@pytest.mark.parametrize(
    "change", [{}, {"reports": {"host-1": "{}"}}, {"connections": {"a": 1}}, {"reports": pulumi.output.Unknown()}]
)
def test_nothing_that_comes_later_is_a_change_of_it(change: dict[str, Any]) -> None:
    assert FormationLifecycle().diff("id", FORMED, {**FORMED, **change}).changes is False


def test_a_machine_that_hangs_is_told_by_its_name_and_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formation, "REPORT_SECONDS", 1)
    answer = framed(json.dumps(report("machine-of-host-1")))
    preflights = {
        "host-1": {"command": f"cat > /dev/null; printf %s {shlex.quote(answer)}", "script": ""},
        "host-2": {"command": "cat > /dev/null; exec sleep 600", "script": ""},
    }
    with pytest.raises(FormationError, match="host-2: its machine did not answer the preflight within 1 s") as refused:
        formation.current_reports(preflights, {})
    assert "nothing was changed on any machine" in str(refused.value)
    reports = formation.current_reports({"host-1": preflights["host-1"]}, {})
    assert reports["host-1"]["machine"] == "machine-of-host-1"


def test_hosts_that_cannot_be_asked_are_not_taken_for_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    preflights = {"host-1": {"command": "true", "script": ""}}
    with pytest.raises(FormationError, match="no `ssh` program here to reach the hosts with"):
        formation.current_reports(preflights, {"host-1": {"host": "10.0.0.1"}})


def test_restored_data_beside_those_from_before_are_of_different_clusters() -> None:
    """Whatever the marker says: two clusters would serve at once."""
    before = {
        "machine": "m",
        "token": "t",
        "data": True,
        "history": "1,2,3",
        "formed": "t",
        "running": False,
        "clock": 0,
    }
    reports = {name: {**before, "machine": name, "of": "92ddb8"} for name in "abc"}
    assert agree_on_token(reports) == "t"
    reports["a"] |= {"history": None, "of": "ef87cc"}
    with pytest.raises(FormationError, match="of different clusters, by etcd's own logs"):
        agree_on_token(reports)


HELD = {"data": True, "token": "t", "cluster": "p/s/etcd", "member": "a", "history": "1"}


@pytest.mark.parametrize("of", [{"cluster": "p/s/other"}, {"member": "b"}])
@pytest.mark.parametrize("holding", [{"data": True}, {"data": False, "history": "1,2,3"}])
def test_data_of_another_cluster_or_member_are_refused_by_the_names_beside_them(
    of: dict[str, Any], holding: dict[str, Any]
) -> None:
    found = {**HELD, **holding, **of}
    with pytest.raises(FormationError, match=r"a: its machine holds the data of member . of cluster p/s/"):
        formation.own_reports("p/s/etcd", {"a": found})
    assert formation.own_reports("p/s/etcd", {"a": {**found, "data": False, "history": None}}), "a marker alone"
    assert formation.can_form("p/s/etcd", {"a": {**report("m"), **found}}) is False


def test_data_of_the_stack_that_the_cluster_is_moved_from_are_its_own() -> None:
    found = {**report("m"), **HELD, "cluster": "p/before/etcd"}
    assert formation.own_reports("p/s/etcd", {"a": found}, "p/before/etcd")
    assert formation.can_form("p/s/etcd", {"a": found}, "p/before/etcd")
    for other in ({"cluster": "p/third/etcd"}, {"member": "b"}):
        with pytest.raises(FormationError, match="its machine holds the data of member"):
            formation.own_reports("p/s/etcd", {"a": {**found, **other}}, "p/before/etcd")


def test_what_another_cluster_noted_on_a_machine_that_it_has_left_says_nothing() -> None:
    noted = {"formed": "t", "formedBy": "p/s/other", "data": False, "token": ""}
    assert formation.own_reports("p/s/etcd", {"a": noted})["a"]["formed"] == ""
    assert formation.own_reports("p/s/etcd", {"a": {**noted, "formedBy": "p/s/etcd"}})["a"]["formed"] == "t"


@pytest.mark.parametrize(("unit", "refused"), [("", False), ("t", False), ("p/s/etcd", False), ("another", True)])
def test_a_service_of_another_cluster_is_refused(unit: str, refused: bool) -> None:
    reports = {"a": {"unit": unit}}
    if refused:
        with pytest.raises(FormationError, match=r"a: etcd-cluster\.service on its machine belongs to another cluster"):
            formation.require_own_units("p/s/etcd", "t", reports)
    else:
        formation.require_own_units("p/s/etcd", "t", reports)


def test_data_whose_marker_cannot_be_read_are_nobodys_to_form_with() -> None:
    held = {**report("m"), "data": True, "token": "", "history": "1"}
    with pytest.raises(FormationError, match="a: data without a readable marker"):
        formation.agree_on_token({"a": held})


def test_clocks_are_compared_in_one_way_and_by_one_tolerance() -> None:
    assert clocks.offset(105.0, 100.0, 101.0) == 4.0
    assert clocks.offset(95.0, 100.0, 101.0, resolution=1.0) == -4.0
    assert clocks.offset(100.5, 100.0, 101.0) == 0.0
    assert [clocks.are_apart(seconds) for seconds in (5.0, -5.0, 5.1, -5.1)] == [False, False, True, True]


DETAILS: dict[str, object] = {
    "all": 3,
    "cluster": "p/s/etcd",
    "count": 1,
    "found": "host-1: 11aa; host-2: 22bb",
    "having": "host-1",
    "lost": "host-2, host-3",
    "machine": "8a1b",
    "member": "host-1",
    "members": "host-1 and host-2",
    "other": "shop/prod/etcd",
    "owner": "host-9",
    "seconds": 60,
    "token": "22bb",
    "tolerance": 5,
    "why": "cannot reach 10.0.0.3:22 after 3 attempt(s): No route to host",
}


def test_every_refusal_reads_as_reviewed() -> None:
    """`UPDATE_GOLDEN=1 scripts/test tests/unit` writes the golden copy, which is what users see."""
    assert EXPLANATIONS.keys() == set(Obstacle)
    text = "\n\n".join(f"{kind.name}\n{FormationError(kind, **DETAILS)}" for kind in Obstacle) + "\n"
    golden = Path(__file__).with_name("golden") / "formation.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()
