"""Runs commands on other machines through OpenSSH's own client. Knows nothing of Pulumi or etcd.

Every target has one multiplexed connection for as long as the `OpenSsh` lives. Host keys are pinned, no configuration
of the user or the system is read, and a private key is only ever in a 0600 file in memory.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, cast

from etcd_cluster.errors import ConfigurationError, EtcdClusterError

_LINE_BYTES = 2048
_PIECE_BYTES = 65536
_POLL_SECONDS = 0.25
# Between a polite and a forced end.
_GRACE_SECONDS = 3.0
_ALIVE_INTERVAL_SECONDS = 5
_ALIVE_COUNT = 3
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_DIRECTORY_PREFIX = "etcd-ssh-"
_LONGEST_BASE = 60
# What ssh's configuration can quote: it has no way to write ", $ or the end of a line.
_AGENT_SOCKET = re.compile(r'[^"$\x00-\x1f\x7f]*')
# A master whose owner was killed ends by itself this long after its last command.
_MASTER_IDLE_SECONDS = 120
_LONGEST_DIAL_SECONDS = 60
_LOG_IN_SECONDS = 30
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0


class SshError(EtcdClusterError):
    """Base of what can go wrong between this machine and another one."""


class SshConfigurationError(SshError):
    """The connection cannot be used as it is written."""


class SshHostKeyError(SshError):
    """The machine that answered is not the one whose host key is pinned."""


class SshAuthenticationError(SshError):
    """The machine refused the user or the key."""


class SshUnreachableError(SshError):
    """Nothing answered as an SSH server, after all attempts."""


class SshConnectionLostError(SshError):
    """The connection ended while a command ran. Whether the command still runs is not known."""


class CommandTimeoutError(EtcdClusterError):
    """A command ran longer than it may."""


class InterruptedRunError(EtcdClusterError):
    """The run was told to stop: nothing new is started."""


@dataclass(frozen=True)
class Connection:
    """How to reach one machine.

    host_key: the pinned key of the machine, as in its `ssh_host_ed25519_key.pub`: `ssh-ed25519 AAAA...`. Required.
    private_key: the text of the key to log in with. Without one, the keys of the ssh-agent at `agent_socket`, or else
        at `SSH_AUTH_SOCK`, are used.
    proxy: the machine to go through (a bastion).
    dial_error_limit: attempts before giving up, -1 for no limit. A refused log-in or a wrong host key is never retried.
    """

    host: str
    port: int = 22
    user: str = "root"
    private_key: str | None = field(default=None, repr=False)
    host_key: str | None = None
    proxy: Connection | None = None
    per_dial_timeout_seconds: int = 15
    dial_error_limit: int = 10
    agent_socket: str | None = None

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_connection(properties: Mapping[str, Any]) -> Connection:
    """A connection as pulumi-command describes it, its keys in camelCase or snake_case.

    Raises `ConfigurationError` for a key that OpenSSH has no use for, such as a password. Never shows a value.
    """
    names = {"per_dial_timeout": "per_dial_timeout_seconds", "agent_socket_path": "agent_socket"}
    known = set(Connection.__dataclass_fields__)
    given: dict[str, Any] = {}
    for key, value in properties.items():
        name = re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key)
        name = names.get(name, name)
        if name not in known:
            raise ConfigurationError("ssh", key, "not supported here", "log in with a private key or the SSH agent")
        if value not in (None, ""):
            # Numbers come out of Pulumi as floats.
            given[name] = int(value) if isinstance(value, float) else value
    if given.get("proxy") is not None:
        given["proxy"] = parse_connection(given["proxy"])
    return Connection(**given)


@dataclass(frozen=True)
class Completed:
    """What a command left. `combined` holds both streams in the order in which they came."""

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
        stdin: bytes | str | None = None,
        on_stdout_line: Callable[[str], None] | None = None,
        on_stderr_line: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Runs a program to its end and to the end of its output. A line handed on is cut to 2 KiB.

        Raises CommandTimeoutError (the process group is ended), InterruptedRunError (nothing was started) and OSError.
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
        """Runs a program that may leave a child behind, and answers its return code.

        Raises CommandTimeoutError (the process group is ended) and InterruptedRunError.
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
        return self._stopped

    @classmethod
    def stop_all(cls, with_signal: int = signal.SIGTERM) -> None:
        """`stop` for whatever was started in this process, by whomever: also by a provider that keeps its own."""
        for processes in tuple(cls._everyone):
            processes.stop(with_signal)

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """Ends whatever runs, and lets nothing start any more."""
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
    stdin: bytes | str | None,
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
            # Whoever else holds the streams once the process has gone (ssh's master does) is not waited for.
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
        # A program need not read what it is given.
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


