"""Turns a stack's config into typed arguments. Errors name every misspelt, mistyped or missing key with its path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import pulumi
from pulumi.runtime.config import CONFIG, is_config_secret

from etcd_cluster.arguments import Defragment, EtcdClusterArgs, Install
from etcd_cluster.backup.arguments import Backup, Keep
from etcd_cluster.backup.restore_arguments import Recover, RestoreInPlace
from etcd_cluster.dns import Dns
from etcd_cluster.errors import HIDDEN, ConfigurationError, SecretText, is_private_key, shown
from etcd_cluster.load_generator import ClientMachine, LoadGenerator
from etcd_cluster.machines.hosts import Host, HostMachines
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.machines.machine import Machines
from etcd_cluster.monitoring.arguments import Monitoring
from etcd_cluster.names import nearest, require_file
from etcd_cluster.rclone import RcloneInstall
from etcd_cluster.ssh.key_texts import require_private_key
from etcd_cluster.ssh.login import Bastion, Ssh
from etcd_cluster.ssh.missing_key import MissingKey
from etcd_cluster.ssh.proxy_command import ProxyCommand
from etcd_cluster.typed import argument_texts, camel_case, hints, plain_type
from etcd_cluster.users import Permission, User

NAMESPACE = "etcd-cluster"
SHOWN = ("platform", "size", "version", "users", "roles")
"""Keys that every preview and the state show in the clear: they cannot be kept secret."""
CONFIG_NAMES = {"source": "from"}
"""Fields whose key in stack config has another name than their own in camelCase."""
CONFIG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

T = TypeVar("T")


def args_from_stack_config() -> EtcdClusterArgs:
    """Returns the arguments in the current stack's config; raises `ConfigurationError` naming key, value and fix."""
    prefix = f"{NAMESPACE}:"
    values = {key.removeprefix(prefix): value for key, value in CONFIG.get().items() if key.startswith(prefix)}
    # Pulumi reports of a top-level key that it, or something below it, is a secret.
    keys = Keys("", values, {key for key in values if is_config_secret(f"{prefix}{key}")})
    for name in SHOWN:
        keys.refuse_secret(name)
    return read(
        EtcdClusterArgs,
        keys,
        machines=_machines(keys),
        install=read(Install, keys.section("install")),
        dns=_dns(keys),
        backup=_backup(keys.section("backup")),
        restore_in_place=_block(RestoreInPlace, keys.section("restoreInPlace")),
        recover=_block(Recover, keys.section("recover")),
        load_generator=_load_generator(keys.section("loadGenerator")),
        monitoring=_monitoring(keys),
        users=_users(keys.section("users")),
        roles=_roles(keys.section("roles")),
        defragment=_defragment(keys),
        etcd=keys.kept_secret("etcd", keys.mapping("etcd")),
        ca=None,
    )


def read(kind: type[T], keys: Keys, **given: Any) -> T:
    """Reads a whole block into a class: each field by its type, from the key of its name.

    Args:
        kind: The class, a dataclass. A field whose key is absent keeps its default.
        keys: The block. A key that is no field is refused.
        **given: Fields that have been read already.
    """
    declared: Any = kind
    values, missing = dict(given), list[str]()
    for field in fields(declared):
        if field.name in given:
            continue
        value = keys.take(config_name(field.name), hints(declared)[field.name])
        if value is not None:
            values[field.name] = value
        elif field.default is MISSING and field.default_factory is MISSING:
            missing.append(field.name)
    keys.done()
    for name in missing:
        keys.refuse_missing(config_name(name), argument_texts(declared)[name])
    return kind(**values)


def config_name(field: str) -> str:
    """Returns the key of a field in stack config."""
    return CONFIG_NAMES.get(field) or camel_case(field)


def _machines(keys: Keys) -> Machines:
    platform = keys.require("platform", "where members run: local, hosts, aws or gcp")
    ssh, hosts, local, aws, gcp = (keys.section(name) for name in ("ssh", "hosts", "local", "aws", "gcp"))
    if platform == "local":
        local.refuse_secret("directory")
        machines: Machines = read(LocalMachines, local)
    elif platform == "hosts":
        machines = HostMachines(
            {name: read(Host, hosts.section(name)) for name in hosts.names()},
            read(Ssh, ssh, **_login(ssh)),
        )
    elif platform == "aws":
        from etcd_cluster.machines.aws.arguments import AwsMachines  # lazily: no other platform needs it

        machines = read(AwsMachines, aws, **_login(ssh))
    elif platform == "gcp":
        from etcd_cluster.machines.gcp.arguments import GcpMachines  # lazily: no other platform needs it

        machines = read(GcpMachines, gcp, **_login(ssh))
    else:
        raise ConfigurationError("platform", platform, "unknown", "choose local, hosts, aws or gcp")
    for section in (ssh, hosts, local, aws, gcp):
        section.done()
    return machines


