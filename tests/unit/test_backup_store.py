"""What is read from a store of backups, by a real rclone from a folder: names, manifests, data, and their sums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from etcd_cluster.backup.catalog import HashMissing, Problem, Test, next_retention, read_catalogs
from etcd_cluster.backup.files import Schedule
from etcd_cluster.backup.plain_folder import PlainFolder
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.backup.transport import StoreError, StoreFolder
from etcd_cluster.backup.verification import Difference, verify

NOW = datetime(2026, 11, 27, 10, 30, tzinfo=timezone.utc)
RCLONE = shutil.which("rclone")
needs_rclone = pytest.mark.skipif(RCLONE is None, reason="rclone is not installed")
SECRET = "no eye sees this"


def put_backup(root: Path, moment: datetime, *kinds: str, token: str = "TOKEN", member: str = "etcd-1") -> str:
    """Writes a backup as hosts do, and returns its name."""
    folder = root / token
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{moment:%Y%m%dT%H%M%SZ}-7-{member}"
    body = os.urandom(4096)
    data = body + hashlib.sha256(body).digest()
    (folder / f"{name}.db").write_bytes(data)
    manifest = {
        "schema": 1,
        "name": name,
        "cluster": f"shop/prod/{token.lower()}",
        "token": token,
        "member": member,
        "version": "3.6.16",
        "taken": "2026-11-27T10:00:05Z",
        "revision": 7,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "hash": None,
    }
    (folder / f"{name}.json").write_text(json.dumps(manifest) + "\n")
    for kind in kinds:
        (folder / f"{name}.{kind}").write_text(f"{kind}\n")
    return name


Opener = Callable[[Path], StoreFolder]


@pytest.fixture(params=["without rclone", pytest.param("rclone", marks=needs_rclone)])
def open_store(request: pytest.FixtureRequest) -> Opener:
    """A folder answers the same to rclone, and to those that need none."""

    def opened(root: Path) -> StoreFolder:
        store = StoreUrl("file", str(root))
        if request.param == "rclone":
            return StoreFolder(store, str(root), {}, RCLONE or "rclone")
        return PlainFolder(store, str(root))

    return opened


def hours_ago(hours: float) -> datetime:
    return NOW.replace(minute=0) - timedelta(hours=hours)


def test_a_backup_is_what_has_a_manifest(open_store: Opener, tmp_path: Path) -> None:
    tested, failed = put_backup(tmp_path, hours_ago(2), "tested", "keep"), put_backup(tmp_path, hours_ago(1), "failed")
    fresh = put_backup(tmp_path, hours_ago(0), member="etcd-2")
    cut = tmp_path / "TOKEN" / f"{hours_ago(3):%Y%m%dT%H%M%SZ}-6-etcd-1.db"
    cut.write_bytes(b"half")
    (tmp_path / "TOKEN" / "notes.json").write_text("{}")
    (tmp_path / "TOKEN" / "etcd-1.begun").touch()
    with open_store(tmp_path) as folder:
        (catalog,) = read_catalogs(folder, "TOKEN")
    assert [each.name for each in catalog.backups] == [fresh, failed, tested]
    assert [each.test for each in catalog.backups] == [Test.NONE, Test.FAILED, Test.PASSED]
    assert [each.marked for each in catalog.backups] == [False, False, True]
    assert {each.problem for each in catalog.backups} == {None}
    assert (catalog.backups[0].member, catalog.backups[0].version, catalog.backups[0].bytes) == (
        "etcd-2",
        "3.6.16",
        4128,
    )
    assert catalog.backups[1].test_text == "failed"
    assert (catalog.unfinished, catalog.cluster) == ([cut.name], "shop/prod/token")


def test_a_file_that_goes_while_a_folder_is_read_was_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that deletes what is no longer kept, or ends a file that it wrote beside, made the list fail."""
    kept, gone = put_backup(tmp_path, hours_ago(1)), put_backup(tmp_path, hours_ago(2))
    stat_of, read_of = Path.stat, Path.read_text

    def look(path: Path, **named: bool) -> os.stat_result:
        found = stat_of(path, **named)
        if path.name == f"{gone}.db" and stat.S_ISREG(found.st_mode):
            path.unlink()
        return found

    def read_text(path: Path, *words: str, **named: str) -> str:
        if path.name == f"{gone}.json":
            path.unlink()
        return read_of(path, *words, **named)

    monkeypatch.setattr(Path, "stat", look)
    monkeypatch.setattr(Path, "read_text", read_text)
    with PlainFolder(StoreUrl("file", str(tmp_path)), str(tmp_path)) as folder:
        assert f"{kept}.db" in {file.name for file in folder.files("TOKEN")}
        assert set(folder.texts("TOKEN", ["json"])) == {("TOKEN", f"{kept}.json")}


