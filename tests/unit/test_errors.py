"""How errors and messages print what somebody else wrote."""

from __future__ import annotations

import pytest

from etcd_cluster.errors import HIDDEN, SecretText, printable, shown
from etcd_cluster.users import NAME


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain, with spaces: 100 %", "plain, with spaces: 100 %"),
        ("Grüße", "Grüße"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b[2J\x07", r"\u001b[2J\u0007"),
        ("left\u202eright\u2028", r"left\u202eright\u2028"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_a_text_of_somebody_else_is_one_line_that_a_terminal_only_shows(text: str, line: str) -> None:
    assert printable(text) == line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app", "app"),
        ("app.1@example", "app.1@example"),
        ("app, root", '"app, root"'),
        ("a\nb", r'"a\nb"'),
        ("", '""'),
        ("x" * 300, f'"{HIDDEN}"'),
        (SecretText("app"), f'"{HIDDEN}"'),
    ],
)
def test_a_name_stands_without_quotes_if_it_cannot_be_taken_for_several(name: str, text: str) -> None:
    assert shown(name, bare=NAME) == text
    assert shown(name) == (text if text[0] == '"' else f'"{text}"')
