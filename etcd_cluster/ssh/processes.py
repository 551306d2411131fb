"""Runs programs of this machine, and ends all of them at once when a run is interrupted."""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, cast

from etcd_cluster.errors import EtcdClusterError

_LINE_BYTES = 2048
_PIECE_BYTES = 65536
_POLL_SECONDS = 0.25
# Between SIGTERM and SIGKILL.
_GRACE_SECONDS = 3.0


class CommandTimeoutError(EtcdClusterError):
    """A command ran longer than it may."""


class InterruptedRunError(EtcdClusterError):
    """The run was told to stop: nothing new is started."""


@dataclass(frozen=True)
class Completed:
    """The result of a command. `combined` holds both streams in the order in which they came."""

    returncode: int
    stdout: str
    stderr: str
    combined: str


class ChildProcesses:
    """Runs programs, each in a process group of its own, so that one call can end all of them."""

    _everyone: ClassVar[weakref.WeakSet[ChildProcesses]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._everyone.add(self)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes | str | mmap.mmap | None = None,
        on_stdout_line: Callable[[str], None] | None = None,
        on_stderr_line: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Runs a program to its end and to the end of its output.

        Args:
            arguments: The program and its arguments.
            stdin: What it reads; None for nothing.
            on_stdout_line: Called with each line of standard output, cut to 2 KiB.
            on_stderr_line: Called with each line of standard error, cut to 2 KiB.
            environment: Its environment; None for this process's.
            directory: Its working directory; None for this process's.
            timeout_seconds: Limit; None for no limit.

        Raises:
            CommandTimeoutError: The limit has passed; the process group is ended.
            InterruptedRunError: The run was told to stop; nothing was started.
            OSError: The program cannot be started.
        """
        feed = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self._start(arguments, feed, subprocess.PIPE, subprocess.PIPE, environment, directory)
        try:
            return _collect(process, stdin, on_stdout_line, on_stderr_line, timeout_seconds, lambda: self._stopped)
        finally:
            self._forget(process)

    def wait_for(
        self, arguments: Sequence[str], *, stderr: IO[bytes], environment: Mapping[str, str], timeout_seconds: float
    ) -> int:
        """Runs a program that may leave a child behind, and returns its return code.

        Raises:
            CommandTimeoutError: The limit has passed; the process group is ended.
            InterruptedRunError: The run was told to stop.
        """
        process = self._start(arguments, subprocess.DEVNULL, subprocess.DEVNULL, stderr, environment, None)
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            _end_group(process, signal.SIGKILL)
            process.wait()
            raise CommandTimeoutError(f"timed out after {timeout_seconds:g} s") from None
        finally:
            self._forget(process)

    def _start(
        self,
        arguments: Sequence[str],
        stdin: int,
        stdout: int,
        stderr: int | IO[bytes],
        environment: Mapping[str, str] | None,
        directory: str | Path | None,
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise InterruptedRunError("interrupted before the command started")
            process = subprocess.Popen(
                arguments,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)

    @property
    def stopped(self) -> bool:
        """True if nothing may start any more."""
        return self._stopped

    @classmethod
    def stop_all(cls, with_signal: int = signal.SIGTERM) -> None:
        """Calls `stop` for everything that this process has started, also by a provider that keeps its own."""
        for processes in tuple(cls._everyone):
            processes.stop(with_signal)

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """Ends everything that runs, and lets nothing start any more."""
        self._stopped = True
        # Not under the lock: a signal handler may have interrupted its holder.
        for process in tuple(self._running):
            _end_group(process, with_signal)


def _end_group(process: subprocess.Popen[bytes], with_signal: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.returncode is None:
            os.killpg(process.pid, with_signal)


def _collect(
    process: subprocess.Popen[bytes],
    stdin: bytes | str | mmap.mmap | None,
    on_stdout_line: Callable[[str], None] | None,
    on_stderr_line: Callable[[str], None] | None,
    timeout_seconds: float | None,
    stopped: Callable[[], bool],
) -> Completed:
    """Feeds and reads a process until it and its streams have ended, or, once it was told to end, a short while."""
    kept = bytearray()
    out = _Stream(on_stdout_line, kept)
    err = _Stream(on_stderr_line, kept)
    given = memoryview(stdin.encode() if isinstance(stdin, str) else stdin or b"")
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    told_at: float | None = None
    with process, selectors.DefaultSelector() as selector:
        for pipe, stream in ((cast("IO[bytes]", process.stdout), out), (cast("IO[bytes]", process.stderr), err)):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, stream)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map() or process.poll() is None:
            if not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
            for key, _ in selector.select(_POLL_SECONDS) if selector.get_map() else ():
                if key.data is None:
                    given = _write_some(key.fd, given)
                    ended = not given
                else:
                    ended = not key.data.read_some(key.fd)
                if ended:
                    selector.unregister(key.fileobj)
                    cast("IO[bytes]", key.fileobj).close()
            now = time.monotonic()
            if told_at is None and (stopped() or (deadline is not None and now > deadline)):
                told_at = now
                _end_group(process, signal.SIGTERM)
            # Other holders of the streams, such as ssh's master, are not waited for once the process has ended.
            patience = _GRACE_SECONDS if process.poll() is None else _POLL_SECONDS
            if told_at is not None and now > told_at + patience:
                _end_group(process, signal.SIGKILL)
                break
        for stream in (out, err):
            stream.flush()
    if told_at is not None and not stopped():
        text = kept.decode(errors="replace").rstrip()
        raise CommandTimeoutError(f"timed out after {timeout_seconds:g} s\n{text}".rstrip())
    return Completed(process.returncode, out.text(), err.text(), kept.decode(errors="replace"))


def _write_some(descriptor: int, given: memoryview) -> memoryview:
    try:
        return given[os.write(descriptor, given[:_PIECE_BYTES]) :] if given else given
    except BlockingIOError:
        return given
    except BrokenPipeError:
        # A program may end without reading its input.
        return given[:0]


class _Stream:
    """One output of a process: kept whole, and handed on line by line."""

    def __init__(self, on_line: Callable[[str], None] | None, combined: bytearray) -> None:
        self._on_line = on_line
        self._combined = combined
        self._all = bytearray()
        self._begun = bytearray()

    def read_some(self, descriptor: int) -> bool:
        try:
            piece = os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return True
        self._all += piece
        self._combined += piece
        if self._on_line is not None:
            self._begun += piece
            *lines, self._begun = self._begun.split(b"\n")
            for line in lines:
                self._hand_on(line)
        return bool(piece)

    def flush(self) -> None:
        self._hand_on(self._begun)

    def _hand_on(self, line: bytearray) -> None:
        text = line[:_LINE_BYTES].decode(errors="replace").rstrip()
        if text and self._on_line is not None:
            self._on_line(text)

    def text(self) -> str:
        return self._all.decode(errors="replace")
