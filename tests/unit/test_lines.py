"""The lines to the scripts: what is sent is read, and what is read is sent."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from etcd_cluster.member import render
from etcd_cluster.member.line import Line, Prepare
from etcd_cluster.member.lines import LINES, Apply, ApplyAction, PrepareAgain

SCRIPTS = Path(render.__file__).with_name("scripts")
FUNCTION = re.compile(r"^(\w+)\(\) \{(?: [^\n]*\}$|\n(?:[^}\n][^\n]*\n|\n)*\})", re.MULTILINE)

DEFINITION = re.compile(r"^(\w+)\(\) [{(]", re.MULTILINE)


def sent(step: str) -> set[str]:
    """The keys of a step's line, with all of its fields given."""
    kind = LINES[step]
    hints = get_type_hints(kind)
    line = kind(**{field.name: given(hints[field.name]) for field in fields(kind)})
    return set(line.words("a", "a-run", "a text")) - {"member"}  # in front of every message


def given(hint: Any) -> Any:
    for each in getattr(hint, "__args__", (hint,)):
        if isinstance(each, type) and issubclass(each, Enum):
            return next(iter(each))
    return {bool: True, int: 1}.get(hint, "1" if "int" not in str(hint) else 1)


def read(step: str) -> set[str]:
    """The keys that a step's script reads: in its function, and in all that this calls."""
    files = [SCRIPTS / f"{name}.sh" for name in ("common", "process", "systemd", *render.STEPS[step])]
    functions = {each[1]: each[0] for file in files for each in FUNCTION.finditer(file.read_text())}
    found, left = set[str](), {step}
    while left:
        name = left.pop()
        found.add(name)
        words = set(re.findall(r"[\w-]+", re.sub(r"#.*", "", functions[name])))
        left |= (words & functions.keys()) - found - render.STEPS.keys()
    return set(re.findall(r"spec\[([\w-]+)\]", "".join(functions[name] for name in found))) - {"member"}


@pytest.mark.parametrize("step", render.STEPS)
def test_what_is_sent_is_read_and_what_is_read_is_sent(step: str) -> None:
    shown_only = {"version"} if step == "prepare" else set[str]()  # for reviewers: programs come by their sums
    assert sent(step) - shown_only == read(step)


@pytest.mark.parametrize("supervisor", ["process", "systemd"])
@pytest.mark.parametrize("step", render.STEPS)
def test_no_two_scripts_of_a_step_define_the_same_function(step: str, supervisor: str) -> None:
    """The later one would count, for the callers of the other one as well."""
    files = [SCRIPTS / f"{name}.sh" for name in ("common", supervisor, *render.STEPS[step])]
    names = [name for file in files for name in DEFINITION.findall(file.read_text())]
    assert [name for name in names if names.count(name) > 1] == []
    assert {step, "fail", "service_pid"} <= {*names}


def test_each_step_has_one_line() -> None:
    assert LINES.keys() == render.STEPS.keys()
    again = PrepareAgain(Prepare("3.6.16").text("a"))
    assert again.text("a", "a-run", "a text") == "bash -s -- prepare member=a version=3.6.16"


def test_what_is_not_given_is_not_sent() -> None:
    line: Line = Apply(ApplyAction.FILES)
    assert line.words("a", "a-run", "a text") == {"member": "a", "run": "a-run", "say": "a text", "action": "files"}
    assert Apply(ApplyAction.START, index=0, pending=True).words("a")["index"] == "0"
