"""Faults of a backup's run and of its test, by the functions that machines run, with what they call played."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.member import render
from tests.unit.test_backup_script import NAME, play_store
from tests.unit.test_member_scripts import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "a member")


def call(folder: Folder, code: str, step: str = "backup", **variables: str) -> Any:
    """Runs a part of a step: `code` follows its functions."""
    known = {**play_store(folder, has_data=True), **variables}
    functions, found, _ = render.script(step, folder.layout, known).rpartition('\nanswer "$@"')
    assert found
    script = f"{functions}\nspec[member]=etcd-1\n{code}\nexit\n"
    return subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize(
    ("played", "why"),
    [
        ("to_store() { fail 'the store does not answer'; }", "the store does not answer"),
        ("df() { echo 1; }", "have no room for a test"),
        ("restored_equal() { kill -9 $BASHPID; }", "the test was stopped"),
    ],
    ids=["no store", "no room", "killed"],
)
def test_a_test_that_could_not_be_made_condemns_no_backup(folder: Folder, played: str, why: str) -> None:
    """A mark would take the protection from the newest backup that has passed."""
    original = 'eval "real_$(declare -f to_store)"; '
    put = 'to_store() { [[ $1 != rcat ]] || echo "marked" >&2; real_to_store "$@"; }'
    done = call(folder, f"listed=''; {original}{put if 'to_store()' not in played else ''}\n{played}\nprove {NAME}")
    assert done.returncode == 70
    assert f"error: etcd-1: backup {NAME} could not be tested: " in done.stderr
    assert why in done.stderr
    assert "marked" not in done.stderr
    assert not (folder.path / "result").exists()


def test_what_a_killed_run_left_goes_and_no_other_process_with_its_id(folder: Folder) -> None:
    state, volume = folder.path / "state", folder.path / "volume"
    ours, others = volume / "scratch-aaaaaa", state / "scratch-bbbbbb"
    with (
        subprocess.Popen(["sh", "-c", "sleep 60; :", "etcd", "--data-dir", str(ours / "data")]) as member,
        subprocess.Popen(["sleep", "60"]) as stranger,
    ):
        try:
            make = [f"mkdir -p {shlex.quote(str(path))}" for path in (ours, others)]
            ids = [
                f"echo {process.pid} >{shlex.quote(str(path / 'pid'))}"
                for path, process in ((ours, member), (others, stranger))
            ]
            done = call(folder, "\n".join([*make, *ids, "remove_leftovers"]))
            assert done.returncode == 0, done.stderr
            assert member.wait(timeout=10) != 0
            assert stranger.poll() is None
        finally:
            for process in (member, stranger):
                process.kill()
    assert list(folder.path.rglob("scratch-*")) == []


def test_a_member_that_outlives_its_run_holds_no_lock(folder: Folder) -> None:
    """A restore that was killed left its test member, and every later step then waited for the lock in vain."""
    code = """
        mkdir -p "$binaries_path" "$state_path/scratch-x"
        printf '#!/bin/sh\\nls -l /proc/$$/fd >"%s/fds"\\nsleep 60\\n' "$state_path" >"$binaries_path/etcd"
        chmod +x "$binaries_path/etcd"
        scratch=$state_path/scratch-x scratch_client_port=1 scratch_peer_port=2 scratch_metrics_port=3
        scratch_settled() { [[ -s $state_path/fds ]] && sleep 0.2; }
        scratch_serves() { true; }
        lock
        only_one_run
        start_scratch
        kill "$(cat "$scratch/pid")"
    """
    done = call(folder, code)
    assert done.returncode == 0, done.stderr
    held = (folder.path / "state" / "fds").read_text()
    assert "scratch-x/log" in held
    assert "/lock" not in held
    assert "backup.lock" not in held


PLAYED = """
    stored_bytes() { echo 4; }
    scratch_folder() { mkdir -p "$state_path/scratch-x"; echo "$state_path/scratch-x"; }
    restore_from() { :; }
    start_scratch() { :; }
    scratch_revision() { echo "${at:-31}"; }
    to_store() {
      if [[ $2 == *.json ]]; then printf '%s' "$given" >"$3"; else printf data >"$3"; fi
    }
    at_scratch() {
      [[ -z ${refuses:-} && $1 == compaction && $2 == --physical ]] || { echo "Error: ${refuses:-}" && return 1; }
      echo "$3" >"$state_path/compacted"
    }
    scratch_hash() {
      local at=-1
      [[ ! -f $state_path/compacted ]] || at=$(cat "$state_path/compacted")
      echo "$((1000 + (at > 0 ? at : 1))) $at"
    }
    hash_of_data=$(printf data | sha256sum | cut -d ' ' -f 1)
