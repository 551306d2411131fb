"""Ends a command in order when a signal comes: what it wrote is removed, as it is at Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Generator[None]:
    """While the context lasts, a signal to end stops what runs on machines, and raises KeyboardInterrupt."""
    from etcd_cluster.ssh.processes import ChildProcesses

    def stop(_number: int, _frame: object) -> None:
        ChildProcesses.stop_all()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
