"""Makes the status of a cluster from its desired state and an observation: as types, as a table, as JSON. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from etcd_cluster.clocks import rfc3339
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.etcd.sizes import size_text
from etcd_cluster.member.render import Transport
from etcd_cluster.pki import x509
from etcd_cluster.pki.limits import PkiError
from etcd_cluster.rollout.backup_status import BackupStatus, DesiredBackups, backup_status, status_json, status_lines
from etcd_cluster.rollout.desired import DesiredCluster
from etcd_cluster.rollout.observed import FULL, Alarm, BrokenPair, Host, Observation
from etcd_cluster.rollout.planner import differences, messages, next_action, rights, users
from etcd_cluster.rollout.planner.actions import ActionKind, DriftKind, Refusal, WaitFor
from etcd_cluster.rollout.planner.alarms import database_of, mib
from etcd_cluster.rollout.planner.quorum import CAUGHT_UP_ENTRIES
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext

WIDTH = 120
_LABEL_WIDTH = 12
_NARROWEST_LAST_COLUMN = 24
_HEADINGS = ("MEMBER", "STATE", "ETCD", "DATABASE", "LAG", "DISK", "CERTIFICATES", "DRIFT")
_SAID_ELSEWHERE = frozenset({DriftKind.DOWN, DriftKind.UNHEALTHY, DriftKind.LEARNER, DriftKind.BROKEN_PAIR})
_RED, _YELLOW = "31", "33"
_BACKUPS = "backups"
_USERS = "users"
_NO_BACKUPS = "none: wherever the data is, it can be lost; set backup.to"


class State(Enum):
    """The state of a member. Only the first two are the desired ones."""

    LEADER = "leader"
    FOLLOWER = "follower"
    LEARNER = "learner"
    UNHEALTHY = "not healthy"
    LEADERLESS = "no leader"
    UNKNOWN = "unknown"
    DOWN = "down"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class CASchedule:
    """When a CA that Pulumi made is rotated by age, and when the one before it is dropped: RFC 3339, "" for none."""

    rotate_after: str = ""
    drop_after: str = ""


Schedules = Mapping[Transport, CASchedule]
"""Transport -> schedule of its CA, if Pulumi made it."""
_NO_SCHEDULE = CASchedule()
_LABELS = {Transport.CLIENT: "CA", Transport.PEER: "peer CA"}


@dataclass(frozen=True)
class MemberStatus:
    """The status of one member.

    Args:
        name: Its name.
        state: Its state.
        version: Version of etcd that runs; None if the member gives no answer.
        database_bytes: Size of its database; None if the member gives no answer.
        share_of_quota: Share of the quota that the database takes, 1 for all of it; None if the member gives no answer.
        behind: Entries of raft's log that others have and it had not applied, which includes entries from between two
            observations; None if the member gives no answer.
        disk: Used and all bytes of the file system with its data; None if unknown.
        certificates_until: The earlier end of its two certificates; None without any.
        certificates_due: A certificate is due for renewal.
        drift: How it differs from the desired state.
        unreachable: Why its machine could not be asked; "" if it was.
    """

    name: str
    state: State
    version: str | None
    database_bytes: int | None
    share_of_quota: float | None
    behind: int | None
    disk: tuple[int, int] | None
    certificates_until: datetime | None
    certificates_due: bool
    drift: Sequence[str]
    unreachable: str

    @property
    def is_well(self) -> bool:
        """True if the member serves as a voter, without drift."""
        return self.state in (State.LEADER, State.FOLLOWER) and not self.drift


@dataclass(frozen=True)
class ClusterStatus:
    """The status of the whole cluster.

    Args:
        cluster: PROJECT/STACK/NAME.
        version: Desired version of etcd.
        tls: Whether clients and members are to speak TLS.
        id: Id of the cluster, hexadecimal, as in etcd's log; "" if no member can answer for the cluster.
        now: The time of the observation.
        endpoints: Client URLs.
        members: The status of each member.
        quota_bytes: Desired quota of the database.
        alarms: Standing alarms.
        broken_pairs: Running members that do not reach one another.
        cas_until: Transport -> ends of the trusted CAs, newest CA first.
        schedules: Transport -> schedule of its CA.
        next: What `up` would do first, with an unchanged stack; empty for nothing.
        backups: How its backups stand; None for a cluster without any.
        data_of: Id of the cluster that all data are of, by etcd's own logs; "" if they differ, or are unreadable.
        user_warnings: What somebody else made of etcd's users and its authentication.
        locked_out: Members that authentication which somebody else turned on keeps from changing the cluster.
    """

    cluster: str
    version: str
    tls: bool
    id: str
    now: datetime
    endpoints: Sequence[str]
    members: Sequence[MemberStatus]
    quota_bytes: int
    alarms: Sequence[str]
    broken_pairs: Sequence[BrokenPair]
    cas_until: Mapping[Transport, Sequence[datetime]]
    schedules: Schedules
    next: Sequence[str]
    backups: BackupStatus | None = None
    data_of: str = ""
    user_warnings: Sequence[str] = ()
    locked_out: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """True if members are well and reach one another, no alarm stands, backups are in order, and `up` is idle.

        Also, no member is locked out: else `up` would be idle and could change nothing.
        """
        are_well = all(member.is_well for member in self.members)
        has_backups = self.backups is None or not self.backups.problems
        is_idle = not self.next and not self.locked_out
        return are_well and has_backups and not self.broken_pairs and not self.alarms and is_idle


def cluster_status(
    desired: DesiredCluster,
    observation: Observation,
    schedules: Schedules,
    now: datetime,
    backups: DesiredBackups | None = None,
) -> ClusterStatus:
    """Returns the status of the cluster."""
    members = [_member(desired, observation, name, now) for name in desired.members]
    warnings = users.user_warnings(desired, observation, observation.authentication)
    return ClusterStatus(
        cluster=desired.cluster,
        version=desired.version,
        tls=desired.tls,
        id=observation.cluster_id,
        now=now,
        endpoints=[member.member.client_url(desired.tls) for member in desired.members.values()],
        members=members,
        quota_bytes=desired.quota,
        alarms=_alarms(observation),
        broken_pairs=observation.broken_pairs,
        cas_until={
            transport: [x509.validity_of(ca).not_after for ca in trusted]
            for transport, trusted in desired.trust.items()
        },
        schedules=schedules,
        next=[*_next(desired, observation), *_due(desired, members, schedules, now)],
        data_of=_data_of(observation),
        user_warnings=[messages.text(*each) for each in warnings],
        locked_out=rights.denied(desired, observation) if desired.users is None else (),
        backups=backup_status(backups, observation, desired.by_systemd, now) if backups else None,
    )


def _data_of(observation: Observation) -> str:
    found = {host.data_of for host in observation.hosts.values() if host.data}
    return found.pop() if len(found) == 1 else ""


def _member(desired: DesiredCluster, observation: Observation, name: str, now: datetime) -> MemberStatus:
    host = observation.hosts.get(name)
    live = host.live if host else None
    ends = [x509.validity_of(pem) for pem in _certificates(desired, host, name)] if host else []
    return MemberStatus(
        name=name,
        state=_state(observation, name),
        version=(host.running or None) if host else None,
        database_bytes=live.database_bytes if live else None,
        share_of_quota=live.database_bytes / desired.quota if live else None,
        behind=max(0, observation.index - live.applied) if live else None,
        disk=(host.disk_bytes - host.disk_free_bytes, host.disk_bytes) if host and host.disk_bytes else None,
        certificates_until=min((each.not_after for each in ends), default=None),
        certificates_due=any(now >= each.renewal and each.not_after not in _ends_of_cas(desired) for each in ends),
        drift=_found_drift(desired, observation, name) if host else [],
        unreachable=observation.unreachable.get(name, ""),
    )


def _found_drift(desired: DesiredCluster, observation: Observation, name: str) -> list[str]:
    found = differences(desired, observation, name)
    return [messages.describe(drift) for drift in found if drift.kind not in _SAID_ELSEWHERE]


def _state(observation: Observation, name: str) -> State:
    host = observation.hosts.get(name)
    if host is None:
        return State.UNREACHABLE
    if not host.pid:
        return State.DOWN
    if host.live and host.live.learner:
        return State.LEARNER
    if host.live and not host.live.has_leader:
        return State.LEADERLESS
    if not observation.is_healthy(name):
        return State.UNHEALTHY if host.live else State.UNKNOWN
    return State.LEADER if name == observation.leader else State.FOLLOWER


def _certificates(desired: DesiredCluster, host: Host, name: str) -> Iterator[str]:
    """Yields the readable certificates on the machine. A certificate that differs from the stack's shows as drift."""
    pki = desired.members[name].layout.pki
    for side in ("server", "peer"):
        found = host.files.get(f"{pki}/{side}.crt")
        try:
            yield from x509.split_bundle(found.content)[:1] if found else ()
        except PkiError:
            continue