def test_links_and_folders_among_backups_end_no_list(open_store: Opener, tmp_path: Path) -> None:
    name = put_backup(tmp_path, hours_ago(1))
    folder = tmp_path / "TOKEN"
    (folder / f"{NOW:%Y%m%dT%H%M%SZ}-9-etcd-1.json").symlink_to(tmp_path / "nowhere")
    (folder / f"{NOW:%Y%m%dT%H%M%SZ}-8-etcd-1.json").symlink_to(f"{NOW:%Y%m%dT%H%M%SZ}-8-etcd-1.json")
    (folder / f"{NOW:%Y%m%dT%H%M%SZ}-7-etcd-2.json").mkdir()
    (tmp_path / "LOOP").symlink_to(tmp_path)
    (tmp_path / "NOWHERE").symlink_to(tmp_path / "nowhere")
    with open_store(tmp_path) as store:
        for token in ("TOKEN", None):
            assert [each.name for catalog in read_catalogs(store, token) for each in catalog.backups] == [name]


def test_clusters_below_one_prefix_are_told_apart(open_store: Opener, tmp_path: Path) -> None:
    put_backup(tmp_path, NOW, token="BLUE")
    put_backup(tmp_path, NOW, token="GREEN")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.json").touch()
    with open_store(tmp_path) as folder:
        assert [each.token for each in read_catalogs(folder, None)] == ["BLUE", "GREEN"]
        assert [each.token for each in read_catalogs(folder, "BLUE")] == ["BLUE"]
        assert read_catalogs(folder, "RED") == [], "a folder that is not there has no backups"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path, name: (path / f"{name}.db").unlink(), Problem.NO_DATA),
        (lambda path, name: (path / f"{name}.db").write_bytes(b"short"), Problem.SIZE),
        (lambda path, name: (path / f"{name}.json").write_text("{"), Problem.MANIFEST),
        (lambda path, name: (path / f"{name}.json").write_text('["no object"]'), Problem.MANIFEST),
        (lambda path, name: (path / f"{name}.json").write_text('{"name": "another"}'), Problem.MANIFEST),
    ],
    ids=["no data", "cut", "no JSON", "no object", "of another"],
)
def test_damage_that_shows_without_reading_the_data(
    open_store: Opener, damage: Callable[[Path, str], object], problem: Problem, tmp_path: Path
) -> None:
    name = put_backup(tmp_path, NOW)
    damage(tmp_path / "TOKEN", name)
    with open_store(tmp_path) as folder:
        ((backup,),) = [each.backups for each in read_catalogs(folder, "TOKEN")]
        assert backup.problem is problem
        assert verify(folder, backup, lambda _: None).differences


def test_what_is_whole_is_read_whole(open_store: Opener, tmp_path: Path) -> None:
    put_backup(tmp_path, NOW)
    counts: list[int] = []
    with open_store(tmp_path) as folder:
        ((backup,),) = [each.backups for each in read_catalogs(folder, "TOKEN")]
        found = verify(folder, backup, counts.append)
    assert (found.differences, found.bytes, found.sha256) == ((), backup.bytes, backup.sha256)
    assert counts[-1] == backup.bytes


