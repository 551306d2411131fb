"""Handles the quota of the database, and the alarms that etcd raises. While an alarm stands, writes fail."""

from __future__ import annotations

import math
from collections.abc import Mapping

from etcd_cluster.member.lines import Membership, MembershipChange
from etcd_cluster.rollout.observed import Alarm, Host
from etcd_cluster.rollout.planner import quorum
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    Action,
    ActionKind,
    HostStep,
    Refusal,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError

ROOM = 0.9
"""Share of the quota that a database may fill before a smaller quota is set or an alarm is ended.

The rest is for what is written next.
"""
MIB = 1024**2
FULL, CORRUPT = "NOSPACE", "CORRUPT"


def of_kind(view: ClusterView, kind: str) -> list[Alarm]:
    """Returns the standing alarms of one kind."""
    return [alarm for alarm in view.observation.alarms or () if alarm.kind == kind]


def require_room(view: ClusterView) -> None:
    """Raises `RefusedError` if a database has passed the desired quota, or is about to.

    Each member that restarts with that quota would end the writes of the whole cluster. This is a precondition of every
    change.
    """
    refused = no_room(view.hosts, view.desired.quota, is_full=bool(of_kind(view, FULL)))
    if refused is not None:
        raise refused


def no_room(hosts: Mapping[str, Host], quota: int, *, is_full: bool) -> RefusedError | None:
    """Returns why a quota is too small for the databases; None if it is not, or is no smaller than the present one.

    Args:
        hosts: Member name -> machine.
        quota: The quota, in bytes.
        is_full: The alarm NOSPACE stands, which a larger quota is to end.
    """
    quotas = [host.quota_before for host in hosts.values() if host.quota_before]
    if not any(quota < before or (is_full and quota > before) for before in quotas):
        return None
    largest, name = max(((_database_of(host), name) for name, host in hosts.items()), default=(0, ""))
    if largest > ROOM * quota:
        details = {
            "member": name,
            "database": _mib(largest),
            "quota_bytes": quota,
            "quota": _mib(quota),
            "least": _mib(largest / ROOM),
        }
        return RefusedError(Refusal.QUOTA_TOO_SMALL, details)
    return None


def corruption(view: ClusterView) -> Action | None:
    """Returns the action that ends the alarm CORRUPT of a removed member; None if no such alarm stands.

    While a member has other data than the rest, no member but the corrupt one joins, restarts or leaves.

    Raises:
        RefusedError: The alarm is of a current member, or etcd does not say of which one.
    """
    found = of_kind(view, CORRUPT)
    if not found:
        return None
    if all(alarm.id and not _name(view, alarm) for alarm in found):
        return _disarm(view, ActionKind.DISARM_CORRUPT)
    names = sorted({_name(view, alarm) for alarm in found} - {""})
    refusal = Refusal.ALARM_CORRUPT if names else Refusal.ALARM_CORRUPT_OF_UNKNOWN_MEMBER
    raise RefusedError(refusal, {"members": names})


def standing(view: ClusterView) -> Action | WaitFor | None:
    """Returns the action or wait that a standing alarm needs; None if there is no alarm.

    An `up` does not end well while an alarm stands. The alarm NOSPACE is ended once every database has room in the
    quota that its member runs with.

    Precondition: nothing else is left to do.

    Raises:
        RefusedError: An alarm stands that cannot be ended here.
    """
    if view.observation.alarms is None:
        source = view.observation.status_source
        return WaitFor(WaitReason.ALARMS_UNKNOWN, HEALTH_SECONDS, source, {"source": source})
    if not view.observation.alarms:
        return None
    crowded = [name for name in view.hosts if _database(view, name) > ROOM * _quota(view, name)]
    kinds = sorted({alarm.kind for alarm in view.observation.alarms})
    if kinds == [FULL] and not crowded:
        return _disarm(view, ActionKind.DISARM_NOSPACE)
    if kinds == [FULL]:
        name = max(crowded, key=lambda name: _database(view, name))
        database = _database(view, name)
        details = {
            "member": name,
            "database": _mib(database),
            "quota": _mib(_quota(view, name)),
            "least": _mib(database / ROOM),
        }
        raise RefusedError(Refusal.ALARM_NOSPACE, details)
    raise RefusedError(Refusal.ALARM_OTHER, {"alarms": kinds})


def _disarm(view: ClusterView, kind: ActionKind) -> Action:
    line = Membership(MembershipChange.DISARM, CHANGE_SECONDS)
    return Action(kind, [HostStep(quorum.known(view, view.observation.status_source), line)])


def _name(view: ClusterView, alarm: Alarm) -> str:
    """Returns the name of the member that raised the alarm; "" if etcd does not say, or if it is no member any more."""
    return next((member.name or member.peer_url for member in view.observation.members if member.id == alarm.id), "")


def _database(view: ClusterView, name: str) -> int:
    return _database_of(view.hosts[name])


def _database_of(host: Host) -> int:
    return host.live.database_bytes if host.live else host.database_bytes


def _quota(view: ClusterView, name: str) -> int:
    """Returns the quota that a member runs with; the desired quota if the member does not report one."""
    return view.hosts[name].quota_bytes or view.desired.quota


def _mib(number: float) -> str:
    return f"{math.ceil(number / MIB)} MiB"
