"""The backup that a new cluster starts with, in a run that goes on where another one was cut short."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from etcd_cluster.backup import restore_source_lifecycle
from etcd_cluster.backup.restore_source_lifecycle import BackupSourceLifecycle, as_restore_source
from etcd_cluster.member.layout import Layout

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
