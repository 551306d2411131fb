"""Writes what a load check measured: a page for people, and beside it the figures for programs."""

from __future__ import annotations

import errno
import json
import os
import tempfile
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


def require_writable(file: Path) -> None:
    """Makes the folder of a page.

    Raises:
        PageNotWrittenError: No file can be written there: found before the load, which takes a minute.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise _not_written(file, error) from None


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
        figures = file.with_name(f"{file.name.removesuffix('.html')}.json")
        _write(figures, f"{json.dumps(as_json(measured, verdict), indent=1)}\n")
        _write(file, page(measured, verdict, cluster))
    except OSError as error:
        raise _not_written(file, error) from None
    return file


def _not_written(file: Path, error: OSError) -> PageNotWrittenError:
    problem = f"{error.filename or file}: {error.strerror}"
    return PageNotWrittenError(str(Explanation(problem, "a place for the page", "make room there, or name another")))


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
