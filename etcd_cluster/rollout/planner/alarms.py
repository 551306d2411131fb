"""Handles the quota of the database, and the alarms that etcd raises. While an alarm stands, writes fail."""

from __future__ import annotations

import math
from collections.abc import Mapping

from etcd_cluster.etcd.sizes import MIB
from etcd_cluster.member.lines import Membership, MembershipChange
from etcd_cluster.rollout.observed import Alarm, Host, Observation
from etcd_cluster.rollout.planner import quorum
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    Action,
    ActionKind,
    Details,
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


def kinds(view: ClusterView) -> list[str]:
    """Returns the kinds of the standing alarms."""
    return sorted({alarm.kind for alarm in view.observation.alarms or ()})


def of_kind(view: ClusterView, kind: str) -> list[Alarm]:
    """Returns the standing alarms of one kind."""
    return [alarm for alarm in view.observation.alarms or () if alarm.kind == kind]


def require_room(view: ClusterView) -> None:
    """Raises `RefusedError` if a database has passed the desired quota, or is about to.

    Each member that restarts with that quota would end the writes of the whole cluster. This is a precondition of every
    change. What the alarm NOSPACE needs of a larger quota is for space.py.
    """
    refused = no_room(view.hosts, view.desired.quota, is_full=False)
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
    largest, name = max(((database_of(host), name) for name, host in hosts.items()), default=(0, ""))
    if largest > ROOM * quota:
        details = {
            "member": name,
            "database": mib(largest),
            "quota_bytes": quota,
            "quota": mib(quota),
            "least": mib(largest / ROOM),
        }
        return RefusedError(Refusal.QUOTA_TOO_SMALL, details)
    return None


def crowded(view: ClusterView) -> list[str]:
    """Returns the members whose databases have no room in the quota that they run with."""
    return [name for name in view.hosts if database(view, name) > ROOM * quota(view, name)]


def nearly_full(observation: Observation) -> list[Details]:
    """Returns, for the warning of each, the databases that have no room in the quota that their members run with."""
    return [
        {"member": name, "database": mib(database_of(host)), "quota": mib(host.quota_bytes)}
        for name, host in observation.hosts.items()
        if host.quota_bytes and database_of(host) > ROOM * host.quota_bytes
    ]


def standing(view: ClusterView) -> WaitFor | None:
    """Returns the wait while it is unknown whether an alarm stands; None if there is none.

    An `up` does not end well while an alarm stands.

    Precondition: nothing else is left to do, and what ends the alarms NOSPACE and CORRUPT came before.

    Raises:
        RefusedError: An alarm stands that cannot be ended here.
    """
    if view.observation.alarms is None:
        source = view.observation.status_source
        return WaitFor(WaitReason.ALARMS_UNKNOWN, HEALTH_SECONDS, source, {"source": source})
    if not view.observation.alarms:
        return None
    raise RefusedError(Refusal.ALARM_OTHER, {"alarms": kinds(view)})


def disarm(view: ClusterView, kind: ActionKind) -> Action:
    """Returns the action that ends all alarms."""
    line = Membership(MembershipChange.DISARM, CHANGE_SECONDS)
    return Action(kind, [HostStep(quorum.known(view, view.observation.status_source), line)])


def database(view: ClusterView, name: str) -> int:
    """Returns the size of a member's database, in bytes; 0 if its machine does not report it."""
    host = view.observation.hosts.get(name)
    return database_of(host) if host else 0


def database_of(host: Host) -> int:
    """Returns the size of the database on a machine, in bytes."""
    return host.live.database_bytes if host.live else host.database_bytes


def quota(view: ClusterView, name: str) -> int:
    """Returns the quota that a member runs with; the desired quota if the member does not report one."""
    return view.hosts[name].quota_bytes or view.desired.quota


def mib(number: float) -> str:
    """Returns a number of bytes as text."""
    return f"{math.ceil(number / MIB)} MiB"
