"""Names of machines that a member had before: the member has another one by now, so they need names of their own."""

from __future__ import annotations

import re

_FORMER = re.compile(r"(.+)-before-[0-9a-f]{8}")


def name_of_former_machine(member: str, mark: str) -> str:
    """Returns the name of a machine that a member had before. The mark, 8 hexadecimal digits, is its own."""
    return f"{member}-before-{mark}"


def member_of(name: str) -> str:
    """Returns the member that a machine is, or was, of: its name, unless it is a former machine's."""
    found = _FORMER.fullmatch(name)
    return found[1] if found else name
