"""Finds the host keys that this user, or this machine, has accepted before: OpenSSH's known_hosts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from etcd_cluster.ssh.connection import Connection, SshConfigurationError
from etcd_cluster.ssh.key_texts import host_key_blob

FILES = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
REVOKED = "@revoked"
LIMIT_SECONDS = 10


def known_host_key(host: str, port: int = Connection.port, files: Sequence[str] = FILES) -> str | None:
    """Returns the public host key that is known for a machine; None for none that can be pinned.

    Args:
        host: Its address or name, as it was connected to.
        port: Its SSH port.
        files: The files, the first one first.

    Raises:
        SshConfigurationError: The files cannot be read.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SshConfigurationError("ssh-keygen is not installed: install OpenSSH's client, or add --host-key")
    found: list[str] = []
    revoked: set[bytes | None] = set()
    for file in (Path(each).expanduser() for each in files):
        command = [program, "-F", host if port == Connection.port else f"[{host}]:{port}", "-f", str(file)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            problem = f"{file} cannot be read within {LIMIT_SECONDS} s: look at its file system, or add --host-key"
            raise SshConfigurationError(problem) from None
        for line in done.stdout.decode(errors="replace").splitlines():
            mark, *words = line.split() if line.startswith("@") else ("", *line.split())
            key = " ".join(words[1:3])
            if mark == REVOKED:
                revoked.add(host_key_blob(key))
            elif not mark and not line.startswith("#"):  # other marks are of authorities
                found.append(key)
    # Unknown kinds cannot be pinned.
    return next((each for each in found if host_key_blob(each) not in {None, *revoked}), None)
