"""`etcd-cluster restore --dry-run`: proves a restore on this machine, and says what it would bring back and give up."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.backup_store import IN_THE_STORE, LATEST, STORE_OPTIONS, find, opened, reading_progress, source
from etcd_cluster.cli.command import OUTPUT, Command, CommandError, ExitCode, Option
from etcd_cluster.cli.env import write_private
from etcd_cluster.clocks import current_time, from_rfc3339, length_text, rfc3339
from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.names import is_one_line

if TYPE_CHECKING:
    from etcd_cluster.backup.catalog import StoredBackup
    from etcd_cluster.backup.transport import StoreFolder

TRY_SECONDS = 3600
_LABEL_WIDTH = 12


@dataclass(frozen=True)
class Snapshot:
    """What is tried.

    Attributes:
        name: TOKEN/NAME, or the path of a file.
        where: The store, or "this machine".
        path: The file on this machine.
        cluster: PROJECT/STACK/NAME; "" if nothing says so.
        taken: When; None if nothing says so.
        version: Version of etcd that wrote it.
        revision: Its revision, as its name says; None for a file.
        is_bare: It is a copy of a database, without etcd's own sum at its end.
        manifest: The text of its manifest; "" for none.
        size: Its size in bytes.
        newer: How many newer backups of that cluster the store has.
        newest_revision: The highest revision of these; 0 for none.
    """

    name: str
    where: str
    path: Path
    cluster: str
    taken: datetime | None
    version: str
    revision: int | None
    is_bare: bool
    manifest: str
    size: int
    newer: int = 0
    newest_revision: int = 0


def run_restore(options: argparse.Namespace) -> ExitCode:
    """Proves a restore on this machine, and prints what it would do.

    Args:
        options: The global ones, those of the store, `dry_run`, `source` and `output`.
    """
    from etcd_cluster.member.machines import StepFailedError

    if not options.dry_run:
        raise CommandError(
            str(
                Explanation(
                    "restore: this command changes no cluster",
                    "--dry-run, which shows what a restore would do",
                    "restore by the stack's config: restoreFrom for a new cluster, restoreInPlace or recover for this "
                    "one (docs/recover.md)",
                )
            )
        )
    with tempfile.TemporaryDirectory(prefix="etcd-cluster-restore-") as folder:
        snapshot = _file(options.source) if _is_path(options.source) else _stored(options, Path(folder))
        try:
            facts, problem = _try(snapshot, Path(folder)), ""
        except StepFailedError as error:
            facts, problem = {}, str(error).partition(": ")[2] or str(error)
    now = current_time()
    if options.output == "json":
        print(json.dumps(_json(snapshot, facts, problem, now), indent=2, ensure_ascii=False))
    else:
        lines = _lines(snapshot, facts, problem, now)
        print("\n".join(f"{label:<{_LABEL_WIDTH}}{text}" for label, text in lines))
    return ExitCode.NOT_HEALTHY if problem else ExitCode.SUCCESS


def _is_path(text: str) -> bool:
    from etcd_cluster.backup.restore_arguments import PATHS

    return text.startswith(PATHS)


def _file(text: str) -> Snapshot:
    from etcd_cluster.backup.snapshot_file import read_snapshot_file
    from etcd_cluster.etcd.versions import NEWEST_KNOWN, Version

    path = Path(text).expanduser()
    newest = max(map(Version.parse, NEWEST_KNOWN.values()))
    found = read_snapshot_file(path, "restore", newest.series)
    version = NEWEST_KNOWN.get(Version.parse(found.version).series if found.version else "", str(newest))
    said: Mapping[str, Any] = json.loads(found.manifest) if found.manifest else {}
    cluster = said.get("cluster")
    return Snapshot(
        name=str(path),
        where="this machine",
        path=path,
        cluster=cluster if isinstance(cluster, str) and is_one_line(cluster) else "",
        taken=_time(str(said.get("taken", ""))),
        version=version,
        revision=None,
        is_bare=found.is_bare,
        manifest=found.manifest,
        size=found.size,
    )


def _time(text: str) -> datetime | None:
    try:
        return from_rfc3339(text)
    except ValueError:
        return None


def _stored(options: argparse.Namespace, folder: Path) -> Snapshot:
    """Fetches a backup from the store, piece by piece; its sum is compared with its manifest."""
    from etcd_cluster.backup.catalog import MANIFEST, read_catalogs
    from etcd_cluster.backup.verification import verify

    where = source(options)
    path = folder / "snapshot.db"
    with opened(where) as store:
        backup = find(store, where, options.source)
        if backup.problem:
            raise CommandError(
                f"{backup.name}: {backup.problem.value}. Expected: a whole backup. Choose another one (backup list)"
            )
        (catalog,) = read_catalogs(store, backup.token)
        newer = [each for each in catalog.backups if (each.slot, each.revision) > (backup.slot, backup.revision)]
        with path.open("wb") as file:
            found = verify(store, backup, reading_progress(backup.name, backup.bytes), file.write)
        if found.differences:
            problems = "; ".join(each.value for each in found.differences)
            raise CommandError(f"{backup.name}: {problems}. Expected: a whole backup. Choose another one (backup list)")
        manifest = _text(store, backup, MANIFEST)
    return Snapshot(
        name=f"{backup.token}/{backup.name}",
        where=where.to,
        path=path,
        cluster=backup.cluster,
        taken=backup.slot,
        version=backup.version,
        revision=backup.revision,
        is_bare=False,
        manifest=manifest,
        size=backup.bytes,
        newer=len(newer),
        newest_revision=max((each.revision for each in newer), default=0),
    )


def _text(store: StoreFolder, backup: StoredBackup, kind: str) -> str:
    return b"".join(store.pieces(backup.token, f"{backup.name}.{kind}")).decode(errors="replace")


def _try(snapshot: Snapshot, folder: Path) -> dict[str, str]:
    """Restores it into a member that only this machine reaches, as a backup's test does; returns what it holds."""
    from etcd_cluster.install.sources import local_binaries
    from etcd_cluster.machines.machine import Ports
    from etcd_cluster.member.answers import answered_facts
    from etcd_cluster.member.layout import Layout
    from etcd_cluster.member.lines import TryRestore
    from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
    from etcd_cluster.member.render import encode

    programs = local_binaries(snapshot.version, say=say, demo_fallback=False)
    layout = Layout.below(str(folder))
    for path in (layout.versions, layout.state, layout.volume, layout.pki):
        Path(path).mkdir(parents=True)
    _write_certificate(Path(layout.pki))
    os.symlink(programs.directory, f"{layout.versions}/{snapshot.version}")
    line = TryRestore(str(snapshot.path.resolve()), snapshot.version, bare=snapshot.is_bare)
    given = {"file_manifest": encode(snapshot.manifest)}
    with MemberMachines({"restore": RecordedPlace(layout, Ports())}, {}) as machines:
        printed = machines.run("restore", line, given, timeout_seconds=TRY_SECONDS, say=say)
    return answered_facts(printed)


