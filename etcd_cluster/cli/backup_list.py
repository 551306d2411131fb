"""`etcd-cluster backup list`: the backups in a store, and what becomes of them in the next run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.backup_store import Source, opened, source
from etcd_cluster.cli.command import ExitCode
from etcd_cluster.cli.members import table
from etcd_cluster.clocks import current_time, length_text, rfc3339
from etcd_cluster.etcd.sizes import size_text

if TYPE_CHECKING:
    from etcd_cluster.backup.catalog import Catalog, Retention, StoredBackup

HEADINGS = ("NAME", "AGE", "REVISION", "SIZE", "MEMBER", "ETCD", "TEST", "NEXT RUN")


def run_list(options: argparse.Namespace) -> ExitCode:
    """Lists the backups in the store.

    Args:
        options: The global ones, those of the store, `all` and `output`.
    """
    from etcd_cluster.backup.catalog import next_retention, read_catalogs

    where, now = source(options), current_time()
    with opened(where) as folder:
        catalogs = read_catalogs(folder, None if options.all else where.token)
    own = next((each for each in catalogs if each.token == where.token), None)
    retention = next_retention(own, where.schedule, now) if own and where.schedule else None
    if options.output == "json":
        documents = [_catalog_json(each, retention if each is own else None) for each in catalogs]
        print(json.dumps({"to": where.to, "clusters": documents}, indent=2, ensure_ascii=False))
        return ExitCode.SUCCESS
    if not catalogs:
        print(f"no backups in {where.to}" + (f" of this cluster ({where.token})" if where.token else ""))
    for each in catalogs:
        print("\n".join(_catalog_text(each, retention if each is own else None, where, now)))
    return ExitCode.SUCCESS


def _catalog_json(catalog: Catalog, retention: Retention | None) -> dict[str, Any]:
    backups = [
        {
            "name": each.name,
            "time": rfc3339(each.slot),
            "revision": each.revision,
            "bytes": each.bytes if each.bytes >= 0 else None,
            "sha256": each.sha256 or None,
            "member": each.member,
            "version": each.version or None,
            "hashMissing": each.hash_missing.value if each.hash_missing else None,
            "test": each.test.value,
            "testText": each.test_text or None,
            "marked": each.marked,
            "keptFor": list(retention.kept.get(each.name, ())) if retention else None,
            "problem": each.problem.value if each.problem else None,
        }
        for each in catalog.backups
    ]
    return {
        "cluster": catalog.cluster,
        "token": catalog.token,
        "backups": backups,
        "unfinished": list(catalog.unfinished),
        "nextRunDeletes": list(retention.deleted) if retention else None,
    }


def _catalog_text(catalog: Catalog, retention: Retention | None, where: Source, now: datetime) -> Iterator[str]:
    from etcd_cluster.backup.catalog import HashMissing, Test

    total = size_text(sum(max(each.bytes, 0) for each in catalog.backups))
    count = "1 backup" if len(catalog.backups) == 1 else f"{len(catalog.backups)} backups"
    yield f"{catalog.cluster or 'unknown cluster'}: {count}, {total}, in {where.to}"
    yield ""
    if catalog.backups:
        yield table((HEADINGS, *(_row(each, retention, where, now) for each in catalog.backups)))
        yield ""
    for each in catalog.backups:
        if each.problem:
            yield f"damaged     {each.name}: {each.problem.value}"
        if each.hash_missing is HashMissing.DIFFERED:
            yield f"differed    {each.name}: members differed when it was made, so no test can prove it"
        if each.test is Test.FAILED:
            yield f"failed      {each.name}: {each.test_text}"
    for name in catalog.unfinished:
        yield f"unfinished  {name}: it has no manifest, so it is no backup; its upload runs, or was cut off"
    yield f"token       {catalog.token}"
    if retention and where.schedule and where.schedule.append_only:
        yield "next run    deletes nothing: backup.appendOnly leaves that to the store"
    elif retention:
        yield f"next run    deletes {', '.join(retention.deleted) or 'nothing'}"


def _row(backup: StoredBackup, retention: Retention | None, where: Source, now: datetime) -> tuple[str, ...]:
    from etcd_cluster.backup.catalog import CLOCK_SLACK

    reasons = ", ".join(retention.kept.get(backup.name, ())) if retention else "marked" if backup.marked else ""
    fate = f"keeps: {reasons}" if reasons else "-"
    if retention and not reasons:
        fate = "keeps: append-only" if where.schedule and where.schedule.append_only else "deletes"
    return (
        backup.name,
        "ahead" if backup.slot > now + CLOCK_SLACK else length_text(now - backup.slot),
        str(backup.revision),
        size_text(backup.bytes) if backup.bytes >= 0 else "-",
        backup.member,
        backup.version or "-",
        _test_text(backup),
        fate,
    )


def _test_text(backup: StoredBackup) -> str:
    from etcd_cluster.backup.catalog import HashMissing, Test

    if backup.test is Test.NONE:
        return "differed" if backup.hash_missing is HashMissing.DIFFERED else "-"
    return "restored" if backup.test is Test.PASSED and backup.hash_missing else backup.test.value
