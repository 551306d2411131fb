"""What is kept in a store: the rule that hosts run, an awk program, against the same rule once more in Python."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from etcd_cluster.backup.catalog import Retention, next_retention, read_catalogs
from etcd_cluster.backup.files import MemberPlace, Schedule, retention, variables
from etcd_cluster.backup.plain_folder import PlainFolder
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from tests.unit.test_member_scripts import Folder

AWKS = [awk for awk in ("mawk", "gawk", "original-awk", "busybox") if shutil.which(awk)] or ["awk"]
NOW = datetime(2026, 11, 27, 10)


def slot(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%SZ")


def deleted(
    names: Collection[str], last: int = 24, daily: int = 14, weekly: int = 8, awk: str = "awk", **about: str
) -> list[str]:
    command = [awk, *(["awk"] if awk == "busybox" else [])]
    given = {"last": last, "daily": daily, "weekly": weekly, **about}
    counts = [word for name, value in given.items() for word in ("-v", f"{name}={value}")]
    done = subprocess.run(
        [*command, *counts, retention()],
        input="".join(f"{name}\n" for name in names),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def backup(moment: datetime, *kinds: str, revision: int = 5, member: str = "etcd-1") -> list[str]:
    return [f"{slot(moment)}-{revision}-{member}.{kind}" for kind in ("db", "json", *kinds)]


def expected(
    moments: Collection[datetime],
    marked: Collection[datetime],
    proven: Collection[datetime],
    last: int,
    daily: int,
    weekly: int,
) -> set[datetime]:
    """The moments whose backups are kept."""
    newest_first = sorted(moments, reverse=True)
    kept = {*newest_first[: max(last, 1)], *marked}
    for count, unit in ((daily, lambda moment: moment.date()), (weekly, lambda moment: moment.isocalendar()[:2])):
        seen: list[object] = []
        for moment in newest_first:
            if unit(moment) not in seen and len(seen) < count:
                seen.append(unit(moment))
                kept.add(moment)
    kept |= set(sorted(proven, reverse=True)[:1])
    return kept


@pytest.mark.parametrize("awk", AWKS)
def test_what_is_kept_is_what_the_rule_says(awk: str) -> None:
    chance = random.Random(20261127)
    for _ in range(60):
        first = datetime(2024, 2, 20) + timedelta(hours=chance.randrange(20_000))
        moments = {
            first + timedelta(hours=chance.randrange(chance.choice([30, 400, 5000])))
            for _ in range(chance.randrange(1, 60))
        }
        marked = set(chance.sample(sorted(moments), chance.randrange(min(3, len(moments)) + 1)))
        proven = set(chance.sample(sorted(moments), chance.randrange(min(4, len(moments)) + 1)))
        counts = chance.randrange(1, 10), chance.randrange(8), chance.randrange(6)
        names = [
            name
            for moment in moments
            for name in backup(
                moment, *(["keep"] if moment in marked else []), *(["tested"] if moment in proven else [])
            )
        ]
        chance.shuffle(names)
        gone = deleted(names, *counts, awk=awk)
        kept = expected(moments, marked, proven, *counts)
        assert {slot(moment) for moment in moments if f"{slot(moment)}-5-etcd-1.json" not in gone} == set(
            map(slot, kept)
        )
        for name in gone:
            assert name in names
        for moment in moments - kept:
            stem = f"{slot(moment)}-5-etcd-1"
            assert gone.index(f"{stem}.json") < gone.index(f"{stem}.db"), "the manifest goes first"


def test_nothing_goes_without_a_backup() -> None:
    assert deleted([]) == []
    assert deleted([f"{slot(NOW - timedelta(days=day))}-5-etcd-1.db" for day in range(9)]) == []


def test_the_newest_stays_whatever_is_asked() -> None:
    assert deleted(backup(NOW), last=0, daily=0, weekly=0) == []


def test_names_that_do_not_parse_stay() -> None:
    old = NOW - timedelta(days=900)
    strange = [
        "notes.txt",
        f"{slot(old)}.db",
        f"{slot(old)}-x-etcd-1.json",
        f"{slot(old)}-5-etcd-1.db.bak",
        f"copy-{slot(old)}-5-etcd-1.json",
        f"../{slot(old)}-5-etcd-1.json",
        f"{slot(old)}-5-etcd-1.JSON",
        "20261399T250000Z-5-etcd-1.json ",
        ".trial-etcd-1",
    ]
    assert deleted([*strange, *backup(NOW)], last=1, daily=1, weekly=1) == []


def test_data_of_a_cut_upload_goes_a_day_later_by_the_newest_backup() -> None:
    """Not by a clock: that may be wrong."""
    cut, begun = f"{slot(NOW - timedelta(hours=25))}-5-etcd-2.db", f"{slot(NOW - timedelta(hours=25))}-0-etcd-2.begun"
    fresh = f"{slot(NOW - timedelta(hours=23))}-5-etcd-2.db"
    assert deleted([cut, begun, fresh, *backup(NOW)]) == [cut, begun]
    assert deleted([cut, begun, fresh, *backup(NOW - timedelta(hours=20))]) == []


def test_two_backups_of_one_slot_are_two() -> None:
    both = [*backup(NOW, revision=5, member="etcd-1"), *backup(NOW, revision=50, member="etcd-2")]
    assert deleted(both, last=2, daily=0, weekly=0) == []
    assert deleted(both, last=1, daily=0, weekly=0) == [f"{slot(NOW)}-5-etcd-1.json", f"{slot(NOW)}-5-etcd-1.db"]


def test_a_failed_test_proves_nothing() -> None:
    tested, failed = NOW - timedelta(days=40), NOW - timedelta(days=30)
    names = [*backup(tested, "tested"), *backup(failed, "failed"), *backup(NOW)]
    stem = f"{slot(failed)}-5-etcd-1"
    assert deleted(names, last=1, daily=0, weekly=0) == [f"{stem}.json", f"{stem}.failed", f"{stem}.db"]


def test_what_passed_once_and_failed_since_proves_nothing_either() -> None:
    passed, both = NOW - timedelta(days=40), NOW - timedelta(days=30)
    names = [*backup(passed, "tested"), *backup(both, "tested", "failed"), *backup(NOW)]
    stem = f"{slot(both)}-5-etcd-1"
    assert deleted(names, last=1, daily=0, weekly=0) == [
        f"{stem}.{kind}" for kind in ("json", "tested", "failed", "db")
    ]


def test_what_others_send_just_now_stays_if_a_clock_was_ahead_once() -> None:
    """A backup of next year made every upload that runs look like one that was cut off long ago."""
    ahead, sent = NOW + timedelta(days=365), f"{slot(NOW)}-6-etcd-2.db"
    names = [*backup(ahead), *backup(NOW), sent]
    assert deleted(names, daily=1, weekly=1, made=slot(NOW)) == []


@pytest.mark.parametrize("counts", [(1, 0, 0), (3, 0, 0), (3, 2, 1), (1, 3, 3)], ids=str)
def test_a_clock_that_was_ahead_makes_no_run_delete_what_it_has_made(counts: tuple[int, int, int]) -> None:
    """Nor anything else that would stay without those backups, of which each stays until its time has come."""
    passed = NOW - timedelta(days=40)
    usual = [*backup(passed, "tested"), *(name for hour in range(9) for name in backup(NOW - timedelta(hours=hour)))]
    ahead = [name for day in range(1, 30) for name in backup(NOW + timedelta(days=day), "tested")]
    gone = deleted([*ahead, *usual], *counts, made=slot(NOW))
    assert gone == deleted(usual, *counts)
    assert not {*gone} & {*backup(NOW), *backup(passed)}
    later = deleted([*ahead, *usual], *counts, made=slot(NOW + timedelta(days=30)))
    assert {*later} & {*ahead}, "once its time has come, it is one as others"


def test_a_member_whose_clock_is_ahead_for_weeks_deletes_no_backup_of_others() -> None:
    """By its clock all of them are old, and its own would be all that is kept; an upload of another looks cut off."""
    of_others = [name for hour in range(30) for name in backup(NOW - timedelta(hours=hour), member="etcd-2")]
    sent = f"{slot(NOW)}-6-etcd-3.db"
    ahead = NOW + timedelta(days=400)
    own = [name for day in range(90) for name in backup(ahead - timedelta(days=day))]
    gone = deleted([*of_others, sent, *own], made=slot(ahead), member="etcd-1")
    assert gone
    assert not {*gone} & {*of_others, sent}
    right = deleted([*of_others, sent, *own], last=3, daily=0, weekly=0, made=slot(NOW), member="etcd-2")
    assert {*right} == {*of_others[6:]}, "one whose clock is right keeps its own"


def test_a_member_that_others_work_beside_deletes_theirs_as_its_own() -> None:
    both = [
        *backup(NOW),
        *backup(NOW - timedelta(hours=24), member="etcd-2"),
        *backup(NOW - timedelta(days=9), member="etcd-2"),
    ]
    stem = f"{slot(NOW - timedelta(days=9))}-5-etcd-2"
    gone = deleted(both, last=1, daily=2, weekly=0, made=slot(NOW), member="etcd-1")
    assert gone == [f"{stem}.json", f"{stem}.db"]


def test_a_clock_that_is_behind_deletes_nothing_that_is_newer_than_it_knows() -> None:
    behind = NOW - timedelta(days=1)
    newer = [name for hour in range(1, 24) for name in backup(behind + timedelta(hours=hour))]
    assert deleted([*newer, *backup(behind)], last=1, daily=0, weekly=0, made=slot(behind)) == []


def test_a_backup_whose_data_is_gone_is_not_the_newest_that_passed() -> None:
    passed, gone = NOW - timedelta(days=40), NOW - timedelta(days=30)
    names = [*backup(passed, "tested"), *backup(gone, "tested")[1:], *backup(NOW)]
    stem = f"{slot(gone)}-5-etcd-1"
    assert deleted(names, last=1, daily=0, weekly=0) == [f"{stem}.json", f"{stem}.tested"]


# --- what `backup list` says of the next run, and what that run does ---

SCHEDULE = Schedule(86400, last=1, daily=0, weekly=0, test="daily", append_only=False)
NEXT = NOW.replace(hour=0) + timedelta(days=1)
TOKEN = "a" * 32
DIFFERED = "differed"
CASES: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "one passed": {5: (), 4: ("tested",), 3: ()},
    "the newest that passed differed": {5: (), 4: ("tested",), 3: ("tested", DIFFERED), 2: ()},
    "two that passed differed": {5: ("tested",), 4: ("tested", DIFFERED), 3: ("tested", DIFFERED), 2: ()},
    "all that passed differed": {4: ("tested", DIFFERED), 3: ("tested", DIFFERED), 2: ()},
    "one that differed is behind one that passed": {5: ("tested", DIFFERED), 4: ("tested",), 3: ()},
    "one that differed failed since": {5: ("tested",), 4: ("tested", "failed", DIFFERED), 3: ()},
    "one that differed has lost its data": {5: ("tested",), 4: ("tested", DIFFERED, "no data"), 3: ()},
    "one that differed is marked": {5: ("tested",), 4: ("tested", DIFFERED, "keep"), 3: ()},
    "one that differed is dated ahead": {5: ("tested",), 4: (), -9: ("tested", DIFFERED)},
    "one that passed is dated ahead": {5: ("tested",), 4: ("tested", DIFFERED), -9: ("tested",)},
    "one that differed was not tested": {5: ("tested",), 4: (DIFFERED,), 3: ()},
    "one that passed has a damaged manifest": {5: ("tested",), 4: ("tested", "damaged"), 3: ()},
}
"""Days before the next run -> files of a backup beside its data and manifest, and what is odd about it."""


def put(root: Path, moment: datetime, about: Collection[str] = ()) -> str:
    """Writes a backup as machines do; returns its name."""
    name = f"{slot(moment)}-5-etcd-1"
    known = {"name": name, "cluster": "p/s/c", "version": "3.6.16", "revision": 5, "bytes": 4, "sha256": "0" * 64}
    text = json.dumps({**known, "hash": None, "hashMissing": DIFFERED if DIFFERED in about else "notAsked"})
    (root / TOKEN / f"{name}.json").write_text(text[:60] if "damaged" in about else text)
    if "no data" not in about:
        (root / TOKEN / f"{name}.db").write_text("data")
    for kind in ("tested", "failed", "keep"):
        if kind in about:
            (root / TOKEN / f"{name}.{kind}").touch()
    return name


def told(root: Path) -> Retention:
    with PlainFolder(StoreUrl("file", str(root)), str(root)) as folder:
        (catalog,) = read_catalogs(folder, TOKEN)
        return next_retention(catalog, SCHEDULE, NOW.replace(tzinfo=timezone.utc))


def run_of_a_machine(root: Path, machine: Folder, played: str = "", moment: datetime = NEXT) -> str:
    """Plays the next run, from what it learns of the store to what it deletes there; returns what it prints."""
    place = MemberPlace("etcd-1", machine.layout, Ports(client=1, peer=2, metrics=3))
    known = variables("p/s/c", TOKEN, place, StoreUrl("file", str(root)), str(root), SCHEDULE)
    functions, found, _ = render.script("backup", machine.layout, known).rpartition('\nanswer "$@"')
    assert found
    made = put(root, moment)  # the store has it before anything goes
    code = f"""
        spec[member]=etcd-1 slot={slot(moment)} backup_folder=$volume_path/backups result=success
        {played}
        listed=$(names)
        learn_unproven
        forget_old
        test_is_due && echo due || echo not due
        note_result
    """
    done = subprocess.run(
        ["bash"], input=f"{functions}\n{code}\nexit\n", capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for kind in ("db", "json"):
        (root / TOKEN / f"{made}.{kind}").unlink()
    return done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_list_says_what_the_run_of_a_machine_does(case: str, tmp_path: Path) -> None:
    """What differed proves nothing, though a machine with an earlier release's program has written that it passed."""
    (tmp_path / "store" / TOKEN).mkdir(parents=True)
    backups = {days: put(tmp_path / "store", NEXT - timedelta(days=days), about) for days, about in CASES[case].items()}
    before = {path.name for path in (tmp_path / "store" / TOKEN).iterdir()}
    expected = told(tmp_path / "store")
    run_of_a_machine(tmp_path / "store", Folder(tmp_path / "a member"))
    assert before - {path.name for path in (tmp_path / "store" / TOKEN).iterdir()} == set(expected.deleted)
    proofs = [
        days
        for days, about in CASES[case].items()
        if days > 0 and "tested" in about and not {DIFFERED, "failed", "no data"} & {*about}
    ]
    assert [name for name, why in expected.kept.items() if "tested" in why] == [
        backups[day] for day in sorted(proofs)[:1]
    ]


