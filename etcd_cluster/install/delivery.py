"""Sends a tarball to a host over SSH. Knows nothing of Pulumi, nor of what the host does with the file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from etcd_cluster.install.errors import InstallError, excerpt
from etcd_cluster.releases import Architecture, parse_architecture
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import Connection
from etcd_cluster.ssh.processes import Completed

REMOTE_DIRECTORY = "/opt/etcd/archives"
# Generous: an upload may cross a slow line, and dialling is included. Nothing may hang for ever.
INSPECT_TIMEOUT_SECONDS = 900
SEND_TIMEOUT_SECONDS = 3600

_INSPECT = """\
echo "machine $(uname -m)"
cd {directory} 2>/dev/null || exit 0
for file in *.tar.gz; do [ ! -f "$file" ] || sha256sum -- "$file"; done
"""

_SEND = """\
set -eu
umask 022
install -d -m 0755 -o root -g root {directory}
partial=$(mktemp {directory}/.incoming.XXXXXX)
trap 'rm -f "$partial"' EXIT
cat > "$partial"
actual=$(sha256sum < "$partial")
[ "${{actual%% *}}" = {sha256} ] || {{ echo "it arrived with the sha256 ${{actual%% *}}" >&2; exit 1; }}
chmod 0644 "$partial"
mv -f "$partial" {directory}/{name}
"""


class Destination:
    """One host, for as long as `ssh` lives. Acts as root: with `sudo -n` if the user is another."""

    def __init__(self, ssh: OpenSsh, connection: Connection) -> None:
        self._ssh = ssh
        self._connection = connection
        self._sums: dict[str, str] = {}

    def inspect(self) -> Architecture:
        """Returns the host's architecture, and remembers which files it already holds."""
        script = _INSPECT.format(directory=REMOTE_DIRECTORY)
        stdout = self._as_root(script, "be looked at", INSPECT_TIMEOUT_SECONDS).stdout
        self._sums = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", stdout, re.MULTILINE)}
        machine = re.search(r"^machine (\S+)$", stdout, re.MULTILINE)
        architecture = parse_architecture(machine[1]) if machine else None
        if architecture is None:
            raise InstallError(
                f"{self._connection.host} is {machine[1] if machine else 'of an unknown architecture'}: "
                "etcd is released for amd64 and arm64; use such a machine"
            )
        return architecture

    def has_tarball(self, version: str) -> bool:
        """Returns whether the host holds a tarball of that version, for its architecture or another one."""
        begin = shlex.quote(f"{REMOTE_DIRECTORY}/etcd-v{version}-linux-")
        command = f"ls -d -- {begin}*.tar.gz"  # every user may run this
        return self._ssh.run(self._connection, command, timeout_seconds=INSPECT_TIMEOUT_SECONDS).returncode == 0

    def send(self, tarball: Path, name: str, sha256: str) -> str:
        """Returns the file's path on the host, after sending the file if it is not there already.

        The file is complete or absent there.
        """
        if self._sums.get(name) != sha256:
            script = _SEND.format(directory=REMOTE_DIRECTORY, name=shlex.quote(name), sha256=shlex.quote(sha256))
            self._as_root(script, f"take {name}", SEND_TIMEOUT_SECONDS, stdin=tarball.read_bytes())
        return f"{REMOTE_DIRECTORY}/{name}"

    def _as_root(self, script: str, what: str, timeout_seconds: float, stdin: bytes | None = None) -> Completed:
        user = self._connection.user
        command = f"{'' if user == 'root' else 'sudo -n '}sh -c {shlex.quote(script)}"
        done = self._ssh.run(self._connection, command, stdin=stdin, timeout_seconds=timeout_seconds)
        if done.returncode != 0:
            sudo = "" if user == "root" else f" (user {user} needs sudo without a password)"
            raise InstallError(f"{self._connection.host} could not {what}{sudo}: {excerpt(done.stderr)}")
        return done
