"""The command `etcd-cluster backup`: a store that a real rclone reads, and machines that are played."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.files import RUN_SECONDS
from etcd_cluster.cli import backup_list, backup_store, clusters, restore
from etcd_cluster.cli.command import ExitCode
from etcd_cluster.install import sources
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Line
from etcd_cluster.member.machines import MemberMachines, StepFailedError
from etcd_cluster.rollout.machines import ClusterMachines
from etcd_cluster.ssh.connection import SshUnreachableError
from tests.unit.test_backup_store import RCLONE, needs_rclone, put_backup
from tests.unit.test_cli import MEMBERS, ONE, Cli, secret, urn
from tests.unit.test_cluster import build
from tests.unit.test_status import NAMES, observation

SECRET = "no eye sees this"
NOW = datetime(2026, 11, 27, 10, tzinfo=timezone.utc)
"""The start of an hour, of which half has passed: whatever the machine's clock says, and when this was imported."""


def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backup_list, backup_store, restore):
        monkeypatch.setattr(module, "current_time", lambda: NOW + timedelta(minutes=30))


def schedule(to: str, cluster: str = "orders", token: str = "TOKEN", **changes: Any) -> dict[str, Any]:
    """What a state holds of the backups of one cluster."""
    place = {"layout": vars(Layout.system()), "ports": vars(Ports()), "machine": "m"}
    connections = {name: {"host": each["address"], "user": "admin"} for name, each in MEMBERS.items()}
    inputs = {
        "cluster": f"shop/prod/{cluster}",
        "token": token,
        "to": to,
        "every": "1h",
        "keep": {"last": 2, "daily": 1, "weekly": 1},
        "test": "daily",
        "append_only": False,
        "rclone": {},
        "members": dict.fromkeys(NAMES, place),
        "credentials": secret({"secret_key": SECRET}),
        "connections": secret(connections),
        **changes,
    }
    return {
        "type": clusters.BACKUPS_TYPE,
        "urn": urn(clusters.BACKUPS_TYPE, f"{cluster}-backups"),
        "parent": urn(clusters.CLUSTER_TYPE, cluster),
        "inputs": inputs,
    }