class OpenSsh:
    """A context manager that runs commands over SSH, and closes every connection and removes every key at its end."""

    _kept: ClassVar[OpenSsh | None] = None

    @classmethod
    @contextlib.contextmanager
    def for_one_task(cls) -> Generator[OpenSsh]:
        """The connections that this process keeps (`keep`); else new ones, which end with the context."""
        if cls._kept is not None:
            yield cls._kept
            return
        with cls() as opened:
            yield opened

    def __init__(self, processes: ChildProcesses | None = None) -> None:
        _sweep()
        self._processes = processes or ChildProcesses()
        self._directory: _PrivateDirectory | None = None
        self._targets: dict[Connection, _Target] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> OpenSsh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        connection: Connection,
        command: str,
        *,
        stdin: bytes | str | None = None,
        on_stderr_line: Callable[[str], None] | None = None,
        on_stdout_line: Callable[[str], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Runs a command in the log-in shell of the user. Its own failure is a return code, not an exception.

        timeout_seconds: a limit over all, dialling included. The command may run on at the other side.
        Raises SshError when there is no connection or it is lost, CommandTimeoutError and InterruptedRunError.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        target = self._target(connection)
        target.ensure_master(deadline)
        left = None if deadline is None else max(0.1, deadline - time.monotonic())
        completed = self._processes.run(
            [*target.ssh, "-T", target.alias, "--", command],
            stdin=stdin,
            on_stdout_line=on_stdout_line,
            on_stderr_line=on_stderr_line,
            timeout_seconds=left,
            environment=target.environment,
        )
        # 255 is ssh's own failure, but a command may return it as well: the connection itself tells them apart.
        if completed.returncode == 255 and not target.is_up():
            raise SshConnectionLostError(
                f"the connection to {connection.address} was lost while a command ran there; it may still be running. "
                f"Check the machine and run again. ssh said: {_last_line(completed.stderr)}"
            )
        return completed

    def keep(self) -> OpenSsh:
        """From now on, until it is closed, every task in this process shares these connections."""
        OpenSsh._kept = self
        return self

    def close(self) -> None:
        """Ends all connections and removes all keys. Safe to call twice."""
        if OpenSsh._kept is self:
            OpenSsh._kept = None
        with self._lock:
            targets, self._targets = list(self._targets.values()), {}
            directory, self._directory = self._directory, None
        # The machines behind a bastion first: their connections run through the bastion's.
        for target in sorted(targets, key=lambda each: each.connection.proxy is None):
            target.close()
        if directory is not None:
            directory.remove()

    def _target(self, connection: Connection) -> _Target:
        with self._lock:
            if connection in self._targets:
                return self._targets[connection]
        proxy = self._target(connection.proxy) if connection.proxy is not None else None
        with self._lock:
            if connection not in self._targets:
                if self._directory is None:
                    self._directory = _PrivateDirectory()
                name = str(len(self._targets))
                self._targets[connection] = _Target(connection, proxy, self._directory.path, name, self._processes)
            return self._targets[connection]


class _Target:
    """One machine: its configuration file for ssh, and the master connection that commands share."""

    def __init__(
        self, connection: Connection, proxy: _Target | None, directory: Path, name: str, processes: ChildProcesses
    ) -> None:
        self.connection = connection
        self.proxy = proxy
        self.alias = f"target{name}"
        self._processes = processes
        self._socket = directory / f"c{name}"
        self._log = directory / f"l{name}"
        self._dialling = threading.Lock()
        key_file = _write_key(connection, directory / f"k{name}")
        known_hosts = directory / f"h{name}"
        known_hosts.write_text(f"{self.alias} {' '.join(_pinned_key(connection))}\n")
        self.block = _host_block(connection, self.alias, self._socket, key_file, known_hosts)
        configuration = directory / f"f{name}"
        jump = f"Host {self.alias}\n  ProxyJump {proxy.alias}\n{proxy.block}" if proxy is not None else ""
        configuration.write_text(f"{self.block}{jump}")
        self.ssh = [_ssh_program(), "-F", str(configuration)]
        self.environment = _client_environment(connection)

    def is_up(self) -> bool:
        """True while the master connection answers."""
        if not self._socket.exists():
            return False
        check = [*self.ssh, "-O", "check", self.alias]
        quiet = subprocess.DEVNULL
        return subprocess.run(check, stdin=quiet, stdout=quiet, stderr=quiet, timeout=10).returncode == 0

    def ensure_master(self, deadline: float | None) -> None:
        """Dials until the connection stands, the limit of attempts is reached, or a failure is final."""
        if self.proxy is not None:
            self.proxy.ensure_master(deadline)
        with self._dialling:
            attempt, pause = 0, _FIRST_PAUSE_SECONDS
            while not self._socket.exists():
                if self._processes.stopped:
                    raise InterruptedRunError(f"interrupted while dialling {self.connection.address}")
                attempt += 1
                said = self._dial(deadline)
                if said is None:
                    return
                final = _final_failure(self.connection, said)
                if final is not None:
                    raise final
                limit = self.connection.dial_error_limit
                late = deadline is not None and time.monotonic() + pause > deadline
                if late or 0 <= limit <= attempt:
                    through = f" through {self.connection.proxy.address}" if self.connection.proxy is not None else ""
                    raise SshUnreachableError(
                        f"cannot reach {self.connection.address}{through} after {attempt} attempt(s): {said}. "
                        "Check that the machine is up, that its address and port are right, and that no firewall "
                        "is between"
                    )
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _dial(self, deadline: float | None) -> str | None:
        """Starts the master, which detaches once it is logged in. Answers what went wrong, or None. ssh limits the time
        until it is connected, but not that of the log-in."""
        limit = float((self.connection.per_dial_timeout_seconds or _LONGEST_DIAL_SECONDS) + _LOG_IN_SECONDS)
        if deadline is not None:
            limit = min(limit, max(0.1, deadline - time.monotonic()))
        # At ERROR, ssh does not even say that the two sides have no algorithm in common.
        arguments = [*self.ssh, "-o", "ControlMaster=yes", "-o", "LogLevel=INFO", "-f", "-N", self.alias]
        # Into a file: the detached master keeps the stream open, so a pipe would never end.
        with self._log.open("wb") as log:
            try:
                returncode = self._processes.wait_for(
                    arguments, stderr=log, environment=self.environment, timeout_seconds=limit
                )
            except CommandTimeoutError:
                return f"no log-in within {limit:.0f} s"
        if returncode == 0:
            return None
        return self._log.read_text(errors="replace").strip() or f"ssh ended with {returncode}"

    def close(self) -> None:
        if self._socket.exists():
            quiet = subprocess.DEVNULL
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [*self.ssh, "-O", "exit", self.alias], stdin=quiet, stdout=quiet, stderr=quiet, timeout=10
                )