def _ends_of_cas(desired: DesiredCluster) -> set[datetime]:
    """Returns the ends of the trusted CAs.

    A certificate that ends with its CA is not renewed: that would gain nothing.
    """
    return {x509.validity_of(ca).not_after for trusted in desired.trust.values() for ca in trusted}


def _alarms(observation: Observation) -> list[str]:
    if observation.alarms is None:
        return ["unknown: `etcdctl alarm list` gets no answer"]
    return [_alarm(alarm, observation) for alarm in observation.alarms]


def _alarm(alarm: Alarm, observation: Observation) -> str:
    """Returns an alarm with its member's name, if etcd says which member it is, and with the sizes that raised it."""
    name = next((member.name for member in observation.members if member.id == alarm.id), alarm.id)
    host = observation.hosts.get(name)
    sizes = f" ({mib(database_of(host))} of a quota of {mib(host.quota_bytes)})" if host and host.quota_bytes else ""
    return f"{alarm.kind} on {name}{sizes if alarm.kind == FULL else ''}" if name else alarm.kind


def _next(desired: DesiredCluster, observation: Observation) -> list[str]:
    if observation.unreachable:
        names = [*observation.unreachable]  # the reasons have lines of their own
        return [f"refused: {messages.explain(Refusal.UNREACHABLE, {'unreachable': names})}"]
    try:
        action = next_action(desired, observation, RunContext(users_before=desired.users))
    except EtcdClusterError as error:
        return [f"refused: {error.explanation if isinstance(error, RefusedError) else error}"]
    if isinstance(action, WaitFor):
        return [f"waits for {action.seconds} s at most, then ends: {messages.describe(action)}"]
    return [messages.describe(action)] if action else []


