"""Defines the typed arguments of etcd's users and roles, and validates them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.versions import Version
from etcd_cluster.names import is_one_line

ROOT = "root"
"""etcd's own name: of the role that may do everything, and of the user without whom no authentication is turned on."""
OURS = "etcd-cluster"
"""Role without permissions of every user that this package makes: users without it are other people's."""
CLIENT = "client"
"""The user of the client certificate that the stack exports."""
SAFE_SINCE: Mapping[str, str] = {"3.4": "3.4.44", "3.5": "3.5.33", "3.6": "3.6.14", "3.7": "3.7.1"}
"""Minor version -> the oldest patch whose authentication has no known hole (CVE-2026-33413, GHSA-xg4h-6gfc-h4m8)."""
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.@-]{0,62}[A-Za-z0-9_])?")
"""At most the 64 characters of a certificate's subject."""
MOST = 100
"""Users, and roles. Each of them is asked for on its own."""
LONGEST_KEY_BYTES = 65_536
"""Linux takes no word of a command that has 128 KiB, and etcdctl gets keys as words."""

Access = Literal["read", "write", "readwrite"]


def require_name(key: str, name: str) -> None:
    """Raises `ConfigurationError` for a text that is no name of a user or a role."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            key,
            name,
            "not usable as the name of a user or a role",
            "use up to 64 letters (a to z), digits, dots, hyphens, underscores and @; at the ends letters, digits or _",
        )


Name = Annotated[str, require_name]


@dataclass(frozen=True)
class User:
    """One user of etcd. It comes by the certificate that the stack exports for it, and has no password."""

    roles: Sequence[Name]
    """Names of `roles`, or `root`, which may do everything."""


@dataclass(frozen=True)
class Permission:
    """What a role may do with some keys: give one of `prefix` and `key`."""

    access: Access
    """read, write or readwrite."""
    prefix: str | None = None
    """All keys that begin so; an empty text for all keys."""
    key: str | None = None
    """One key."""


@dataclass(frozen=True)
class Users:
    """Validated users and roles.

    Args:
        users: User -> its roles; `client` is one of them.
        roles: Role -> its permissions.
    """

    users: Mapping[str, Sequence[str]]
    roles: Mapping[str, Sequence[Permission]]

    @property
    def with_certificates(self) -> Sequence[str]:
        """The users that get a certificate of their own: `client` has one in any case."""
        return [name for name in self.users if name != CLIENT]


def validate_users(
    users: Mapping[str, User],
    roles: Mapping[str, Sequence[Permission]],
    *,
    members: Collection[str],
    version: str,
    tls: bool,
) -> Users | None:
    """Returns users and roles; None without any.

    Raises:
        ConfigurationError: It names the key, and what to do.
    """
    if not users:
        if roles:
            raise ConfigurationError(
                "roles", ", ".join(roles), "no user has them", "give users as well, or leave it out"
            )
        return None
    if not tls:
        raise ConfigurationError(
            "users", ", ".join(users), "a user is known by its certificate, and there are none with tls: false",
            "set tls to true, or leave users out",
        )  # fmt: skip
    _require_safe(version)
    for key, listed in (("users", users), ("roles", roles)):
        if len(listed) > MOST:
            raise ConfigurationError(key, len(listed), "too many", f"list at most {MOST}")
    for name, user in users.items():
        _require_user(name, user, roles, members)
    for name, permissions in roles.items():
        _require_role(name, permissions, users)
    return Users(
        {CLIENT: [ROOT], **{name: sorted(set(user.roles)) for name, user in users.items()}},
        {name: list(permissions) for name, permissions in roles.items()},
    )


def _require_safe(version: str) -> None:
    running = Version.parse(version)
    safe = SAFE_SINCE.get(running.series)
    if safe is not None and running < Version.parse(safe):
        raise ConfigurationError(
            "version",
            version,
            "with it, requests get past etcd's users, and watches past their keys (CVE-2026-33413, "
            "GHSA-xg4h-6gfc-h4m8)",
            f"choose {safe} or a newer patch, or leave users out",
        )


def _require_user(name: str, user: User, roles: Collection[str], members: Collection[str]) -> None:
    if name in (ROOT, OURS):
        raise ConfigurationError(
            f"users.{name}", name, "the name of a user that every cluster with users has", "choose another name"
        )
    if name in members:
        raise ConfigurationError(
            f"users.{name}",
            name,
            "the name of a member, whose own certificate may do everything",
            "choose another name",
        )
    if not user.roles:
        raise ConfigurationError(
            f"users.{name}.roles", None, "a user without a role may do nothing", "list at least one of roles, or root"
        )
    for role in user.roles:
        if role not in (*roles, ROOT):
            known = ", ".join([*roles, ROOT])
            raise ConfigurationError(f"users.{name}.roles", role, "not one of roles", f"choose one of {known}")


def _require_role(name: str, permissions: Sequence[Permission], users: Mapping[str, User]) -> None:
    if name in (ROOT, OURS):
        raise ConfigurationError(
            f"roles.{name}", name, "the name of a role that every cluster with users has", "choose another name"
        )
    if not any(name in user.roles for user in users.values()):
        raise ConfigurationError(f"roles.{name}", name, "no user has it", "list it with a user, or leave it out")
    if not permissions:
        raise ConfigurationError(
            f"roles.{name}", None, "a role without permissions may do nothing", "list at least one prefix or key"
        )
    seen = set[tuple[str | None, str | None]]()
    for number, permission in enumerate(permissions):
        key = f"roles.{name}[{number}]"
        _require_permission(key, permission)
        if (permission.prefix, permission.key) in seen:
            named = permission.key if permission.prefix is None else permission.prefix
            raise ConfigurationError(key, named, "listed twice in this role", "list it once, with the wider access")
        seen.add((permission.prefix, permission.key))


def _require_permission(key: str, permission: Permission) -> None:
    if permission.access not in get_args(Access):
        choices = ", ".join(get_args(Access))
        raise ConfigurationError(f"{key}.access", permission.access, "not one of these", f"choose one of {choices}")
    if (permission.prefix is None) == (permission.key is None):
        problem = "neither prefix nor key" if permission.prefix is None else "both prefix and key"
        raise ConfigurationError(key, None, problem, 'give one of the two; prefix: "" is for all keys')
    if permission.key == "":
        raise ConfigurationError(f"{key}.key", "", "no key is empty", 'give a key, or prefix: "" for all keys')
    text = permission.key if permission.prefix is None else permission.prefix
    if text and len(text.encode(errors="replace")) > LONGEST_KEY_BYTES:
        raise ConfigurationError(
            key, f"{text[:20]}...", f"longer than {LONGEST_KEY_BYTES:,} bytes", "choose a prefix that is shorter"
        )
    if text and not is_one_line(text):
        raise ConfigurationError(
            key, text, "it holds a control character or the end of a line", "choose keys whose names have none"
        )
