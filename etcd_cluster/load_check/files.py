"""Writes what a load check measured: a page for people, and beside it the figures for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.load_check.page import page
from etcd_cluster.load_check.verdict import Measured, Verdict, as_json
from etcd_cluster.state_folder import state_folder


class PageNotWrittenError(EtcdClusterError):
    """The page of a load check cannot be written."""


def kept_page(project: str, stack: str, name: str) -> Path:
    """Returns where `up` and the command write the page of a cluster, among the project's data on this machine."""
    # A program may give a cluster a name with slashes.
    return state_folder(os.environ, project) / "load-checks" / f"{stack}-{name.replace('/', '%2F')}.html"


def keep(measured: Measured, verdict: Verdict, cluster: str, file: Path) -> Path:
    """Writes the page, and the figures beside it as JSON. Returns the page's path.

    Args:
        measured: What was measured.
        verdict: The verdict.
        cluster: PROJECT/STACK/NAME, for people.
        file: Where the page is written.

    Raises:
        PageNotWrittenError: It cannot be written there.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figures = file.with_name(f"{file.name.removesuffix('.html')}.json")
        _write(figures, f"{json.dumps(as_json(measured, verdict), indent=1)}\n")
        _write(file, page(measured, verdict, cluster))
    except OSError as error:
        raise PageNotWrittenError(
            str(Explanation(f"{file}: {error.strerror}", "a place for the page", "make room there, or name another"))
        ) from None
    return file


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