class _PrivateDirectory:
    """A new 0700 directory with a short path (sockets allow about 100 characters), in memory where there is such.

    It is locked for as long as its owner lives: by that, what a killed run left is told from what is in use.
    """

    def __init__(self) -> None:
        base = next(_short_directories(), None)
        if base is None:
            raise SshConfigurationError("no writable temporary directory with a short path: set TMPDIR to one")
        unlocked = Path(tempfile.mkdtemp(prefix=".etcd-ssh-", dir=base))
        self._lock = _try_lock(unlocked)
        self.path = base / f"{_DIRECTORY_PREFIX}{os.getpid()}-{unlocked.name.rpartition('-')[2]}"
        # It gets its name when it is locked, so that it is never seen without.
        unlocked.rename(self.path)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def _short_directories() -> Iterator[Path]:
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), _SHARED_MEMORY, tempfile.gettempdir()):
        if (
            re.fullmatch(r"[A-Za-z0-9._/+-]+", base)
            and len(base) < _LONGEST_BASE
            and os.path.isdir(base)
            and os.access(base, os.W_OK | os.X_OK)
        ):
            yield Path(base)


def _sweep() -> None:
    """A killed run could not remove its keys: the next one does, even if it connects to nothing."""
    for left in (found for base in _short_directories() for found in base.glob(f"{_DIRECTORY_PREFIX}*")):
        with contextlib.suppress(OSError):
            lock = _try_lock(left) if left.stat().st_uid == os.getuid() else None
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _try_lock(directory: Path) -> int | None:
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _write_key(connection: Connection, path: Path) -> Path | None:
    if connection.private_key is None:
        return None
    # OpenSSH refuses a key without a last newline, or with the line ends of Windows.
    text = connection.private_key.replace("\r\n", "\n").strip() + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path


