"""Sends tarballs and programs to a host over SSH. Knows nothing of Pulumi, nor of what the host does with a file."""

from __future__ import annotations

import base64
import gzip
import mmap
import re
import shlex
import shutil
from pathlib import Path

from etcd_cluster.install.archives import sha256_of
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.errors import InstallError, excerpt
from etcd_cluster.releases import Architecture, parse_architecture
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import Connection
from etcd_cluster.ssh.processes import Completed

REMOTE_DIRECTORY = "/opt/etcd/archives"
PROGRAMS_DIRECTORY = "/opt/etcd"
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
{receive} > "$partial"
actual=$(sha256sum < "$partial")
[ "${{actual%% *}}" = {sha256} ] || {{ echo "it arrived with the sha256 ${{actual%% *}}" >&2; exit 1; }}
chmod {mode} "$partial"
sync "$partial"
mv -f "$partial" {directory}/{name}
"""


def program_directory(name: str, version: str) -> str:
    """Returns the folder of a program on a host: each version has its own."""
    return f"{PROGRAMS_DIRECTORY}/{name}/{version}"


def _program_path(name: str, version: str) -> str:
    return f"{program_directory(name, version)}/{name}"


def _last_line(printed: str) -> str:
    """Returns the last line of what a command printed: a login file may print others before it."""
    return printed.strip().rpartition("\n")[2]


def _compress(program: Path, into: Path) -> None:
    with open(program, "rb") as content, gzip.open(into, "wb", compresslevel=6) as compressed:
        shutil.copyfileobj(content, compressed)


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
        return self._known_architecture(machine[1] if machine else "")

    def architecture(self) -> Architecture:
        """Returns the host's architecture, and looks at nothing else. Any user may ask."""
        done = self._ssh.run(self._connection, "uname -m", timeout_seconds=INSPECT_TIMEOUT_SECONDS)
        return self._known_architecture(_last_line(done.stdout))

    def _known_architecture(self, machine: str) -> Architecture:
        architecture = parse_architecture(machine)
        if architecture is None:
            raise InstallError(
                f"{self._connection.host} is {machine or 'of an unknown architecture'}: "
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
            self._put(tarball, REMOTE_DIRECTORY, name, sha256, receive="cat", mode="0644")
        return f"{REMOTE_DIRECTORY}/{name}"

    def has_program(self, name: str, version: str, sha256: str) -> bool:
        """Returns whether the host holds that program, unchanged and executable. Any user may ask."""
        path = shlex.quote(_program_path(name, version))
        command = f"test -x {path} && sha256sum {path}"
        done = self._ssh.run(self._connection, command, timeout_seconds=INSPECT_TIMEOUT_SECONDS)
        return done.returncode == 0 and _last_line(done.stdout).startswith(f"{sha256} ")

    def send_program(self, program: Path, name: str, version: str, say: Say = discard) -> str:
        """Returns the program's path on the host, after sending the program if it is not there already.

        It is complete or absent there, and belongs to root. It travels compressed; the compressed file stays beside it.

        Args:
            program: The program, in the cache.
            name: Its name on the host, such as rclone.
            version: Its version: each has a folder of its own.
            say: Called before it is sent.

        Raises:
            InstallError: The host did not take it; what was there stays.
        """
        digest, path = sha256_of(program), _program_path(name, version)
        if not self.has_program(name, version, digest):
            beside = program.with_name(f"{program.name}-{digest[:16]}.gz")
            compressed = make_once(beside, lambda partial: _compress(program, partial))
            directory = program_directory(name, version)
            say(f"{name} {version}: sending it to {self._connection.host}")
            self._put(compressed, directory, name, digest, receive="gzip --decompress --stdout", mode="0755")
        return path

    def receive_program(self, path: str) -> Path:
        """Returns a copy, in the cache, of a program on the host. Any user may ask.

        Args:
            path: Its absolute path on the host.

        Raises:
            InstallError: It is not there, or cannot be read.
        """
        digest = self._printed(f"sha256sum -- {shlex.quote(path)}", path)[:64]

        def make(partial: Path) -> None:
            packed = self._printed(f"gzip --stdout -- {shlex.quote(path)} | base64 --wrap 0", path)
            try:
                partial.write_bytes(gzip.decompress(base64.b64decode(packed)))
            except (ValueError, EOFError, OSError) as error:
                raise InstallError(f"{path} of {self._connection.host} did not arrive: {error}; run again") from None
            if sha256_of(partial) != digest:
                raise InstallError(f"{path} of {self._connection.host} changed while it was read; run again")

        return make_once(cache_directory() / "received" / digest[:16] / path.rpartition("/")[2], make)

    def _printed(self, command: str, path: str) -> str:
        done = self._ssh.run(self._connection, command, timeout_seconds=SEND_TIMEOUT_SECONDS)
        if done.returncode != 0 or not done.stdout.strip():
            raise InstallError(f"{self._connection.host} does not give {path}: {excerpt(done.stderr)}")
        return _last_line(done.stdout)

    def send_file(self, file: Path, path: str, sha256: str) -> None:
        """Sends a file that root alone reads there, unless the host holds it already.

        The file is complete or absent there.

        Args:
            file: The file on this machine.
            path: Its absolute path on the host.
            sha256: Its sum.
        """
        held = f"sha256sum {shlex.quote(path)} 2>/dev/null || true"
        done = self._as_root(held, "be looked at", INSPECT_TIMEOUT_SECONDS)
        if not _last_line(done.stdout).startswith(f"{sha256} "):
            directory, _, name = path.rpartition("/")
            self._put(file, directory, name, sha256, receive="cat", mode="0600")

    def _put(self, file: Path, directory: str, name: str, sha256: str, *, receive: str, mode: str) -> None:
        words = {"directory": directory, "name": name, "sha256": sha256, "mode": mode}
        script = _SEND.format(receive=receive, **{key: shlex.quote(word) for key, word in words.items()})
        with file.open("rb") as content:
            mapped = mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ)
        self._as_root(script, f"take {name}", SEND_TIMEOUT_SECONDS, stdin=mapped)

    def _as_root(self, script: str, what: str, timeout_seconds: float, stdin: mmap.mmap | None = None) -> Completed:
        user = self._connection.user
        command = f"{'' if user == 'root' else 'sudo -n '}sh -c {shlex.quote(script)}"
        done = self._ssh.run(self._connection, command, stdin=stdin, timeout_seconds=timeout_seconds)
        if done.returncode != 0:
            sudo = "" if user == "root" else f" (user {user} needs sudo without a password)"
            raise InstallError(f"{self._connection.host} could not {what}{sudo}: {excerpt(done.stderr)}")
        return done
