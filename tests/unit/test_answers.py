"""What counts as the answer of a script, whatever a machine prints around it, and what does not."""

from __future__ import annotations

import subprocess

import pytest

from etcd_cluster.formation import machine_identity, preflight_report
from etcd_cluster.member import render
from etcd_cluster.member.answers import BEGIN, NoAnswerError, framed_answer
from etcd_cluster.member.layout import Layout
from tests.unit.framing import framed

TEXT = "machine=m\nowner=ä\n"
WHOLE = framed(TEXT)


@pytest.mark.parametrize("before", ["", "hello\n", framed("from another step"), "no end of line"])
@pytest.mark.parametrize("after", ["", "bye\n"])
def test_what_a_log_in_prints_around_it_is_not_part_of_it(before: str, after: str) -> None:
    assert framed_answer(f"{before}{WHOLE}{after}", "step") == TEXT


@pytest.mark.parametrize("length", range(len(WHOLE) - 1))
def test_a_part_of_it_is_no_answer(length: int) -> None:
    with pytest.raises(NoAnswerError, match=r"^host-1: observe: its machine printed .* in place of a whole answer\."):
        framed_answer(WHOLE[:length], "host-1: observe")


@pytest.mark.parametrize("cut", range(len(BEGIN) + 2, len(BEGIN) + len(TEXT)))
def test_a_text_that_lacks_something_in_the_middle_is_no_answer(cut: int) -> None:
    with pytest.raises(NoAnswerError):
        framed_answer(WHOLE[:cut] + WHOLE[cut + 1 :], "step")


@pytest.mark.parametrize("text", ["", "This account is not available.\n", "x" * 5000])
def test_what_came_in_its_place_is_shown_and_short(text: str) -> None:
    with pytest.raises(NoAnswerError) as error:
        framed_answer(text, "step")
    assert text.strip()[-200:] in str(error.value)
    assert len(str(error.value)) < 600


def test_nothing_can_be_an_answer() -> None:
    assert framed_answer(framed(""), "step") == ""


def run(functions: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    script = render.script("log", Layout.below("/nonexistent"), render.remove_variables("p/s/c", "t"))
    before, call, after = script.rpartition('\nanswer "$@"')
    assert call
    return subprocess.run(
        ["bash", "-s", "--", "step", "a=b"],
        input=f"{before}\n{functions}{call}{after}",
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
    )


def test_a_script_frames_what_its_step_prints_and_counts_bytes() -> None:
    done = run("step() { say progress; printf 'machine=m\\nowner=ä'; }")
    assert framed_answer(done.stdout, "step") == TEXT
    assert "progress" in done.stderr
    assert framed_answer(run("step() { cat; }").stdout, "step") == "", "the script itself is not its input"


@pytest.mark.parametrize("failing", ["false; echo on", "fail 'no disk'", "exit 3", "(exit 4); echo on"])
def test_a_step_that_fails_has_no_answer(failing: str) -> None:
    done = run(f"step() {{ echo begun; {failing}; }}", check=False)
    assert done.returncode != 0
    with pytest.raises(NoAnswerError):
        framed_answer(done.stdout, "step")


def test_a_preflight_without_a_report_is_asked_again_and_breaks_no_preview() -> None:
    """It may be in the state: what came in its place was printed by a run that ended well."""
    whole = framed('{"machine": "m"}')
    assert machine_identity(preflight_report(f"hello\n{whole}")) == "m"
    for output in ("hello\n", "", whole[:-3]):
        assert preflight_report(output) == machine_identity(preflight_report(output)) == ""