def _due(
    desired: DesiredCluster, members: Sequence[MemberStatus], schedules: Schedules, now: datetime
) -> Iterator[str]:
    due = [member.name for member in members if member.certificates_due]
    if due:
        yield f"{', '.join(due)}: {messages.text(ActionKind.RENEW_CERTIFICATES, {})}"
    moment = rfc3339(now)
    for transport in Transport:
        schedule, which = schedules.get(transport, _NO_SCHEDULE), _LABELS[transport]
        if "" < schedule.drop_after <= moment:
            yield f"{', '.join(desired.members)}: dropping the old {which}, whose overlap with the new one has ended"
        elif not schedule.drop_after and "" < schedule.rotate_after <= moment:
            yield f"{', '.join(desired.members)}: rotating the {which}: one third of its validity is left"


# --- for programs ---


def as_json(status: ClusterStatus) -> dict[str, Any]:
    """Returns the status as plain values. Times are RFC 3339."""
    return {
        "cluster": status.cluster,
        "ok": status.ok,
        "id": status.id,
        "dataOf": status.data_of,
        "version": status.version,
        "tls": status.tls,
        "endpoints": list(status.endpoints),
        "leader": next((member.name for member in status.members if member.state is State.LEADER), None),
        "members": {member.name: _member_as_json(member) for member in status.members},
        "quotaBytes": status.quota_bytes,
        "alarms": list(status.alarms),
        "brokenPairs": [vars(pair) for pair in status.broken_pairs],
        **_ca_as_json(status, Transport.CLIENT, "casUntil", "caRotatesAfter", "caOverlapUntil"),
        **_ca_as_json(status, Transport.PEER, "peerCasUntil", "peerCaRotatesAfter", "peerCaOverlapUntil"),
        "backups": status_json(status.backups) if status.backups else None,
        "userWarnings": list(status.user_warnings),
        "lockedOut": list(status.locked_out),
        "next": list(status.next),
    }


