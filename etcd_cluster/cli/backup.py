"""`etcd-cluster backup`: makes a backup; reads, proves and marks those in the store, also of a lost cluster."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.clusters import recorded_backups, with_few_attempts
from etcd_cluster.cli.command import OUTPUT, Command, CommandError, CommandGroup, ExitCode, Option
from etcd_cluster.cli.members import table
from etcd_cluster.cli.signals import interruptible
from etcd_cluster.cli.stacks import read_stack
from etcd_cluster.clocks import length_text, rfc3339
from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.sizes import size_text

if TYPE_CHECKING:
    from etcd_cluster.backup.catalog import Catalog, Retention, StoredBackup
    from etcd_cluster.backup.files import Schedule
    from etcd_cluster.backup.transport import StoreFolder
    from etcd_cluster.backup.verification import Verification
    from etcd_cluster.member.lines import BackUp
    from etcd_cluster.rollout.machines import ClusterMachines

LATEST = "latest"
PROGRESS_SECONDS = 10.0
"""Between two lines of progress, where they do not go to a terminal."""
HEADINGS = ("NAME", "AGE", "REVISION", "SIZE", "MEMBER", "ETCD", "TEST", "NEXT RUN")

IN_THE_STORE = """\
It asks the store from this machine, with rclone, and no machine of the cluster. Where the store is, and its
credentials, come from the stack's state; with --to URL from the command line and from the environment (for S3
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role; for the others likewise), as when
the stack is gone."""


@dataclass(frozen=True)
class Source:
    """Where backups are, and by which rule they are kept.

    Attributes:
        to: The store, as the user named it.
        given: Credentials, and what else rclone is configured with.
        token: The folder of the cluster there; None if it is not known.
        schedule: What is kept; None if it is not known.
        rclone: Where rclone comes from, as `backup.rclone` says.
    """

    to: str
    given: Mapping[str, str] = field(repr=False)
    token: str | None
    schedule: Schedule | None
    rclone: Mapping[str, Any] = field(default_factory=dict[str, Any])


# --- Where from ---


def _recorded(options: argparse.Namespace) -> Mapping[str, Any]:
    stack = read_stack(options.stack, options.cwd, secrets=True)
    props = recorded_backups(stack, options.cluster)
    if props is None:
        raise CommandError(
            str(
                Explanation(
                    f"stack {stack.name} has no backups" + (f" of {options.cluster}" if options.cluster else ""),
                    "backup.to in the stack's config, and an `up` since",
                    "set it and run `pulumi up`; for backups of a cluster that is gone, name the store with --to URL",
                )
            )
        )
    return props


def source(options: argparse.Namespace) -> Source:
    """Returns where backups are, by the options or the stack's state.

    Args:
        options: The global ones, and `to`, `endpoint`, `region` and `encryption_password_file`.

    Raises:
        CommandError: The stack has no backups.
        ConfigurationError: An option cannot be used.
    """
    from etcd_cluster.backup.store import require_endpoint, require_store

    if options.to is None:
        return _recorded_source(_recorded(options))
    require_store("--to", options.to)
    given = {"region": options.region} if options.region else {}
    if options.endpoint:
        given["endpoint"] = require_endpoint("--endpoint", options.endpoint)
    if options.encryption_password_file:
        given["encryption_password"] = _password_in(options.encryption_password_file)
    return Source(options.to, given, None, None)


def _password_in(path: str) -> str:
    """Returns what is in the file; raises `CommandError` if it cannot be read."""
    try:
        return Path(path).expanduser().read_text().rstrip("\n")
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(
            f"--encryption-password-file: {path}: {problem}. Expected: the value of backup.encryptionPassword in a file"
        ) from None


def _recorded_source(props: Mapping[str, Any]) -> Source:
    from etcd_cluster.backup.files import schedule_of

    given: Mapping[str, str] = props["credentials"] or {}
    rclone: Mapping[str, Any] = props["rclone"] or {}
    return Source(props["to"], given, props["token"], schedule_of(props), rclone)


def rclone_program(where: Source) -> str:
    """Returns rclone on this machine: it comes from where the machines' own comes from."""
    from etcd_cluster.install.rclone import place_rclone
    from etcd_cluster.member.machines import say

    return place_rclone(None, where.rclone, say)


@contextmanager
def opened(where: Source) -> Generator[StoreFolder]:
    """Opens the store from this machine. A signal to end removes what was written for it, like Ctrl-C."""
    from etcd_cluster.backup.plain_folder import PlainFolder
    from etcd_cluster.backup.store import StoreUrl
    from etcd_cluster.backup.transport import StoreFolder

    store = StoreUrl.of(where.to, where.given)
    with interruptible():
        if store.needs_rclone:
            opening = StoreFolder(store, where.to, where.given, rclone_program(where))
        else:
            opening = PlainFolder(store, where.to)
        with opening as folder:
            yield folder