"""


def manifest(name: str = NAME, value: int = 1025, missing: str | None = None) -> str:
    hashed = f'{{"value": {value}, "compactRevision": 25, "members": "etcd-1"}}'
    if missing is not None:
        hashed = f'null, "hashMissing": "{missing}"' if missing else "null"
    text = f'{{"name": "{name}", "revision": 31, "bytes": 4, "sha256": "SUM", "hash": {hashed}}}'
    return f"given={shlex.quote(text)}; given=${{given/SUM/$hash_of_data}}\n"


def test_a_compaction_between_the_snapshot_and_the_hash_is_no_damage(folder: Folder) -> None:
    """Kubernetes compacts every five minutes, and the hash of keys depends on it."""
    done = call(folder, f"{PLAYED}{manifest()}restored_equal {NAME} && echo equal")
    assert "equal" in done.stdout, done.stderr


def test_other_keys_are_found_after_a_compaction_too(folder: Folder) -> None:
    done = call(folder, f"{PLAYED}{manifest(value=7)}restored_equal {NAME}; echo equal")
    assert done.returncode == 70
    assert "the hash over its keys is 1025. Expected: 7" in done.stderr
    assert (folder.path / "state" / "test-verdict").read_text() == "failed\n"


def test_data_that_this_machine_may_not_compact_are_not_condemned(folder: Folder) -> None:
    """With etcd's authentication on, a member's certificate may not compact, and hashes of other compactions differ."""
    done = call(folder, f"refuses='permission denied'\n{PLAYED}{manifest()}restored_equal {NAME} && echo equal")
    assert "equal" in done.stdout, done.stderr
    assert "is not compared" in done.stderr


@pytest.mark.parametrize(
    ("played", "what"),
    [
        ("refuses='context deadline exceeded'", "compaction (Error: context deadline exceeded)"),
        ("scratch_hash() { :; }", "hash over its keys"),
        ("scratch_revision() { :; }", "revision"),
    ],
    ids=["no compaction", "no hash", "no revision"],
)
def test_a_test_without_an_answer_neither_proves_nor_condemns(played: str, what: str, folder: Folder) -> None:
    """A busy machine passed for authentication that is on, and its silence for other keys."""
    done = call(folder, f"listed=''\n{PLAYED}{manifest()}{played}\nprove {NAME}")
    assert f"backup {NAME} could not be tested: the member that was started from it gave no {what} in" in done.stderr
    assert not (folder.path / "state" / "result").exists()


WRITES = 'eval "played_$(declare -f to_store)"; '
WRITES += (
    'to_store() { if [[ $1 == rcat ]]; then echo "${2##*.}" >"$state_path/result"; else played_to_store "$@"; fi; }\n'
)


def test_a_backup_that_was_made_while_members_differed_is_proof_of_nothing(folder: Folder) -> None:
    """Without a hash to compare with, it passed, was kept as the proven one, and ended the alert."""
    done = call(folder, f"listed=''\n{PLAYED}{WRITES}{manifest(missing='differed')}prove {NAME}")
    assert done.returncode == 70
    assert f"error: etcd-1: backup {NAME} proves nothing: members differed when it was made" in done.stderr
    assert not (folder.path / "state" / "result").exists(), "no result is beside it"


@pytest.mark.parametrize("missing", ["", "notAsked", "unanswered"], ids=["earlier release", "not asked", "unanswered"])
def test_a_backup_without_a_hash_for_another_reason_can_pass(missing: str, folder: Folder) -> None:
    done = call(folder, f"listed=''\n{PLAYED}{WRITES}{manifest(missing=missing)}prove {NAME}")
    assert done.returncode == 0, done.stderr
    assert (folder.path / "state" / "result").read_text() == "tested\n"
    assert "it restores; there is no hash of its members" in done.stderr


def test_what_a_proof_shows_is_said(folder: Folder) -> None:
    done = call(folder, f"listed=''\n{PLAYED}{WRITES}{manifest()}prove {NAME}")
    assert "it restores, and holds the keys that members had" in done.stderr


def test_a_backup_that_was_made_while_members_differed_can_be_restored(folder: Folder) -> None:
    """It may be the only one there is."""
    done = call(folder, f"{PLAYED}{manifest(missing='differed')}restored_equal {NAME} && echo restored")
    assert done.stdout == "restored\n"
    assert "members differed when it was made: it holds what one of them held" in done.stderr


ASKED = """
    declare -A measured=([server_is_leader]=0 [server_id]=a)
    mkdir -p "$state_path" "$volume_path/backups"
    save_snapshot() { printf data >"$1"; }
    accept_snapshot() { checked='hash 1, revision 8, 2 keys'; }
    programs_version() { echo 3.6.16; }
    require_space() { :; }
    stat() { [[ $* == *snap/db ]] && echo 4096 || command stat "$@"; }
    voters() { printf '%s\\n' 'a http://a etcd-1' 'b http://b etcd-2'; }
    slot=20261127T100000Z listed=
    hash_is() { echo "[{\\"HashKV\\":{\\"header\\":{},\\"hash\\":$1,\\"compact_revision\\":$2}}]"; }
