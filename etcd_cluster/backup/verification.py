"""Reads backups back from a store, whole, and compares them with their manifests and with their own sums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from etcd_cluster.backup.catalog import DATA, Problem, StoredBackup
from etcd_cluster.backup.snapshot_file import BLOCK_BYTES, SUM_BYTES
from etcd_cluster.backup.transport import StoreFolder, UndecryptedError


class Difference(Enum):
    """How a backup differs from what was put there."""

    MANIFEST = "its manifest is damaged"
    NO_DATA = "its data is gone"
    BYTES = "its data has another size than its manifest says"
    SHA256 = "its data has another SHA-256 than its manifest says"
    ENCRYPTION = "its data does not decrypt with the password that its manifest has"
    OWN_SUM = "its data does not fit the SHA-256 at its own end"


@dataclass(frozen=True)
class Verification:
    """What was found.

    Args:
        name: Name of the backup.
        token: Token of its cluster.
        bytes: Bytes that were read.
        sha256: Their sum; "" if none were read.
        differences: What differs; empty for a backup that is whole.
    """

    name: str
    token: str
    bytes: int
    sha256: str
    differences: tuple[Difference, ...]


def verify(
    folder: StoreFolder,
    backup: StoredBackup,
    progress: Callable[[int], None],
    keep: Callable[[bytes], object] | None = None,
) -> Verification:
    """Reads the data of one backup.

    Args:
        folder: The store.
        backup: The backup.
        progress: Called with the number of bytes that were read so far.
        keep: Called with each piece of the data; None keeps nothing.

    Raises:
        StoreError: The store cannot be read.
    """
    if backup.problem is Problem.NO_DATA:
        return Verification(backup.name, backup.token, 0, "", (Difference.NO_DATA,))
    whole, body, end, count = hashlib.sha256(), hashlib.sha256(), b"", 0
    try:
        for piece in folder.pieces(backup.token, f"{backup.name}.{DATA}"):
            whole.update(piece)
            if keep is not None:
                keep(piece)
            end += piece
            body.update(end[:-SUM_BYTES])
            end = end[-SUM_BYTES:]
            count += len(piece)
            progress(count)
    except UndecryptedError:
        if backup.problem is Problem.MANIFEST:
            raise
        return Verification(backup.name, backup.token, count, "", (Difference.ENCRYPTION,))
    found: list[Difference] = []
    if backup.problem is Problem.MANIFEST:
        found.append(Difference.MANIFEST)
    else:
        found += [Difference.BYTES] if count != backup.bytes else []
        found += [Difference.SHA256] if whole.hexdigest() != backup.sha256 else []
    if count % BLOCK_BYTES != SUM_BYTES or body.digest() != end:
        found.append(Difference.OWN_SUM)
    return Verification(backup.name, backup.token, count, whole.hexdigest(), tuple(found))