def find(folder: StoreFolder, where: Source, chosen: str) -> StoredBackup:
    """Returns one backup.

    Args:
        folder: The store.
        where: Whose backups are meant, if `chosen` does not say.
        chosen: NAME, `latest`, TOKEN/NAME or TOKEN/latest.

    Raises:
        CommandError: There is none, or there are several clusters and none was named.
        StoreError: The store cannot be read.
    """
    from etcd_cluster.backup.catalog import CLOCK_SLACK, read_catalogs

    token, _, name = chosen.rpartition("/")
    catalogs = read_catalogs(folder, token or where.token)
    found = [each for catalog in catalogs for each in catalog.backups if name in (LATEST, each.name)]
    tokens = {each.token for each in found}
    if len(tokens) > 1:
        names = ", ".join(f"{each.token} ({each.cluster})" for each in catalogs if each.token in tokens)
        raise CommandError(
            f"{where.to} has backups of {len(tokens)} clusters: {names}. Expected: one cluster. Write TOKEN/{name}"
        )
    if found:
        # One of the future is of a clock that was ahead.
        latest = datetime.now(timezone.utc) + CLOCK_SLACK
        return next((each for each in found if each.slot <= latest), found[0])
    what = "no backup of this cluster" if chosen == LATEST else f"no backup {chosen}"
    raise CommandError(
        str(
            Explanation(
                f"{where.to} has {what}", "a name that `etcd-cluster backup list` shows", "run it; --all shows all"
            )
        )
    )


# --- now, test: on a machine ---


def run_now(options: argparse.Namespace) -> ExitCode:
    """Makes a backup, on the machine of one member.

    Args:
        options: The global ones, `test` and `output`.
    """
    from etcd_cluster.member.lines import BackUp

    props = _recorded(options)
    return _on_a_machine(options, props, BackUp(now=True, test=options.test))


def run_test(options: argparse.Namespace) -> ExitCode:
    """Restores a backup, on the machine of one member, and compares all keys.

    Args:
        options: The global ones, `name` and `output`.
    """
    from etcd_cluster.member.lines import BackUp

    props = _recorded(options)
    where = _recorded_source(props)
    with opened(where) as folder:
        backup = find(folder, where, options.name)
    if backup.token != where.token:
        raise CommandError(
            f"{options.name} is of another cluster. Expected: a backup of {props['cluster']}, whose members have the "
            "programs for it. Use `verify`, or restore it into a cluster of its own (restoreFrom)"
        )
    return _on_a_machine(options, props, BackUp(prove=backup.name))


def _on_a_machine(options: argparse.Namespace, props: Mapping[str, Any], line: BackUp) -> ExitCode:
    from etcd_cluster.backup.files import RUN_SECONDS
    from etcd_cluster.backup.schedule_lifecycle import run_variables
    from etcd_cluster.member.answers import answered_facts
    from etcd_cluster.member.machines import RecordedPlace, StepFailedError, say
    from etcd_cluster.rollout.machines import ClusterMachines
    from etcd_cluster.ssh.connection import SshError

    shown: list[str] = []

    def show(line: str) -> None:
        shown.append(line)
        say(line)

    places = {name: RecordedPlace.parse(host) for name, host in props["members"].items()}
    connections = with_few_attempts(props["connections"])
    reasons: list[str] = []
    with interruptible(), ClusterMachines(places, connections) as machines:
        for name in _in_order(machines, places):
            try:
                answer = machines.run(name, line, run_variables(props, name), timeout_seconds=RUN_SECONDS, say=show)
            except SshError as error:
                reasons.append(f"{name}: {error}")
                continue
            except StepFailedError as error:
                if f"error: {error}" not in shown:
                    say(f"error: {error}")
                return ExitCode.NOT_HEALTHY
            facts = answered_facts(answer)
            _print_made(options, props["to"], name, facts.get("stored", ""), facts.get("proven", ""))
            return ExitCode.SUCCESS
    raise CommandError(
        str(
            Explanation(
                f"no member's machine answers ({'; '.join(reasons) or 'the reasons are above'})",
                "one that does",
                "see `etcd-cluster status`; backups in the store are read without them by list, verify and keep",
            )
        )
    )


def _in_order(machines: ClusterMachines, names: Mapping[str, object]) -> list[str]:
    """Returns the members whose machines answer: followers that are healthy, then the leader, then the others."""
    observation = machines.observe()
    for name, why in observation.unreachable.items():
        print(f"{name}: {why}", file=sys.stderr)

    def rank(name: str) -> int:
        if not observation.is_healthy(name):
            return 2
        return 1 if name == observation.leader else 0

    return sorted((name for name in names if name in observation.hosts), key=rank)