def test_a_changed_byte_is_found_by_both_sums_and_a_changed_manifest_by_one(open_store: Opener, tmp_path: Path) -> None:
    name = put_backup(tmp_path, NOW)
    data, manifest = (tmp_path / "TOKEN" / f"{name}.{kind}" for kind in ("db", "json"))
    whole = bytearray(data.read_bytes())
    with open_store(tmp_path) as folder:

        def differences() -> tuple[Difference, ...]:
            ((backup,),) = [each.backups for each in read_catalogs(folder, "TOKEN")]
            return verify(folder, backup, lambda _: None).differences

        data.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        assert differences() == (Difference.SHA256, Difference.OWN_SUM)
        data.write_bytes(whole[:-1])
        assert differences() == (Difference.BYTES, Difference.SHA256, Difference.OWN_SUM)
        data.write_bytes(whole)
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sha256": "0" * 64}))
        assert differences() == (Difference.SHA256,)


def test_the_next_run_is_told_by_the_rule_that_it_runs(open_store: Opener, tmp_path: Path) -> None:
    names = [put_backup(tmp_path, hours_ago(hours), *(["keep"] if hours == 3 else [])) for hours in range(5)]
    week_old = put_backup(tmp_path, hours_ago(24 * 7), "tested")
    with open_store(tmp_path) as folder:
        (catalog,) = read_catalogs(folder, "TOKEN")
    schedule = Schedule(3600, last=3, daily=1, weekly=2, test="daily", append_only=False)
    found = next_retention(catalog, schedule, NOW)
    # The backup of the next run is the newest of the last 3, of its day and of its week.
    assert dict(found.kept) == {
        names[0]: ["last"],
        names[1]: ["last"],
        names[3]: ["marked"],
        week_old: ["weekly", "tested"],
    }
    assert found.deleted == [f"{names[place]}.{kind}" for place in (2, 4) for kind in ("json", "db")]
    unbounded = Schedule(3600, last=3, daily=1, weekly=2, test="daily", append_only=True)
    assert next_retention(catalog, unbounded, NOW).deleted == []


def test_of_two_results_the_later_one_counts_where_nothing_may_be_deleted(open_store: Opener, tmp_path: Path) -> None:
    passed_again, failed_again, old = (put_backup(tmp_path, hours_ago(hours)) for hours in (1, 2, 3))
    early, late = "2026-11-27T09:00:00Z\n", "2026-11-27T10:00:00Z\n"
    for name, passed, failed in (
        (passed_again, late, f"{early}its sum differs\n"),
        (failed_again, early, f"{late}its sum differs\n"),
        (old, late, "its sum differs\n"),
    ):
        (tmp_path / "TOKEN" / f"{name}.tested").write_text(passed)
        (tmp_path / "TOKEN" / f"{name}.failed").write_text(failed)
    with open_store(tmp_path) as store:
        (catalog,) = read_catalogs(store, None)
    assert [each.test for each in catalog.backups] == [Test.PASSED, Test.FAILED, Test.FAILED]


def test_a_mark_is_written_and_taken_away(open_store: Opener, tmp_path: Path) -> None:
    name = put_backup(tmp_path, NOW)
    with open_store(tmp_path) as folder:
        folder.put("TOKEN", f"{name}.keep", "since\n")
        assert (tmp_path / "TOKEN" / f"{name}.keep").read_text() == "since\n"
        folder.delete("TOKEN", f"{name}.keep")
    assert not (tmp_path / "TOKEN" / f"{name}.keep").exists()


def test_a_file_that_is_gone_while_it_is_read_is_an_error(open_store: Opener, tmp_path: Path) -> None:
    put_backup(tmp_path, NOW)
    with open_store(tmp_path) as folder, pytest.raises(StoreError, match=f"backup to {tmp_path}: "):
        list(folder.pieces("TOKEN", "gone.db"))


