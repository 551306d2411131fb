"""The person at the keyboard: one run of the engine, watched line by line, and broken off where a test wants that."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Container, Iterator
from pathlib import Path

from tests.lab.stack import UP_TIMEOUT_SECONDS, Run, Stack


class Operator:
    """A run that has been started and is not waited for. `lines` grows as it goes."""

    def __init__(self, stack: Stack) -> None:
        self.lines: list[str] = []
        self._start = time.monotonic()
        self._process = stack.popen(stack.up_command())
        self._fresh: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, count: int = 1, timeout_seconds: float = 60) -> None:
        """Returns at the `count`th line from now on that matches. Raises AssertionError if the run ends before."""
        deadline = time.monotonic() + timeout_seconds
        seen = 0
        while seen < count:
            try:
                line = self._fresh.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"line {seen + 1} of {count} like {pattern!r} has not come:\n{self.output}"
            seen += bool(re.search(pattern, line))

    def first_new(self, pattern: re.Pattern[str], known: Container[str], timeout_seconds: float = 120) -> str | None:
        """The first text of the output that matches and is not `known`; None if the run ends without one."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                line = self._fresh.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing new in {timeout_seconds} s:\n{self.output}") from None
            if line is None:
                return None
            found = pattern.search(line)
            if found and found[1] not in known:
                return found[1]

    def kill(self, *, leave_ssh: bool = False) -> None:
        """kill -9 of the run and of all it started; or of the engine alone, whose ssh clients then go on."""
        for pid in [self._process.pid] if leave_ssh else self._family():
            _signal(pid, signal.SIGKILL)
        self._end()

    def freeze(self) -> None:
        """Stops the run where it is, for a kill soon after."""
        for pid in self._family():
            _signal(pid, signal.SIGSTOP)

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self, timeout_seconds: float = UP_TIMEOUT_SECONDS) -> Run:
        """How the run ended by itself."""
        self._process.wait(timeout_seconds)
        self._end()
        return Run(self._process.returncode, self.output, time.monotonic() - self._start)

    def _end(self) -> None:
        self._process.wait(10)
        # The ssh clients of a killed run hold its output open: what they say is of no interest.
        self._reader.join(0.2)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put(None)

    def _family(self) -> list[int]:
        """The run, what descends from it, and its ssh masters, which have left the family: their command line tells."""
        own = self._process.pid
        family = [own]
        parents = dict(_parents())
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        mark = f"/etcd-ssh-{own}-".encode()
        return family + [pid for pid in parents if pid not in family and mark in _command_line(pid)]


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