def _ca_as_json(
    status: ClusterStatus, transport: Transport, until: str, rotates_after: str, overlap_until: str
) -> dict[str, Any]:
    schedule = status.schedules.get(transport, _NO_SCHEDULE)
    return {
        until: [rfc3339(each) for each in status.cas_until[transport]],
        rotates_after: schedule.rotate_after or None,
        overlap_until: schedule.drop_after or None,
    }


def _member_as_json(member: MemberStatus) -> dict[str, Any]:
    used, size = member.disk or (None, None)
    return {
        "state": member.state.value,
        "well": member.is_well,
        "version": member.version,
        "databaseBytes": member.database_bytes,
        "entriesBehind": member.behind,
        "diskUsedBytes": used,
        "diskBytes": size,
        "certificatesUntil": rfc3339(member.certificates_until) if member.certificates_until else None,
        "certificatesDue": member.certificates_due,
        "drift": list(member.drift),
        "unreachable": member.unreachable or None,
    }


# --- for people ---


def as_text(status: ClusterStatus, *, colours: bool = False) -> str:
    """Returns a headline, one row a member, then what concerns all of them.

    No line is wider than `WIDTH`, except for names.
    """
    lines = [headline(status), "", *_table(status, colours), ""]
    for label, texts in notes(status).items():
        is_wrong = (label == _BACKUPS and status.backups is not None and bool(status.backups.problems)) or (
            label == _USERS and bool(status.locked_out)
        )
        for number, text in enumerate(texts):
            wrapped = _wrapped(text, f"{'' if number else label:<{_LABEL_WIDTH}}")
            lines += [_coloured(line, _RED) for line in wrapped] if colours and is_wrong else wrapped
    return "\n".join(line.rstrip() for line in lines)


def headline(status: ClusterStatus) -> str:
    """Returns the whole in one line."""
    members, healthy = status.members, [m for m in status.members if m.state in (State.LEADER, State.FOLLOWER)]
    drifted = [member.name for member in members if member.drift]
    count = "1 member" if len(members) == 1 else f"{len(members)} members"
    how = "healthy" if len(members) == 1 else "all healthy"
    if len(healthy) < len(members):
        how = f"{len(healthy)} of them healthy"
    elif status.broken_pairs:
        how = "not all reach one another"
    seen_all = all(member.state is not State.UNREACHABLE for member in members)
    drift = f"drift on {', '.join(drifted)}" if drifted else "no drift" if seen_all else "no drift elsewhere"
    return f"{status.cluster}: etcd {status.version}, {count}, {how}, {drift}"