"""


HASH = {"value": 5, "compactRevision": 3, "members": "etcd-1,etcd-2"}


@pytest.mark.parametrize(
    ("played", "given", "expected"),
    [
        ("etcdctl_at() { hash_is 5 3; }", "yes", {"hash": HASH}),
        ("etcdctl_at() { hash_is ${#1}$RANDOM 3; }", "yes", {"hash": None, "hashMissing": "differed"}),
        ("etcdctl_at() { hash_is 5 $RANDOM; }", "yes", {"hash": None, "hashMissing": "unanswered"}),
        ("etcdctl_at() { return 1; }", "yes", {"hash": None, "hashMissing": "unanswered"}),
        ("backup_test=never", "", {"hash": None, "hashMissing": "notAsked"}),
    ],
    ids=["agree", "differ", "compact", "no answer", "not asked"],
)
def test_the_manifest_says_why_it_has_no_hash(
    played: str, given: str, expected: dict[str, object], folder: Folder
) -> None:
    done = call(folder, f"spec[test]={given}\nbackup_folder=$volume_path/backups\n{ASKED}{played}\ntake_backup")
    assert done.returncode == 0, done.stderr
    (file,) = (folder.path / "volume/backups").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600, "in a folder, it is the backup's"
    made = json.loads(file.read_text())
    assert {name: made[name] for name in made if name.startswith("hash")} == expected


def test_a_disk_that_is_full_after_the_snapshot_is_named_and_leaves_nothing(folder: Folder) -> None:
    full = 'manifest() { echo half; echo "write error: No space left on device" >&2; return 1; }'
    code = f"spec[test]=\nbackup_test=never backup_folder=$volume_path/backups\n{ASKED}{full}\nas_step take_backup"
    done = call(folder, f"failure_path=$state_path/why\n{code}")
    assert done.returncode == 70
    assert "/volume/backups has no room for a manifest" in (folder.path / "state/why").read_text()
    assert list((folder.path / "volume/backups").iterdir()) == []


def test_leases_that_end_meanwhile_are_no_damage(folder: Folder) -> None:
    """The test's member leads itself, and revokes what ends: each is a revision more."""
    done = call(folder, f"at=33\n{PLAYED}{manifest()}restored_equal {NAME} && echo equal")
    assert "equal" in done.stdout, done.stderr
    lost = call(folder_of(folder, "b"), f"at=30\n{PLAYED}{manifest()}restored_equal {NAME}; echo equal")
    assert "its revision is 30. Expected: 31" in lost.stderr


def folder_of(folder: Folder, name: str) -> Folder:
    return Folder(folder.path.parent / name)


def test_another_backup_in_its_place_does_not_pass_for_it(folder: Folder) -> None:
    other = NAME.replace("etcd-1", "etcd-2")
    done = call(folder, f"{PLAYED}{manifest(other)}restored_equal {NAME}; echo equal")
    assert done.returncode == 70
    assert "its manifest is that of another backup" in done.stderr


def test_a_hash_without_its_value_is_not_taken_for_none(folder: Folder) -> None:
    damaged = manifest().replace('"value": 1025', '"value": "1025"')
    done = call(folder, f"{PLAYED}{damaged}restored_equal {NAME}; echo equal")
    assert done.returncode == 70
    assert "its manifest is damaged. Expected: a hash with its value" in done.stderr


def test_the_alarm_of_a_full_database_in_a_snapshot_is_no_damage(folder: Folder) -> None:
    """`endpoint health` fails while an alarm stands, and alarms are part of a snapshot. Metrics know neither alarms nor
    users."""
    played = """
        scratch_metrics_port=1
        http_get() { printf 'HTTP/1.0 200 OK\\r\\n\\r\\netcd_server_has_leader %s\\n' "$leader"; }
        leader=1; scratch_serves && echo serves
        leader=0; scratch_serves || echo waits
    """
    assert call(folder, played).stdout == "serves\nwaits\n"


def test_a_cluster_without_a_leader_is_no_reason_for_silence(folder: Folder) -> None:
    """Every member took itself for a learner, and its run for a success."""
    played = "ask_metrics() { declare -gA measured=([server_is_leader]=0 [server_id]=a); }; etcdctl_at() { return 1; }"
    done = call(folder, f"{played}\nanswer backup")
    assert "etcd does not tell its members" in done.stderr
    assert "no voter" not in done.stderr
    assert "result=failed\nfailure=etcd does not tell its members" in (folder.path / "state" / "backup").read_text()


def test_a_member_without_a_leader_stores_no_backup(folder: Folder) -> None:
    """Cut off from the others, it gives snapshots still, and etcd 3.4 its member list, as it all was then."""
    played = """
        ask_metrics() { declare -gA measured=([server_is_leader]=0 [server_has_leader]=$leads [server_id]=a); }
        wait_until() { "${@:2}"; }
        voters() { echo 'a http://127.0.0.1:1 etcd-1'; }
        sleep() { :; }
        take_backup() { name=$slot-7-etcd-1 revision=7; }
        send() { say "sent $1"; }
        forget_old() { :; }
        prove() { :; }
    """
    for words in ("", "now=yes"):
        done = call(folder_of(folder, f"cut off {words}"), f"leads=0\n{played}\nanswer backup {words}")
        assert "sent" not in done.stderr
        assert "this member has no leader" in done.stderr
    assert "sent" in call(folder_of(folder, "following"), f"leads=1\n{played}\nanswer backup now=yes").stderr


