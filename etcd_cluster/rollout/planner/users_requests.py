"""Makes the requests that bring etcd's users and roles to what is desired, in an order that nobody notices.

Each request takes effect on its own, and a run may end after any of them. Until the last one, a user of this package
never lacks what it may do both before and after, and never may do more than either before or after. So everything is
taken first, then everything is given. What a user would lack in between, a role of its own gives meanwhile (`BRIDGE`).

What a run made and then left is known as this package's: a user by its role `OURS`, which it gets first, and a role by
a user that has it, before it gets keys. While one has neither, a role marks its name (`BRIDGE`, `NEW_ROLE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from etcd_cluster.rollout.observed import Authentication, KeyRange
from etcd_cluster.rollout.planner.actions import UsersRequest
from etcd_cluster.users import OURS, ROOT, Permission

Members = Mapping[str, frozenset[str]]
Roles = Mapping[str, Mapping[KeyRange, str]]
BRIDGE = f"{OURS}:"
"""What the name of such a role begins with, and that of the mark of a new user: no name of a stack holds a colon."""
NEW_ROLE = f"{BRIDGE}role:"
"""What the name of the mark of a new role begins with."""
EVERYTHING = KeyRange(b"\0", b"\0")


def requests(found: Authentication, users: Members, roles: Roles) -> Sequence[UsersRequest]:
    """Returns the requests; none if all is as desired.

    Args:
        found: What etcd has.
        users: User -> its roles, of all users that are to be this package's.
        roles: Role -> its keys, of all roles that are to be this package's.
    """
    change = _Change(found, users, roles)
    return [*change.bridged(), *change.taken(), *change.given(), *change.without_bridges()]


def new_user(name: str, roles: Iterable[str]) -> Iterator[UsersRequest]:
    """Yields what makes a user with its roles, of which `OURS` is one; they are there."""
    yield UsersRequest("role add", [BRIDGE + name])
    yield UsersRequest("user add", [name], ["--no-password"])
    for role in sorted(roles, key=lambda role: (role != OURS, role)):
        yield UsersRequest("user grant-role", [name, role])
    yield UsersRequest("role delete", [BRIDGE + name])


def range_of(permission: Permission) -> KeyRange:
    """Returns the keys of a permission as etcd has them."""
    if permission.prefix is None:
        return KeyRange((permission.key or "").encode(), b"")
    start = permission.prefix.encode()
    return KeyRange(start, _end_of(start)) if start else EVERYTHING


@dataclass(frozen=True)
class _Change:
    found: Authentication
    users: Members
    roles: Roles

    @cached_property
    def own(self) -> Members:
        """The users of this package that are there."""
        return {name: roles for name, roles in self.found.users.items() if OURS in roles}

    @cached_property
    def unfinished(self) -> Sequence[str]:
        """Users that may do nothing: a run was cut off, or somebody else made them, maybe with a password.

        Of those that the stack does not name, only such as a run had just made.
        """
        having_nothing = {name for name, roles in self.found.users.items() if not roles}
        return sorted(having_nothing & {*self.users, *self._names_after(BRIDGE)})

    @cached_property
    def unfinished_roles(self) -> Sequence[str]:
        """Roles that a run had just made, and that the stack does not name: without keys, and nobody has them."""
        held = set[str]().union(*self.found.users.values())
        made = self._names_after(NEW_ROLE) - held - self.roles.keys()
        return sorted(role for role in made if self.found.roles.get(role) == {})

    def _names_after(self, prefix: str) -> set[str]:
        """Returns the names without a colon that a role consists of, after such a prefix."""
        return {role.removeprefix(prefix) for role in self.found.roles if role.rpartition(":")[0] + ":" == prefix}

    @cached_property
    def staying(self) -> Sequence[str]:
        """The users that are there before and after."""
        return [name for name in sorted(self.users) if self.found.users.get(name)]

    @cached_property
    def removed(self) -> Sequence[str]:
        """Roles that go: a user of this package has them, and nobody else."""
        others = {role for name, roles in self.found.users.items() if name not in self.own for role in roles}
        held = {role for roles in self.own.values() for role in roles if not role.startswith(BRIDGE)}
        return sorted(held - others - self.roles.keys() - {OURS})

    @cached_property
    def remade(self) -> Sequence[str]:
        """Roles that have keys which no request of etcdctl can take away."""
        return [
            name
            for name in self._changing
            if any(keys not in self.roles[name] and _words(keys) is None for keys in self.found.roles[name])
        ]

    @cached_property
    def _changing(self) -> Sequence[str]:
        return sorted(self.roles.keys() & self.found.roles.keys() - {ROOT})

    @cached_property
    def low(self) -> Roles:
        """Role -> what is left of it once everything is taken."""
        staying = {role: self.found.roles.get(role, {}) for role in self.found.roles.keys() & self.roles.keys()}
        return {
            role: {keys: both for keys in keys_of if (both := _common(keys_of[keys], self.roles[role].get(keys, "")))}
            for role, keys_of in staying.items()
            if role not in self.remade
        }

    @cached_property
    def bridges(self) -> Mapping[str, Mapping[KeyRange, str]]:
        """User -> what it may do before and after, and not once everything is taken."""
        found: dict[str, Mapping[KeyRange, str]] = {}
        for name in self.staying:
            before = [*_rights(self.found.users[name], self.found.roles)]
            after = [*_rights(self.users[name], self.roles)]
            low = [*_rights(self.found.users[name] & self.users[name], self.low)]
            if {*before} <= {*low}:
                continue  # nothing is taken
            kept: dict[KeyRange, str] = {}
            for (one, access), (other, other_access) in ((a, b) for a in before for b in after):
                keys, both = _intersection(one, other), _common(access, other_access)
                if keys is None or not both or _words(keys) is None:
                    continue
                if not any(_contains(each, keys) and _common(has, both) == both for each, has in low):
                    kept[keys] = _joined(kept.get(keys, ""), both)
            if kept:
                found[name] = kept
        return found

    def bridged(self) -> Iterator[UsersRequest]:
        for name, keys in self.bridges.items():
            role = BRIDGE + name
            if role not in self.found.roles:
                yield UsersRequest("role add", [role])
            if role not in self.found.users[name]:
                yield UsersRequest("user grant-role", [name, role])
            for range_, access in keys.items():
                if self.found.roles.get(role, {}).get(range_) != access:
                    yield _grant(role, range_, access)

    def taken(self) -> Iterator[UsersRequest]:
        for name in self.unfinished:
            yield UsersRequest("user delete", [name])
        for role in self.unfinished_roles:
            yield UsersRequest("role delete", [role])
        bridges = {BRIDGE + name: keys for name, keys in self.bridges.items()}
        for role in sorted(role for role in self.found.roles if role.startswith(BRIDGE)):
            others = [keys for keys in self.found.roles[role] if keys not in bridges.get(role, {})]
            if role not in bridges or any(_words(keys) is None for keys in others):
                yield UsersRequest("role delete", [role])
            else:
                yield from (_revoke(role, keys) for keys in others)
        for role in self._changing:
            if role in self.remade:
                yield UsersRequest("role delete", [role])
                continue
            for keys, access in self.found.roles[role].items():
                left = self.low[role].get(keys)
                if left is None:
                    yield _revoke(role, keys)
                elif left != access:
                    yield _grant(role, keys, left)
        for role in self.removed:
            yield UsersRequest("role delete", [role])
        for name in self.staying:
            for role in sorted(self.found.users[name] - self.users[name] - {*self.removed}):
                if not role.startswith(BRIDGE):
                    yield UsersRequest("user revoke-role", [name, role])
        for name in sorted(self.own.keys() - self.users.keys()):
            yield UsersRequest("user delete", [name])
        if OURS in self.found.roles and OURS not in self.roles:
            yield UsersRequest("role delete", [OURS])

    def given(self) -> Iterator[UsersRequest]:
        if OURS in self.roles and OURS not in self.found.roles:
            yield UsersRequest("role add", [OURS])
        for name in sorted(self.users.keys() - {*self.staying}):
            yield from new_user(name, self.users[name] & {OURS})
        for role in self.roles:
            is_new = role not in self.found.roles or role in self.remade
            if is_new and role != OURS:
                yield UsersRequest("role add", [NEW_ROLE + role])
                yield UsersRequest("role add", [role])
            left: Mapping[KeyRange, str] = {} if is_new else self.low.get(role, {})
            for name in self._holders(role):
                if is_new or name not in self.staying or role not in self.found.users[name]:
                    yield UsersRequest("user grant-role", [name, role])
            if is_new and role != OURS:
                yield UsersRequest("role delete", [NEW_ROLE + role])
            for keys, access in self.roles[role].items():
                if left.get(keys) != access:
                    yield _grant(role, keys, access)

    def without_bridges(self) -> Iterator[UsersRequest]:
        for name in self.bridges:
            yield UsersRequest("role delete", [BRIDGE + name])

    def _holders(self, role: str) -> Sequence[str]:
        """Returns the users that are to have a role, also those of others if the role is made anew."""
        others = [name for name in self.found.users if name not in self.users and name not in self.own]
        having = [name for name in others if role in self.remade and role in self.found.users[name]]
        named = [name for name in self.users if role in self.users[name]]
        fresh = {*self.users} - {*self.staying}
        return sorted([*having, *(name for name in named if role != OURS or name not in fresh)])


# --- what users may do ---


def _rights(user_roles: Iterable[str], roles: Roles) -> Iterator[tuple[KeyRange, str]]:
    """Yields keys and access. The role root may do everything."""
    for role in user_roles:
        yield from [(EVERYTHING, "readwrite")] if role == ROOT else roles.get(role, {}).items()


def _ways(access: str) -> set[str]:
    return {"read", "write"} if access == "readwrite" else {access} - {""}


def _access(ways: set[str]) -> str:
    return "readwrite" if len(ways) == 2 else "".join(ways)


def _common(one: str, other: str) -> str:
    """Returns the access that is in both; "" for none."""
    return _access(_ways(one) & _ways(other))


def _joined(one: str, other: str) -> str:
    return _access(_ways(one) | _ways(other))


def _bounds(keys: KeyRange) -> tuple[bytes, bytes | None]:
    """Returns the first key, and the first one after all; None for no end."""
    return keys.start, None if keys.end == b"\0" else keys.end or keys.start + b"\0"


def _intersection(one: KeyRange, other: KeyRange) -> KeyRange | None:
    (first, first_end), (second, second_end) = _bounds(one), _bounds(other)
    start, ends = max(first, second), [end for end in (first_end, second_end) if end is not None]
    if not ends:
        return KeyRange(start, b"\0")
    end = min(ends)
    if start >= end:
        return None
    return KeyRange(start, b"" if end == start + b"\0" else end)


def _contains(keys: KeyRange, others: KeyRange) -> bool:
    return _intersection(keys, others) == _intersection(others, others)


# --- the words of etcdctl ---


def _grant(role: str, keys: KeyRange, access: str) -> UsersRequest:
    words, flags = _require_words(keys)
    return UsersRequest("role grant-permission", [role, access, *words], flags)


def _revoke(role: str, keys: KeyRange) -> UsersRequest:
    words, flags = _require_words(keys)
    return UsersRequest("role revoke-permission", [role, *words], flags)


def _require_words(keys: KeyRange) -> tuple[Sequence[str], Sequence[str]]:
    words = _words(keys)
    if words is None:
        raise ValueError(f"etcdctl has no words for {keys}")
    return words


def _words(keys: KeyRange) -> tuple[Sequence[str], Sequence[str]] | None:
    """Returns how etcdctl names a range: its keys, and options; None if it cannot."""
    if keys == EVERYTHING:
        return [""], ["--prefix"]
    try:
        start, end = keys.start.decode(), keys.end.decode(errors="replace")
    except UnicodeDecodeError:
        return None
    if any(each in "\0\n" for each in start):
        return None
    if not keys.end:
        return [start], []
    if keys.end == _end_of(keys.start):
        return [start], ["--prefix"]
    if keys.end == b"\0":
        return [start], ["--from-key"]
    return None if any(each in "\0\n\N{REPLACEMENT CHARACTER}" for each in end) else ([start, end], [])


def _end_of(prefix: bytes) -> bytes:
    """Returns the first key after all that begin with a prefix, as etcd has it."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"
