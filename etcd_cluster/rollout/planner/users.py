"""Brings etcd's users and roles to what the stack names, and turns its authentication on or off.

With authentication on, only a user of role root may change the cluster, and a client is the user by whose name its
certificate is. So every member has a user of its own, before authentication is turned on and before it joins.

Users that this package makes have the role `OURS` as well, and no password. Whoever has it and is not named any more is
removed, with the roles that nobody else has; all other users are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from etcd_cluster.member.lines import SetUsers, UsersChange
from etcd_cluster.rollout.desired import DesiredCluster, series
from etcd_cluster.rollout.observed import Authentication, KeyRange
from etcd_cluster.rollout.planner import quorum, rights, rolling_restart
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    LEADER_SECONDS,
    Action,
    ActionKind,
    Blocked,
    HostStep,
    Refusal,
    UsersRequest,
    WaitFor,
    WaitReason,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.users import OURS, ROOT, Permission, Users

Members = Mapping[str, frozenset[str]]
Roles = Mapping[str, Mapping[KeyRange, str]]
MEMBER = frozenset({ROOT, OURS})
"""Roles of a member's user."""


def change(view: ClusterView) -> Action | WaitFor | None:
    """Returns what is next about users, roles and authentication; None if nothing is, or if it has to wait.

    Preconditions: every voter is healthy, and all members run the desired version. Until then, only a member that is to
    join gets its user; after that, members have to be of one minor version.

    Raises:
        RefusedError: A member is to join while members run several minor versions, and has no user yet.
    """
    if view.desired.users is None and not view.context.had_users:
        return None
    found = view.observation.authentication or view.context.authentication
    if found is None:
        source = view.observation.status_source
        return WaitFor(WaitReason.USERS_UNKNOWN, LEADER_SECONDS, source, {"source": source})
    if view.desired.users is not None and _runs_other_versions(view):
        return _before_joining(view, view.desired.users, found)
    requests = [*_requests(found, _desired_users(view, found), _desired_roles(view.desired.users))]
    is_on = view.desired.users is not None
    if found.enabled and not is_on:
        return _waiting(view) or _action(view, ActionKind.DISABLE_AUTHENTICATION, UsersChange.DISABLE)
    if requests:
        return _waiting(view) or _action(view, ActionKind.SET_USERS, UsersChange.SET, requests)
    if is_on and not found.enabled:
        return _waiting(view) or _action(view, ActionKind.ENABLE_AUTHENTICATION, UsersChange.ENABLE)
    return _require_rights(view) if found.enabled else None


def restore_rights(view: ClusterView, action: Action | WaitFor) -> Action | None:
    """Returns the action that gives members their users back before anything else is done; None if none lacks it.

    Somebody took them away by hand, or the data are a backup's, in which other members had users. The certificate of
    the user root, who is there wherever authentication is on, may do that if no member may.
    """
    lacking, source = rights.denied(view), view.observation.status_source
    is_next = isinstance(action, Action) and action.kind in rights.OF_USERS
    if view.desired.users is None or not lacking or source is None or is_next or len(_series(view)) > 1:
        return None
    requests = [UsersRequest("role add", [OURS]), *(each for name in lacking for each in _new_user(name, MEMBER))]
    return _action(view, ActionKind.SET_USERS, UsersChange.SET, requests)


def unlisted(desired: DesiredCluster, found: Authentication | None) -> Sequence[str]:
    """Returns the users that neither the stack names nor this package has made."""
    if desired.users is None or found is None:
        return ()
    return sorted(name for name, roles in found.users.items() if OURS not in roles and name != ROOT)


def _waiting(view: ClusterView) -> WaitFor | None:
    return rolling_restart.await_voters(view, Blocked.USERS)


def _action(view: ClusterView, kind: ActionKind, change: UsersChange, requests: Sequence[UsersRequest] = ()) -> Action:
    source = quorum.known(view, view.observation.status_source)
    is_denied = view.observation.hosts[source].may_administer is False
    line = SetUsers(change, CHANGE_SECONDS, as_root=is_denied and view.desired.root is not None)
    names = sorted({each.arguments[0] for each in requests})
    return Action(kind, [HostStep(source, line, requests=requests)], {"names": names} if names else {})


def _runs_other_versions(view: ClusterView) -> bool:
    return any(host.running and host.running != view.desired.version for host in view.hosts.values())


def _series(view: ClusterView) -> set[str]:
    return {series(host.running) for host in view.observation.hosts.values() if host.running}


def _before_joining(view: ClusterView, users: Users, found: Authentication) -> Action | WaitFor | None:
    """Returns the action that gives members which are to join their users; None if they have them, or need none."""
    lacking = [
        name
        for name in view.desired.members
        if view.listed(name) is None and not found.users.get(name, frozenset()) >= MEMBER
    ]
    if not lacking or not found.enabled:
        return None
    running = _series(view)
    if len(running) > 1:
        raise RefusedError(Refusal.USERS_OF_MIXED_VERSIONS, {"members": lacking, "versions": sorted(running)})
    requests = [each for name in lacking for each in _new_user(name, MEMBER)]
    return _waiting(view) or _action(view, ActionKind.SET_USERS, UsersChange.SET, requests)