def _print_made(options: argparse.Namespace, to: str, member: str, stored: str, proven: str) -> None:
    if options.output == "json":
        document = {"backup": stored or proven, "on": member, "to": to, "made": bool(stored), "tested": bool(proven)}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif stored:
        tested = "it passed a restore" if proven else f"not tested yet: `etcd-cluster backup test {stored}`"
        print(f"{stored} is in {to}; {tested}")
    else:
        print(f"{proven} passed a restore on {member}")


# --- list ---


def run_list(options: argparse.Namespace) -> ExitCode:
    """Lists the backups in the store.

    Args:
        options: The global ones, those of the store, `all` and `output`.
    """
    from etcd_cluster.backup.catalog import next_retention, read_catalogs

    where, now = source(options), datetime.now(timezone.utc)
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
    from etcd_cluster.backup.catalog import Test

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
    from etcd_cluster.backup.catalog import Test

    reasons = ", ".join(retention.kept.get(backup.name, ())) if retention else "marked" if backup.marked else ""
    fate = f"keeps: {reasons}" if reasons else "-"
    if retention and not reasons:
        fate = "keeps: append-only" if where.schedule and where.schedule.append_only else "deletes"
    return (
        backup.name,
        length_text(now - backup.slot),
        str(backup.revision),
        size_text(backup.bytes) if backup.bytes >= 0 else "-",
        backup.member,
        backup.version or "-",
        "-" if backup.test is Test.NONE else backup.test.value,
        fate,
    )


# --- verify ---


def run_verify(options: argparse.Namespace) -> ExitCode:
    """Reads backups back from the store and compares them.

    Args:
        options: The global ones, those of the store, `name`, `all_backups` and `output`.
    """
    from etcd_cluster.backup.catalog import read_catalogs
    from etcd_cluster.backup.verification import verify

    if (options.name is None) == (not options.all_backups):
        raise CommandError("backup verify: name one backup, or `latest`, or give --all-backups")
    where = source(options)
    found: list[Verification] = []
    with opened(where) as folder:
        if options.name:
            chosen = [find(folder, where, options.name)]
        else:
            chosen = [each for catalog in read_catalogs(folder, where.token) for each in catalog.backups]
        for backup in chosen:
            found.append(verify(folder, backup, reading_progress(backup.name, backup.bytes)))
    are_whole = all(not each.differences for each in found)
    if options.output == "json":
        documents = [
            {
                "name": each.name,
                "token": each.token,
                "bytes": each.bytes,
                "sha256": each.sha256 or None,
                "whole": not each.differences,
                "differences": [difference.value for difference in each.differences],
            }
            for each in found
        ]
        print(json.dumps({"to": where.to, "whole": are_whole, "backups": documents}, indent=2, ensure_ascii=False))
    elif found:
        rows = [(each.name, size_text(each.bytes), "; ".join(d.value for d in each.differences)) for each in found]
        print(table((("NAME", "READ", "RESULT"), *((name, size, text or "whole") for name, size, text in rows))))
    else:
        print(f"no backups in {where.to}")
    return ExitCode.SUCCESS if are_whole else ExitCode.NOT_HEALTHY