def _write_certificate(folder: Path) -> None:
    """Writes what the member that is tried asks clients for, so that no other user of this machine reads the keys."""
    from etcd_cluster.pki import x509

    now = current_time()
    ca = x509.create_ca("restore", now=now, validity_hours=24, key_algorithm="ECDSA-P256")
    pair = x509.issue_certificate(
        ca, common_name="restore", profile="server", hosts=["127.0.0.1"], now=now, validity_hours=24
    )
    write_private(folder / "ca.crt", ca.certificate_pem)
    write_private(folder / "server.crt", pair.certificate_pem)
    write_private(folder / "server.key", pair.private_key_pem)


def _lost(snapshot: Snapshot, now: datetime) -> str:
    since = (
        f"every write since then ({_age(snapshot.taken, now)})" if snapshot.taken else "every write since it was made"
    )
    if not snapshot.newer:
        return since
    ahead = snapshot.newest_revision - (snapshot.revision or 0)
    return f"{since}: at least {ahead} revisions, by the {snapshot.newer} newer backups in the store"


def _age(taken: datetime, now: datetime) -> str:
    return length_text(max(now - taken, timedelta()))


def _lines(snapshot: Snapshot, facts: Mapping[str, str], problem: str, now: datetime) -> Iterator[tuple[str, str]]:
    yield "from", f"{snapshot.name}, in {snapshot.where}"
    yield "cluster", snapshot.cluster or "unknown: no manifest is beside it"
    yield (
        "taken",
        (f"{snapshot.taken:%Y-%m-%d %H:%M} UTC, {_age(snapshot.taken, now)} ago" if snapshot.taken else "unknown"),
    )
    revision = facts.get("revision") or (str(snapshot.revision) if snapshot.revision is not None else "unknown")
    yield "revision", revision + (f", {facts['keys']} keys" if "keys" in facts else "")
    yield "etcd", f"{snapshot.version} here; a cluster of this minor version or a newer one can read it"
    yield "size", size_text(snapshot.size)
    if problem:
        yield "restores", f"NO: {problem}"
        return
    yield "restores", f"yes: a member that starts from it serves; {_compared(snapshot, facts)}"
    yield "given up", _lost(snapshot, now)
    yield "does", "restoreFrom: a new cluster starts with it on one member, and the others join"
    yield "", "restoreInPlace: all members stop, their data are renamed, one starts with it, and the others join;"
    yield "", "revisions are raised, and watches start anew"


