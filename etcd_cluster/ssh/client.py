"""Runs commands on other machines through OpenSSH's own client. Knows nothing of Pulumi or etcd.

Every target has one multiplexed connection for as long as the `OpenSsh` lives. Host keys are pinned, no configuration
of the user or the system is read, and a private key is only ever in a 0600 file in memory.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import mmap
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from etcd_cluster.names import is_one_line
from etcd_cluster.ssh.connection import (
    Connection,
    SshAuthenticationError,
    SshConfigurationError,
    SshConnectionLostError,
    SshError,
    SshHostKeyError,
    SshNoAnswerError,
    SshUnreachableError,
)
from etcd_cluster.ssh.processes import ChildProcesses, CommandTimeoutError, Completed, InterruptedRunError

_LINE_BYTES = 2048
_ALIVE_INTERVAL_SECONDS = 5
_ALIVE_COUNT = 3
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_DIRECTORY_PREFIX = "etcd-ssh-"
_LONGEST_BASE = 60
# For a few files and a socket for each machine.
_ROOM_BYTES = 1024 * 1024
_ROOM_FILES = 200
# What ssh's configuration can quote: it has no way to write ", $ or the end of a line.
_AGENT_SOCKET = re.compile(r'[^"$\x00-\x1f\x7f]*')
# If its owner was killed, a master ends this long after its last command.
_MASTER_IDLE_SECONDS = 120
_LONGEST_DIAL_SECONDS = 60
_LOG_IN_SECONDS = 30
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0


class OpenSsh:
    """A context manager that runs commands over SSH, and closes every connection and removes every key at its end."""

    _kept: ClassVar[OpenSsh | None] = None

    @classmethod
    @contextlib.contextmanager
    def for_one_task(cls) -> Generator[OpenSsh]:
        """Returns the connections that this process keeps (`keep`); else new ones, which end with the context."""
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
        stdin: bytes | str | mmap.mmap | None = None,
        on_stderr_line: Callable[[str], None] | None = None,
        on_stdout_line: Callable[[str], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Runs a command in the log-in shell of the user. A failure of the command is a return code, not an exception.

        Args:
            connection: How to reach the machine.
            command: The command.
            stdin: What it reads; None for nothing.
            on_stderr_line: Called with each line of standard error.
            on_stdout_line: Called with each line of standard output.
            timeout_seconds: Limit for all of it, dialling included; None for no limit. The command may go on running on
                the other machine.

        Raises:
            SshError: There is no connection, or it was lost.
            CommandTimeoutError: The limit has passed.
            InterruptedRunError: The run was told to stop.
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
        """Makes every task in this process share these connections from now on, until they are closed."""
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
        with ThreadPoolExecutor() as pool:
            for is_behind in (True, False):
                list(pool.map(_Target.close, [each for each in targets if (each.proxy is not None) is is_behind]))
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
        self._proxy_log = directory / f"p{name}"
        self.block = _host_block(connection, self.alias, self._socket, key_file, known_hosts, self._proxy_log)
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
            try:
                self.proxy.ensure_master(deadline)
            except SshNoAnswerError as error:  # from the bastion: of the machine behind it, nothing is known
                raise SshUnreachableError(str(error)) from None
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
                    # Of a machine behind a command, its silence says nothing.
                    silent = is_silence(said) and self.connection.proxy_command is None
                    kind = SshNoAnswerError if silent else SshUnreachableError
                    raise kind(
                        f"cannot reach {self.connection.address}{through} after {attempt} attempt(s): {said}"
                        f"{self._proxy_words()}. "
                        "Check that the machine is up, that its address and port are right, and that no firewall "
                        "is between"
                    )
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _dial(self, deadline: float | None) -> str | None:
        """Starts the master, which detaches once it is logged in. Returns what went wrong, or None.

        ssh limits the time until it is connected, but not that of the log-in.
        """
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

    def _proxy_words(self) -> str:
        """Returns what the command that is connected through said last. It decides nothing."""
        said = self._proxy_log.read_text(errors="replace").strip() if self._proxy_log.exists() else ""
        return f"; ssh.proxyCommand said: {_last_line(said)}" if said else ""

    def close(self) -> None:
        if self._socket.exists():
            quiet = subprocess.DEVNULL
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [*self.ssh, "-O", "exit", self.alias], stdin=quiet, stdout=quiet, stderr=quiet, timeout=10
                )


class _PrivateDirectory:
    """A new 0700 directory with a short path (sockets allow about 100 characters), in memory if possible.

    It is locked for as long as its owner lives: the lock distinguishes it from what a killed run left.
    """

    def __init__(self) -> None:
        base = next(filter(_has_room, _short_directories()), None)
        if base is None:
            raise SshConfigurationError("no writable temporary directory with a short path and room: set TMPDIR to one")
        unlocked = Path(tempfile.mkdtemp(prefix=".etcd-ssh-", dir=base))
        self._lock = _try_lock(unlocked)
        self.path = base / f"{_DIRECTORY_PREFIX}{os.getpid()}-{unlocked.name.rpartition('-')[2]}"
        # It is renamed once it is locked, so that no other run ever sees it without a lock.
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


def _has_room(directory: Path) -> bool:
    found = os.statvfs(directory)
    has_files = found.f_files == 0 or found.f_favail >= _ROOM_FILES  # some file systems have no fixed number
    return found.f_bavail * found.f_frsize >= _ROOM_BYTES and has_files


def _sweep() -> None:
    """Removes the keys of killed runs, which could not do so themselves, even if this run connects to nothing."""
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
    """Returns the type and the base64 of the pinned host key."""
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


def _host_block(
    connection: Connection, alias: str, socket: Path, key_file: Path | None, known_hosts: Path, proxy_log: Path
) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", connection.host) or connection.host.startswith("-"):
        raise SshConfigurationError(f"{connection.host!r} is not a host name or an address")
    if not _AGENT_SOCKET.fullmatch(connection.agent_socket or ""):
        raise SshConfigurationError(
            f"{connection.agent_socket!r} cannot be the ssh-agent's socket ({connection.host}): give a path without "
            "quotes, dollar signs and line ends"
        )
    if not re.fullmatch(r"[A-Za-z0-9._@\\-]+", connection.user) or connection.user.startswith("-"):
        raise SshConfigurationError(f"{connection.user!r} is not a user name ({connection.host})")
    if not is_one_line(connection.proxy_command or ""):
        raise SshConfigurationError(f"the proxy command for {connection.host} is not one line: write it in one")
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
    if connection.proxy_command is not None:
        # ssh, which goes on in the background, shows nothing of what the command says.
        settings["ProxyCommand"] = f"{connection.proxy_command} 2>{proxy_log}"
    if key_file is not None:
        settings |= {"IdentityFile": key_file, "IdentitiesOnly": "yes", "IdentityAgent": "none"}
    else:
        settings |= {"IdentityFile": "none", "IdentityAgent": _agent(connection.agent_socket)}
    return "".join([f"Host {alias}\n", *(f"  {name} {value}\n" for name, value in settings.items())])


def _agent(socket: str | None) -> str:
    return f'"{socket.replace("%", "%%")}"' if socket else "SSH_AUTH_SOCK"


def _client_environment(connection: Connection) -> dict[str, str]:
    if connection.proxy_command is not None:
        return dict(os.environ)  # a cloud's command finds its account and its region there
    kept = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSH_AUTH_SOCK"}
    return {name: value for name, value in os.environ.items() if name in kept}


def _ssh_program() -> str:
    program = shutil.which("ssh")
    if program is None:
        raise SshConfigurationError("the program `ssh` is not installed: install OpenSSH's client (openssh-client)")
    return program


def _final_failure(connection: Connection, said: str) -> SshError | None:
    """Returns the error that no further attempt can fix, or None."""
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
            f"authorized_keys, or give another key or user. ssh said: {_last_line(said)}"
        )
    return None


def is_silence(said: str) -> bool:
    """Returns whether nothing answered at the address, by what ssh said: no refusal, and no log-in that hangs."""
    pattern = r"timed out(?! during)|No route to host|Host is down|Could not resolve hostname"
    return re.search(pattern, said) is not None


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:_LINE_BYTES] if lines else "nothing"
