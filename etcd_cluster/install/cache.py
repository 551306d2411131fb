"""Keeps the cache on the machine where Pulumi runs: its place, and making each thing in it exactly once."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.install.errors import InstallError

LOCK_SECONDS = 1800
"""Limit for another run that makes the same thing: longer than any download or build takes."""

Say = Callable[[str], None]


def discard(line: str) -> None:
    """Discards a line of progress."""


def cache_directory() -> Path:
    """Returns ETCD_CLUSTER_CACHE_DIR, else `etcd-cluster` under XDG_CACHE_HOME or ~/.cache. Creates it if missing."""
    explicit = os.environ.get("ETCD_CLUSTER_CACHE_DIR")
    directory = Path(explicit) if explicit else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "etcd-cluster"
    directory = directory.expanduser().absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            "ETCD_CLUSTER_CACHE_DIR",
            str(directory),
            f"cannot be made ({error.strerror})",
            "name a writable directory",
        ) from None
    return directory


def make_once(target: Path, make: Callable[[Path], None], say: Say = discard) -> Path:
    """Returns `target`, a file or directory, after calling `make(partial)` if it does not exist yet.

    Parallel callers, in this process or another, wait for the first. `target` is complete or absent: `partial` is in a
    scratch directory of its own (free for other use: it is deleted), and is renamed when `make` returns.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target, say):
        if not target.exists():
            scratch = target.with_name(f".{target.name}.partial")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                make(scratch / target.name)
                (scratch / target.name).rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


@contextmanager
def _locked(target: Path, say: Say) -> Generator[None, None, None]:
    deadline: float | None = None
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline is None:
                    say(f"waiting for another run that is making {target.name}")
                    deadline = time.monotonic() + LOCK_SECONDS
                elif time.monotonic() > deadline:
                    raise InstallError(
                        f"{target}: another run has been making it for {LOCK_SECONDS // 60} minutes. End that run, "
                        "then run again"
                    ) from None
                time.sleep(0.2)
        yield
