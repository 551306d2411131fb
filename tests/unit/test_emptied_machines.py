"""Folders and programs that somebody took away from under a member: scripts go on, or end before they stop it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from tests.unit.rollout_model import CA, PEER, PEER_CA, Goal, Model

VERSION = "3.6.16"


class Folder:
    """One member's, as on platform local, with programs that only say that they were called."""

    def __init__(self, path: Path) -> None:
        self.path, self.layout = path, Layout.below(str(path))
        programs = path / "versions" / VERSION
        for folder in (programs, path / "configuration", path / "pki", path / "state", path / "volume"):
            folder.mkdir(parents=True)
        for name in ("etcd", "etcdctl", "etcdutl"):
            (programs / name).write_text(f"#!/bin/sh\necho {name} of {VERSION}\n")
            (programs / name).chmod(0o755)
        (path / "bin").symlink_to(programs)
        (path / "state" / "run").write_text("a-run")

    def apply(self, action: str, **words: str) -> subprocess.CompletedProcess[str]:
        manifest = f"400 member {render.encode('a key')} {self.layout.pki}/server.key\n"
        line = render.command_line("apply", {"member": "a", "run": "a-run", "action": action, "say": "a text", **words})
        script = render.script("apply", self.layout, {"manifest": manifest, "history": ""})
        return subprocess.run(["sh", "-c", line], input=script, capture_output=True, text=True, check=False, timeout=60)

    def steps(self, function: str) -> str:
        """What a function of the scripts prints."""
        script = render.script("apply", self.layout, {"step": ""}).replace('answer "$@"; exit', f"{function}")
        done = subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "member")


@pytest.mark.parametrize("gone", [["pki"], ["configuration"], ["pki", "configuration"]])
def test_files_are_put_into_folders_that_were_taken_away(folder: Folder, gone: list[str]) -> None:
    for name in gone:
        shutil.rmtree(folder.path / name)
    done = folder.apply("files")
    assert done.returncode == 0, done.stderr
    assert (folder.path / "pki" / "server.key").read_text() == "a key"
    assert (folder.path / "pki").stat().st_mode & 0o777 == 0o700


def test_a_member_can_be_asked_though_the_link_to_its_programs_is_gone(folder: Folder) -> None:
    assert folder.steps("etcdctl_at http://127.0.0.1:1 version") == f"etcdctl of {VERSION}"
    (folder.path / "bin").unlink()
    assert folder.steps("etcdctl_at http://127.0.0.1:1 version") == f"etcdctl of {VERSION}"


def test_nothing_is_stopped_for_a_program_that_is_not_there_any_more(folder: Folder) -> None:
    shutil.rmtree(folder.path / "versions" / VERSION)
    done = folder.apply("restart", version=VERSION)
    assert (done.returncode, "nothing was stopped" in done.stderr) == (70, True)
    assert not (folder.path / "state" / "pending").exists()


# --- and what the planner makes of it ---


@pytest.mark.parametrize("lost", [[CA], [PEER_CA], [CA, PEER_CA]])
@pytest.mark.parametrize("whose", ["a", "b", "abc"])
def test_lost_cas_come_back_before_anybody_has_to_be_asked(lost: list[str], whose: str) -> None:
    """One that leads could not hand over without them, and where they are gone everywhere, nobody could tell."""
    goal = Goal()
    model = Model.running(goal)
    for name in whose:
        for path in lost:
            model.machines[name].files.pop(path)
    model.run(goal)
    assert len(set(model.restarts)) == len(model.restarts) == len(whose)
    assert "without a restart" in model.log[0]


@pytest.mark.parametrize("whose", ["a", "c", "abc"])
def test_lost_cas_bring_no_certificate_that_the_others_do_not_trust_yet(whose: str) -> None:
    """On the way to a peer CA: its own certificate is good, whatever it trusts itself."""
    model = Model.running(Goal(peer_trusted=None)).without_peer_ca()
    shown = {name: model.machines[name].shown(PEER) for name in whose}
    for name in whose:
        model.machines[name].files.pop(CA)
    model.run(Goal(), stop_after=1)
    assert {name: model.machines[name].shown(PEER) for name in whose} == shown
    model.run(Goal())