def test_a_machine_that_is_too_busy_to_answer_at_once_makes_its_backup(folder: Folder) -> None:
    """One look at etcd's metrics that took more than three seconds ended the run."""
    played = """
        service_pid() { echo 1; }
        find_sockets() { sockets=''; }
        sleep() { :; }
        metrics() {
          echo asked >>"$state_path/asked"
          (($(wc -l <"$state_path/asked") % 3 == 0)) || return 1
          declare -gA measured=([server_is_leader]=0 [server_has_leader]=1 [server_id]=a)
        }
        take_backup() { name=$slot-7-etcd-1 revision=7; }
        send() { say "sent $1"; }
        forget_old() { :; }
        prove() { :; }
    """
    done = call(folder, f"{played}\nanswer backup now=yes")
    assert "sent" in done.stderr, done.stderr


def test_a_backup_that_fails_its_test_passes_for_proven_no_longer(folder: Folder) -> None:
    """With both results beside it, the later one counts: that of a clock that was ahead would for as long as it was."""
    played = """
        restored_equal() { unfit 'other data'; }
        to_store() { [[ $1 != rcat ]] || echo "wrote ${2##*.}" >>"$state_path/asked"; }
        rclone() { echo "$1 ${2##*.}" >>"$state_path/asked"; }
    """
    done = call(folder, f"{played}\nlisted=$'{NAME}.json\\n{NAME}.tested'\nprove {NAME}")
    assert "does not restore: other data" in done.stderr
    assert (folder.path / "state" / "asked").read_text().splitlines() == ["wrote failed", "deletefile tested"]


BACKUP_FAILED = "attempt=5\nresult=failed\nfailure=the store is full\nnewest=\ntested=\nlocal=\n"
TEST_FAILED = (
    f"run=test\nattempt=5\nresult=failed\nfailure=backup {NAME} does not restore: cut\nnewest=\ntested=\nlocal=\n"
)
MADE = "run=backup\nattempt=5\nresult=success\nnewest=\ntested=\nlocal=\n"


@pytest.mark.parametrize(
    ("before", "verdict", "result", "failure"),
    [
        (BACKUP_FAILED, "passed", "failed", "the store is full"),
        (f"run=backup\n{BACKUP_FAILED}", "passed", "failed", "the store is full"),
        (BACKUP_FAILED, "failed", "failed", "the store is full"),
        (BACKUP_FAILED, "refused", "failed", "the store is full"),
        (TEST_FAILED, "passed", "success", ""),
        (MADE, "failed", "failed", f"backup {NAME} does not restore: cut"),
        (MADE, "passed", "success", ""),
        (MADE, "refused", "success", ""),
    ],
    ids=[
        *("made none, passed", "made none since this release, passed", "made none, failed", "made none, refused"),
        *("failed, passed", "made one, failed", "made one, passed", "made one, refused"),
    ],
)
def test_a_test_by_hand_hides_no_failure_of_a_run_that_made_no_backup(
    before: str, verdict: str, result: str, failure: str, folder: Folder
) -> None:
    """Members differed, and the refusal to test that backup took the place of their names in `status`."""
    played = f"""
        printf %s {shlex.quote(before)} >"$state_path/backup"
        judge() {{ echo {verdict} >"$state_path/test-verdict"; [[ {verdict} == passed ]] || fail cut; }}
        answer backup prove={NAME}
    """
    call(folder, played)
    noted = dict(line.split("=", 1) for line in (folder.path / "state" / "backup").read_text().splitlines())
    assert (noted["result"], noted.get("failure", "")) == (result, failure)
    assert noted["newest"] == NAME
    assert noted["tested"] == (NAME if verdict == "passed" else "")
    assert (noted["attempt"] == "5") == (failure == "the store is full" or verdict == "refused")


def test_a_learner_leaves_the_backup_to_others(folder: Folder) -> None:
    played = "ask_metrics() { declare -gA measured=([server_is_learner]=1 [server_is_leader]=0 [server_id]=a); }"
    done = call(folder, f"{played}\nanswer backup")
    assert "this member is no voter; others make the backup" in done.stderr
    assert "result=success" in (folder.path / "state" / "backup").read_text()


FUTURE = "20280101T000000Z-9-etcd-9"


def test_a_backup_of_a_clock_that_was_ahead_puts_off_no_test(folder: Folder) -> None:
    code = "slot=20261127T100000Z\nlisted={}.tested\ntest_is_due && echo due || echo done"
    assert call(folder, code.format(FUTURE)).stdout == "due\n"
    assert call(folder_of(folder, "b"), code.format("20261127T090000Z-7-etcd-1")).stdout == "done\n"


def test_a_backup_of_a_clock_that_was_ahead_is_not_noted_as_the_newest(folder: Folder) -> None:
    clock = 'date() { if [[ $* == +%s ]]; then echo 1795773600; else command date "$@"; fi; }'
    code = f"{clock}\nlisted=$'{NAME}.json\\n{FUTURE}.json'\nlatest json ''"
    assert call(folder, code).stdout == f"{NAME}\n"


def test_a_folder_that_is_no_longer_mounted_takes_no_backup(folder: Folder) -> None:
    """Its mount point is on the machine's own disk: what is written there is lost with the machine."""
    code = "supervisor=systemd\nlearn_metrics() { echo 'went on' >&2; exit 1; }\nbackup backup now=yes"
    done = call(folder, code, backup_store="/mnt/etcd/TOKEN", backup_root=str(folder.path))
    assert done.returncode == 70
    assert "is on this machine's own disk" in done.stderr
    assert "went on" not in done.stderr


