"""Prints what CHANGELOG.md says of the version of a tag; refuses a tag that does not fit the project."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def notes(tag: str, changelog: str, pyproject: str) -> str:
    """The section of one version.

    Args:
        tag: Such as `v0.1.0`.
        changelog: The text of CHANGELOG.md.
        pyproject: The text of pyproject.toml.

    Raises:
        ValueError: The tag is not the project's version, or there is nothing about it in the changelog.
    """
    version = tag.removeprefix("v")
    found = re.search(r'^version = "([^"]+)"', pyproject, re.MULTILINE)
    if not found or found[1] != version:
        raise ValueError(f"tag {tag}: pyproject.toml has {found[1] if found else 'no version'}: tag that, or change it")
    section = re.search(rf"^## \[?{re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not section or not section[1].strip():
        raise ValueError(f"tag {tag}: CHANGELOG.md has nothing on {version}: rename its part Unreleased, with the date")
    return section[1].strip()


def require_record(version: str) -> None:
    """Raises `ValueError` where the release has not recorded what it leaves in a stack."""
    for engine in ("embedded", "pulumi"):
        state = PROJECT / "tests" / "state" / "records" / version / engine / "state.json"
        if not state.is_file():
            raise ValueError(
                f"{state.relative_to(PROJECT)} is missing: run scripts/test tests/state/record.py, and commit it"
            )


if __name__ == "__main__":
    try:
        require_record(sys.argv[1].removeprefix("v"))
        print(notes(sys.argv[1], (PROJECT / "CHANGELOG.md").read_text(), (PROJECT / "pyproject.toml").read_text()))
    except ValueError as error:
        sys.exit(f"error: {error}")