class Machines:
    """Plays the machines: what each step is answered with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[str, Line, Mapping[str, str], int]] = []
        self.answers: dict[str, str | Exception] = {}
        monkeypatch.setattr(MemberMachines, "run", lambda _, *words, **named: self.run(*words, **named))

    def run(self, name: str, line: Line, variables: Mapping[str, str], *, timeout_seconds: int, say: Any = None) -> str:
        self.ran.append((name, line, variables, timeout_seconds))
        say(f"{name}: at work")
        answer = self.answers.get(name, "stored=20261127T100000Z-7-etcd-1\nproven=\n")
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    return store


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    set_clock(monkeypatch)
    return Cli(tmp_path, monkeypatch)


def install(cli: Cli, monkeypatch: pytest.MonkeyPatch, resources: Sequence[Mapping[str, Any]]) -> Cli:
    monkeypatch.setattr(backup_store, "rclone_program", lambda _: RCLONE)
    return cli.install(resources)


def test_a_program_registers_what_is_looked_for() -> None:
    made = build(backup=Backup(to="s3://bucket/p")).resources
    found = next(each for each in made.values() if each.type == clusters.BACKUPS_TYPE)
    assert found.request.parent.endswith("etcd-cluster:index:EtcdCluster::etcd")
    assert {"to", "every", "keep", "test", "token", "credentials", "members", "connections"} <= found.inputs.keys()


def test_status_tells_of_the_backups_of_this_cluster(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(cli, monkeypatch, [*ONE, schedule("s3://of-another/p", "stock")])
    cli.run("status", "--stack", "prod")
    assert "backups     none: wherever the data is, it can be lost; set backup.to" in capsys.readouterr().out
    install(cli, monkeypatch, [*ONE, schedule("s3://bucket/p")])
    assert cli.run("status", "--stack", "prod") == ExitCode.NOT_HEALTHY, "no machine has a timer"
    said = capsys.readouterr().out
    assert "backups     s3://bucket/p, every 1h; none yet" in said
    assert "etcd-1, etcd-2, etcd-3: no timer makes backups there; the next `up` sets it up" in said
    assert SECRET not in said


# --- now ---


def test_a_backup_is_made_by_a_follower(
    cli: Cli, machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(cli, monkeypatch, [*ONE, schedule("s3://bucket/p")])
    assert cli.run("backup", "now", "--stack", "prod") == ExitCode.SUCCESS
    ((name, line, variables, seconds),) = machines.ran
    assert (name, line.text(name)) == ("etcd-1", "bash -s -- backup member=etcd-1 now=yes")
    assert (variables["backup_store"], variables["keep_last"]) == ("store:bucket/p/TOKEN", "2")
    assert SECRET not in str(variables), "the machine has it already"
    assert seconds == RUN_SECONDS
    said = capsys.readouterr()
    assert said.out.startswith("20261127T100000Z-7-etcd-1 is in s3://bucket/p; not tested yet")
    assert "etcd-1: at work" in said.err


def test_a_machine_that_does_not_answer_is_passed_over_and_the_leader_comes_after_followers(
    cli: Cli, machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ClusterMachines, "observe", lambda _: observation())
    machines.answers = {name: SshUnreachableError(f"cannot reach {name}") for name in ("etcd-1", "etcd-3")}
    install(cli, monkeypatch, [*ONE, schedule("s3://bucket/p")])
    assert cli.run("backup", "now", "--stack", "prod", "--test", "--output", "json") == ExitCode.SUCCESS
    assert [name for name, *_ in machines.ran] == ["etcd-1", "etcd-3", "etcd-2"]
    assert machines.ran[0][1].text("etcd-1") == "bash -s -- backup member=etcd-1 now=yes test=yes"
    document = json.loads(capsys.readouterr().out)
    assert (document["on"], document["made"], document["tested"]) == ("etcd-2", True, False)
    machines.answers["etcd-2"] = SshUnreachableError("cannot reach etcd-2")
    assert cli.run("backup", "now", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "no member's machine answers (etcd-1: cannot reach etcd-1; " in capsys.readouterr().err


def test_a_backup_that_fails_says_why_and_no_other_machine_is_tried(
    cli: Cli, machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machines.answers = {"etcd-1": StepFailedError("etcd-1: backup to s3://bucket/p: the store is full. Expected: room")}
    install(cli, monkeypatch, [*ONE, schedule("s3://bucket/p")])
    assert cli.run("backup", "now", "--stack", "prod") == ExitCode.NOT_HEALTHY
    assert "error: etcd-1: backup to s3://bucket/p: the store is full" in capsys.readouterr().err
    assert len(machines.ran) == 1


def test_a_stack_without_backups_is_told_what_to_do(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(cli, monkeypatch, ONE)
    for words in (["now"], ["list"], ["test", "latest"], ["verify", "latest"], ["keep", "latest"]):
        assert cli.run("backup", *words, "--stack", "prod") == ExitCode.NO_ANSWER
        said = capsys.readouterr().err
        assert "stack prod has no backups. Expected: backup.to in the stack's config" in said
        assert "--to URL" in said


def test_of_several_clusters_none_is_taken_unasked(
    cli: Cli, machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(cli, monkeypatch, [*ONE, schedule("s3://bucket/p"), schedule("s3://other/p", "stock")])
    assert cli.run("backup", "now", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "backups of 2 clusters: orders, stock. Choose one with --cluster NAME" in capsys.readouterr().err
    assert cli.run("backup", "now", "--stack", "prod", "--cluster", "stock") == ExitCode.SUCCESS
    assert machines.ran[0][2]["backup_store"] == "store:other/p/TOKEN"


# --- list ---


@needs_rclone
def test_the_list_shows_what_is_kept_why_and_what_goes_next(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [put_backup(store, NOW - timedelta(hours=hours)) for hours in range(3)]
    tested = put_backup(store, NOW - timedelta(hours=3), "tested")
    failed = put_backup(store, NOW - timedelta(hours=4), "keep", "failed")
    put_backup(store, NOW, token="OTHER")
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    assert cli.run("backup", "list", "--stack", "prod") == ExitCode.SUCCESS
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert said.startswith("shop/prod/token: 5 backups, 20.2 KiB, in ")
    assert rows["NAME"].split() == ["NAME", "AGE", "REVISION", "SIZE", "MEMBER", "ETCD", "TEST", "NEXT", "RUN"]
    assert rows[names[0]].endswith("keeps: last")
    assert rows[names[2]].endswith("deletes")
    assert rows[tested].endswith("restored  keeps: tested")
    assert rows[failed].split()[-3:] == ["failed", "keeps:", "marked"]
    assert rows["failed"] == f"failed      {failed}: failed"
    assert (
        rows["next"]
        == f"next run    deletes {', '.join(f'{name}.{kind}' for name in names[1:] for kind in ('json', 'db'))}"
    )
    assert max(map(len, said.splitlines()[:8])) <= 120


@needs_rclone
def test_the_list_says_what_was_compared_and_what_was_made_while_members_differed(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"": ["tested"], "unanswered": ["tested"], "differed": ["tested"], "notAsked": []}
    names = {why: put_backup(store, NOW - timedelta(hours=hours), *kinds[why]) for hours, why in enumerate(kinds)}
    for why, name in names.items():
        file = store / "TOKEN" / f"{name}.json"
        hashed = {"hash": None, "hashMissing": why} if why else {"hash": {"value": 5, "compactRevision": 3}}
        file.write_text(json.dumps({**json.loads(file.read_text()), **hashed}))
    ahead = put_backup(store, NOW + timedelta(days=400))
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    assert cli.run("backup", "list", "--to", str(store)) == ExitCode.SUCCESS
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert {why: rows[name][8:-1] for why, name in names.items()} == {
        "": ["passed"],
        "unanswered": ["restored"],
        "differed": ["differed"],
        "notAsked": ["-"],
    }
    assert [rows[names["differed"]][1:3], rows[ahead][1]] == [["2", "h"], "ahead"]
    assert f"differed    {names['differed']}: members differed when it was made, so no test can prove it" in said
    assert cli.run("backup", "list", "--to", str(store), "--output", "json") == ExitCode.SUCCESS
    ((_, *found),) = [each["backups"] for each in json.loads(capsys.readouterr().out)["clusters"]]
    assert [(each["hashMissing"] or "", each["test"]) for each in found] == [
        ("", "passed"),
        ("unanswered", "passed"),
        ("differed", "none"),
        ("notAsked", "none"),
    ]


@needs_rclone
def test_the_list_as_json_can_hold_every_cluster(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = put_backup(store, NOW, "tested")
    put_backup(store, NOW, token="OTHER")
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    assert cli.run("backup", "list", "--stack", "prod", "--all", "--output", "json") == ExitCode.SUCCESS
    other, own = json.loads(capsys.readouterr().out)["clusters"]
    assert (other["token"], other["nextRunDeletes"]) == ("OTHER", None), "its rule is not known here"
    assert (own["token"], own["nextRunDeletes"], own["unfinished"]) == ("TOKEN", [], [])
    (found,) = own["backups"]
    assert (found["name"], found["bytes"], found["test"], found["marked"]) == (name, 4128, "passed", False)
    assert found["keptFor"] == ["last", "tested"]


@needs_rclone
def test_without_a_stack_the_store_is_named_and_nothing_else_is_asked(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = put_backup(store, NOW)
    install(cli, monkeypatch, [])
    assert cli.run("backup", "list", "--to", str(store)) == ExitCode.SUCCESS
    assert name in capsys.readouterr().out
    assert not (cli.folder / "calls").exists(), "no state was read"
    assert cli.run("backup", "list", "--to", f"{store}/nope") == ExitCode.NO_ANSWER
    assert cli.run("backup", "list", "--to", "ftp://x") == ExitCode.NO_ANSWER
    assert '--to: "ftp://x": ftp:// is no kind of store' in capsys.readouterr().err


def test_rclone_comes_from_where_that_of_the_machines_comes_from(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def place(connection: object, rclone: Mapping[str, Any], _: object) -> str:
        asked.extend([connection, rclone])
        return "true"

    monkeypatch.setattr("etcd_cluster.install.rclone.place_rclone", place)
    cli.install([*ONE, schedule("s3://bucket/p", rclone={"mirror": "https://mirror"})])
    cli.run("backup", "list", "--stack", "prod")
    cli.run("backup", "list", "--to", "s3://bucket/p")
    assert asked == [None, {"mirror": "https://mirror"}, None, {}]


# --- verify, test, keep ---


@needs_rclone
def test_verify_reads_the_data_and_ends_with_1_if_anything_differs(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = put_backup(store, NOW - timedelta(hours=1)), put_backup(store, NOW)
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    data = store / "TOKEN" / f"{old}.db"
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    assert cli.run("backup", "verify", "latest", "--stack", "prod") == ExitCode.SUCCESS
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == [new, "4.0", "KiB", "whole"]
    assert f"{new}: 4.0 KiB of 4.0 KiB" in said.err
    assert cli.run("backup", "verify", old, "--stack", "prod") == ExitCode.NOT_HEALTHY
    capsys.readouterr()
    assert cli.run("backup", "verify", "--all-backups", "--output", "json", "--stack", "prod") == ExitCode.NOT_HEALTHY
    document = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["whole"]) for each in document["backups"]] == [(new, True), (old, False)]
    assert len(document["backups"][1]["differences"]) == 2


@needs_rclone
@pytest.mark.parametrize("words", [["verify", "nope"], ["keep", "nope"], ["test", "nope"]])
def test_a_name_that_the_store_does_not_have_is_refused(
    words: list[str], cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_backup(store, NOW)
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    assert cli.run("backup", *words, "--stack", "prod") == ExitCode.NO_ANSWER
    assert (
        f"{store} has no backup nope. Expected: a name that `etcd-cluster backup list` shows" in capsys.readouterr().err
    )


@pytest.mark.parametrize("token", ["/etc", "*", "..", "TOK?N", "a/b", "TOKEN/", ".", "[T]OKEN"])
@pytest.mark.parametrize("command", ["verify", "keep"])
def test_what_is_no_folder_of_a_cluster_is_no_pattern_and_no_path(
    command: str, token: str, cli: Cli, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`/etc/latest` ended in a traceback, and `*/latest` found one."""
    put_backup(store, NOW)
    assert cli.run("backup", command, f"{token}/latest", "--to", str(store)) == ExitCode.NO_ANSWER
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{store} has no backup {token}/latest. Expected: a name that `etcd-cluster backup list` shows" in said


