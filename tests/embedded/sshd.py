"""SSH servers of OpenSSH on loopback, each with a host key of its own, run by the tests and ended by their id."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "/usr/sbin/sshd"
missing = None if os.path.exists(PROGRAM) and shutil.which("ssh") else "no OpenSSH server here (openssh-server)"


@dataclass(frozen=True)
class Server:
    port: int
    host_key: str
    pid: int
    log: Path


def make_key(path: Path, type_: str = "ed25519") -> tuple[str, str]:
    """A new key pair: the private key and the public one, as text."""
    subprocess.run(["ssh-keygen", "-q", "-t", type_, "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path.read_text(), path.with_suffix(".pub").read_text().strip()


def user() -> str:
    return getpass.getuser()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(folder: Path, authorized: str) -> Iterator[Server]:
    """A server for this user. authorized: the public keys it lets in."""
    folder.mkdir(parents=True)
    _, public = make_key(folder / "host")
    (folder / "authorized").write_text(authorized + "\n")
    port = free_port()
    (folder / "sshd.conf").write_text(
        f"""ListenAddress 127.0.0.1:{port}
HostKey {folder / "host"}
AuthorizedKeysFile {folder / "authorized"}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
LogLevel VERBOSE
"""
    )
    # Debian's sshd wants this directory when it runs as root.
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    log = folder / "log"
    process = subprocess.Popen([PROGRAM, "-D", "-E", str(log), "-f", str(folder / "sshd.conf")])
    try:
        _wait_for_port(port, process)
        yield Server(port, public, process.pid, log)
    finally:
        process.terminate()
        process.wait(timeout=100)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("sshd does not listen")
