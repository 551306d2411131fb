"""The record of forming: who may form, what may never change, and that a second cluster is never made."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pulumi
import pytest
from pulumi.dynamic.dynamic import serialize_provider

from etcd_cluster.formation import FormationError, FormationProvider, agree_on_token, just_made, require_clocks_together

MEMBERS = ("host-1", "host-2", "host-3")
FORMED: dict[str, Any] = {
    "cluster": "etcd-cluster/prod/etcd",
    "reports": {},
    "connections": {},
}


def report(machine: str, token: str = "", running: bool = False) -> dict[str, Any]:
    return {"machine": machine, "token": token, "running": running, "clock": time.time()}


def blank() -> dict[str, dict[str, Any]]:
    return {name: report(f"machine-of-{name}") for name in MEMBERS}


def test_blank_machines_form_under_a_new_token_each_time() -> None:
    first, second = agree_on_token(blank()), agree_on_token(blank())
    assert len(first) == 32
    assert first != second


def test_machines_that_all_bring_this_clusters_data_go_on_with_it() -> None:
    assert agree_on_token({name: report(name, token="old") for name in MEMBERS}) == "old"


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        ({**blank(), "host-2": report("b", token="old")}, "host-2: old"),
        ({name: report(name, token=f"of-{name}") for name in MEMBERS}, "host-3: of-host-3"),
        (
            {name: report(name, token="old", running=name == "host-3") for name in MEMBERS},
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
    return dict(FormationProvider().create({**FORMED, "reports": reports}).outs)


def test_the_record_holds_token_and_founders() -> None:
    outs = created()
    assert outs["founders"] == {name: f"machine-of-{name}" for name in MEMBERS}
    assert outs["token"]


def test_an_update_keeps_token_and_founders_whatever_the_machines_report_now() -> None:
    before = created()
    later = {**FORMED, "reports": {name: json.dumps(report("new")) for name in (*MEMBERS, "host-4")}}
    after = FormationProvider().update("id", before, later).outs
    assert (after["token"], after["founders"]) == (before["token"], before["founders"])


@pytest.mark.parametrize(
    "change", [{}, {"reports": {"host-1": "{}"}}, {"connections": {"a": 1}}, {"reports": pulumi.output.Unknown()}]
)
def test_nothing_that_comes_later_is_a_change_of_it(change: dict[str, Any]) -> None:
    assert FormationProvider().diff("id", FORMED, {**FORMED, **change}).changes is False


def test_state_names_the_provider_and_holds_no_code() -> None:
    """A contract with every existing stack: neither the module nor the class may be renamed."""
    pickled = base64.b64decode(serialize_provider(FormationProvider()))
    assert b"etcd_cluster.formation" in pickled
    assert b"FormationProvider" in pickled
    assert len(pickled) < 100