def _require_rights(view: ClusterView) -> WaitFor | None:
    """Returns a wait until every member has shown that it may change the cluster, now that not everybody may.

    Raises:
        RefusedError: A member may not.
    """
    denied = [name for name, host in view.hosts.items() if host.may_administer is False]
    if denied:
        raise rights.refusal(view, denied)
    return rights.await_answers(view)


def _desired_users(view: ClusterView, found: Authentication) -> Members:
    """Returns user -> roles: those that the stack names, root, and members, also such as are yet to leave.

    A user root that somebody else made stays theirs.
    """
    if view.desired.users is None:
        return {}
    listed = {member.name for member in view.observation.members if member.name}
    own = {name: MEMBER for name in sorted({ROOT, *view.desired.members, *listed})}
    if OURS not in found.users.get(ROOT, {OURS}):
        own[ROOT] = found.users[ROOT] | {ROOT}
    return {**{name: frozenset({*roles, OURS}) for name, roles in view.desired.users.users.items()}, **own}


def _desired_roles(users: Users | None) -> Roles:
    if users is None:
        return {}
    named = {name: {_range(each): each.access for each in permissions} for name, permissions in users.roles.items()}
    return {OURS: {}, ROOT: {}, **named}


def _requests(found: Authentication, users: Members, roles: Roles) -> Iterator[UsersRequest]:
    """Yields what makes users and roles as desired: first what is added, then what is taken away.

    A role belongs to this package if a user of it has the role, and nobody else.
    """
    for name, permissions in roles.items():
        if name not in found.roles:
            yield UsersRequest("role add", [name])
        for range_, access in permissions.items():
            if found.roles.get(name, {}).get(range_) != access:
                yield _grant(name, range_, access)
    for name, user_roles in users.items():
        if name not in found.users:
            yield from _new_user(name, user_roles)
        else:
            yield from _granted(name, user_roles - found.users[name])
    ours = {name: each for name, each in found.users.items() if OURS in each}
    kept = {role for name, each in found.users.items() if name not in ours for role in each}
    removed = sorted({role for each in ours.values() for role in each} - kept - roles.keys() - {OURS})
    for name in sorted(roles.keys() & found.roles.keys() - {OURS, ROOT}):
        yield from _revoked(name, [range_ for range_ in found.roles[name] if range_ not in roles[name]])
    for role in removed:
        yield UsersRequest("role delete", [role])
    for name in sorted(users.keys() & found.users.keys()):
        for role in sorted(found.users[name] - users[name] - {*removed}):
            yield UsersRequest("user revoke-role", [name, role])
    for name in sorted(ours.keys() - users.keys()):
        yield UsersRequest("user delete", [name])
    if OURS in found.roles and OURS not in roles:
        yield UsersRequest("role delete", [OURS])


def _new_user(name: str, roles: frozenset[str]) -> Iterator[UsersRequest]:
    yield UsersRequest("user add", [name], ["--no-password"])
    yield from _granted(name, roles)


def _granted(name: str, roles: frozenset[str]) -> Iterator[UsersRequest]:
    """Yields the grants; `OURS` first, so that a run that is cut off leaves no user that nobody knows."""
    for role in sorted(roles, key=lambda role: (role != OURS, role)):
        yield UsersRequest("user grant-role", [name, role])


def _grant(role: str, range_: KeyRange, access: str) -> UsersRequest:
    key = range_.start.decode() if range_ != EVERYTHING else ""
    return UsersRequest("role grant-permission", [role, access, key], ["--prefix"] if range_.end else [])


def _revoked(role: str, ranges: Sequence[KeyRange]) -> Iterator[UsersRequest]:
    """Yields the revocations. A range that etcdctl cannot name goes with the whole role, which is made anew."""
    named = [(range_, _words(range_)) for range_ in ranges]
    if any(words is None for _, words in named):
        yield UsersRequest("role delete", [role])
        return
    for _, words in named:
        if words is not None:
            keys, flags = words
            yield UsersRequest("role revoke-permission", [role, *keys], flags)


EVERYTHING = KeyRange(b"\0", b"\0")


def _words(range_: KeyRange) -> tuple[Sequence[str], Sequence[str]] | None:
    """Returns how etcdctl names a range: its keys, and options; None if it cannot."""
    if range_ == EVERYTHING:
        return [""], ["--prefix"]
    try:
        start, end = range_.start.decode(), range_.end.decode(errors="replace")
    except UnicodeDecodeError:
        return None
    if any(each in "\0\n" for each in start):
        return None
    if not range_.end:
        return [start], []
    if range_.end == _end_of(range_.start):
        return [start], ["--prefix"]
    if range_.end == b"\0":
        return [start], ["--from-key"]
    return None if any(each in "\0\n\N{REPLACEMENT CHARACTER}" for each in end) else ([start, end], [])


def _range(permission: Permission) -> KeyRange:
    if permission.prefix is None:
        return KeyRange((permission.key or "").encode(), b"")
    start = permission.prefix.encode()
    return KeyRange(start, _end_of(start)) if start else EVERYTHING


def _end_of(prefix: bytes) -> bytes:
    """Returns the first key after all that begin with a prefix, as etcd has it."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"