def test_a_name_with_a_dot_finds_no_other_backup(folder: Folder) -> None:
    played = f"rclone() {{ echo {'a' * 32}/{NAME}.json; }}\nwrite_backup_files() {{ :; }}\n"
    wanted = NAME.replace("etcd-1", "etcd.1")
    assert "there is no such backup" in call(folder, f"{played}resolve {wanted}", "find_backup").stderr
    assert call(folder_of(folder, "b"), f"{played}resolve {NAME}", "find_backup").stdout == f"{'a' * 32}/{NAME}\n"


def store_of(*manifests: dict[str, str]) -> str:
    """A store with these backups of this cluster, unless they say otherwise: what rclone answers."""
    known = [{"name": "", "cluster": "p/s/etcd", "token": "a" * 32, **each} for each in manifests]
    listed = " ".join(f"{each['token']}/{each['name']}.json" for each in known)
    texts = {f"{each['token']}/{each['name']}.json": json.dumps(each) for each in known}
    one = ";; ".join(f"*/{path}) printf '%s\\n' {shlex.quote(text)}" for path, text in texts.items())
    every = " ".join(map(shlex.quote, texts.values()))
    return f"""
        rclone() {{
          case "$*" in
            lsf*) printf '%s\\n' {listed} ;;
            *--include*) printf '%s\\n' {every} ;;
            {one} ;;
          esac
        }}
    """


def clock(text: str) -> str:
    """A machine's clock."""
    return f'date() {{ if [[ $* == +%s ]]; then command date -u -d {text} +%s; else command date "$@"; fi; }}\n'


FIRST, SECOND = "20261127T100000Z-7-etcd-1", "20261127T110000Z-9-etcd-2"
TOKENED = "a" * 32 + "/"


def test_the_latest_backup_is_the_newest_by_its_name_whatever_its_token(folder: Folder) -> None:
    others = {"name": "20261127T120000Z-9-etcd-1", "cluster": "p/other/etcd"}
    played = store_of({"name": FIRST, "token": "c" * 32}, {"name": SECOND, "token": "b" * 32}, others)
    done = call(folder, f"{clock('2026-11-27T10:30:00')}{played}\nresolve latest", "find_backup")
    assert done.stdout == f"{'b' * 32}/{SECOND}\n", "a clock that is behind by less than an hour hides nothing"


@pytest.mark.parametrize(
    ("now", "names", "before"),
    [
        ("2026-11-25T10:00:00", (FIRST, SECOND), ""),
        ("2026-11-27T10:30:00", (FIRST, FUTURE), f"; the newest before it is {TOKENED}{FIRST}"),
    ],
    ids=["behind", "ahead elsewhere"],
)
def test_no_clock_makes_an_older_backup_the_latest(
    now: str, names: tuple[str, ...], before: str, folder: Folder
) -> None:
    """With its clock two days behind, a machine took the newest backup for one of the future, and an older one."""
    played = store_of(*({"name": name} for name in names))
    done = call(folder, f"{clock(now)}{played}\nresolve latest", "find_backup")
    assert (done.returncode, done.stdout) == (70, "")
    date = f"{names[-1][:4]}-{names[-1][4:6]}-{names[-1][6:8]} {names[-1][9:11]}:00:00 UTC"
    assert (
        f"the newest backup is {TOKENED}{names[-1]}, dated {date}, and the clock of this machine says "
        f"{now.replace('T', ' ')} UTC. Expected: no backup of the future. " in done.stderr
    )
    assert f"set restoreFrom to the name of the one that you want{before}\n" in done.stderr


@pytest.mark.parametrize(
    ("stored", "words", "is_refused"),
    [
        (({"name": FIRST},), "", False),
        (({"name": FIRST}, {"name": SECOND}), "", True),
        (({"name": FIRST}, {"name": SECOND, "cluster": "p/other/etcd"}), "", False),
        (({"name": FIRST}, {"name": SECOND, "beforeRestoreOf": "c1"}), "given_up=c1", False),
        (({"name": FIRST}, {"name": SECOND, "beforeRestoreOf": "c1"}), "given_up=c2", True),
        (({"name": FIRST}, {"name": SECOND, "beforeRestoreOf": "c1"}), "", True),
        (({"name": SECOND},), "", True),
    ],
    ids=["the same", "newer", "of another cluster", "its own", "of another restore", "of a new cluster", "gone"],
)
def test_a_backup_that_latest_meant_in_an_earlier_run_is_restored_while_it_is_the_newest(
    stored: tuple[dict[str, str], ...], words: str, is_refused: bool, folder: Folder
) -> None:
    """An `up` that ended before anything began had bound it; the next one, days later, gave up all writes since."""
    code = f"{words}\nread_spec - latest=restoreInPlace.from\nrequire_still_latest {TOKENED}{FIRST} && echo goes on"
    done = call(folder, f"{clock('2026-11-27T12:00:00')}{store_of(*stored)}\n{code}", "prepare_restore")
    assert (done.returncode, done.stdout) == ((70, "") if is_refused else (0, "goes on\n")), done.stderr
    if is_refused:
        assert (
            f"restoreInPlace.from: latest was {TOKENED}{FIRST}, dated 2026-11-27 10:00:00 UTC, when an `up` read it "
            f"first, and the newest backup is {TOKENED}{SECOND}, dated 2026-11-27 11:00:00 UTC, by now; nothing more "
            "was stopped. Expected: the newest one, or one that is named. Set restoreInPlace.from to the name of the "
            "one that you want" in done.stderr
        )