def test_a_folder_that_is_not_here_says_so() -> None:
    store = PlainFolder(StoreUrl("file", "/no/folder"), "/no/folder")
    with pytest.raises(StoreError, match="/no/folder is no folder on this machine"), store:
        pass


GIVEN = {
    "endpoint": "https://s3.example.net",
    "access_key": "KEY",
    "secret_key": SECRET,
    "ca": "-----BEGIN CERTIFICATE-----",
}


def fake_rclone(tmp_path: Path, end: str) -> str:
    """A program that notes how it is called, and ends so."""
    program = tmp_path / "rclone"
    program.write_text(
        f"""#!/bin/sh
        {{ echo "$@"; env; }} >>{tmp_path}/called
        stat -c '%a %n' "$2" "$(dirname "$2")" >>{tmp_path}/modes
        cat "$2" >>{tmp_path}/configuration
        {end}
        """
    )
    program.chmod(0o755)
    return str(program)


def test_credentials_are_in_a_file_of_this_user_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    with StoreFolder(
        StoreUrl.parse("s3://bucket/p"), "s3://bucket/p", GIVEN, fake_rclone(tmp_path, "echo []")
    ) as store:
        store.files(None)
    called = (tmp_path / "called").read_text()
    assert "store:bucket/p" in called
    assert "--ca-cert" in called
    assert SECRET not in called
    assert f"secret_access_key = {SECRET}\n" in (tmp_path / "configuration").read_text()
    (file, path), (folder_mode, folder) = (line.split(" ", 1) for line in (tmp_path / "modes").read_text().splitlines())
    assert (file, folder_mode) == ("600", "700")
    assert not Path(folder).exists()
    assert stat.S_ISDIR(Path(folder).parent.stat().st_mode)
    assert path.startswith("/dev/shm/") or not os.access("/dev/shm", os.W_OK)


