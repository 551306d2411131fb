"""The backup that a new cluster starts with, in a run that goes on where another one was cut short."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from etcd_cluster.backup import restore_source_lifecycle
from etcd_cluster.backup.restore_source_lifecycle import (
    BackupSourceLifecycle,
    RestoreSourceLifecycle,
    as_restore_source,
)
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.machines import StepFailedError

NAME = "a" * 32 + "/20201127T100000Z-7-etcd-1"


def inputs(**changes: Any) -> dict[str, Any]:
    usual = {
        "cluster": "shop/prod/etcd",
        "token": "b" * 32,
        "backup": "latest",
        "version": "3.6.16",
        "to": "s3://bucket/etcd",
        "member": "etcd-1",
        "place": {
            "layout": dict(vars(Layout.system())),
            "ports": {"client": 2379, "peer": 2380, "metrics": 2381},
        },
        "credentials": {"access_key": "OLD", "secret_key": "old"},
        "rclone": {},
        "connection": None,
    }
    return {**usual, **changes}


def test_new_credentials_reach_a_restore_that_was_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials had expired, and every later run took them from the state. The same backup stays."""
    monkeypatch.setattr(restore_source_lifecycle, "_find_backup", lambda _: pytest.fail("latest may be another by now"))
    lifecycle = BackupSourceLifecycle()
    before = restore_source_lifecycle._variables(  # pyright: ignore[reportPrivateUsage]
        as_restore_source(inputs()), "etcd-1", "/opt/etcd/rclone"
    )
    olds = {**inputs(), "restored": json.dumps({"backup": NAME, "member": "etcd-1", "variables": before})}
    news = inputs(credentials={"access_key": "NEW", "secret_key": "new"})
    assert not lifecycle.diff(NAME, olds, inputs()).changes
    assert lifecycle.diff(NAME, olds, news).changes
    updated = lifecycle.update(NAME, olds, news).outs
    assert updated is not None
    restored = json.loads(updated["restored"])
    assert (restored["backup"], restored["variables"]["rclone_placed"]) == (NAME, "/opt/etcd/rclone")
    configuration = base64.b64decode(restored["variables"]["file_configuration"]).decode()
    assert "access_key_id = NEW" in configuration


LATER = "c" * 32 + "/20261128T100000Z-9-etcd-1"


@pytest.mark.parametrize(
    ("there", "expected", "asked"),
    [
        ({NAME: NAME, "latest": LATER}, NAME, [NAME]),
        ({"latest": LATER}, LATER, [NAME, "latest"]),
        ({}, NAME, [NAME, "latest"]),
    ],
    ids=["a copy of the store", "other backups", "none yet"],
)
@pytest.mark.parametrize("in_place", [False, True], ids=["restoreFrom", "restoreInPlace"])
def test_in_another_store_the_same_backup_is_looked_for_and_then_what_is_wanted(
    in_place: bool, there: dict[str, str], expected: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of the store before was looked for in the new one, by a step that only could say that its data is gone."""
    said: list[str] = []
    questions: list[str] = []

    def find(props: dict[str, Any]) -> dict[str, Any]:
        questions.append(props["wanted"])
        assert props["to"] == "s3://other/etcd"
        if props["wanted"] not in there:
            raise StepFailedError(f"etcd-1: {props['wanted']}: there is no such backup")
        return {"backup": there[props["wanted"]], "variables": {"etcd-1": {"rclone_placed": "/opt/etcd/rclone"}}}

    monkeypatch.setattr(restore_source_lifecycle, "_find_backup", find)
    monkeypatch.setattr(restore_source_lifecycle, "say", said.append)
    before, news = {"rclone_placed": "/opt/etcd/rclone"}, inputs(to="s3://other/etcd")
    if in_place:
        olds = {**as_restore_source(inputs()), "found": json.dumps({"backup": NAME, "variables": {"etcd-1": before}})}
        outs = RestoreSourceLifecycle().update(NAME, olds, as_restore_source(news)).outs
    else:
        olds = {**inputs(), "restored": json.dumps({"backup": NAME, "member": "etcd-1", "variables": before})}
        outs = BackupSourceLifecycle().update(NAME, olds, news).outs
    assert outs is not None
    assert (json.loads(outs["found" if in_place else "restored"])["backup"], questions) == (expected, asked)
    (line,) = said
    assert expected in line
    assert ("Once it is restored, take restoreFrom out" in line) == (not there)
