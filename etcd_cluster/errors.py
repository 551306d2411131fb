"""Defines this project's errors. Everything that a caller may want to catch is an `EtcdClusterError`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import cast

LONGEST_SHOWN = 200
PRIVATE_KEY = re.compile(r"PRIVATE KEY|SECRET-KEY-|b3BlbnNzaC1rZXktdjE")
"""Matches PEM keys of any kind, and what OpenSSH's keys begin with in base64."""
HIDDEN = "(not shown)"


class SecretText(str):
    """Text from a secret of the stack's config. No error shows it, and resources that take it keep it secret."""

    __slots__ = ()


def is_private_key(text: str) -> bool:
    """Returns whether a text looks like a private key, or holds one."""
    return PRIVATE_KEY.search(text) is not None


def holds_secret(value: object) -> bool:
    """Returns whether a value is a `SecretText`, or a list or mapping that holds one."""
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        return any(map(holds_secret, (*items.keys(), *items.values())))
    if isinstance(value, list | tuple):
        return any(map(holds_secret, cast("list[object]", value)))
    return isinstance(value, SecretText)


def shown(value: object, *, bare: re.Pattern[str] | None = None) -> str:
    """Returns a value as an error may print it: no secret, nothing like a private key, and one short line.

    Args:
        value: A text is printed in quotes, anything else as JSON.
        bare: Texts that it matches as a whole stand without quotes.
    """
    if bare and isinstance(value, str) and bare.fullmatch(value) and not holds_secret(value):
        return value
    text = (
        value if isinstance(value, str) else json.dumps(value, default=_unprintable, ensure_ascii=False, skipkeys=True)
    )
    if holds_secret(value) or is_private_key(text) or "-----BEGIN" in text or len(text) > LONGEST_SHOWN:
        text = HIDDEN
    return printable(json.dumps(text, ensure_ascii=False) if isinstance(value, str) else text)


def printable(text: str) -> str:
    """Returns a text of somebody else's as one line that a terminal only shows.

    In the place of each character that prints nothing stands an escape, as JSON has it.
    """
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _unprintable(value: object) -> str:
    return f"({type(value).__name__})"


@dataclass(frozen=True)
class Explanation:
    """What people read of an error: three sentences, in this order, each without its period.

    Args:
        problem: What is wrong, with the value.
        expected: What was expected in its place.
        fix: What to do, as an instruction that names the commands. It is printed with a capital.
    """

    problem: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return f"{self.problem}. Expected: {self.expected}. {self.fix[:1].upper()}{self.fix[1:]}."


class EtcdClusterError(Exception):
    """Base of all failures that this project explains."""


class ConfigurationError(EtcdClusterError):
    """A setting that cannot be used, and what to write in its place.

    It reads "KEY: VALUE: problem. Fix."

    Args:
        key: The setting as the user writes it, such as `etcd.heartbeat-interval`.
        value: What was given. It is printed, unless it is a `SecretText` or looks like a private key.
        problem: What is wrong, without a closing period.
        fix: What to do about it, without a closing period. It is printed with a capital.
    """

    def __init__(self, key: str, value: object, problem: str, fix: str) -> None:
        super().__init__(key, value, problem, fix)
        self.key = key
        self.value = value
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        end = "" if self.fix.endswith("?") else "."
        key = HIDDEN if is_private_key(self.key) or len(self.key) > LONGEST_SHOWN else self.key
        return f"{printable(key)}: {shown(self.value)}: {self.problem}. {self.fix[:1].upper()}{self.fix[1:]}{end}"
