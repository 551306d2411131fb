"""The command `etcd-cluster restore --dry-run`: what it says of a backup and of a file, with a restore that is played.

A real one is in tests/local.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from etcd_cluster.cli import backup_store
from etcd_cluster.cli.command import ExitCode
from etcd_cluster.install.sources import Binaries
from etcd_cluster.member.lines import TryRestore
from etcd_cluster.member.machines import StepFailedError
from tests.unit.test_backup_store import RCLONE, needs_rclone, put_backup
from tests.unit.test_cli import ONE, Cli
from tests.unit.test_cli_backup import NOW, Machines, schedule, set_clock
from tests.unit.test_restore_source import database, snapshot

EQUAL = "revision=7\nkeys=3\nhash=equal\n"
UNCOMPARED = "revision=7\nkeys=3\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    set_clock(monkeypatch)
    cli = Cli(tmp_path, monkeypatch)
    monkeypatch.setattr(backup_store, "rclone_program", lambda _: RCLONE)
    programs = tmp_path / "programs-of-etcd"
    programs.mkdir()
    monkeypatch.setattr("etcd_cluster.install.sources.local_binaries", lambda version, **_: Binaries(programs, version))
    return cli.install([*ONE, schedule(str(tmp_path / "store"))])


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """What is restored on this machine, and how that answers."""
    machines = Machines(monkeypatch)
    machines.answers = {"restore": EQUAL}
    return machines


def rows(printed: str) -> dict[str, str]:
    return {line[:12].strip(): line[12:] for line in printed.splitlines() if line[:12].strip()}


@needs_rclone
def test_the_newest_backup_says_what_it_brings_back_and_what_is_given_up(
    cli: Cli, store: Path, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    put_backup(store, NOW - timedelta(hours=2))
    name = put_backup(store, NOW - timedelta(hours=1))
    assert cli.run("restore", "--dry-run", "--stack", "prod") == ExitCode.SUCCESS
    said = rows(capsys.readouterr().out)
    assert said["from"] == f"TOKEN/{name}, in {store}"
    assert said["cluster"] == "shop/prod/token"
    assert said["revision"] == "7, 3 keys"
    assert "all keys are those that the members had at that revision" in said["restores"]
    assert said["given up"] == "every write since then (90 min)"
    ((member, line, given, _),) = tried.ran
    assert isinstance(line, TryRestore)
    assert (member, line.version, line.bare) == ("restore", "3.6.16", False)
    assert given["file_manifest"], "the hash of the members is compared"
    assert not Path(line.file).exists(), "what was fetched is gone"


@needs_rclone
def test_what_was_made_while_members_differed_is_told(
    cli: Cli, store: Path, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    name = put_backup(store, NOW)
    file = store / "TOKEN" / f"{name}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "hashMissing": "differed"}))
    tried.answers = {"restore": UNCOMPARED}
    assert cli.run("restore", "--dry-run", "--stack", "prod") == ExitCode.SUCCESS
    assert "its members differed when it was made" in rows(capsys.readouterr().out)["restores"]
    assert cli.run("restore", "--dry-run", "--stack", "prod", "--output", "json") == ExitCode.SUCCESS
    assert json.loads(capsys.readouterr().out)["membersDiffered"] is True


@needs_rclone
def test_an_older_backup_gives_up_what_newer_ones_have(
    cli: Cli, store: Path, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    older, _ = (put_backup(store, NOW - timedelta(hours=hours)) for hours in (2, 1))
    assert cli.run("restore", older, "--dry-run", "--stack", "prod") == ExitCode.SUCCESS
    assert "by the 1 newer backups in the store" in rows(capsys.readouterr().out)["given up"]
    assert cli.run("restore", older, "--dry-run", "--stack", "prod", "--output", "json") == ExitCode.SUCCESS
    document = json.loads(capsys.readouterr().out)
    assert (document["from"], document["newerBackups"], document["restores"]) == (f"TOKEN/{older}", 1, True)
    assert (document["revision"], document["keys"], document["hashCompared"]) == (7, 3, True)
    assert len(tried.ran) == 2


@needs_rclone
def test_of_a_cluster_that_is_gone_the_store_alone_is_asked(
    cli: Cli, store: Path, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    name = put_backup(store, NOW)
    cli.install([])
    assert cli.run("restore", f"TOKEN/{name}", "--dry-run", "--to", str(store)) == ExitCode.SUCCESS
    assert rows(capsys.readouterr().out)["from"] == f"TOKEN/{name}, in {store}"
    assert not (cli.folder / "calls").exists(), "no state was read"
    assert tried.ran


@needs_rclone
def test_what_does_not_restore_ends_with_1_and_the_reason(
    cli: Cli, store: Path, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    put_backup(store, NOW)
    tried.answers = {"restore": StepFailedError("restore: its keys differ from those of the members")}
    assert cli.run("restore", "--dry-run", "--stack", "prod") == ExitCode.NOT_HEALTHY
    said = rows(capsys.readouterr().out)
    assert said["restores"] == "NO: its keys differ from those of the members"
    assert "given up" not in said
    assert cli.run("restore", "--dry-run", "--stack", "prod", "--output", "json") == ExitCode.NOT_HEALTHY
    document = json.loads(capsys.readouterr().out)
    assert (document["restores"], document["problem"]) == (False, "its keys differ from those of the members")


@needs_rclone
def test_a_damaged_backup_and_one_that_is_not_there_are_refused_before_anything_is_restored(
    cli: Cli, store: Path, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    data = store / "TOKEN" / f"{put_backup(store, NOW)}.db"
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    assert cli.run("restore", "--dry-run", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "Expected: a whole backup. Choose another one (backup list)" in capsys.readouterr().err
    assert cli.run("restore", "nope", "--dry-run", "--stack", "prod") == ExitCode.NO_ANSWER
    assert f"{store} has no backup nope" in capsys.readouterr().err
    assert tried.ran == []


@pytest.mark.parametrize(
    ("content", "bare", "compared"),
    [
        (snapshot(database("3.5.0")), False, "there is no hash of its members to compare with"),
        (database("3.5.0"), True, "it is a bare copy of a database, so that alone shows that it is whole"),
    ],
    ids=["a snapshot", "a copy of a database"],
)
def test_a_file_needs_neither_a_stack_nor_a_store(
    content: bytes,
    bare: bool,
    compared: str,
    cli: Cli,
    tried: Machines,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "backup.db"
    path.write_bytes(content)
    tried.answers = {"restore": UNCOMPARED}
    assert cli.run("restore", str(path), "--dry-run") == ExitCode.SUCCESS
    said = rows(capsys.readouterr().out)
    assert said["from"] == f"{path}, in this machine"
    assert said["cluster"] == "unknown: no manifest is beside it"
    assert said["taken"] == "unknown"
    assert compared in said["restores"]
    assert said["given up"] == "every write since it was made"
    ((_, line, _, _),) = tried.ran
    assert isinstance(line, TryRestore)
    assert (line.file, line.bare, line.version[:4]) == (str(path), bare, "3.5.")
    assert path.read_bytes() == content
    assert not (cli.folder / "calls").exists(), "no state was read"


@pytest.mark.parametrize("content", [None, b"PK\3\4" * 4096, snapshot(database("3.6.0"))[:-1] + b"\0"])
def test_a_file_that_is_no_whole_database_is_refused(
    content: bytes | None, cli: Cli, tried: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "backup.db"
    if content is not None:
        path.write_bytes(content)
    assert cli.run("restore", str(path), "--dry-run") == ExitCode.NO_ANSWER
    assert str(path) in capsys.readouterr().err
    assert tried.ran == []


def test_without_dry_run_it_says_where_a_restore_is_asked_for(
    cli: Cli, tried: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("restore", "--stack", "prod") == ExitCode.NO_ANSWER
    said = capsys.readouterr().err
    for text in ("this command changes no cluster", "--dry-run", "restoreInPlace", "docs/recover.md"):
        assert text in said
    assert tried.ran == []
