"""The step that tests a backup by its name, on this machine, with a store that is played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etcd_cluster.backup.catalog import RFC3339
from etcd_cluster.backup.files import MemberPlace, Schedule, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.machines.machine import Ports
from tests.unit.test_member_scripts import Folder

NAME = "20201127T100000Z-7-etcd-1"
SCHEDULE = Schedule(3600, last=2, daily=1, weekly=1, test="daily", append_only=False)


def play_store(folder: Folder, has_data: bool) -> dict[str, str]:
    """Returns the step's variables, with an rclone that notes what it is asked and has one backup, of other data."""
    place = MemberPlace("etcd-1", folder.layout, Ports(client=1, peer=2, metrics=3))
    store = StoreUrl("s3", "bucket/p")
    for path in ("state", "volume", "configuration/backup"):
        (folder.path / path).mkdir(parents=True)
    manifest = json.dumps({"name": NAME, "revision": 7, "bytes": 3, "sha256": "0" * 64})
    rclone = folder.path / "configuration/backup/rclone"
    rclone.write_text(
        f"""#!/bin/bash
        for word; do case $word in lsf | size | copyto | rcat | deletefile) break ;; esac; shift; done
        echo "$*" >>'{folder.path}/asked'
        case $1 in
          lsf) printf "%s\\n" {NAME}.json{f" {NAME}.db" if has_data else ""} ;;
          size) {"echo '{" + '"bytes":3' + "}'" if has_data else "exit 1"} ;;
          copyto) echo '{manifest}' >"$3" ;;
          rcat) cat >'{folder.path}/result' ;;
        esac
        """
    )
    rclone.chmod(0o755)
    return variables("p/s/etcd", "TOKEN", place, store, "s3://bucket/p", SCHEDULE)


@pytest.mark.parametrize(
    ("has_data", "why"),
    [(False, "its data is gone from the store"), (True, "its SHA-256 is ")],
    ids=["no data", "other data"],
)
def test_a_backup_that_does_not_restore_ends_the_test_at_once_and_leaves_nothing(
    has_data: bool, why: str, tmp_path: Path
) -> None:
    """A test that went on without its folder would write to /."""
    folder = Folder(tmp_path / "a member")
    done = folder.run("backup", False, variables=play_store(folder, has_data), prove=NAME)
    assert done.returncode == 70
    assert f"error: etcd-1: backup {NAME} does not restore: {why}" in done.stderr
    asked = (folder.path / "asked").read_text()
    assert ("copyto" in asked) == has_data
    assert f"rcat store:bucket/p/TOKEN/{NAME}.failed" in asked
    told = (folder.path / "result").read_text().splitlines()
    assert RFC3339.fullmatch(told[0])
    assert told[1].startswith(why)
    noted = (folder.path / "state" / "backup").read_text()
    assert f"result=failed\nfailure=backup {NAME} does not restore: {why}" in noted
    assert f"newest={NAME}\n" in noted
    assert list(folder.path.rglob("scratch*")) == []
