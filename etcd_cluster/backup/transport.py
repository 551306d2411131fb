"""Reads and marks what is in a store of backups, from this machine, by rclone: the cluster may be gone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from etcd_cluster.backup.files import known_host, store_problem_script
from etcd_cluster.backup.store import StoreUrl, rclone_configuration
from etcd_cluster.errors import EtcdClusterError

TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""The folder of one cluster. No such text is a path of several folders, or a pattern."""
MEMORY = Path("/dev/shm")  # noqa: S108  a folder that only this user reads is made in it
NO_SUCH_FOLDER = 3
"""Exit code of rclone: https://rclone.org/docs/#exit-code. Of a bucket, any error 404: no bucket, or no such key."""
WITH_FOLDERS = ("file", "sftp")
"""Kinds of stores in which a folder may be missing. In a bucket, what has no objects is empty."""
PIECE_BYTES = 1024 * 1024
MOST_SMALL_BYTES = 64 * 1024
"""More than any file beside the data takes."""
OPTIONS = ("--log-level", "ERROR", "--stats", "0", "--contimeout", "15s", "--retries", "1")
SMALL = ("--timeout", "12s", "--low-level-retries", "2")
"""For what is answered at once. Such retries count twice, in rclone and in the library for the store: an answer of one
that hangs is awaited four times, 48 seconds."""
LARGE = ("--timeout", "60s", "--low-level-retries", "3")
"""For the data of a backup, which may stall for a while."""


class StoreError(EtcdClusterError):
    """The store gave no answer, or refused. The text says why, and what to do."""


class UndecryptedError(StoreError):
    """What is in the store is not what was encrypted with that password."""


UNDECRYPTED = ("bad password", "bad magic", "too short to be encrypted")
"""What rclone says of that, and of no other failure."""


@dataclass(frozen=True)
class StoredFile:
    """A file in a store.

    Args:
        token: The folder that it is in: the token of a cluster.
        name: Its name there.
        size: Its size in bytes.
    """

    token: str
    name: str
    size: int


class StoreFolder:
    """The folder that `backup.to` names, for as long as the context lasts.

    rclone's configuration is a file in memory that only this user can read; it is removed at the end.

    Args:
        store: The store.
        shown: How the user named it.
        given: Credentials, and what else rclone is configured with. Without them, those of the environment are used.
        program: rclone on this machine.
    """

    def __init__(self, store: StoreUrl, shown: str, given: Mapping[str, str], program: str) -> None:
        self._store, self._given, self._program = store, given, program
        self.shown = shown
        self._context = ExitStack()

    def __enter__(self) -> StoreFolder:
        where = MEMORY if os.access(MEMORY, os.W_OK) else None
        self._folder = Path(self._context.enter_context(tempfile.TemporaryDirectory(prefix="etcd-cluster-", dir=where)))
        host_key, ca = self._given.get("host_key"), self._given.get("ca")
        known_hosts = self._folder / "known_hosts" if host_key else Path("~/.ssh/known_hosts").expanduser()
        _write(self._folder / "rclone.conf", rclone_configuration(self._store, self._given, str(known_hosts)))
        if host_key:
            _write(known_hosts, f"{known_host(self._store)} {host_key}\n")
        if ca:
            _write(self._folder / "ca.crt", ca)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()

    def files(self, token: str | None) -> list[StoredFile]:
        """Returns the files in the folder of one cluster, or of every cluster; none where there is no folder.

        Raises:
            StoreError: The store cannot be read.
        """
        depth = ["--max-depth", "1" if token else "2"]
        listed = ["lsjson", "--files-only", "--recursive", *depth, "--no-modtime", "--no-mimetype"]
        done = self._run([*listed, self._path(token or "")], missing_is_empty=True)
        found: list[dict[str, Any]] = json.loads(done) if done.strip() else []
        files: list[StoredFile] = []
        for each in found:
            folder, _, name = each["Path"].rpartition("/")
            if token or folder:
                files.append(StoredFile(token or folder, name, int(each["Size"])))
        return files

    def texts(self, token: str | None, kinds: Sequence[str]) -> dict[tuple[str, str], str]:
        """Returns (token, name) -> text of all small files whose names end so, by one request for each of them.

        Args:
            token: The folder of one cluster; None for all.
            kinds: Ends of names, such as json.

        Raises:
            StoreError: The store cannot be read.
        """
        chosen = [word for kind in kinds for word in ("--include", f"*.{kind}")]
        # Without the store's sums: one file that its disk damaged would fail the request for all. A reader judges each.
        copy = ["copy", "--ignore-checksum", "--transfers", "16", "--max-depth", "1" if token else "2"]
        copy += ["--max-size", f"{MOST_SMALL_BYTES}B"]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            undecrypted = None
            try:
                self._run([*copy, *chosen, self._path(token or ""), folder], missing_is_empty=True)
            except UndecryptedError as error:  # one of them, or all by a wrong password
                undecrypted = error
            found = {
                (token or path.parent.name, path.name): path.read_text(errors="replace")
                for path in sorted(Path(folder).glob("*" if token else "*/*"))
                if path.is_file()
            }
            if undecrypted and not found:
                raise undecrypted
            return found

    def pieces(self, token: str, name: str) -> Iterator[bytes]:
        """Yields a file of the store, piece by piece: nothing of it is kept.

        Raises:
            StoreError: The store cannot be read.
        """
        with tempfile.TemporaryFile() as said:
            process = self._start([*LARGE, "cat", f"{self._path(token)}/{name}"], stdout=subprocess.PIPE, stderr=said)
            out = cast("IO[bytes]", process.stdout)
            try:
                while piece := out.read(PIECE_BYTES):
                    yield piece
                code = process.wait()
            finally:
                process.kill()
                process.wait()
                out.close()
            if code != 0:
                said.seek(0)
                raise self.explained(said.read().decode(errors="replace"))

    def put(self, token: str, name: str, text: str) -> None:
        """Writes a small file; raises `StoreError` if the store refuses it."""
        self._run(["rcat", f"{self._path(token)}/{name}"], stdin=text)

    def delete(self, token: str, name: str) -> None:
        """Deletes a file; raises `StoreError` if the store refuses that."""
        self._run(["deletefile", f"{self._path(token)}/{name}"])

    def _path(self, token: str) -> str:
        return self._store.folder(token) if token else self._store.root

    def _run(self, words: Sequence[str], *, stdin: str = "", missing_is_empty: bool = False) -> str:
        process = self._start([*SMALL, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, said = process.communicate(stdin.encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
        if missing_is_empty and process.returncode == NO_SUCH_FOLDER and self._store.scheme in WITH_FOLDERS:
            return ""
        if process.returncode != 0:
            raise self.explained(said.decode(errors="replace"))
        return out.decode(errors="replace")

    def _start(
        self, words: Sequence[str], *, stdin: int = subprocess.DEVNULL, stdout: int, stderr: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        trusted = ["--ca-cert", str(self._folder / "ca.crt")] if self._given.get("ca") else []
        command = [self._program, "--config", str(self._folder / "rclone.conf"), *trusted, *OPTIONS, *words]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr)

    def explained(self, said: str) -> StoreError:
        """Explains what rclone, or the system, said, by the sentences that machines have for it."""
        done = subprocess.run(
            ["bash", "-c", store_problem_script(), "bash", self.shown],
            input=said,
            capture_output=True,
            text=True,
            check=False,
        )
        kind = UndecryptedError if any(text in said for text in UNDECRYPTED) else StoreError
        return kind(done.stdout.strip() or said.strip()[-300:])


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