def _login(ssh: Keys) -> dict[str, Any]:
    """Returns what is read of `ssh` on every platform: the key, and the way."""
    command = ssh.section("proxyCommand")
    return {
        "private_key": _private_key(ssh),
        "bastion": _bastion(ssh),
        "proxy_command": read(ProxyCommand, command) if command.names() else None,
    }


def _load_generator(keys: Keys) -> LoadGenerator:
    client = keys.section("client")
    given = read(ClientMachine, client, private_key=_private_key(client)) if client.names() else None
    return read(LoadGenerator, keys, client=given)


def _bastion(ssh: Keys) -> Bastion | None:
    keys = ssh.section("bastion")
    return read(Bastion, keys, private_key=_private_key(keys)) if keys.names() else None


def _dns(keys: Keys) -> Dns | None:
    keys.refuse_secret("dns")  # names of resources, and of certificates, which everybody sees
    block = keys.section("dns")
    return read(Dns, block) if block.names() else None


def _backup(keys: Keys) -> Backup | None:
    if not keys.names():
        return None
    keep, rclone = read(Keep, keys.section("keep")), read(RcloneInstall, keys.section("rclone"))
    return read(Backup, keys, keep=keep, rclone=rclone, private_key=_private_key(keys))


def _block(kind: type[T], keys: Keys) -> T | None:
    """Reads a block that may be absent."""
    return read(kind, keys) if keys.names() else None


def _monitoring(keys: Keys) -> Monitoring | None:
    """Returns the arguments; an empty block, `monitoring: {}`, exposes the metrics with all defaults."""
    is_given = "monitoring" in keys.names()
    section = keys.section("monitoring")
    return read(Monitoring, section) if is_given else None


def _users(keys: Keys) -> dict[str, User]:
    return {name: read(User, keys.section(name)) for name in keys.names()}


def _roles(keys: Keys) -> dict[str, list[Permission]]:
    return {name: [read(Permission, each) for each in keys.sections(name)] for name in keys.names()}


def _defragment(keys: Keys) -> Defragment | None:
    is_given = "defragment" in keys.names()
    section = keys.section("defragment")
    return read(Defragment, section) if is_given else None


def _private_key(keys: Keys) -> pulumi.Input[str] | None:
    """Returns the key's text, given or read from a file; None for the agent."""
    text, path = keys.text("privateKey"), keys.text("privateKeyFile")
    if text is not None and path is not None:
        raise ConfigurationError(
            keys.full_name("privateKeyFile"), HIDDEN, "privateKey is given as well", "take one of the two out"
        )
    if text is not None:
        return pulumi.Output.secret(require_private_key(keys.full_name("privateKey"), text))
    if path is None:
        return None
    key = _text_of_key(keys.full_name("privateKeyFile"), path)
    return key if isinstance(key, MissingKey) else pulumi.Output.secret(key)


def _text_of_key(key: str, path: str) -> str:
    """Returns what is in the file of a private key; a `MissingKey` if a preview elsewhere lacks the file."""
    if is_private_key(path):
        raise ConfigurationError(
            key, HIDDEN, "a key, where the path of a key belongs", "give the key itself as privateKey, with --secret"
        )
    file = Path(require_file(key, path)).expanduser()
    try:
        exists = file.exists()
        if exists and not file.is_file():
            raise ValueError
        text = file.read_text() if exists else ""
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "not a file of text"
        raise ConfigurationError(key, path, problem, "give the path of an SSH private key") from None
    if not exists and pulumi.runtime.is_dry_run():
        return MissingKey()
    if not text.strip():
        problem = "the file is empty" if exists else "no such file"
        raise ConfigurationError(key, path, problem, "give the path of an SSH private key")
    if Path(f"{file}-cert.pub").exists():
        pulumi.log.warn(
            f"{key}: {shown(path)}: the certificate beside it is not used, since Pulumi's command provider "
            "logs in with a key alone. Where hosts ask for the certificate, leave privateKeyFile out and load "
            "both into the SSH agent (`ssh-add`)"
        )
    return require_private_key(key, text)


