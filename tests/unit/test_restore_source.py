"""What is restored: files as people have them, and backups that are asked for where the first machine may be lost."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic import CreateResult, UpdateResult

from etcd_cluster.backup import restore_source_lifecycle
from etcd_cluster.backup.restore_source_lifecycle import NoMachineError, RestoreSourceLifecycle
from etcd_cluster.backup.snapshot_file import SnapshotFileError, read_snapshot_file
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.machines import MemberMachines, StepFailedError
from etcd_cluster.ssh.connection import SshUnreachableError

PAGE = 4096


def page(number: int, items: dict[bytes, tuple[int, bytes]]) -> bytes:
    """A leaf page of bbolt: key -> kind (1: a bucket) and value."""
    elements, contents = b"", b""
    begin = 16 * len(items)
    for place, (key, (kind, value)) in enumerate(items.items()):
        elements += struct.pack("<IIII", kind, begin - 16 * place + len(contents), len(key), len(value))
        contents += key + value
    return (struct.pack("<QHHI", number, 2, len(items), 0) + elements + contents).ljust(PAGE, b"\0")


def inline(items: dict[bytes, bytes]) -> bytes:
    """A small bucket, in the page of the one that holds it."""
    return struct.pack("<QQ", 0, 0) + page(0, {key: (0, value) for key, value in items.items()})[:256]


def database(cluster_version: str, storage_version: str = "") -> bytes:
    """As much of a database as says its version. The older of both meta pages points elsewhere."""
    meta = {b"storageVersion": storage_version.encode()} if storage_version else {b"term": b"12345678"}
    buckets = {
        b"cluster": (1, inline({b"clusterVersion": cluster_version.encode(), b"downgrade": b"{}"})),
        b"key": (1, struct.pack("<QQ", 3, 0)),
        b"meta": (1, inline(meta)),
    }
    metas = b""
    for number, (root, transaction) in enumerate(((9, 1), (2, 2))):
        numbers = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 4, 5, transaction)
        metas += (struct.pack("<QHHI", number, 4, 0, 0) + numbers).ljust(PAGE, b"\0")
    text = {b"k": (0, b"clusterVersion9.9.0")}
    return metas + page(2, dict(sorted(buckets.items()))) + page(3, text)


def snapshot(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


@pytest.mark.parametrize("series", ["3.4", "3.5", "3.6"])
def test_a_snapshot_and_a_copy_of_a_database_tell_the_version_that_wrote_them(series: str, tmp_path: Path) -> None:
    stored = f"{series}.0" if series == "3.6" else ""
    content, path = database(f"{series}.0", stored), tmp_path / "backup.db"
    for written, is_bare in ((snapshot(content), False), (content, True)):
        path.write_bytes(written)
        found = read_snapshot_file(path, "restoreFrom", "3.6")
        assert (found.version, found.is_bare, found.size) == (f"{series}.0", is_bare, len(written))
        assert found.sha256 == hashlib.sha256(written).hexdigest()


def test_a_newer_minor_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    path.write_bytes(snapshot(database("3.7.0", "3.7.0")))
    with pytest.raises(
        SnapshotFileError, match=r"is of etcd 3\.7\. Expected: 3\.6 or older\. Set version to a release"
    ):
        read_snapshot_file(path, "restoreFrom", "3.6")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (snapshot(database("3.6.0"))[:-1] + b"\0", "does not fit"),
        (database("3.6.0")[:5000], "no database of etcd"),
        (b"", "no database of etcd"),
        (b"PK\3\4" * 4096, "no database of etcd"),
        (b"\0" * 3 * PAGE, "no database of etcd"),
    ],
    ids=["damaged", "cut", "empty", "a zip file", "zeros"],
)
def test_what_is_no_whole_database_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    path.write_bytes(content)
    with pytest.raises(SnapshotFileError, match=why) as refused:
        read_snapshot_file(path, "restoreFrom", "3.6")
    assert "restoreFrom: " in str(refused.value)


def test_the_manifest_beside_a_backup_is_that_of_this_file(tmp_path: Path) -> None:
    path, content = tmp_path / "20261127T100000Z-7-a.db", snapshot(database("3.6.0"))
    path.write_bytes(content)
    manifest = path.with_suffix(".json")
    text = json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "cluster": "p/s/c"})
    manifest.write_text(text)
    assert read_snapshot_file(path, "restore", "3.6").manifest == text
    for other in ('{"sha256": "0"}', "[", "{}"):
        manifest.write_text(other)
        with pytest.raises(SnapshotFileError, match="the manifest beside it"):
            read_snapshot_file(path, "restore", "3.6")


# --- the resource ---


def inputs(**changes: Any) -> dict[str, Any]:
    place = {"layout": dict(vars(Layout.system())), "ports": {"client": 2379, "peer": 2380, "metrics": 2381}}
    usual: dict[str, Any] = {
        "cluster": "shop/prod/etcd",
        "token": "b" * 32,
        "key": "restoreInPlace.from",
        "request": "restoreInPlace c1",
        "kind": "store",
        "wanted": "latest",
        "version": "3.6.16",
        "to": "s3://bucket/etcd",
        "credentials": {"access_key": "OLD", "secret_key": "old"},
        "rclone": {},
        "places": {"a": place, "b": place},
        "connections": {},
    }
    return {**usual, **changes}


@pytest.fixture
def _rclone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_source_lifecycle, "placed_rclone", lambda *_: "/opt/rclone")


def found_in(result: CreateResult | UpdateResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.outs or {})["found"])
    return found


NAME = "a" * 32 + "/20201127T100000Z-7-a"


@pytest.mark.usefixtures("_rclone")
def test_the_store_is_asked_from_a_machine_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: MemberMachines, name: str, *__: Any, **___: Any) -> str:
        if name == "a":
            raise SshUnreachableError("a does not answer")
        return f"{NAME}\n"

    monkeypatch.setattr(MemberMachines, "run", run)
    found = found_in(RestoreSourceLifecycle().create(inputs()))
    assert found["backup"] == NAME
    assert list(found["variables"]) == ["b"], "it is restored to one that reads the store"
    assert "file_program" not in found["variables"]["b"]


@pytest.mark.usefixtures("_rclone")
@pytest.mark.parametrize(
    ("raised", "expected"),
    [(SshUnreachableError("gone"), NoMachineError), (StepFailedError("no backup"), StepFailedError)],
)
def test_no_machine_and_no_backup_are_two_things(
    raised: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> str:
        raise raised

    monkeypatch.setattr(MemberMachines, "run", run)
    with pytest.raises(expected):
        RestoreSourceLifecycle().create(inputs())


def test_the_same_request_keeps_its_backup_and_gets_new_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest backup is, by then, the one that was made of what is put away."""
    monkeypatch.setattr(restore_source_lifecycle, "_find", lambda _: pytest.fail("latest may be another backup by now"))
    lifecycle = RestoreSourceLifecycle()
    olds = {**inputs(), "found": json.dumps({"backup": NAME, "variables": {"a": {"rclone_placed": "/opt/rclone"}}})}
    assert not lifecycle.diff("id", olds, inputs()).changes
    news = inputs(credentials={"access_key": "NEW", "secret_key": "new"})
    assert lifecycle.diff("id", olds, news).changes
    found = found_in(lifecycle.update("id", olds, news))
    assert (found["backup"], found["variables"]["a"]["rclone_placed"]) == (NAME, "/opt/rclone")