@pytest.mark.parametrize("words", ["", " latest=restoreFrom"], ids=["named", "latest"])
@pytest.mark.parametrize("step", ["restore", "prepare_restore"])
def test_it_is_asked_before_anything_is_fetched(step: str, words: str, folder: Folder) -> None:
    passed = ("lock", "require_claim", "make_data_folder", "begin_restoring", "open_store")
    played = "".join(f"{name}() {{ :; }}; " for name in passed)
    played += 'restored_equal() { fail "fetches $1"; }\n' + clock("2026-11-27T12:00:00")
    line = f"{step} member=etcd-1 say=x url=u version=3.6.16 cluster=c1 backup={TOKENED}{FIRST}{words}"
    done = call(folder, f"{played}{store_of({'name': FIRST}, {'name': SECOND})}\n{line}", step)
    assert done.returncode == 70
    assert ("fetches" in done.stderr, "by now; nothing" in done.stderr) == (not words, bool(words)), done.stderr


def latest_of(folder: Folder, played: str) -> Any:
    """Runs what finds the latest backup, with one in the store, and counts what it asks."""
    listed = f"echo {'b' * 32}/{NAME}.json"
    count = f"echo asked >>{shlex.quote(str(folder.path / 'asked'))}"
    code = f"rclone() {{ {count}; if [[ $1 == lsf ]]; then {listed}; else {played}; fi; }}\nresolve latest"
    return call(folder, code, "find_backup")


def test_the_latest_backup_is_found_by_two_questions_whatever_lies_beside_it(folder: Folder) -> None:
    manifest = f"""echo '{{"name": "{NAME}", "cluster": "p/s/etcd", "token": "{"b" * 32}"}}'"""
    refused = "echo 'x: failed to authenticate decrypted block - bad password?' >&2; return 1"
    encrypted = f"printf 'RCLONE\\0\\0\\x01\\xff'; {refused}"
    done = latest_of(folder, f"{manifest}; {encrypted}")
    assert (done.stdout, done.stderr) == (f"{'b' * 32}/{NAME}\n", "")
    assert (folder.path / "asked").read_text() == "asked\n" * 2


def test_a_latest_backup_that_cannot_be_decrypted_is_not_passed_over(folder: Folder) -> None:
    done = latest_of(folder, "echo 'x: failed to authenticate decrypted block - bad password?'; return 1")
    assert "its content is not encrypted with that password" in done.stderr
    assert "Correct backup.encryptionPassword" in done.stderr


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("printf 'RCLONE\\0\\0rest'", "the backups there are encrypted"),
        (
            "echo 'not an encrypted file - bad magic string'; return 1",
            "its content is not encrypted with that password",
        ),
        ("echo '{}'", ""),
    ],
    ids=["encrypted", "plain", "same"],
)
def test_backups_of_another_encryption_in_one_folder_are_refused(folder: Folder, said: str, why: str) -> None:
    played = f"rclone() {{ {said}; }}\nrequire_same_encryption {NAME}.json"
    done = call(folder, played, "backup_setup")
    assert (why in done.stderr, done.returncode) == (True, 70 if why else 0)


@pytest.mark.parametrize(
    ("asked", "limit", "attempts"),
    [('copyto a.db "$backup_store/a.db"', "18000", "1"), ('lsf "$backup_store"', "120", "2")],
    ids=["data", "names"],
)
def test_a_file_has_hours_while_bytes_flow_and_one_attempt_of_those_that_make_more_of_their_own(
    asked: str, limit: str, attempts: str, folder: Folder
) -> None:
    """A store that hung kept a run for four minutes, and for half an hour if the data went in parts."""
    words = call(folder, f'timeout() {{ printf "%s " "$@"; }}\nrclone {asked}').stdout.split()
    assert words[0] == limit
    assert words[words.index("--retries") + 1] == attempts
    assert words[words.index("--timeout") + 1] == "60s"


def test_a_full_disk_here_is_told_from_a_full_store(folder: Folder) -> None:
    played = "rclone() { echo 'write /x: no space left on device'; return 1; }\n"
    here = call(folder, f'{played}to_store copyto "$backup_store/a.db" /var/x/a.db').stderr
    assert "this machine has no room" in here
    assert "more free space in /var/x" in here
    there = call(folder_of(folder, "b"), f'{played}to_store copyto /var/x/a.db "$backup_store/a.db"').stderr
    assert "the store is full" in there


