"""Keeps members from starting with an etcd that is older than their data: it ends at once (invalid downgrade).

Once all members run a newer minor version, the leader raises the version of the cluster to it, within seconds. From
then on no older minor starts: neither a member that has learned of it, nor one that joins. While one member runs the
older minor, or none runs there, the version stays, and an upgrade may be given up.
"""

from __future__ import annotations

from etcd_cluster.etcd.versions import NEWEST_KNOWN, Version
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import Apply, ApplyAction, PrepareRestore, PutRestored
from etcd_cluster.rollout.desired import series
from etcd_cluster.rollout.observed import Host
from etcd_cluster.rollout.planner.actions import Action, Details, Refusal, WaitFor, WaitReason
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError

RAISED_SECONDS = 15
"""In that time, a leader raises the version of the cluster, if all members run a newer one: it looks every 4 s."""


def version_for_data(view: ClusterView, name: str, version: str) -> str:
    """Returns the version that a member starts with, in place of `version` if that is older than its data.

    It is the desired version if that is of the same minor, else the newest of that minor on the machine, else the
    desired version. If none fits, it is `version` still, and `require_fitting` refuses it.
    """
    minor = _minor_of_data(view, name)
    if not _is_older(version, minor):
        return version
    installed = sorted(view.hosts[name].versions, key=Version.parse, reverse=True)
    of_data = [each for each in (view.desired.version, *installed) if series(each) == minor]
    candidates = [*of_data, view.desired.version]
    return next((each for each in candidates if not _is_older(each, minor)), version)


def require_desired(view: ClusterView) -> WaitFor | None:
    """Returns a wait while it is open whether the desired version is older than the data; None if it is not older.

    It is open after the last member has moved, until the leader has raised the version of the cluster. The
    version stays if people have enabled a downgrade (`etcdctl downgrade enable`).

    Raises:
        RefusedError: The desired version is older than the data.
    """
    raised = _raised_to(view)
    if _is_older(view.desired.version, raised):
        raise _refused(view, raised)
    wait = WaitFor(WaitReason.VERSION_MAY_RISE, 2 * RAISED_SECONDS, None, {"desired": view.desired.version})
    if _all_are_newer(view) and raised and view.context.waited.get(wait.limit, 0.0) < RAISED_SECONDS:
        return wait
    return None


def require_fitting(view: ClusterView, action: Action) -> None:
    """Raises `RefusedError` if an action starts a member with an etcd that is older than its data, or may be."""
    for step in action.steps:
        version = _started_by(step.line)
        if version and step.member in view.hosts:
            has_own = not (isinstance(step.line, Apply) and step.line.archive_old_data)
            require_not_older(view, step.member, version, has_own_data=has_own)
    if action.then is not None:
        require_fitting(view, action.then)


def require_not_older(view: ClusterView, name: str, version: str, *, has_own_data: bool = True) -> None:
    """Raises `RefusedError` if a version is older than a member's data, or may be, as their version is unknown.

    Args:
        view: The cluster.
        name: Name of the member.
        version: Version of etcd that it is to start with.
        has_own_data: It starts with the data that it has; False if it joins without them.
    """
    minor = _minor_of_data(view, name) if has_own_data else _raised_to(view)
    if _is_older(version, minor):
        raise _refused(view, minor)
    if minor:
        return
    own = {name: view.hosts[name]} if has_own_data else view.observation.hosts
    for each, host in own.items():
        current = host.running or host.programs
        if host.data and _is_older(version, series(current)):
            unknown = [*host.unknown.values()] or ["no metrics" if host.pid else "its database is unreadable"]
            details: Details = {"member": each, "running": current, "desired": version, "unknown": unknown}
            raise RefusedError(Refusal.CLUSTER_VERSION_UNKNOWN, details)


def _started_by(line: Line) -> str:
    """Returns the version of etcd that a step starts with data of the cluster; "" for none.

    A backup or file that is restored has a version of its own: see restoration.py.
    """
    match line:
        case Apply(action=ApplyAction.START | ApplyAction.RESTART, version=version):
            return version
        case PrepareRestore(snapshot=True, version=version) | PutRestored(snapshot=True, version=version):
            return version
        case _:
            return ""


def _minor_of_data(view: ClusterView, name: str) -> str:
    """Returns the oldest minor version that starts with a member's data; "" if it is unknown."""
    return max(_raised_to(view), _version_of(view.hosts[name]), key=_order)


def _raised_to(view: ClusterView) -> str:
    """Returns the minor version that the cluster was raised to; "" if it is unknown.

    Running members report it. Where none can answer for the cluster, the data of stopped members count, too.
    """
    hosts = view.observation.hosts.values()
    if view.observation.status_source is not None:
        ids = {member.id for member in view.observation.members}
        reported = [_minor(host.live.cluster_version) for host in hosts if host.live and host.live.id in ids]
    else:
        clusters = {host.data_of for host in view.hosts.values() if host.data}
        reported = [_version_of(host) for host in hosts if host.data_of in clusters]
    return max(reported, key=_order, default="")


def _version_of(host: Host) -> str:
    if not host.data:
        return ""
    return _minor(host.live.cluster_version if host.live else host.data_version)


def _all_are_newer(view: ClusterView) -> bool:
    """Returns whether every member may run a newer minor than the desired one, as one that is not asked may."""
    hosts = [view.observation.hosts.get(member.name) for member in view.observation.members]
    return bool(hosts) and all(
        host is None or (host.pid and _is_older(view.desired.version, series(host.running))) for host in hosts
    )


def _refused(view: ClusterView, raised: str) -> RefusedError:
    found = {each for host in view.hosts.values() for each in (host.running, host.programs, *host.versions)}
    of_that_minor = [each for each in found if series(each) == raised]
    fix = max(of_that_minor, key=Version.parse, default=NEWEST_KNOWN.get(raised, f"{raised}.0"))
    desired = view.desired.version
    details = {"desired": desired, "series": series(desired), "cluster_version": raised, "running": fix}
    return RefusedError(Refusal.CLUSTER_VERSION_RAISED, details)


def _is_older(version: str, minor: str) -> bool:
    """Returns whether a version is of an older minor than that. None is older than ""."""
    return _order(series(version)) < _order(minor)


def _order(minor: str) -> tuple[int, ...]:
    return tuple(int(number) for number in minor.split(".") if number)


def _minor(version: str) -> str:
    """Returns MAJOR.MINOR of either; "" of ""."""
    return ".".join(version.split(".")[:2])