def _table(status: ClusterStatus, colours: bool) -> list[str]:
    """Returns the table of members. Drift takes as many lines as it needs, in the last column."""
    rows = [_HEADINGS, *(_cells(member, status.now) for member in status.members)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    left = sum(widths) + 2 * len(widths)
    room = max(WIDTH - left, _NARROWEST_LAST_COLUMN)
    lines: list[str] = []
    for number, row in enumerate(rows):
        member = status.members[number - 1] if number else None
        last = [row[-1]] if member is None else drift_texts(member)
        pieces = [piece for each in last for piece in textwrap.wrap(each, room, subsequent_indent="  ")]
        cells = [_aligned(column, cell, width) for column, (cell, width) in enumerate(zip(row, widths, strict=False))]
        if colours and member is not None:
            cells[1] = _coloured(cells[1], _colour_of(member.state))
            pieces = [_coloured(piece, _YELLOW if member.drift else "") for piece in pieces]
        lines.append("  ".join([*cells, pieces[0]]))
        lines += [" " * left + piece for piece in pieces[1:]]
    return lines


def _cells(member: MemberStatus, now: datetime) -> tuple[str, ...]:
    database = disk = certificates = "-"
    if member.database_bytes is not None and member.share_of_quota is not None:
        database = f"{size_text(member.database_bytes)} ({member.share_of_quota:.0%})"
    if member.disk is not None:
        used, size = member.disk
        disk = f"{used / size:.0%}"
    if member.certificates_until is not None:
        days = (member.certificates_until - now).days
        left = "expired" if days < 0 else f"{days} days{', due' if member.certificates_due else ''}"
        certificates = f"{member.certificates_until:%Y-%m-%d} ({left})"
    lag = "-" if member.behind is None else "none" if member.behind <= CAUGHT_UP_ENTRIES else str(member.behind)
    return (member.name, member.state.value, member.version or "-", database, lag, disk, certificates, "")


def drift_texts(member: MemberStatus) -> list[str]:
    """Returns the drift of a member, with each file's name instead of its path: the name shows what it is for."""
    if member.state is State.UNREACHABLE:
        return ["unknown"]
    return [re.sub(r"^/\S*/", "", each) for each in member.drift] or ["none"]


def notes(status: ClusterStatus) -> Mapping[str, Sequence[str]]:
    """Returns label -> texts."""
    unreachable = [f"{member.name}: {member.unreachable}" for member in status.members if member.unreachable]
    notes = {
        "unreachable": unreachable,
        "peers": [f"{pair.member} does not reach {pair.peer} at its peer port" for pair in status.broken_pairs],
        "cluster id": [status.id or _id_of_data(status)],
        "endpoints": ["  ".join(status.endpoints)],
        _USERS: [each.removeprefix("warning: ") for each in status.user_warnings],
        "quota": [f"{size_text(status.quota_bytes)} for the database; once it is full, etcd takes no more writes"],
        "alarms": status.alarms or (["none"] if status.id else ["unknown"]),
        **{label: _ca(status, transport) for transport, label in _LABELS.items()},
        _BACKUPS: status_lines(status.backups, status.now) if status.backups else [_NO_BACKUPS],
        "next up": status.next or ["nothing to do"],
    }
    return {label: texts for label, texts in notes.items() if texts}


def _id_of_data(status: ClusterStatus) -> str:
    if status.data_of:
        return f"{status.data_of}, by the data that are there: no member leads"
    return "unknown: no member leads, so none can answer for the cluster"


def _ca(status: ClusterStatus, transport: Transport) -> list[str]:
    schedule = status.schedules.get(transport, _NO_SCHEDULE)
    if not status.cas_until[transport]:
        return ["none: no TLS"] if transport is Transport.CLIENT else []
    newest, *others = status.cas_until[transport]
    text = f"until {newest:%Y-%m-%d} ({(newest - status.now).days} days)"
    if schedule.drop_after:
        return [f"{text}; the one before it is trusted until the first `up` after {schedule.drop_after}"]
    if others:
        ends = ", ".join(f"{each:%Y-%m-%d}" for each in others)
        return [f"{text}; trusted besides: {len(others)} more, until {ends}"]
    rotates = f"; rotated by the first `up` after {schedule.rotate_after[:10]}"
    return [text + (rotates if schedule.rotate_after else "")]


def _wrapped(text: str, label: str) -> list[str]:
    indent = " " * len(label)
    return textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _aligned(column: int, cell: str, width: int) -> str:
    return f"{cell:>{width}}" if _HEADINGS[column] in ("DATABASE", "LAG", "DISK") else f"{cell:<{width}}"


def _colour_of(state: State) -> str:
    if state in (State.LEADER, State.FOLLOWER):
        return ""
    return _YELLOW if state is State.LEARNER else _RED


def _coloured(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text