def _pinned_key(connection: Connection) -> tuple[str, str]:
    """The type and the base64 of the pinned host key."""
    if not connection.host_key:
        raise SshConfigurationError(
            f"no host key is pinned for {connection.host}: give its public host key "
            "(on the machine: cat /etc/ssh/ssh_host_ed25519_key.pub)"
        )
    parts = connection.host_key.split()
    try:
        if len(parts) < 2 or not re.fullmatch(r"[a-z0-9@.-]+", parts[0]):
            raise ValueError
        if parts[0].encode() not in base64.b64decode(parts[1], validate=True)[:64]:
            raise ValueError
    except (ValueError, binascii.Error):
        raise SshConfigurationError(
            f"the host key of {connection.host} cannot be read: {connection.host_key[:40]!r}. "
            "It should look like: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA..."
        ) from None
    return parts[0], parts[1]


def _host_block(connection: Connection, alias: str, socket: Path, key_file: Path | None, known_hosts: Path) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", connection.host) or connection.host.startswith("-"):
        raise SshConfigurationError(f"{connection.host!r} is not a host name or an address")
    if not _AGENT_SOCKET.fullmatch(connection.agent_socket or ""):
        raise SshConfigurationError(
            f"{connection.agent_socket!r} cannot be the ssh-agent's socket ({connection.host}): give a path without "
            "quotes, dollar signs and line ends"
        )
    if not re.fullmatch(r"[A-Za-z0-9._@\\-]+", connection.user) or connection.user.startswith("-"):
        raise SshConfigurationError(f"{connection.user!r} is not a user name ({connection.host})")
    key_type = _pinned_key(connection)[0]
    algorithms = "rsa-sha2-512,rsa-sha2-256" if key_type == "ssh-rsa" else key_type
    settings = {
        "HostName": connection.host.replace("%", "%%"),
        "Port": connection.port,
        "User": connection.user,
        "HostKeyAlias": alias,
        "HostKeyAlgorithms": algorithms,
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": connection.per_dial_timeout_seconds or "none",
        "ServerAliveInterval": _ALIVE_INTERVAL_SECONDS,
        "ServerAliveCountMax": _ALIVE_COUNT,
        "ControlPath": socket,
        "ControlPersist": _MASTER_IDLE_SECONDS,
        "LogLevel": "ERROR",
    }
    if key_file is not None:
        settings |= {"IdentityFile": key_file, "IdentitiesOnly": "yes", "IdentityAgent": "none"}
    else:
        settings |= {"IdentityFile": "none", "IdentityAgent": _agent(connection.agent_socket)}
    return "".join([f"Host {alias}\n", *(f"  {name} {value}\n" for name, value in settings.items())])


def _agent(socket: str | None) -> str:
    return f'"{socket.replace("%", "%%")}"' if socket else "SSH_AUTH_SOCK"


def _client_environment(connection: Connection) -> dict[str, str]:
    kept = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSH_AUTH_SOCK"}
    return {name: value for name, value in os.environ.items() if name in kept}


def _ssh_program() -> str:
    program = shutil.which("ssh")
    if program is None:
        raise SshConfigurationError("the program `ssh` is not installed: install OpenSSH's client (openssh-client)")
    return program


def _final_failure(connection: Connection, said: str) -> SshError | None:
    """The error that no further attempt can fix, or None."""
    if re.search(r"HOST IDENTIFICATION HAS CHANGED|Host key verification failed|host key is known", said):
        return SshHostKeyError(
            f"host key of {connection.host} is not the pinned one: the machine was rebuilt, or something answers in "
            "its place. If it was rebuilt, pin its new key (on the machine: cat /etc/ssh/ssh_host_ed25519_key.pub)"
        )
    if "no matching host key type" in said:
        return SshHostKeyError(
            f"{connection.host} has no host key of the pinned type {_pinned_key(connection)[0]}: pin one that it has. "
            f"ssh said: {_last_line(said)}"
        )
    if re.search(r"Load key .*(invalid format|error in libcrypto|incorrect passphrase)", said):
        return SshAuthenticationError(
            f"the private key for {connection.user}@{connection.host} cannot be read: give an unencrypted key, in "
            "OpenSSH's or PEM format"
        )
    if re.search(r"Permission denied|Too many authentication failures|No more authentication methods", said):
        held = "the key" if connection.private_key is not None else "every key of the ssh-agent"
        return SshAuthenticationError(
            f"{connection.host} refused {held} for user {connection.user}: add the public key to that user's "
            "authorized_keys, or give another key or user"
        )
    return None


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:_LINE_BYTES] if lines else "nothing"
