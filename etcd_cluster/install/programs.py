"""Runs programs of this machine, without output and with a time limit."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from etcd_cluster.install.errors import InstallError

_ATTEMPTS_WHILE_BUSY = 20


def run(
    command: Sequence[str],
    *,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a program, and returns its result whatever the exit status is.

    Raises `InstallError` if it cannot start, or does not end in time.
    """
    problem: str | None = None
    # A program written a moment ago is "busy" while a fork made by another thread still holds it open.
    for _ in range(_ATTEMPTS_WHILE_BUSY):
        try:
            return subprocess.run(
                command,
                check=False,
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            raise InstallError(f"{command[0]} took over {timeout_seconds:g} s") from None
        except OSError as error:
            problem = error.strerror
            if error.errno != errno.ETXTBSY:
                break
            time.sleep(0.1)
    raise InstallError(f"{command[0]} does not run ({problem})")
