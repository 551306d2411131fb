"""Reads a snapshot of etcd, or a copy of its database, on this machine: sums, and the version that wrote it.

The format is that of bbolt: pages with a header of 16 bytes, the first two of them with the root of a tree of buckets.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.etcd.versions import Version

SUM_BYTES, BLOCK_BYTES = 32, 512
"""A snapshot is a database, a whole number of blocks, and then its SHA-256."""
PAGE_HEADER, ELEMENT, BUCKET = struct.Struct("<QHHI"), struct.Struct("<IIII"), struct.Struct("<QQ")
BRANCH_ELEMENT = struct.Struct("<IIQ")
META = struct.Struct("<IIIIQQQQQ")
MAGIC = 0xED0CDAED
BRANCH, LEAF = 1, 2
MANIFEST_BYTES = 65536


class SnapshotFileError(EtcdClusterError):
    """The file cannot be restored. The text says why, and what to do."""


@dataclass(frozen=True)
class SnapshotFile:
    """A file that can be restored, as far as sums and version show.

    Args:
        sha256: Sum of the whole file.
        size: Its size in bytes.
        is_bare: It is a copy of a database, without etcd's own sum at its end.
        version: Version of the cluster that wrote it, X.Y.Z; "" if the file does not say.
        manifest: The text of the manifest beside it; "" for none.
    """

    sha256: str
    size: int
    is_bare: bool
    version: str
    manifest: str


def read_snapshot_file(path: Path, key: str, series: str) -> SnapshotFile:
    """Reads a file whole.

    Args:
        path: The file.
        key: The key that names it, for errors.
        series: Minor version of etcd that is to read it.

    Raises:
        SnapshotFileError: There is no such file, or it is none of etcd's, or damaged, or of a newer minor version.
    """
    require_exists(path, key)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole, body = hashlib.sha256(), hashlib.sha256()
            size = len(content)
            for begin in range(0, size, 1 << 20):
                piece = content[begin : begin + (1 << 20)]
                whole.update(piece)
                body.update(piece[: max(0, size - SUM_BYTES - begin)])
            is_bare = size % BLOCK_BYTES != SUM_BYTES
            if not is_bare and body.digest() != content[-SUM_BYTES:]:
                raise _refused(key, path, "its SHA-256, which etcd wrote at its end, does not fit", "a whole snapshot")
            version = _version(content)
    except (OSError, ValueError, struct.error, IndexError, RecursionError) as error:
        why = (
            error.strerror if isinstance(error, OSError) and error.strerror else "no database of etcd, or a part of one"
        )
        raise _refused(key, path, why, "a snapshot of etcd, or a copy of member/snap/db") from None
    found = SnapshotFile(whole.hexdigest(), size, is_bare, version, _manifest(path, key, whole.hexdigest()))
    if version and Version.parse(version) > Version.parse(f"{series}.0"):  # the patch of a database's version is 0
        newer = Version.parse(version).series
        raise SnapshotFileError(
            str(
                Explanation(
                    f"{key}: {path} is of etcd {newer}", f"{series} or older", f"set version to a release of {newer}"
                )
            )
        )
    return found


def require_exists(path: Path, key: str) -> None:
    """Raises `SnapshotFileError` if there is no such file on this machine."""
    if not path.is_file():
        raise _refused(key, path, "no such file on this machine", "a snapshot of etcd, or a copy of member/snap/db")


def _refused(key: str, path: Path, problem: str, expected: str) -> SnapshotFileError:
    return SnapshotFileError(str(Explanation(f"{key}: {path}: {problem}", expected, "give another file")))


def _manifest(path: Path, key: str, sha256: str) -> str:
    """Returns the text of a backup's manifest beside the file; "" for none.

    Raises:
        SnapshotFileError: It is that of another file.
    """
    beside = path.with_suffix(".json")
    if path.suffix != ".db" or not beside.is_file() or beside.stat().st_size > MANIFEST_BYTES:
        return ""
    text = beside.read_text(errors="replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    said = cast("dict[str, Any]", found).get("sha256") if isinstance(found, dict) else None
    if said != sha256:
        problem = f"its SHA-256 is {sha256}, and the manifest beside it ({beside.name}) says {said or 'none'}"
        raise _refused(key, path, problem, "the file that the manifest is of, or no manifest beside it")
    return text


def _version(content: mmap.mmap) -> str:
    page_size, root = _root(content)
    names = {b"meta": b"storageVersion", b"cluster": b"clusterVersion"}
    found = ["0.0.0"]
    for bucket, place, _, is_bucket in _items(content, page_size, root * page_size):
        if not is_bucket or bucket not in names:
            continue
        inner = BUCKET.unpack_from(content, place)[0]
        begin = inner * page_size if inner else place + BUCKET.size  # a small bucket is where its page would be named
        found += [
            content[value : value + size].decode()
            for key, value, size, _ in _items(content, page_size, begin)
            if key == names[bucket]
        ]
    newest = max(found, key=Version.parse)
    return "" if newest == "0.0.0" else newest


def _root(content: mmap.mmap) -> tuple[int, int]:
    """Returns the size of a page, and the number of the root's page, from the newer one of both meta pages."""
    first = META.unpack_from(content, PAGE_HEADER.size)
    found = [first] if first[0] == MAGIC else []
    page_size = first[2] if found else 4096
    second = META.unpack_from(content, page_size + PAGE_HEADER.size)
    found += [second] if second[0] == MAGIC else []
    newest = max(found, key=lambda meta: meta[8])  # ValueError for none: no such file
    return newest[2], newest[4]


def _items(content: mmap.mmap, page_size: int, begin: int) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yields key, place and size of the value, and whether it is a bucket, of all keys below a page."""
    _, flags, count, _ = PAGE_HEADER.unpack_from(content, begin)
    for number in range(count):
        element = begin + PAGE_HEADER.size + number * ELEMENT.size
        if flags & BRANCH:
            yield from _items(content, page_size, BRANCH_ELEMENT.unpack_from(content, element)[2] * page_size)
        elif flags & LEAF:
            kind, key, key_size, size = ELEMENT.unpack_from(content, element)
            place = element + key + key_size
            yield content[element + key : place], place, size, bool(kind & 1)
        else:
            raise ValueError