def test_a_run_that_cannot_read_whether_a_proof_counts_deletes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / TOKEN).mkdir(parents=True)
    for days in (9, 8, 7):
        put(root, NEXT - timedelta(days=days), ["tested"])
    before = {path.name for path in (root / TOKEN).iterdir()}
    played = 'eval "real_$(declare -f rclone)"; rclone() { [[ $1 != cat ]] && real_rclone "$@"; }'
    said = run_of_a_machine(root, Folder(tmp_path / "a member"), played)
    assert {path.name for path in (root / TOKEN).iterdir()} == before
    assert "deletes no backup" in said


@pytest.mark.parametrize("passed_before", [True, False])
def test_a_proof_that_does_not_count_is_not_the_days_test_nor_the_newest(passed_before: bool, tmp_path: Path) -> None:
    """Not even if this machine noted it once."""
    root, machine = tmp_path / "store", Folder(tmp_path / "a member")
    (root / TOKEN).mkdir(parents=True)
    passed = put(root, NEXT - timedelta(days=1), ["tested"] if passed_before else [])
    differed = put(root, NEXT + timedelta(hours=1), ["tested", DIFFERED])
    note = tmp_path / "a member" / "state" / "backup"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"tested={differed}\n")
    said = run_of_a_machine(root, machine, moment=NEXT + timedelta(hours=2))
    assert said.splitlines() == ["due"]
    assert f"tested={passed if passed_before else ''}\n" in note.read_text()
