"""`etcd-cluster backup`: makes a backup; reads, proves and marks those in the store, also of a lost cluster."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.backup_list import run_list
from etcd_cluster.cli.backup_store import (
    IN_THE_STORE,
    STORE_OPTIONS,
    find,
    opened,
    reading_progress,
    recorded,
    recorded_source,
    source,
)
from etcd_cluster.cli.clusters import with_few_attempts
from etcd_cluster.cli.command import OUTPUT, Command, CommandError, CommandGroup, ExitCode, Option
from etcd_cluster.cli.members import table
from etcd_cluster.cli.signals import interruptible
from etcd_cluster.clocks import current_time, rfc3339
from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.sizes import size_text

if TYPE_CHECKING:
    from etcd_cluster.backup.verification import Verification
    from etcd_cluster.member.lines import BackUp
    from etcd_cluster.rollout.machines import ClusterMachines

# --- now, test: on a machine ---


def run_now(options: argparse.Namespace) -> ExitCode:
    """Makes a backup, on the machine of one member.

    Args:
        options: The global ones, `test` and `output`.
    """
    from etcd_cluster.member.lines import BackUp

    props = recorded(options)
    return _on_a_machine(options, props, BackUp(now=True, test=options.test))


def run_test(options: argparse.Namespace) -> ExitCode:
    """Restores a backup, on the machine of one member, and compares all keys.

    Args:
        options: The global ones, `name` and `output`.
    """
    from etcd_cluster.member.lines import BackUp

    props = recorded(options)
    where = recorded_source(props)
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


# --- verify ---


def run_verify(options: argparse.Namespace) -> ExitCode:
    """Reads backups back from the store and compares them.

    Args:
        options: The global ones, those of the store, `name`, `all_backups` and `output`.
    """
    from etcd_cluster.backup.catalog import read_catalogs
    from etcd_cluster.backup.verification import verify

    if options.name == "" or (options.name is None) == (not options.all_backups):
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
            folder.put(backup.token, f"{backup.name}.{MARK}", f"{rfc3339(current_time())}\n")
    if options.undo:
        print(f"{backup.name} is kept no longer than others")
    else:
        print(f"{backup.name} is kept until `etcd-cluster backup keep {backup.name} --undo`")
    return ExitCode.SUCCESS


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
  AGE       since the time in its name, which is UTC; ahead: that is still to come, as a clock was wrong
  REVISION  etcd's revision that it holds
  MEMBER    the member that took it
  TEST      passed: it was restored from the store, and held the same keys; restored: there was no hash of the
            members to compare keys with; failed, with the reason below; differed: members held different keys
            when it was made, so no test can prove it
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
