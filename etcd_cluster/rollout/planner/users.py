"""Brings etcd's users and roles to what the stack names, and turns its authentication on or off.

With authentication on, only a user of role root may change the cluster, and a client is the user by whose name its
certificate is. So every member has a user of its own, before authentication is turned on and before it joins.

Users that this package makes have the role `OURS` as well, and no password. A user that has it and is not named any
more is removed, with the roles that nobody else has; all other users are left alone, and a stack that names one is
refused. In which order things change is in users_requests.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from etcd_cluster.errors import shown
from etcd_cluster.member.lines import SetUsers, UsersChange
from etcd_cluster.rollout.desired import DesiredCluster, series
from etcd_cluster.rollout.observed import Authentication, MemberEntry, Observation
from etcd_cluster.rollout.planner import messages, quorum, rights, rolling_restart
from etcd_cluster.rollout.planner.actions import (
    CHANGE_SECONDS,
    LEADER_SECONDS,
    Action,
    ActionKind,
    Blocked,
    Details,
    HostStep,
    Refusal,
    UsersRequest,
    WaitFor,
    WaitReason,
    WarningKind,
)
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.users_requests import BRIDGE, NEW_ROLE, Members, Roles, new_user, range_of, requests
from etcd_cluster.users import CLIENT, NAME, OURS, ROOT, Users

MEMBER = frozenset({ROOT, OURS})
"""Roles of a member's user."""


def change(view: ClusterView) -> Action | WaitFor | None:
    """Returns what is next about users, roles and authentication; None if nothing is, or if it has to wait.

    Preconditions: every voter is healthy, and all members run the desired version. Until then, only a member that is to
    join gets its user; after that, members have to be of one minor version. Without users in the stack, users that this
    package made go, as an earlier run may have been cut off; but authentication that no run of this stack is known to
    have turned on stays on, with them: the data may be a backup's, and nobody would notice that all is open.

    Raises:
        RefusedError: A member is to join while members run several minor versions, and has no user yet.
    """
    found, is_on = _known(view), view.desired.users is not None
    was_begun = found is not None and not found.enabled and _is_marked(found)
    is_ours = is_on or view.context.users_before is not None or was_begun
    if not is_ours and rights.denied(view.desired, view.observation):
        return None  # `user_warnings` tells; whatever else is due is refused
    if found is None:
        source = view.observation.status_source
        return WaitFor(WaitReason.USERS_UNKNOWN, LEADER_SECONDS, source, {"source": source})
    if view.desired.users is not None and _runs_other_versions(view):
        return _before_joining(view, view.desired.users, found)
    if not is_ours:
        return None
    if not is_on and len(_series(view)) > 1:
        return None
    due = requests(found, _desired_users(view, found), _desired_roles(view.desired.users))
    if found.enabled and not is_on:
        return _waiting(view) or _action(view, ActionKind.DISABLE_AUTHENTICATION, UsersChange.DISABLE)
    if due:
        return _waiting(view) or _action(view, ActionKind.SET_USERS, UsersChange.SET, due)
    if is_on and not found.enabled:
        return _waiting(view) or _action(view, ActionKind.ENABLE_AUTHENTICATION, UsersChange.ENABLE)
    return _require_rights(view) if found.enabled else None


def restore_rights(view: ClusterView, action: Action | WaitFor) -> Action | None:
    """Returns the action that gives members their users back before anything else is done; None if none lacks it.

    Somebody took them away by hand, or the data are a backup's, in which other members had users. The certificate of
    the user root, who is there wherever authentication is on, may do that if no member may. Unless it is known which
    users there are, they are asked for first: a member's name may be that of somebody else's, see `require_own`.
    """
    lacking, source = rights.denied(view.desired, view.observation), view.observation.status_source
    is_next = isinstance(action, Action) and action.kind in rights.OF_USERS
    if view.desired.users is None or not lacking or source is None or is_next or len(_series(view)) > 1:
        return None
    found = _known(view)
    if found is None:
        return _action(view, ActionKind.READ_USERS, UsersChange.READ)
    due = [UsersRequest("role add", [OURS]), *_new_members(lacking, found)]
    return _action(view, ActionKind.SET_USERS, UsersChange.SET, due)