@pytest.mark.parametrize("failed", [True, False])
def test_a_run_that_could_not_even_begin_is_told(folder: Folder, failed: bool) -> None:
    functions, found, _ = render.script("observe", folder.layout, {}).rpartition('\nanswer "$@"')
    assert found
    (folder.path / "state").mkdir(parents=True)
    (folder.path / "state" / "backup").write_text("attempt=1\nresult=success\n")
    played = (
        f"systemctl() {{ [[ $* != *is-failed* ]] || return {int(not failed)}; }}; supervisor=systemd; observe_backup"
    )
    done = subprocess.run(["bash"], input=f"{functions}\n{played}\nexit\n", capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith("backup_result=")]
    assert results[-1] == ("backup_result=failed" if failed else "backup_result=success")


def test_a_snapshot_may_take_as_long_as_its_limit_says(folder: Folder) -> None:
    """etcdctl gives up after five seconds, unless told: a gigabyte takes longer."""
    played = """
        service_pid() { echo 1; }; find_sockets() { :; }; own_client_url() { echo http://127.0.0.1:1; }
        timeout() { echo "$*" >&3; }
        exec 3>&1
        save_snapshot /tmp/file 1800
        etcdctl_at http://127.0.0.1:1 member list
    """
    save, after = call(folder, played).stdout.splitlines()
    assert save.startswith("1800 ")
    assert "--command-timeout 1800s" in save
    assert "--command-timeout 5s" in after, "nothing else is waited for that long"


@pytest.mark.parametrize(
    ("words", "said", "noted"),
    [
        (f"backup=0a/{NAME}", f"restored {NAME}", f"0a/{NAME}"),
        ("file=/data/etcd/incoming/5f.db sha256=5f", "restored the file", "5f"),
    ],
    ids=["a backup", "a file"],
)
def test_what_a_new_cluster_starts_with_is_named_and_noted(folder: Folder, words: str, said: str, noted: str) -> None:
    """A file has no name of a backup: the step failed once all was done, and so did every later run."""
    played = "".join(
        f"{name}() {{ :; }}; "
        for name in ("require_claim", "make_data_folder", "begin_restoring", "make_restored_data", "move_in")
    )
    made = 'mkdir -p "$volume_path"; '
    line = f"restore member=etcd-1 say=restoring url=u version=3.6.16 {words}"
    done = call(folder, f"{made}{played}{line}", step="restore")
    assert done.returncode == 0, done.stderr
    assert f"etcd-1: {said}\n" in done.stderr + done.stdout
    assert (folder.path / "volume" / "restored").read_text() == noted


COPIED = """
    save_snapshot() { printf data >"$1"; }
    accept_snapshot() { checked='hash 1, revision 8, 2 keys'; }
    hash_of_members() { echo 'asked the members' >&2; no_hash unanswered; }
    programs_version() { echo 3.6.16; }
    require_space() { :; }
    sleep() { :; }
    ask_metrics() { declare -gA measured=([server_is_leader]=0 [server_id]=a); }
    etcdctl_at() { echo 'a, started, etcd-1, u, u, false'; }
    mkdir -p "$data_path/member/snap" "$volume_path/backups" && : >"$data_path/member/snap/db"
"""
IN_THE_STORE = """
    rclone() {
      case $1 in copyto) [[ $2 != *.json ]] || cat "$2" >"$state_path/sent" ;; rcat) cat >/dev/null ;; esac
    }
"""
DIFFER = """
    voters_leader_last() { printf '%s u %s\\n' a etcd-1 b etcd-2; }
    eval "$real"
    etcdctl_at() { echo "{\\"hash\\":$BASHPID,\\"compact_revision\\":1}"; }
"""


@pytest.mark.parametrize("words", ["", " before-restore-of=c1"], ids=["now", "before a restore"])
def test_a_backup_before_a_restore_is_kept_and_no_failure_where_members_differ(words: str, folder: Folder) -> None:
    """They are restored for that, and were refused: the next `up` ended in the same way."""
    real = 'real="$(declare -f hash_of_members)"\n'
    played = f"{real}{COPIED}{DIFFER}{IN_THE_STORE}\nfollows() {{ :; }}\nprove() {{ echo proves >&2; }}\n"
    done = call(folder, f"{played}answer backup now=yes member=etcd-1{words}")
    manifest = json.loads((folder.path / "state/sent").read_text())
    assert (manifest["hashMissing"], manifest.get("beforeRestoreOf")) == ("differed", "c1" if words else None)
    assert "members differ: at revision 8, etcd-2 has other keys than etcd-1. " in done.stderr
    assert "proves" not in done.stderr, "no test can prove it"
    if not words:
        assert (done.returncode, done.stdout) == (70, "")
        return
    assert done.returncode == 0, done.stderr
    assert f"stored={manifest['name']}\n" in done.stdout
    assert "That backup is kept, and the restore goes on" in done.stderr


AWAY = "rclone() { echo 'dial tcp: connection refused'; return 1; }"
READ_ONLY = 'rclone() { case $1 in lsf) ;; *) echo "AccessDenied: Access Denied"; return 1 ;; esac; }'


@pytest.mark.parametrize("words", ["", " before-restore-of=c1"], ids=["now", "before a restore"])
def test_no_test_of_what_is_about_to_be_put_away_ends_a_restore(words: str, folder: Folder) -> None:
    played = f"{COPIED}{IN_THE_STORE}\nfollows() {{ :; }}\nforget_old() {{ :; }}\ntest_is_due() {{ :; }}\n"
    done = call(folder, f"{played}prove() {{ fail 'no room'; }}\nanswer backup now=yes member=etcd-1{words}")
    assert done.returncode == (0 if words else 70), done.stderr