def test_a_store_that_may_not_be_read_is_not_an_empty_one(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders of backups are root's alone: to others, the list said that there are none."""
    name = put_backup(store, NOW)
    put_backup(store, NOW, token="OTHER")
    (store / "lost+found").mkdir()
    scan = os.scandir

    def refused(path: Any = ".") -> Any:
        if Path(path).name in ("TOKEN", "lost+found"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.setattr(os, "listdir", lambda path=".": [each.name for each in refused(path)])
    for words in (["list"], ["verify", "latest"], ["verify", "TOKEN/latest"], ["verify", "--all-backups"]):
        assert cli.run("backup", *words, "--to", str(store)) == ExitCode.NO_ANSWER
        assert "that folder may not be read or written" in capsys.readouterr().err
    assert cli.run("backup", "verify", f"OTHER/{name}", "--to", str(store)) == ExitCode.SUCCESS
    (store / "TOKEN").rename(store / ".hidden")
    assert cli.run("backup", "list", "--to", str(store)) == ExitCode.SUCCESS


def test_verify_needs_to_know_what(cli: Cli, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], [""], ["latest", "--all-backups"], ["", "--all-backups"]):
        assert cli.run("backup", "verify", *words, "--to", str(store)) == ExitCode.NO_ANSWER
        assert "name one backup" in capsys.readouterr().err


@needs_rclone
def test_a_backup_is_tested_on_a_machine(
    cli: Cli,
    store: Path,
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = put_backup(store, NOW)
    machines.answers = {"etcd-1": f"stored=\nproven={name}\n"}
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    assert cli.run("backup", "test", "latest", "--stack", "prod") == ExitCode.SUCCESS
    assert machines.ran[0][1].text("etcd-1") == f"bash -s -- backup member=etcd-1 prove={name}"
    assert capsys.readouterr().out == f"{name} passed a restore on etcd-1\n"


@needs_rclone
def test_a_mark_is_written_once_and_taken_away(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = store / "TOKEN" / f"{put_backup(store, NOW)}.keep"
    install(cli, monkeypatch, [*ONE, schedule(str(store))])
    assert cli.run("backup", "keep", mark.stem, "--stack", "prod") == ExitCode.SUCCESS
    text = mark.read_text()
    assert cli.run("backup", "keep", mark.stem, "--stack", "prod") == ExitCode.SUCCESS
    assert mark.read_text() == text
    for _ in range(2):
        assert cli.run("backup", "keep", mark.stem, "--undo", "--stack", "prod") == ExitCode.SUCCESS
        assert not mark.exists()


@needs_rclone
def test_of_several_clusters_in_a_store_none_is_taken_unasked(
    cli: Cli, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("BLUE", "GREEN"):
        put_backup(store, NOW, token=token)
    install(cli, monkeypatch, [*ONE, schedule(str(store), token="BLUE")])
    assert cli.run("backup", "verify", "latest", "--to", str(store)) == ExitCode.NO_ANSWER
    said = capsys.readouterr().err
    assert "backups of 2 clusters: BLUE (shop/prod/blue), GREEN (shop/prod/green). Expected: one cluster" in said
    assert "Write TOKEN/latest" in said
    assert cli.run("backup", "verify", "GREEN/latest", "--to", str(store)) == ExitCode.SUCCESS
    assert cli.run("backup", "verify", "GREEN/latest", "--stack", "prod") == ExitCode.SUCCESS
    assert cli.run("backup", "test", "GREEN/latest", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "GREEN/latest is of another cluster. Expected: a backup of shop/prod/orders" in capsys.readouterr().err


def test_what_is_tried_here_answers_no_other_user_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It serves all keys of the cluster: start_scratch asks for certificates where it has one itself."""
    seen: dict[str, str] = {}

    def note(machines: MemberMachines, name: str, *_: Any, **__: Any) -> str:
        folder = Path(machines._members[name].layout.pki)  # pyright: ignore[reportPrivateUsage]
        seen.update({path.name: oct(path.stat().st_mode)[-3:] for path in folder.iterdir()})
        return "revision=7\nkeys=3\n"

    monkeypatch.setattr(sources, "local_binaries", lambda *_, **__: SimpleNamespace(directory=str(tmp_path)))  # pyright: ignore
    monkeypatch.setattr(MemberMachines, "run", note)
    snapshot = restore.Snapshot(
        *("a.db", "this machine", tmp_path / "a.db", "", None, "3.6.16", None), is_bare=True, manifest="", size=1
    )
    assert restore._try(snapshot, tmp_path / "scratch") == {"revision": "7", "keys": "3"}  # pyright: ignore[reportPrivateUsage]
    assert seen == dict.fromkeys(("ca.crt", "server.crt", "server.key"), "600")