class Keys:
    """One block of config, whose keys are taken one by one; `done` then refuses keys that were not taken.

    Values come as `pulumi config set` and YAML give them: text for scalars at the top, JSON for blocks, and native
    types inside. Error texts show no value that could be a secret, nor names of keys that are no names.

    Args:
        secrets: The keys that are secret, or hold a secret. Their texts become `SecretText`.
    """

    def __init__(self, path: str, values: Mapping[str, Any], secrets: Collection[str] = ()) -> None:
        self._path = path
        self._values = dict(values)
        self._secrets = frozenset(secrets)
        self._known: list[str] = []

    def refuse_secret(self, name: str) -> None:
        """Refuses a secret value of a key that cannot be kept secret."""
        if name in self._secrets and name in self._values:
            raise ConfigurationError(
                self.full_name(name),
                HIDDEN,
                "a secret, which previews and state would show",
                "set it without --secret",
            )

    def kept_secret(self, name: str, value: Any) -> Any:
        """Returns `value` of a key; if the key is secret, every scalar in it is a `SecretText`."""
        return _secret(value) if name in self._secrets else value

    def full_name(self, name: str) -> str:
        """Returns the key with the path to it, as errors name it."""
        return f"{self._path}{name}"

    def names(self) -> list[str]:
        """Returns the keys that are left."""
        return list(self._values)

    def text(self, name: str) -> str | None:
        """Takes one text; None if absent."""
        return self._take(name, _text, "text")

    def take(self, name: str, hint: Any) -> Any:
        """Takes one value of the type that a class declares; None if absent."""
        base = plain_type(hint)
        if base is dict:
            return self.section(name).all_texts()
        return self._take(name, *READERS[base])

    def all_texts(self) -> dict[str, str]:
        """Takes every key that is left, with its text, which may be empty."""
        found: dict[str, str] = {}
        for name in self.names():
            text = self.text(name)
            if text is None:
                self.refuse_missing(name, "a text, which may be empty")
            found[name] = text
        return found

    def refuse_missing(self, name: str, meaning: str) -> NoReturn:
        """Raises `ConfigurationError` for a key without a value, which is explained by `meaning`."""
        raise ConfigurationError(self.full_name(name), None, "missing", f"give it: {meaning}")

    def require(self, name: str, meaning: str) -> str:
        """Takes one text. Raises `ConfigurationError`, which explains it by `meaning`, if absent or empty."""
        value = self.text(name)
        if not value:
            self.refuse_missing(name, meaning)
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Takes a block as it stands; empty if absent."""
        self._known.append(name)
        value = self._values.pop(name, None)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = ...
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ConfigurationError(
                self.full_name(name), HIDDEN, "not a block of keys", "write `key: value` lines below it"
            )
        return cast(dict[str, Any], value)

    def section(self, name: str) -> Keys:
        """Takes a block, whose keys are taken one by one; empty if absent."""
        values = self.mapping(name)
        return Keys(f"{self.full_name(name)}.", values, values if name in self._secrets else ())

    def sections(self, name: str) -> list[Keys]:
        """Takes a list of blocks; empty if absent."""
        listed = self._take(name, _blocks, "a list of blocks") or []
        return [Keys(f"{self.full_name(name)}[{number}].", each) for number, each in enumerate(listed)]

    def done(self) -> None:
        """Raises `ConfigurationError` for a key that was not taken."""
        for name in self._values:
            near = nearest(name, self._known)
            fix = f"did you mean {near}?" if near else f"known here: {', '.join(sorted(self._known))}"
            readable = CONFIG_KEY.fullmatch(name) and not (self._path and name in self._secrets)
            raise ConfigurationError(
                self._path.rstrip(".") or "config", name if readable else HIDDEN, "unknown key", fix
            )

    def _take(self, name: str, convert: Callable[[Any], T | None], kind: str) -> T | None:
        self._known.append(name)
        value = self._values.pop(name, None)
        if value is None:
            return None
        converted = convert(value)
        if converted is None:
            hidden = name in self._secrets or "key" in name.lower()
            raise ConfigurationError(self.full_name(name), HIDDEN if hidden else value, f"not {kind}", f"write {kind}")
        return cast(T, self.kept_secret(name, converted)) if isinstance(converted, str | list | dict) else converted


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _secret(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _secret(item) for name, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_secret(item) for item in cast("list[object]", value)]
    if isinstance(value, bool):
        return SecretText(str(value).lower())
    if isinstance(value, float) and value.is_integer():
        return SecretText(int(value))
    return value if value is None else SecretText(value)


def _texts(value: Any) -> list[str] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return [item for item in items if isinstance(item, str)] if all(isinstance(item, str) for item in items) else None


def _blocks(value: Any) -> list[Mapping[str, Any]] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return (
        [cast("Mapping[str, Any]", each) for each in items] if all(isinstance(each, dict) for each in items) else None
    )


def _text_or_texts(value: Any) -> Any:
    if not isinstance(value, dict):
        return _text(value)
    block = cast("dict[str, Any]", value)
    return block if all(isinstance(each, str) for each in block.values()) else None


def _integer(value: Any) -> int | None:
    """Reads a number: `pulumi config set` writes numbers as text, and Pulumi makes some of them floats."""
    if isinstance(value, str):
        return int(value.partition(".")[0]) if re.fullmatch(r"-?[0-9]{1,18}(\.0+)?", value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    """Reads a number with or without a fraction: `pulumi config set` writes numbers as text."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


READERS: Mapping[Any, tuple[Callable[[Any], Any], str]] = {
    str: (_text, "text"),
    int: (_integer, "a whole number"),
    float: (_number, "a number"),
    bool: (_boolean, "true or false"),
    list: (_texts, "a list of texts"),
    object: (_text_or_texts, "text, or a block of texts"),
}
