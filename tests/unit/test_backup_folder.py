"""A store that is a folder: what machines ask of it without rclone is answered as rclone answers it."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.backup.files import MemberPlace, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from tests.unit.test_backup_script import SCHEDULE
from tests.unit.test_member_scripts import Folder

TOKEN = "a" * 32
RCLONE = shutil.which("rclone")
NAME = "20261127T100000Z-7-etcd-1"
BY_RCLONE = """
rclone() {
  timeout 60 "$rclone_path" --config "" --log-level ERROR --retries 1 "$@"
}
"""


class FolderStore:
    """A folder with a backup in it, and a member's functions."""

    def __init__(self, path: Path, by_rclone: bool) -> None:
        self.root, self.member = path / "the store's", Folder(path / "a member")
        self.by_rclone = by_rclone
        (self.root / TOKEN).mkdir(parents=True)
        (self.root / TOKEN / f"{NAME}.db").write_bytes(b"x" * 1000)
        (self.root / TOKEN / f"{NAME}.json").write_text("{}\n")

    def call(self, code: str) -> subprocess.CompletedProcess[str]:
        place = MemberPlace("etcd-1", self.member.layout, Ports(client=1, peer=2, metrics=3))
        store = StoreUrl.parse(str(self.root))
        known: dict[str, Any] = variables("p/s/etcd", TOKEN, place, store, str(self.root), SCHEDULE)
        functions, found, _ = render.script("restore", self.member.layout, known).rpartition('\nanswer "$@"')
        assert found
        played = f"rclone_path={RCLONE}{BY_RCLONE}" if self.by_rclone else ""
        script = f"{functions}\nspec[member]=etcd-1\nroot=${{backup_parent%/*}}\n{played}\n{code}\nexit\n"
        return subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(
    params=[
        "without rclone",
        pytest.param("rclone", marks=pytest.mark.skipif(RCLONE is None, reason="rclone is not installed")),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path, request.param == "rclone")


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("names | sort", f"{NAME}.db\n{NAME}.json\n"),
        ("backup_store+=-none; names; echo $?", "0\n"),
        ("rclone lsf --recursive --files-only --include '*.json' \"$backup_parent\"", f"{TOKEN}/{NAME}.json\n"),
        (f'rclone cat "$backup_store/{NAME}.json"', "{}\n"),
        ("rclone cat --include '*.json' --separator $'\\n' \"$backup_parent\"", "{}\n\n"),
        ('rclone cat "$backup_store/none.json" >/dev/null 2>&1 || echo fails', "fails\n"),
        (f'rclone size --json "$backup_store/{NAME}.db" | sed "s/.*\\"bytes\\":\\([0-9]*\\).*/\\1/"', "1000\n"),
        (f'rclone copyto "$backup_store/{NAME}.db" "$root/out" --no-check-dest; wc -c <"$root/out"', "1000\n"),
        ('rclone copyto "$backup_store/none.db" "$root/out" 2>/dev/null || echo fails', "fails\n"),
        (f'rclone deletefile "$backup_store/{NAME}.db"; names', f"{NAME}.json\n"),
        ('to_store rcat "$backup_parent/b/x.keep" < <(echo since); rclone cat "$backup_parent/b/x.keep"', "since\n"),
    ],
    ids=[
        *("names", "no folder", "all names", "cat", "cat all", "cat nothing", "size"),
        *("fetch", "fetch nothing", "delete", "write"),
    ],
)  # fmt: skip
def test_a_folder_answers_as_rclone_does(store: FolderStore, code: str, answer: str) -> None:
    done = store.call(code)
    assert done.stdout == answer, done.stderr


def test_a_backup_that_is_sent_is_its_owners_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, by_rclone=False)
    local = tmp_path / "snapshot"
    local.write_bytes(b"y" * 5000)
    local.chmod(0o600)
    done = store.call(f'umask 022; to_store copyto "{local}" "$backup_parent/b/new.db"; rm "{local}"')
    assert done.returncode == 0, done.stderr
    sent = store.root / "b" / "new.db"
    assert sent.read_bytes() == b"y" * 5000
    assert [stat.S_IMODE(path.stat().st_mode) for path in (sent, sent.parent)] == [0o600, 0o700]
    assert list(sent.parent.iterdir()) == [sent]


def test_a_backup_that_was_cut_off_is_absent_and_the_reason_is_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, by_rclone=False)
    said = "cp: error writing: No space left on device"
    full = f"ln() {{ return 1; }}\ntimeout() {{ echo half >\"${{@: -1}}\"; echo '{said}' >&2; return 1; }}\n"
    done = store.call(f'{full}to_store copyto /etc/hostname "$backup_store/new.db"')
    assert done.returncode == 70
    assert "the store is full" in done.stderr
    assert {path.name for path in (store.root / TOKEN).iterdir()} == {f"{NAME}.db", f"{NAME}.json"}


def test_a_folder_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, by_rclone=False)
    done = store.call("mkdir() { echo \"mkdir: cannot create directory '$2': Permission denied\" >&2; return 1; }\n"
                      'to_store rcat "$backup_store/x" </dev/null')  # fmt: skip
    assert "that folder may not be read or written" in done.stderr
    assert "(mkdir: cannot create directory" in done.stderr


def test_what_was_moved_to_another_disk_and_linked_is_there(tmp_path: Path) -> None:
    """Commands followed links, and members did not: a test said that the data is gone, and condemned the backup."""
    store = FolderStore(tmp_path, by_rclone=False)
    folder, moved = store.root / TOKEN, tmp_path / "another disk"
    (folder / f"{NAME}.db").rename(tmp_path / "data")
    (folder / f"{NAME}.db").symlink_to(tmp_path / "data")
    (folder / "nowhere.json").symlink_to("nothing")
    (folder / "loop.json").symlink_to("loop.json")
    folder.rename(moved)
    folder.symlink_to(moved)
    all_of_it = 'rclone cat --include "*.json" --separator "" "$backup_store"'
    done = store.call(f"names | sort; stored_bytes {NAME}; {all_of_it}")
    assert (done.stdout, done.stderr) == (f"{NAME}.db\n{NAME}.json\n1000\n{{}}\n", "")


def test_a_manifest_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    """An older backup would be the latest."""
    store = FolderStore(tmp_path, by_rclone=False)
    (store.root / TOKEN / "unreadable.json").symlink_to("/proc/self/mem")
    done = store.call('rclone cat --include "*.json" --separator "" "$backup_store" || echo failed')
    assert done.stdout == "{}\nfailed\n"


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, by_rclone=False)
    shutil.rmtree(store.root)
    store.root.write_text("")
    done = store.call('to_store rcat "$backup_store/x.begun" < <(echo now)')
    assert "its path leads through a file. Expected: a folder" in done.stderr
