"""Makes a list of backups from what is in a store, with what the next run deletes, by the very rule that it runs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, cast

from etcd_cluster.backup.files import Schedule, retention
from etcd_cluster.backup.transport import StoredFile, StoreError, StoreFolder
from etcd_cluster.errors import printable
from etcd_cluster.names import is_one_line

NAME = re.compile(
    r"(?P<slot>[0-9]{8}T[0-9]{6}Z)-(?P<revision>[0-9]+)-(?P<member>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
)
SLOT = "%Y%m%dT%H%M%SZ"
MANIFEST, DATA, TESTED, FAILED, MARK = "json", "db", "tested", "failed", "keep"
CLOCK_SLACK = timedelta(hours=1)
"""A backup further in the future is of a clock that was ahead: it says nothing of how old the data in the store are."""
MOST = 2**63
RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
SHA256 = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}", re.ASCII)


class Test(Enum):
    """What came of the restore of a backup."""

    __test__ = False  # no class of tests
    PASSED = "passed"
    FAILED = "failed"
    NONE = "none"


class HashMissing(Enum):
    """Why a backup has no hash over its members' keys; values are those of the manifest."""

    NOT_ASKED = "notAsked"
    UNANSWERED = "unanswered"
    DIFFERED = "differed"
    UNKNOWN = "unknown"
    """The manifest is of a release that did not say why."""


class Problem(Enum):
    """Why a backup that has a manifest is none."""

    NAME = "its name holds no time that there is"
    MANIFEST = "its manifest is damaged"
    NO_DATA = "its data is gone"
    SIZE = "its data has another size than its manifest says"


@dataclass(frozen=True)
class StoredBackup:
    """One backup in a store.

    Args:
        name: Its name.
        token: Token of its cluster: the folder that it is in.
        slot: The time that it was due, or taken at.
        revision: Revision of the snapshot.
        member: The member that took it.
        cluster: PROJECT/STACK/NAME; "" if the manifest is damaged, as for the fields below.
        version: Version of etcd.
        bytes: Size of the snapshot; -1 if the manifest is damaged.
        sha256: Its sum, hexadecimal.
        hash_missing: Why there is no hash over its members' keys; None if there is one, or the manifest is damaged.
        test: What came of its restore.
        test_text: When it passed, or why it failed.
        marked: It is marked to be kept.
        problem: Why it cannot be restored, as far as names and sizes show; None for nothing.
    """

    name: str
    token: str
    slot: datetime
    revision: int
    member: str
    cluster: str
    version: str
    bytes: int
    sha256: str
    hash_missing: HashMissing | None
    test: Test
    test_text: str
    marked: bool
    problem: Problem | None


@dataclass(frozen=True)
class Catalog:
    """The backups in the folder of one cluster.

    Args:
        token: Token of the cluster.
        backups: The newest first.
        names: The names of all files in that folder.
    """

    token: str
    backups: Sequence[StoredBackup]
    names: Collection[str]

    @property
    def cluster(self) -> str:
        """PROJECT/STACK/NAME, as the newest manifest says; "" if none is readable."""
        return next((each.cluster for each in self.backups if each.cluster), "")

    @property
    def unfinished(self) -> Sequence[str]:
        """Data without a manifest, which is no backup: an upload that was cut off, or that runs."""
        whole = {each.name for each in self.backups}
        found = (name.removesuffix(f".{DATA}") for name in self.names if name.endswith(f".{DATA}"))
        return sorted(f"{name}.{DATA}" for name in found if NAME.fullmatch(name) and name not in whole)


@dataclass(frozen=True)
class Retention:
    """What becomes of the backups of one cluster in the next run.

    Args:
        kept: Name -> reasons why it is kept, in the words of the rule: last, daily, weekly, tested, marked.
        deleted: Names of files that it deletes.
    """

    kept: Mapping[str, Sequence[str]]
    deleted: Sequence[str]


def read_catalogs(folder: StoreFolder, token: str | None) -> list[Catalog]:
    """Reads the names, the manifests and the results of tests.

    Args:
        folder: The store.
        token: Token of one cluster; None for every cluster there.

    Raises:
        StoreError: The store cannot be read.
    """
    files = folder.files(token)
    texts = folder.texts(token, (MANIFEST, TESTED, FAILED)) if files else {}
    tokens = sorted({file.token for file in files if _is_of_a_backup(file.name)})
    return [_catalog(each, [file for file in files if file.token == each], texts) for each in tokens]


def _is_of_a_backup(name: str) -> bool:
    stem, _, kind = name.rpartition(".")
    return kind in (MANIFEST, DATA) and NAME.fullmatch(stem) is not None


def _catalog(token: str, files: Sequence[StoredFile], texts: Mapping[tuple[str, str], str]) -> Catalog:
    sizes = {file.name: file.size for file in files}
    backups = [
        _backup(token, found, sizes, texts)
        for file in files
        if file.name.endswith(f".{MANIFEST}") and (found := NAME.fullmatch(file.name.removesuffix(f".{MANIFEST}")))
    ]
    return Catalog(token, sorted(backups, key=lambda each: (each.slot, each.revision), reverse=True), sizes.keys())