def test_a_file_that_the_stores_disk_damaged_does_not_fail_the_request_for_all(tmp_path: Path) -> None:
    """A real S3 server answers with the changed bytes and with the sum of those that were written."""
    damaged = "case $* in *--ignore-checksum*) ;; *) echo 'corrupted on transfer: md5 hashes differ'; exit 1 ;; esac"
    with StoreFolder(StoreUrl.parse("s3://bucket/p"), "s3://bucket/p", GIVEN, fake_rclone(tmp_path, damaged)) as store:
        assert store.texts("TOKEN", ["json"]) == {}


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        ("api error SignatureDoesNotMatch: x", 1, "the store refuses the secret key"),
        ("dial tcp: connection refused", 1, "the store does not answer"),
        ('Put "http://store/x": write tcp 10.0.0.1:4->10.0.0.2:80: write: broken pipe', 1, "the store does not answer"),
        # Of one that hangs, by chance in the place of "i/o timeout": who gives up first closes the connection.
        ("write tcp 10.0.0.1:4->10.0.0.2:80: use of closed network connection", 1, "the store does not answer"),
        ('Put "http://store/x": EOF', 1, "the store does not answer"),
        ("dial tcp 10.0.0.2:443: connect: network is unreachable", 1, "the store does not answer"),
        ("net/http: TLS handshake timeout", 1, "the store does not answer"),
        ('Put "http://store/x": net/http: timeout awaiting response headers', 1, "the store does not answer"),
        ("error listing: directory not found", 3, "there is no such bucket"),
        ("something new", 1, "it failed"),
        ("", 1, "it did not end in time"),
    ],
)
def test_what_rclone_says_is_explained_as_on_machines(said: str, code: int, sentence: str, tmp_path: Path) -> None:
    program = fake_rclone(tmp_path, f"echo '{said}' >&2; exit {code}" if said else f"exit {code}")
    with (
        StoreFolder(StoreUrl.parse("s3://bucket/p"), "s3://bucket/p", GIVEN, program) as store,
        pytest.raises(StoreError, match=f"backup to s3://bucket/p: {sentence}") as caught,
    ):
        store.files("TOKEN")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"bytes": 10**400},
        {"bytes": -1},
        {"cluster": "\x1b[2Jshop"},
        {"cluster": None},
        {"version": 3},
        {"version": "3.6.x"},
        {"version": "3.6.16\n"},
        {"version": ""},
        {"bytes": True},
        {"bytes": 4128.0},
        {"bytes": "4128"},
        {"revision": -7},
        {"revision": True},
        {"revision": 8},
        {"revision": None},
        {"sha256": 7},
        {"sha256": "0" * 64 + "\n"},
        {"name": None},
        {"hash": True},
        {"hash": {"value": "1025"}},
    ],
    ids=str,
)
def test_a_manifest_that_says_what_none_says_is_damaged(
    open_store: Opener, changed: dict[str, object], tmp_path: Path
) -> None:
    name, whole = put_backup(tmp_path, hours_ago(1), "failed"), put_backup(tmp_path, hours_ago(2))
    file = tmp_path / "TOKEN" / f"{name}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    (tmp_path / "TOKEN" / f"{name}.failed").write_text("its sum\x1b[2J\nis another")
    with open_store(tmp_path) as store:
        (catalog,) = read_catalogs(store, "TOKEN")
    assert {each.name: each.problem for each in catalog.backups} == {name: Problem.MANIFEST, whole: None}
    assert catalog.backups[0].test_text == r"its sum\u001b[2J\nis another"


def test_a_name_with_a_time_that_there_is_not_is_one_damaged_backup(open_store: Opener, tmp_path: Path) -> None:
    whole = put_backup(tmp_path, hours_ago(1))
    for kind in ("db", "json"):
        file = tmp_path / "TOKEN" / f"{whole}.{kind}"
        strange = file.with_name(file.name.replace(whole[:16], "20261399T256161Z"))
        strange.write_bytes(file.read_bytes().replace(whole[:16].encode(), b"20261399T256161Z"))
    with open_store(tmp_path) as store:
        (catalog,) = read_catalogs(store, "TOKEN")
    assert [each.problem for each in catalog.backups] == [None, Problem.NAME]


@pytest.mark.parametrize(
    ("changed", "missing", "test"),
    [
        ({"hash": {"value": 1025, "compactRevision": -1, "members": "etcd-1"}}, None, Test.PASSED),
        ({}, HashMissing.UNKNOWN, Test.PASSED),
        ({"hashMissing": "of a later release"}, HashMissing.UNKNOWN, Test.PASSED),
        ({"hashMissing": "notAsked"}, HashMissing.NOT_ASKED, Test.PASSED),
        ({"hashMissing": "unanswered"}, HashMissing.UNANSWERED, Test.PASSED),
        ({"hashMissing": "differed"}, HashMissing.DIFFERED, Test.NONE),
    ],
    ids=["a hash", "earlier release", "later release", "not asked", "unanswered", "differed"],
)
def test_why_there_is_no_hash_is_read_and_what_differed_is_not_proven(
    open_store: Opener,
    changed: dict[str, object],
    missing: HashMissing | None,
    test: Test,
    tmp_path: Path,
) -> None:
    name = put_backup(tmp_path, hours_ago(1), "tested")
    file = tmp_path / "TOKEN" / f"{name}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with open_store(tmp_path) as store:
        ((backup,),) = [each.backups for each in read_catalogs(store, "TOKEN")]
    assert (backup.hash_missing, backup.test, backup.problem) == (missing, test, None)


def test_deep_manifests_and_far_times_end_no_list(open_store: Opener, tmp_path: Path) -> None:
    name = put_backup(tmp_path, datetime(9999, 12, 31, 23, 59, 59))
    (tmp_path / "TOKEN" / f"{name}.json").write_text("[" * 60_000)
    with open_store(tmp_path) as store:
        (catalog,) = read_catalogs(store, "TOKEN")
    assert [each.problem for each in catalog.backups] == [Problem.MANIFEST]
    assert next_retention(catalog, Schedule(3600, 1, 0, 0, "daily", False), NOW).deleted == []
