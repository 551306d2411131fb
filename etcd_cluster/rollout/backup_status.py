"""Judges the backups of a cluster by what its machines report of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from etcd_cluster.backup.arguments import TEST_SECONDS, interval_seconds
from etcd_cluster.backup.catalog import CLOCK_SLACK, parse_slot
from etcd_cluster.clocks import length_text, rfc3339
from etcd_cluster.rollout.observed import Host, Observation

MOST_INTERVALS = 2
"""A backup, or a test, is late once the one before is older than that many intervals."""


@dataclass(frozen=True)
class DesiredBackups:
    """Where and when backups are to be made, as the stack has it.

    Args:
        to: The store.
        every: Time between two backups, as the user wrote it.
        every_seconds: The same in seconds.
        test: daily, weekly or never.
    """

    to: str
    every: str
    every_seconds: int
    test: str

    @staticmethod
    def parse(properties: Mapping[str, Any]) -> DesiredBackups:
        """Reads them from "to" (default ""), "every" and "test"."""
        every = properties["every"]
        return DesiredBackups(properties.get("to", ""), every, interval_seconds(every), properties["test"])


class BackupProblemKind(Enum):
    """What is wrong with the backups."""

    NO_TIMER = "no timer"
    FAILED = "failed"
    NONE = "none"
    LATE = "late"
    UNTESTED = "untested"


@dataclass(frozen=True)
class BackupProblem:
    """One thing that is wrong.

    Args:
        kind: What.
        members: The members concerned.
        detail: Why, in a machine's own words; or how old the last one is.
    """

    kind: BackupProblemKind
    members: Sequence[str] = ()
    detail: str = ""


@dataclass(frozen=True)
class BackupStatus:
    """How the backups stand.

    Args:
        desired: Where and when they are to be made.
        by_timer: Timers make them; False on platform local, where people do.
        name: Name of the newest; "" for none.
        newest: Its time; None for none, or if no machine knows.
        tested: The time of the newest that has passed a restore; None for none, or if no machine knows.
        next_run: When a timer makes the next one; None if no machine says.
        problems: What is wrong.
    """

    desired: DesiredBackups
    by_timer: bool
    name: str
    newest: datetime | None
    tested: datetime | None
    next_run: datetime | None
    problems: Sequence[BackupProblem]


def backup_status(desired: DesiredBackups, observation: Observation, by_timer: bool, now: datetime) -> BackupStatus:
    """Returns how the backups stand.

    Args:
        desired: Where and when they are to be made.
        observation: What the machines report.
        by_timer: Timers make them.
        now: The time.
    """
    reports = [host.backups for host in observation.hosts.values() if host.backups]
    name = _latest((each.newest for each in reports), now)
    newest, tested = parse_slot(name), parse_slot(_latest((each.tested for each in reports), now))
    next_run = min((each.next_run for each in reports if each.next_run), default=0)
    problems = [*_failures(observation.hosts)]
    if by_timer:
        stopped = [
            name for name, host in observation.hosts.items() if host.backups is None or not host.backups.has_timer
        ]
        problems = [BackupProblem(BackupProblemKind.NO_TIMER, stopped)] if stopped else []
        problems += _failures(observation.hosts)
        problems += _late(desired, newest, tested, now, has_run=any(each.attempt for each in reports))
    return BackupStatus(
        desired=desired,
        by_timer=by_timer,
        name=name,
        newest=newest,
        tested=tested,
        next_run=datetime.fromtimestamp(next_run, timezone.utc) if next_run else None,
        problems=problems,
    )


def _latest(names: Iterable[str], now: datetime) -> str:
    found = ((parse_slot(name), name) for name in names)
    return max((name for slot, name in found if slot and slot <= now + CLOCK_SLACK), default="")


def _failures(hosts: Mapping[str, Host]) -> Iterator[BackupProblem]:
    for name, host in hosts.items():
        if host.backups and host.backups.failure:
            yield BackupProblem(BackupProblemKind.FAILED, [name], host.backups.failure)


def _late(
    desired: DesiredBackups, newest: datetime | None, tested: datetime | None, now: datetime, *, has_run: bool
) -> Iterator[BackupProblem]:
    """Yields what is late. Of a cluster that has just got its timers, nothing is."""
    if newest is None:
        if has_run:
            yield BackupProblem(BackupProblemKind.NONE)
        return
    if now - newest > timedelta(seconds=MOST_INTERVALS * desired.every_seconds):
        yield BackupProblem(BackupProblemKind.LATE, detail=length_text(now - newest))
    between = TEST_SECONDS.get(desired.test)
    if between and tested is None:
        yield BackupProblem(BackupProblemKind.UNTESTED)
    elif between and tested and now - tested > timedelta(seconds=MOST_INTERVALS * between):
        yield BackupProblem(BackupProblemKind.UNTESTED, detail=length_text(now - tested))


def problem_text(problem: BackupProblem, desired: DesiredBackups) -> str:
    """Returns a problem in words, with what to do."""
    members = ", ".join(problem.members)
    if problem.kind is BackupProblemKind.FAILED:
        return failure_text(members, problem.detail)
    if problem.kind is BackupProblemKind.NO_TIMER:
        return f"{members}: no timer makes backups there; the next `up` sets it up"
    if problem.kind is BackupProblemKind.NONE:
        return "none was made yet, though a timer ran; run `etcd-cluster backup now`, which says why"
    if problem.kind is BackupProblemKind.LATE:
        late = f"late: the newest is {problem.detail} old, and one is made every {desired.every}"
        return f"{late}; run `etcd-cluster backup now`"
    last = f"the last test is {problem.detail} old" if problem.detail else "none was tested"
    return f"{last}, and one is tested {desired.test}; run `etcd-cluster backup test latest`"


def failure_text(member: str, failure: str) -> str:
    """Returns that the last run on a machine failed, with its own words."""
    return f"{member}: its last backup failed: {failure}"


def warnings(desired: DesiredBackups, observation: Observation, by_timer: bool, now: datetime) -> list[str]:
    """Returns a line for each problem that an `up` does not fix itself. It has observed the machines anyway.

    Args:
        desired: When backups are to be made.
        observation: What the machines report.
        by_timer: Timers make them.
        now: The time.
    """
    problems = backup_status(desired, observation, by_timer, now).problems
    left = [each for each in problems if each.kind is not BackupProblemKind.NO_TIMER]
    return [f"warning: backups: {problem_text(each, desired)}" for each in left]


def status_lines(status: BackupStatus, now: datetime) -> list[str]:
    """Returns what people read: one line, then one for each problem."""
    newest = f"newest {length_text(now - status.newest)} ago" if status.newest else "none yet"
    parts = [f"{status.desired.to}, {f'every {status.desired.every}' if status.by_timer else 'by hand'}", newest]
    if status.tested:
        parts.append(f"tested {length_text(now - status.tested)} ago")
    if status.next_run:
        parts.append(f"next in {length_text(status.next_run - now)}")
    elif not status.by_timer:
        parts.append("next: `etcd-cluster backup now`")
    return ["; ".join(parts), *(problem_text(each, status.desired) for each in status.problems)]


def status_json(status: BackupStatus) -> dict[str, Any]:
    """Returns the same for programs."""
    return {
        "to": status.desired.to,
        "every": status.desired.every if status.by_timer else None,
        "newest": status.name or None,
        "newestTime": _time(status.newest),
        "testedTime": _time(status.tested),
        "nextRun": _time(status.next_run),
        "ok": not status.problems,
        "problems": [problem_text(each, status.desired) for each in status.problems],
    }


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
