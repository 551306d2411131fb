"""Reads and marks what is in a folder of backups that is on this machine: no rclone is needed for that."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.backup.transport import MOST_SMALL_BYTES, PIECE_BYTES, TOKEN, StoredFile, StoreError, StoreFolder
from etcd_cluster.errors import Explanation


class PlainFolder(StoreFolder):
    """The folder that `backup.to` names.

    Args:
        store: The store, a folder.
        shown: How the user named it.
    """

    def __init__(self, store: StoreUrl, shown: str) -> None:
        super().__init__(store, shown, {}, "")
        self._root = Path(store.path)

    def __enter__(self) -> PlainFolder:
        if not self._root.is_dir():
            raise StoreError(
                str(
                    Explanation(
                        f"{self.shown} is no folder on this machine",
                        "the folder that backups are in",
                        "mount it here, or name the place where it is mounted with --to FOLDER",
                    )
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves nothing to remove."""

    def files(self, token: str | None) -> list[StoredFile]:
        """Returns the files in the folder of one cluster, or of every cluster; see `StoreFolder.files`."""
        with self._explaining():
            return [StoredFile(path.parent.name, path.name, size) for path, size in self._files(token)]

    def texts(self, token: str | None, kinds: Sequence[str]) -> dict[tuple[str, str], str]:
        """Returns (token, name) -> text of all small files whose names end so; see `StoreFolder.texts`."""
        found: dict[tuple[str, str], str] = {}
        with self._explaining():
            for path, size in self._files(token):
                if path.suffix.removeprefix(".") in kinds and size <= MOST_SMALL_BYTES:
                    with suppress(FileNotFoundError):  # a run has deleted it just now
                        found[path.parent.name, path.name] = path.read_text(errors="replace")
        return found

    def pieces(self, token: str, name: str) -> Iterator[bytes]:
        """Yields a file, piece by piece."""
        with self._explaining(), (self._root / token / name).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def put(self, token: str, name: str, text: str) -> None:
        """Writes a small file, whole or not at all."""
        folder = self._root / token
        with self._explaining(), tempfile.NamedTemporaryFile("w", dir=folder, prefix=".new-", delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(folder / name)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def delete(self, token: str, name: str) -> None:
        """Deletes a file."""
        with self._explaining():
            (self._root / token / name).unlink(missing_ok=True)

    def _files(self, token: str | None) -> Iterator[tuple[Path, int]]:
        """Yields path and size of each file, by their paths. What cannot be read is an error, and not nothing."""
        folders = [self._root / token] if token else sorted(filter(_is_of_a_cluster, self._root.iterdir()))
        for folder in folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                try:
                    found = path.stat()
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ELOOP):  # deleted just now, or a link to nothing
                        continue
                    raise
                if stat.S_ISREG(found.st_mode):
                    yield path, found.st_size

    @contextmanager
    def _explaining(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise self.explained(str(error)) from None


def _is_of_a_cluster(folder: Path) -> bool:
    """Returns whether backups may be in it. What else a disk has is of no interest, such as lost+found."""
    return TOKEN.fullmatch(folder.name) is not None
