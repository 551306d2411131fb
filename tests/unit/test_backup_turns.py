"""Members that begin one slot's backup at once, by the functions that machines run, and a store that is a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from etcd_cluster.backup.files import MemberPlace, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from tests.unit.test_backup_script import SCHEDULE
from tests.unit.test_member_scripts import Folder

TOKEN, SLOT = "a" * 32, "20261127T100000Z"
MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
AT_ONCE = """
TURN_SECONDS=1 BEGUN_SECONDS=60
learn_metrics() { :; }
slot_now() { echo SLOT; }
# Of machines that are so busy that the first turns come to nothing: all begin at once, and only then one after the other.
rank() {
  if [[ -f $state_path/had-a-turn ]]; then echo "${spec[member]##*-}"; else mkdir -p "$state_path" && echo >"$state_path/had-a-turn" && echo 0; fi
}
sleep() { if [[ $1 == 20 ]]; then command sleep 0.1; else command sleep "$1"; fi; }
make_backup() { command sleep 2; to_store rcat "$backup_store/$slot-7-${spec[member]}.json" </dev/null; }
"""  # noqa: E501
ALL_THERE = 'echo >"$backup_store/there-${spec[member]}"; until (($(ls "$backup_store" | grep -c there) == 3)); do command sleep 0.05; done'  # noqa: E501


def backups_made_at_once(path: Path, played: str) -> list[str]:
    """Starts the timers of three members at once; returns the manifests that they leave."""
    root = path / "store"
    (root / TOKEN).mkdir(parents=True)
    processes: list[subprocess.Popen[str]] = []
    for name in MEMBERS:
        folder = Folder(path / name)
        place = MemberPlace(name, folder.layout, Ports(client=1, peer=2, metrics=3))
        known = variables("p/s/etcd", TOKEN, place, StoreUrl.parse(str(root)), str(root), SCHEDULE)
        functions, found, _ = render.script("backup", folder.layout, known).rpartition('\nanswer "$@"')
        assert found
        script = path / f"{name}.sh"
        script.write_text(f"{functions}\n{AT_ONCE.replace('SLOT', SLOT)}\n{played}\nanswer backup member={name}\n")
        processes.append(subprocess.Popen(["bash", "-s"], stdin=script.open(), stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    return sorted(each.name for each in (root / TOKEN).glob("*.json"))


def test_of_members_that_begin_at_once_one_makes_the_backup(tmp_path: Path) -> None:
    """Each has told the others before it looks again: here they all look once all have told."""
    played = f"""
    eval "told_$(declare -f begin)"
    begin() {{ told_begin; [[ -f $state_path/waited ]] || {{ echo >"$state_path/waited"; {ALL_THERE}; }}; }}
    """
    assert len(backups_made_at_once(tmp_path, played)) == 1


def test_one_that_is_at_work_is_waited_for(tmp_path: Path) -> None:
    assert len(backups_made_at_once(tmp_path, "")) == 1


def test_without_a_second_look_each_of_them_would_make_one(tmp_path: Path) -> None:
    """That the test above can tell."""
    played = f"claim_slot() {{ await_turn && begin && {ALL_THERE}; }}"
    assert len(backups_made_at_once(tmp_path, played)) == len(MEMBERS)