def test_another_cluster_id_is_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_source_lifecycle, "_find", lambda _: {"backup": "another"})
    lifecycle, news = RestoreSourceLifecycle(), inputs(request="restoreInPlace c2")
    olds = {**inputs(), "found": json.dumps({"backup": NAME, "variables": {}})}
    assert lifecycle.diff("id", olds, news).changes
    assert found_in(lifecycle.update("id", olds, news)) == {"backup": "another"}


def test_a_missing_file_is_refused_in_the_preview_and_not_missed_once_it_was_read(tmp_path: Path) -> None:
    lifecycle = RestoreSourceLifecycle()
    news = inputs(kind="file", wanted=str(tmp_path / "backup.db"), to="", credentials={})
    (failure,) = lifecycle.check({}, news).failures
    assert "no such file on this machine" in failure.reason
    assert not lifecycle.check({**news, "found": "{}"}, news).failures


def test_a_file_reaches_the_state_by_path_and_sum_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "db"
    path.write_bytes(database("3.6.0", "3.6.0"))
    news = inputs(kind="file", wanted=str(path), to="", credentials={})
    found = found_in(RestoreSourceLifecycle().create(news))
    assert (found["file"], found["bare"]) == (str(path), True)
    assert "without etcd's own sum at its end" in capsys.readouterr().err
    assert all("file_configuration" not in each for each in found["variables"].values())