def _differed(snapshot: Snapshot) -> bool:
    from etcd_cluster.backup.catalog import HashMissing

    return bool(snapshot.manifest) and json.loads(snapshot.manifest).get("hashMissing") == HashMissing.DIFFERED.value


def _compared(snapshot: Snapshot, facts: Mapping[str, str]) -> str:
    if facts.get("hash") == "equal":
        return "all keys are those that the members had at that revision"
    if _differed(snapshot):
        return "its members differed when it was made, so it holds what one of them held"
    if snapshot.is_bare:
        return "it is a bare copy of a database, so that alone shows that it is whole"
    return "its SHA-256 fits, and there is no hash of its members to compare with"


def _json(snapshot: Snapshot, facts: Mapping[str, str], problem: str, now: datetime) -> dict[str, Any]:
    def number(name: str) -> int | None:
        return int(facts[name]) if name in facts else None

    return {
        "from": snapshot.name,
        "in": snapshot.where,
        "cluster": snapshot.cluster or None,
        "taken": rfc3339(snapshot.taken) if snapshot.taken else None,
        "ageSeconds": int((now - snapshot.taken).total_seconds()) if snapshot.taken else None,
        "version": snapshot.version,
        "revision": number("revision") or snapshot.revision,
        "keys": number("keys"),
        "bytes": snapshot.size,
        "restores": not problem,
        "problem": problem or None,
        "hashCompared": facts.get("hash") == "equal",
        "membersDiffered": _differed(snapshot),
        "newerBackups": snapshot.newer,
        "revisionsLostAtLeast": max(0, snapshot.newest_revision - (snapshot.revision or 0)),
    }


COMMAND = Command(
    name="restore",
    summary="with --dry-run: prove a restore on this machine, and show what it would bring back",
    description=f"""\
Shows what a restore would do, and changes nothing. It fetches a backup, or takes a file, restores it on this
machine into an etcd that only this machine reaches, and compares revision and keys with its manifest. The
restore itself is a key of the stack's config: restoreFrom, restoreInPlace or recover.

{IN_THE_STORE}

exit codes:
  0  it restores
  1  it does not restore; the reason is printed
  2  no answer: a wrong option, no such stack or backup, a store that cannot be read, no etcd for this machine""",
    examples=(
        ("etcd-cluster restore --dry-run --stack prod", "the newest backup"),
        ("etcd-cluster restore --dry-run TOKEN/NAME --to s3://BUCKET/PREFIX", "of a cluster that is gone"),
        ("etcd-cluster restore --dry-run ./backup.db", "a snapshot, or a copy of a member's database"),
    ),
    options=(
        Option(
            "source",
            "`latest` (default), a name that `backup list` shows, TOKEN/NAME, or the path of a file",
            {"metavar": "FROM", "nargs": "?", "default": LATEST},
        ),
        Option("--dry-run", "required: only shows what a restore would do", {"action": "store_true"}),
        *STORE_OPTIONS,
        OUTPUT,
    ),
    run=run_restore,
)