def _backup(
    token: str, found: re.Match[str], sizes: Mapping[str, int], texts: Mapping[tuple[str, str], str]
) -> StoredBackup:
    name = found[0]
    slot = parse_slot(found["slot"])
    manifest = _manifest(texts.get((token, f"{name}.{MANIFEST}"), ""), name, int(found["revision"]))
    hash_missing = _hash_missing(manifest) if manifest else None
    data = sizes.get(f"{name}.{DATA}")
    size = manifest["bytes"] if manifest else -1
    problem = None
    if manifest is None:
        problem = Problem.MANIFEST
    elif slot is None:
        problem = Problem.NAME
    elif data is None:
        problem = Problem.NO_DATA
    elif data != size:
        problem = Problem.SIZE
    test = _test(name, token, sizes, texts)
    if test is Test.PASSED and hash_missing is HashMissing.DIFFERED:
        test = Test.NONE  # by a machine that still has an earlier release's program
    kind = {Test.FAILED: FAILED, Test.PASSED: TESTED}.get(test, "")
    return StoredBackup(
        name=name,
        token=token,
        slot=slot or datetime.min.replace(tzinfo=timezone.utc),
        revision=int(found["revision"]),
        member=found["member"],
        cluster=str(manifest["cluster"]) if manifest else "",
        version=str(manifest["version"]) if manifest else "",
        bytes=size,
        sha256=str(manifest["sha256"]) if manifest else "",
        hash_missing=hash_missing,
        test=test,
        test_text=printable(texts.get((token, f"{name}.{kind}"), "").strip()),
        marked=f"{name}.{MARK}" in sizes,
        problem=problem,
    )


def _test(name: str, token: str, names: Collection[str], texts: Mapping[tuple[str, str], str]) -> Test:
    """Returns the later result. Both are there where a test passed after a failure and nothing may be deleted."""
    if f"{name}.{FAILED}" not in names:
        return Test.PASSED if f"{name}.{TESTED}" in names else Test.NONE
    # Both begin with their time.
    passed, failed = (texts.get((token, f"{name}.{kind}"), "").strip()[:20] for kind in (TESTED, FAILED))
    return Test.PASSED if RFC3339.fullmatch(failed) and passed > failed else Test.FAILED


def _manifest(text: str, name: str, revision: int) -> Mapping[str, Any] | None:
    """Returns a manifest; None if it is damaged, or that of another backup than the name's."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    manifest = cast("dict[str, Any]", found)
    texts = [manifest.get(key) for key in ("cluster", "version", "sha256")]
    hashed: Any = manifest.get("hash")
    is_whole = (
        manifest.get("name") == name
        and _is_count(manifest.get("bytes"))
        and _is_count(manifest.get("revision"))
        and manifest["revision"] == revision
        and all(isinstance(each, str) and is_one_line(each) for each in texts)
        and SHA256.fullmatch(manifest["sha256"])
        and VERSION.fullmatch(manifest["version"])
        and (hashed is None or (isinstance(hashed, dict) and _is_count(cast("dict[str, Any]", hashed).get("value"))))
    )
    return manifest if is_whole else None


def _is_count(value: object) -> bool:
    """Returns whether a value is a whole number that bytes or revisions can have. True is an int to Python."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def _hash_missing(manifest: Mapping[str, Any]) -> HashMissing | None:
    if manifest.get("hash") is not None:
        return None
    why = manifest.get("hashMissing")
    return next((each for each in HashMissing if each.value == why), HashMissing.UNKNOWN)


def parse_slot(text: str) -> datetime | None:
    """Reads the time in the name of a backup; None if there is no such time."""
    try:
        return datetime.strptime(text[:16], SLOT).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def next_retention(catalog: Catalog, schedule: Schedule, now: datetime) -> Retention:
    """Returns what the next run keeps and deletes, if nothing else changes until then, and the same member makes it.

    Args:
        catalog: The backups of one cluster.
        schedule: What is kept.
        now: The time.

    Raises:
        StoreError: There is no `awk` here, which the rule is for.
    """
    made = _next_slot(now, schedule.every_seconds).strftime(SLOT)
    member = max(catalog.backups, key=lambda each: each.slot).member if catalog.backups else "next"
    stem = f"{made}-0-{member}"
    names = [*catalog.names, f"{stem}.{DATA}", f"{stem}.{MANIFEST}"]
    unproven = [each.name for each in catalog.backups if each.hash_missing is HashMissing.DIFFERED]
    kept: dict[str, Sequence[str]] = {}
    for line in _apply_rule(names, unproven, schedule, made, member, explain=True):
        name, _, reasons = line.partition(" ")
        if name != stem:
            kept[name] = reasons.split(",")
    deleted = [] if schedule.append_only else _apply_rule(names, unproven, schedule, made, member)
    return Retention(kept, [name for name in deleted if not name.startswith(f"{stem}.")])


def _next_slot(now: datetime, every_seconds: int) -> datetime:
    moment = int(now.timestamp())
    return datetime.fromtimestamp(moment - moment % every_seconds + every_seconds, timezone.utc)


def _apply_rule(
    names: Collection[str],
    unproven: Collection[str],
    schedule: Schedule,
    made: str,
    member: str,
    *,
    explain: bool = False,
) -> list[str]:
    counts = {"last": schedule.last, "daily": schedule.daily, "weekly": schedule.weekly}
    given = {**counts, "made": made, "member": member, "unproven": " ".join(unproven), "explain": int(explain)}
    variables = [word for name, value in given.items() for word in ("-v", f"{name}={value}")]
    text = "".join(f"{name}\n" for name in names)
    try:
        done = subprocess.run(["awk", *variables, retention()], input=text, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise StoreError(f"awk does not run on this machine: {error}. Expected: any awk. Install mawk") from None
    return done.stdout.splitlines()
