"""Handles the quota of the database, and the alarms that etcd raises. While an alarm stands, writes fail."""

from __future__ import annotations

import math

from etcd_cluster.member.lines import Membership, MembershipChange
from etcd_cluster.rollout.observed import Alarm
from etcd_cluster.rollout.planner import quorum
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    HEALTH_SECONDS,
    Action,
    ActionKind,
    HostStep,
    RefusedError,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView

ROOM = 0.9
"""Share of the quota that a database may fill before a smaller quota is set or an alarm is ended.

The rest is for what is written next.
"""
MIB = 1024**2
FULL, CORRUPT = "NOSPACE", "CORRUPT"

SMALLER = (
    "or make the database smaller: compact, then defragment each member (docs/change-settings.md has the commands)"
)


def of_kind(view: ClusterView, kind: str) -> list[Alarm]:
    """Returns the standing alarms of one kind."""
    return [alarm for alarm in view.observation.alarms or () if alarm.kind == kind]


def require_room(view: ClusterView) -> None:
    """Raises `RefusedError` if a database has passed the desired quota, or is about to.

    Each member that restarts with that quota would end the writes of the whole cluster. This is a precondition of every
    change.
    """
    quota, is_full = view.desired.quota, bool(of_kind(view, FULL))
    quotas = [host.quota_before for host in view.hosts.values() if host.quota_before]
    if not any(quota < before or (is_full and quota > before) for before in quotas):
        return
    largest, name = max(((_database(view, name), name) for name in view.hosts), default=(0, ""))
    if largest > ROOM * quota:
        raise RefusedError(
            f"quota-backend-bytes: {quota} ({_mib(quota)}): the database of {name} has {_mib(largest)}, and once a "
            "database has passed its quota, etcd takes no more writes. Expected is a quota of at least "
            f"{_mib(largest / ROOM)}; nothing more was changed. Ask for that (`etcd`, or a larger `size`), {SMALLER}; "
            "then run again"
        )


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
    names = ", ".join(sorted({_name(view, alarm) for alarm in found} - {""}))
    which = names or "a member (`etcdctl endpoint hashkv --cluster` shows which: the hash that only one has)"
    raise RefusedError(
        f"etcd's alarm CORRUPT stands: the data of {which} differ from the others', and every write is refused. "
        "Expected is the same data on all; nothing more was changed. Stop etcd there (systemctl stop etcd), move its "
        "data folder away (mv /data/etcd/data /data/etcd/data.corrupt), and run again: it then joins anew with the "
        "data of the others"
        + ("" if names else ". After its old membership was removed, end the alarm by hand (etcdctl alarm disarm)")
    )


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
        raise RefusedError(
            f"etcd's alarm NOSPACE stands: the database of {name} has {_mib(_database(view, name))} of a quota of "
            f"{_mib(_quota(view, name))}, and etcd refuses every write. Expected is a quota of at least "
            f"{_mib(_database(view, name) / ROOM)}. Ask for that (`etcd`, or a larger `size`), {SMALLER}; then run "
            "again, which ends the alarm"
        )
    raise RefusedError(
        f"etcd's alarm {', '.join(kinds)} stands, and etcd refuses every write. Expected is no alarm. Find its cause "
        "(journalctl -u etcd), end it (etcdctl alarm disarm), then run again"
    )


def _disarm(view: ClusterView, kind: ActionKind) -> Action:
    line = Membership(MembershipChange.DISARM, CHANGE_SECONDS)
    return Action(kind, [HostStep(quorum.known(view, view.observation.status_source), line)])


def _name(view: ClusterView, alarm: Alarm) -> str:
    """Returns the name of the member that raised the alarm; "" if etcd does not say, or if it is no member any more."""
    return next((member.name or member.peer_url for member in view.observation.members if member.id == alarm.id), "")


def _database(view: ClusterView, name: str) -> int:
    host = view.hosts[name]
    return host.live.database_bytes if host.live else host.database_bytes


def _quota(view: ClusterView, name: str) -> int:
    """Returns the quota that a member runs with; the desired quota if the member does not report one."""
    return view.hosts[name].quota_bytes or view.desired.quota


def _mib(number: float) -> str:
    return f"{math.ceil(number / MIB)} MiB"
