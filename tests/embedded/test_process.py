"""The command line, and what happens when a run is interrupted, killed, or not alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded_engine.state import StackLockedError, stack_lock
from tests.embedded.conftest import Project
from tests.embedded.test_run import LOCAL, journal

SLOW = """
    command("done")
    slow = local.Command("slow", create=f"trap 'echo ended >> {JOURNAL}; exit 1' TERM; touch {JOURNAL}.begun; "
                                        f"[ -e {JOURNAL}.quick ] || (sleep 30 & wait); echo create slow >> {JOURNAL}",
                         opts=Options(depends_on=[command("before")]))
    command("after", opts=Options(depends_on=[slow]))
    pulumi.export("out", slow.stdout)
"""


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def slow(project: Project) -> Project:
    project.write(LOCAL, SLOW)
    return project


def begun(project: Project) -> bool:
    return (project.folder / "journal.begun").exists() and "done" in project.resources()


def test_up_outputs_and_destroy_on_the_command_line(project: Project) -> None:
    project.write(LOCAL, 'a = command("a"); pulumi.export("out", a.stdout); pulumi.export("n", {"port": 2379})')
    code, text = project.command("preview")
    assert (code, "+ 2 to create" in text) == (0, True)
    code, text = project.command("up")
    assert (code, "a: created (0." in text) == (0, True)
    code, text = project.command("outputs")
    assert (code, json.loads(text)) == (0, {"n": {"port": 2379}, "out": "out-a"})
    code, text = project.command("destroy")
    assert (code, "add --yes" in text) == (1, True)
    code, text = project.command("destroy", "--yes")
    assert (code, "- 2 deleted" in text) == (0, True)
    code, text = project.command("outputs", "--stack", "other")
    assert (code, "Run `up` first" in text) == (1, True)


def test_the_result_as_json(project: Project) -> None:
    project.write(LOCAL, 'print("by the program"); pulumi.export("out", command("a").stdout)')
    process = project.start("up", "--json", stderr=subprocess.PIPE)
    text, progress = process.communicate(timeout=600)
    document = json.loads(text)
    assert "by the program" in progress
    assert document["ok"] is True
    assert document["outputs"] == {"out": "out-a"}
    assert [step["operation"] for step in document["operations"]] == ["create", "create"]


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("import absent", "No module named 'absent'"),
        ("def broken(", "SyntaxError"),
        ("raise SystemExit(3)", "sys.exit(3)"),
    ],
)
def test_a_program_that_fails_is_told_without_our_own_trace(project: Project, main: str, message: str) -> None:
    project.write(main)
    code, text = project.command("up")
    assert code == 1
    assert message in text
    assert "embedded_engine/" not in text


def test_a_killed_run_is_resumed_and_repeats_only_what_was_under_way(slow: Project) -> None:
    process = slow.start("up")
    wait_until(lambda: begun(slow))
    process.kill()
    process.wait()
    kept = set(slow.resources())
    assert {"done", "before"} <= kept
    assert "slow" not in kept
    (slow.folder / "journal.quick").touch()
    journal(slow)
    ran = slow.up()
    assert ran.ok
    assert ran.steps() == ["create slow", "create after"]
    assert journal(slow) == ["create slow", "create after"]


def test_a_state_killed_while_it_was_written_is_whole(project: Project) -> None:
    project.write(LOCAL, 'for i in range(30): command(f"c{i}", opts=Options(depends_on=[command(f"d{i}")]))')
    for delay in (0.0, 0.02, 0.05, 0.1):
        process = project.start("up")
        wait_until(project.state_file.exists)
        time.sleep(delay)
        process.kill()
        process.wait()
        json.loads(project.state_file.read_text())
    assert project.up().ok
    assert len(project.resources()) == 61
    assert [each.name for each in project.state_file.parent.iterdir() if each.suffix not in (".json", ".lock")] in (
        [],
        # What a killed run was writing.
        [each.name for each in project.state_file.parent.glob("dev.json.[0-9]*")],
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_ends_its_commands_and_keeps_what_was_done(slow: Project, number: int) -> None:
    process = slow.start("up")
    wait_until(lambda: begun(slow))
    process.send_signal(number)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "interrupted; completed steps are recorded" in text
    assert "Traceback" not in text
    assert "ended" in journal(slow)
    assert "before" in slow.resources()
    assert "after" not in slow.resources()
    (slow.folder / "journal.quick").touch()
    assert slow.up().ok


def test_a_second_interrupt_kills(project: Project) -> None:
    project.write(LOCAL, "local.Command('deaf', create=f\"trap '' TERM INT; touch {JOURNAL}.begun; sleep 60\")")
    process = project.start("up")
    wait_until((project.folder / "journal.begun").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 130


def test_two_runs_of_one_stack_do_not_overlap(slow: Project) -> None:
    process = slow.start("up")
    wait_until(lambda: begun(slow))
    code, text = slow.command("up")
    assert code == 1
    assert f"another run (process {process.pid}) works on stack dev" in text
    assert slow.command("preview")[0] == 0, "a preview needs no lock"
    process.kill()
    process.wait()
    (slow.folder / "journal.quick").touch()
    assert slow.up().ok, "the lock ends with its process"


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "dev.json"
    with (
        stack_lock(path, "dev"),
        pytest.raises(StackLockedError, match=f"process {os.getpid()}"),
        stack_lock(path, "dev"),
    ):
        pass
    with stack_lock(path, "dev"):
        pass


def test_a_damaged_state_is_named(project: Project) -> None:
    project.write(LOCAL, 'command("a")')
    project.up()
    project.state_file.write_text("{")
    code, text = project.command("up")
    assert code == 1
    assert f"cannot read the state file {project.state_file}" in text