def require_own(view: ClusterView) -> None:
    """Checks that the stack names no user and no role of somebody else, before anything is done.

    A user without roles, and a role that nobody has, are taken: they give nobody anything, and a run that is cut off
    leaves such. Before this package has made anything, such a role has no keys. A user of role root alone is taken
    where a certificate of this cluster has its name. What the stack named before is its own, whatever was changed by
    hand.

    Raises:
        RefusedError: It names one, or one name is a user's and a leaving or joining member's.
    """
    found = _known(view)
    if view.desired.users is None or found is None:
        return
    _require_names_apart(view, view.desired.users, found)
    is_first = view.context.users_before is None
    before, own = view.context.users_before or Users({}, {}), {CLIENT, *_members(view)}
    if is_first and (keys := found.roles.get(OURS)):
        raise RefusedError(Refusal.ROLE_OURS_WITH_KEYS, {"role": OURS, "count": len(keys)})
    # Once there were users, those of members that are listed, and of the exported client, are the stack's.
    named = view.desired.users.users.keys() | own
    if not is_first:
        named -= {CLIENT, *(member.name for member in view.observation.members)}
    theirs = {
        name: sorted(roles)
        for name in sorted(named - before.users.keys())
        if (roles := found.users.get(name)) and OURS not in roles and not (name in own and {*roles} == {ROOT})
    }
    if theirs:
        commands = [f"etcdctl user grant-role {name} {OURS}" for name in theirs]
        if OURS not in found.roles:
            commands.insert(0, f"etcdctl role add {OURS}")
        users = [f"{name} (roles: {_quoted(roles)})" for name, roles in theirs.items()]
        rights = "as root, " if found.enabled else ""
        details = {"users": users, "rights": rights, "commands": "; ".join(commands)}
        raise RefusedError(Refusal.USERS_OF_OTHERS, details)
    held = {role for roles in found.users.values() if OURS in roles for role in roles}
    others = {
        role: sorted(name for name, roles in found.users.items() if role in roles)
        for role in sorted((view.desired.users.roles.keys() & found.roles.keys()) - held - before.roles.keys())
    }
    taken = [
        f"{role} (of {_quoted(names) or 'no user'})"
        for role, names in others.items()
        if names or (found.roles[role] and not _is_marked(found))
    ]
    if taken:
        raise RefusedError(Refusal.ROLES_OF_OTHERS, {"roles": taken})


def require_own_in_data(view: ClusterView, name: str) -> None:
    """Checks restored data in the same way before they take the place of others: member `name` alone is listed then.

    Raises:
        RefusedError: As `require_own` does.
    """
    found = view.context.users_of_data.get(name)
    if found is None:
        return
    restored = [MemberEntry("", name, "", "", learner=False)]
    observation = replace(view.observation, members=restored, authentication=found)
    try:
        require_own(ClusterView(view.desired, observation, view.context))
    except RefusedError as refused:
        raise RefusedError(refused.kind, refused.details, messages.IN_RESTORED_DATA) from None


def user_warnings(
    desired: DesiredCluster, observation: Observation, found: Authentication | None
) -> Sequence[tuple[WarningKind, Details]]:
    """Returns what there is of users that neither the stack names nor this package has made."""
    if desired.users is None and (denied := rights.denied(desired, observation)):
        why = rights.refusal(desired, denied).explanation
        return [(WarningKind.MEMBERS_LOCKED_OUT, {"members": denied, "problem": why.problem, "fix": why.fix})]
    if found is None:
        return []
    if desired.users is None:
        return [(WarningKind.AUTHENTICATION_OF_OTHERS, {})] if found.enabled else []
    names = sorted(shown(name, bare=NAME) for name, roles in found.users.items() if OURS not in roles and name != ROOT)
    return [(WarningKind.UNLISTED_USERS, {"names": names})] if names else []