@pytest.mark.parametrize("wanted", [FIRST, "latest"])
def test_a_store_that_fails_is_no_store_without_that_backup(wanted: str, folder: Folder) -> None:
    done = call(folder, f"{AWAY}\nfound=$(resolve {wanted})\necho went on", "find_backup")
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.count("the store does not answer") == 1
    assert "no such backup" not in done.stderr


@pytest.mark.parametrize(("wanted", "is_refused"), [("latest", True), (SECOND, False)])
def test_data_that_a_restore_took_the_place_of_are_not_the_latest_unnamed(
    wanted: str, is_refused: bool, folder: Folder
) -> None:
    sums = {"version": "3.6.16", "sha256": "0" * 64}
    stored = store_of({"name": FIRST, **sums}, {"name": SECOND, "beforeRestoreOf": "c1", **sums})
    played = f"{clock('2026-11-27T12:00:00')}{stored}\nlock() {{ :; }}\nopen_store() {{ :; }}\n"
    done = call(folder, f"{played}find_backup - backup={wanted} series=3.6", "find_backup")
    assert (done.returncode, done.stdout) == ((70, "") if is_refused else (0, TOKENED + SECOND)), done.stderr
    assert ("of data that a restore took the place of" in done.stderr) == is_refused


@pytest.mark.parametrize("words", ["", "now=yes"], ids=["by the timer", "by hand"])
@pytest.mark.parametrize(
    ("store", "sentence"),
    [(AWAY, "the store does not answer"), (READ_ONLY, "the credentials may not do that")],
    ids=["away", "read-only"],
)
def test_a_store_that_fails_before_the_snapshot_costs_no_local_copy(
    words: str, store: str, sentence: str, folder: Folder
) -> None:
    """Of a cluster whose store was away for weeks, no machine held a copy of its data."""
    done = call(folder, f"{COPIED}{store}\nanswer backup {words}")
    assert done.returncode == 70
    assert "asked the members" not in done.stderr, "each of them makes a copy, as long as the store is away"
    (copy,) = (folder.path / "volume/backups").glob("*.db")
    assert (copy.read_text(), copy.with_suffix(".json").exists()) == ("data", True)
    noted = (folder.path / "state/backup").read_text()
    assert f"failure=backup to s3://bucket/p: {sentence}" in noted
    assert f". The newest local copy is {copy.stem}, in {folder.path}/volume/backups\n" in noted
    assert f"local={copy.stem}\n" in noted


def test_a_store_that_answers_at_this_members_turn_gets_its_backup(folder: Folder) -> None:
    """While it was not, another member may have had its turn."""
    once = (
        'rclone() { [[ -f $state_path/asked ]] || { : >"$state_path/asked"; echo "connection refused"; return 1; }; }'
    )
    done = call(folder, f"{COPIED}{once}\nforget_old() {{ :; }}\nprove() {{ :; }}\nanswer backup")
    assert done.returncode == 0, done.stderr
    assert "failure=" not in (folder.path / "state/backup").read_text()
    assert list((folder.path / "volume/backups").iterdir()) == []


def test_a_local_copy_that_fails_too_hides_no_failure_of_the_store(folder: Folder) -> None:
    full = "require_space() { fail 'no room'; }"
    done = call(folder, f"{COPIED}{full}\n{AWAY}\nanswer backup")
    assert done.returncode == 70
    assert "no room" in done.stderr
    noted = (folder.path / "state/backup").read_text()
    assert "the store does not answer" in noted
    assert "local=\n" in noted


REFUSALS = (
    "rpc error: code = Unknown desc = auth: user not found",
    "rpc error: code = FailedPrecondition desc = etcdserver: user name not found",
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
)
"""What etcd 3.4 to 3.7 answers to a member that its authentication locks out: without a user, a role, TLS."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("write /x/.new.db.part: no space left on device", "/x is full: the snapshot had no room"),
        (
            "rpc error: code = Unavailable",
            "the snapshot could not be taken: Error: rpc error: code = Unavailable. Look",
        ),
        ("open /x/.new.db.part: permission denied", "the snapshot could not be taken: Error: open /x"),
        *((error, "etcd's authentication is on, and no user of role root") for error in REFUSALS),
    ],
    ids=["no room", "another reason", "of the folder", *REFUSALS],
)
def test_the_reason_of_a_snapshot_that_failed_is_not_lost_behind_etcdctls_log(
    error: str, sentence: str, folder: Folder
) -> None:
    log = '{"level":"warn","caller":"v3@v3.6.16/maintenance.go:304","msg":"failed to receive from snapshot stream"}'
    played = f"""
        find_client_url() {{ url=u; }}
        etcdctl_at() {{ for _ in 1 2 3 4; do echo '{log}' >&2; done; echo 'Error: {error}' >&2; return 1; }}
        save_snapshot /x/.new.db 60
    """
    done = call(folder, played)
    assert done.returncode == 70
    assert sentence in done.stderr