def reading_progress(name: str, size: int) -> Callable[[int], None]:
    """Returns a function that shows how many bytes were read: in one line of a terminal, else in a line at times."""
    on_terminal = sys.stderr.isatty()
    shown = time.monotonic()

    def show(count: int) -> None:
        nonlocal shown
        if time.monotonic() - shown < (0.2 if on_terminal else PROGRESS_SECONDS) and count != size:
            return
        shown = time.monotonic()
        line = f"{name}: {size_text(count)} of {size_text(size) if size >= 0 else 'unknown size'}"
        if on_terminal:
            print(f"\r{line}\x1b[K" + ("\n" if count == size else ""), end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    return show


# --- keep ---


def run_keep(options: argparse.Namespace) -> ExitCode:
    """Marks a backup, so that no run deletes it, or takes the mark away.

    Args:
        options: The global ones, those of the store, `name` and `undo`.
    """
    from etcd_cluster.backup.catalog import MARK

    where = source(options)
    with opened(where) as folder:
        backup = find(folder, where, options.name)
        if options.undo and backup.marked:
            folder.delete(backup.token, f"{backup.name}.{MARK}")
        elif not options.undo and not backup.marked:
            folder.put(backup.token, f"{backup.name}.{MARK}", f"{rfc3339(datetime.now(timezone.utc))}\n")
    if options.undo:
        print(f"{backup.name} is kept no longer than others")
    else:
        print(f"{backup.name} is kept until `etcd-cluster backup keep {backup.name} --undo`")
    return ExitCode.SUCCESS


STORE_OPTIONS = (
    Option(
        "--to",
        "the store, where the stack does not know it: s3://BUCKET/PREFIX, as in backup.to (default: the stack's)",
        {"metavar": "URL", "default": None},
    ),
    Option("--endpoint", "with --to: URL of a store that speaks S3's protocol", {"metavar": "URL", "default": None}),
    Option("--region", "with --to: region of the bucket", {"metavar": "REGION", "default": None}),
    Option(
        "--encryption-password-file",
        "with --to: a file with backup.encryptionPassword, if backups are encrypted",
        {"metavar": "FILE", "default": None},
    ),
)
NAME = Option(
    "name", "a backup, as `list` shows it, or `latest`; TOKEN/NAME for another cluster's", {"metavar": "NAME"}
)
EXIT_CODES = """\

exit codes:
  0  done
  1  {failure}
  2  no answer: a wrong option, no such stack or backup, a store that cannot be read"""

COMMANDS = CommandGroup(
    name="backup",
    summary="make a backup; list, verify, test and mark those in the store",
    description="""\
Looks after the backups of a cluster. Timers on its machines make them; `now` makes one more. `list`, `verify`
and `keep` read the store from this machine, so they work for a cluster that is gone.""",
    commands=(
        Command(
            name="now",
            summary="make a backup at once",
            description="""\
Makes a backup on the machine of one member, a healthy follower if there is one, and sends it to the store, as
its timer does. Then what is no longer kept is deleted. It costs the cluster's clients nothing.
"""
            + EXIT_CODES.format(failure="the backup could not be made, or does not restore; the reason is printed"),
            examples=(
                ("etcd-cluster backup now --stack prod", "before a risky change"),
                ("etcd-cluster backup now --test", "and restore it, to prove it"),
            ),
            options=(
                Option("--test", "also fetch it from the store and restore it", {"action": "store_true"}),
                OUTPUT,
            ),
            run=run_now,
        ),
        Command(
            name="list",
            summary="the backups in the store, and which of them the next run deletes",
            description=f"""\
Lists the backups of a cluster, the newest first.

{IN_THE_STORE}

columns:
  AGE       since the time in its name, which is UTC
  REVISION  etcd's revision that it holds
  MEMBER    the member that took it
  TEST      passed: it was restored from the store, and held the same keys; failed, with the reason below
  NEXT RUN  keeps, and by which part of backup.keep: last, daily, weekly; tested: the newest that passed a
            restore; marked: by `keep`. Or deletes
  damaged, unfinished  below the table: what cannot be restored, and data without a manifest""",
            examples=(
                ("etcd-cluster backup list --stack prod", "a table"),
                ("etcd-cluster backup list --all --output json", "every cluster in the store, for programs"),
                ("etcd-cluster backup list --to s3://BUCKET/PREFIX", "without a stack"),
            ),
            options=(
                Option("--all", "every cluster that has backups in the store", {"action": "store_true"}),
                *STORE_OPTIONS,
                OUTPUT,
            ),
            run=run_list,
        ),
        Command(
            name="verify",
            summary="read backups back from the store, and compare them with their sums",
            description=f"""\
Reads the data of a backup whole, keeps nothing of it, and compares its size and SHA-256 with the manifest, and
with the SHA-256 that etcd wrote at its end. That it restores is what `test` shows.

{IN_THE_STORE}
"""
            + EXIT_CODES.format(failure="a backup differs from what was stored"),
            examples=(
                ("etcd-cluster backup verify latest --stack prod", "the newest"),
                ("etcd-cluster backup verify --all-backups", "all of this cluster"),
            ),
            options=(
                Option(NAME.name, NAME.help, {**NAME.settings, "nargs": "?", "default": None}),
                Option("--all-backups", "all backups of the cluster", {"action": "store_true"}),
                *STORE_OPTIONS,
                OUTPUT,
            ),
            run=run_verify,
        ),
        Command(
            name="test",
            summary="restore a backup beside a member, and compare all keys",
            description="""\
Has the machine of one member fetch a backup from the store, restore it, start etcd on it where only that machine
reaches it, and compare revision and keys with what the members held. The cluster is not touched. The result is
written beside the backup.
"""
            + EXIT_CODES.format(failure="it does not restore, or holds other keys; the reason is printed"),
            examples=(("etcd-cluster backup test latest --stack prod", "the newest"),),
            options=(NAME, OUTPUT),
            run=run_test,
        ),
        Command(
            name="keep",
            summary="mark a backup, so that it is never deleted",
            description=f"""\
Marks a backup: no run deletes it, whatever backup.keep says, until `--undo`.

{IN_THE_STORE}""",
            examples=(
                ("etcd-cluster backup keep 20261127T100000Z-5000-etcd-1 --stack prod", "for good"),
                ("etcd-cluster backup keep 20261127T100000Z-5000-etcd-1 --undo", "as others again"),
            ),
            options=(NAME, Option("--undo", "take the mark away", {"action": "store_true"}), *STORE_OPTIONS),
            run=run_keep,
        ),
    ),
)