def _known(view: ClusterView) -> Authentication | None:
    return view.observation.authentication or view.context.authentication


def _is_marked(found: Authentication) -> bool:
    """Returns whether this package has made users. Its role has no keys: one that has some is another's."""
    return OURS in found.roles and not found.roles[OURS]


def _is_root_foreign(found: Authentication) -> bool:
    return bool(found.users.get(ROOT)) and OURS not in found.users[ROOT]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(shown(name, bare=NAME) for name in names)


def _members(view: ClusterView) -> set[str]:
    """Returns the names of members, also of such as are yet to leave."""
    return {*view.desired.members, *(member.name for member in view.observation.members if member.name)}


def _require_names_apart(view: ClusterView, users: Users, found: Authentication) -> None:
    leaving = users.users.keys() & (_members(view) - view.desired.members.keys())
    # Who was one in a rollout that ended well has a certificate. What a member's user was given by hand is taken back.
    before = (view.context.users_before or Users({}, {})).users
    joining = {
        name
        for name in view.desired.members
        if view.listed(name) is None and name in before and found.users.get(name, MEMBER) - MEMBER
    }
    if leaving or joining:
        raise RefusedError(Refusal.USER_NAMED_AS_MEMBER, {"names": sorted(leaving | joining)})


def _waiting(view: ClusterView) -> WaitFor | None:
    return rolling_restart.await_voters(view, Blocked.USERS)


def _action(view: ClusterView, kind: ActionKind, change: UsersChange, due: Sequence[UsersRequest] = ()) -> Action:
    source = quorum.known(view, view.observation.status_source)
    is_denied = view.observation.hosts[source].may_administer is False
    line = SetUsers(change, CHANGE_SECONDS, as_root=is_denied and view.desired.root is not None)
    names = sorted({shown(each.arguments[0].removeprefix(NEW_ROLE).removeprefix(BRIDGE), bare=NAME) for each in due})
    return Action(kind, [HostStep(source, line, requests=due)], {"names": names} if names else {})


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
    due = [*_new_members(lacking, found)]
    return _waiting(view) or _action(view, ActionKind.SET_USERS, UsersChange.SET, due)


def _new_members(names: Sequence[str], found: Authentication) -> Iterator[UsersRequest]:
    """Yields what makes the users of members. One without roles is made anew: its maker may know a password of it."""
    for name in names:
        if found.users.get(name) == frozenset():
            yield UsersRequest("user delete", [name])
        yield from new_user(name, MEMBER)


def _require_rights(view: ClusterView) -> WaitFor | None:
    """Returns a wait until every member has shown that it may change the cluster, now that not everybody may.

    Raises:
        RefusedError: A member may not.
    """
    denied = [name for name, host in view.hosts.items() if host.may_administer is False]
    if denied:
        raise rights.refusal(view.desired, denied)
    return rights.await_answers(view)


def _desired_users(view: ClusterView, found: Authentication) -> Members:
    """Returns user -> roles: those that the stack names, root, and members, also such as are yet to leave.

    A user root that somebody else made stays theirs.
    """
    if view.desired.users is None:
        return {}
    own = {name: MEMBER for name in sorted({ROOT, *_members(view)})}
    if _is_root_foreign(found):
        own[ROOT] = found.users[ROOT] | {ROOT}
    return {**{name: frozenset({*roles, OURS}) for name, roles in view.desired.users.users.items()}, **own}


def _desired_roles(users: Users | None) -> Roles:
    if users is None:
        return {}
    named = {name: {range_of(each): each.access for each in permissions} for name, permissions in users.roles.items()}
    return {OURS: {}, ROOT: {}, **named}
