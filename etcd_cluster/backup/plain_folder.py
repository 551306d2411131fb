"""Reads and marks what is in a folder of backups that is on this machine: no rclone is needed for that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.backup.transport import MOST_SMALL_BYTES, PIECE_BYTES, StoredFile, StoreError, StoreFolder
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
            return [StoredFile(path.parent.name, path.name, path.stat().st_size) for path in self._paths(token)]

    def texts(self, token: str | None, kinds: Sequence[str]) -> dict[tuple[str, str], str]:
        """Returns (token, name) -> text of all small files whose names end so; see `StoreFolder.texts`."""
        with self._explaining():
            return {
                (path.parent.name, path.name): path.read_text(errors="replace")
                for path in self._paths(token)
                if path.suffix.removeprefix(".") in kinds and path.stat().st_size <= MOST_SMALL_BYTES
            }

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

    def _paths(self, token: str | None) -> list[Path]:
        return sorted(path for path in self._root.glob(f"{token or '*'}/*") if path.is_file())

    @contextmanager
    def _explaining(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise self.explained(str(error)) from None
