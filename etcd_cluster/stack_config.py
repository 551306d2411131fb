"""From a stack's config to typed arguments. Every key that is misspelt, mistyped or missing is named with its path."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pulumi
from pulumi.runtime.config import CONFIG

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.install.sources import DEFAULT_MIRROR
from etcd_cluster.machines import Bastion, Host, HostMachines, LocalMachines, Machines, Ssh
from etcd_cluster.settings import EtcdClusterArgs, Install
from etcd_cluster.versions import DEFAULT_VERSION

NAMESPACE = "etcd-cluster"

T = TypeVar("T")


def args_from_stack_config() -> EtcdClusterArgs:
    """The arguments that the current stack's config asks for; raises `ConfigurationError` naming key, value and fix."""
    prefix = f"{NAMESPACE}:"
    values = {key.removeprefix(prefix): value for key, value in CONFIG.get().items() if key.startswith(prefix)}
    keys = Keys("", values)
    arguments = EtcdClusterArgs(
        machines=_machines(keys),
        size=cast(Any, keys.text("size") or "small"),  # validated with the rest of the arguments
        members=keys.integer("members"),
        version=keys.text("version") or DEFAULT_VERSION,
        tls=keys.boolean("tls", True),
        install=_install(keys.section("install")),
        etcd=keys.mapping("etcd"),
        allow_undersized=keys.boolean("allowUndersized", False),
        allow_unsafe_version=keys.boolean("allowUnsafeVersion", False),
        delete_data=keys.boolean("deleteData", False),
    )
    keys.done()
    return arguments


def _machines(keys: Keys) -> Machines:
    platform = keys.require("platform", "where members run: local or hosts")
    ssh, hosts, local = keys.section("ssh"), keys.section("hosts"), keys.section("local")
    if platform == "local":
        machines: Machines = LocalMachines(local.integer("basePort") or 2379, local.text("directory"))
    elif platform == "hosts":
        machines = HostMachines({name: _host(hosts.section(name)) for name in hosts.names()}, _ssh(ssh))
    else:
        raise ConfigurationError("platform", platform, "unknown", "choose local or hosts")
    for section in (ssh, hosts, local):
        section.done()
    return machines


def _host(keys: Keys) -> Host:
    host = Host(
        address=keys.require("address", "its IP address or DNS name"),
        host_key=keys.require("hostKey", "its public SSH host key, /etc/ssh/ssh_host_ed25519_key.pub on the host"),
        ssh_address=keys.text("sshAddress"),
        device=keys.text("device"),
    )
    keys.done()
    return host


def _ssh(keys: Keys) -> Ssh:
    bastion_keys = keys.section("bastion")
    bastion = None
    if bastion_keys.names():
        bastion = Bastion(
            address=bastion_keys.require("address", "the bastion's IP address or DNS name"),
            host_key=bastion_keys.require("hostKey", "the bastion's public SSH host key"),
            port=bastion_keys.integer("port") or 22,
            user=bastion_keys.text("user"),
            private_key=_private_key(bastion_keys),
        )
    bastion_keys.done()
    return Ssh(
        user=keys.text("user") or "root",
        port=keys.integer("port") or 22,
        private_key=_private_key(keys),
        bastion=bastion,
    )


def _private_key(keys: Keys) -> pulumi.Input[str] | None:
    """The key's text, given or read from a file; None for the agent. A preview elsewhere may well lack the file."""
    text, path = keys.text("privateKey"), keys.text("privateKeyFile")
    if text is not None:
        return pulumi.Output.secret(text)
    if path is None:
        return None
    file = Path(path).expanduser()
    if file.is_file():
        return pulumi.Output.secret(file.read_text())
    if not pulumi.runtime.is_dry_run():
        raise ConfigurationError(
            keys.full_name("privateKeyFile"), path, "no such file", "give the path of an SSH private key"
        )
    pulumi.log.warn(f"{keys.full_name('privateKeyFile')}: {path}: no such file here; `pulumi up` will need it")
    return pulumi.Output.secret("")


def _install(keys: Keys) -> Install:
    install = Install(
        source=cast(Any, keys.text("from")),  # validated with the rest of the arguments
        mirror=keys.text("mirror") or DEFAULT_MIRROR,
        sha256=keys.text("sha256"),
        archive=keys.text("archive"),
        go_proxy=keys.text("goProxy"),
    )
    keys.done()
    return install


class Keys:
    """One block of config, whose keys are taken one by one; `done` then refuses what nobody asked for.

    Values come as `pulumi config set` and YAML give them: text for scalars at the top, JSON for blocks, and native
    types inside. Error texts show no value that could be a secret.
    """

    def __init__(self, path: str, values: Mapping[str, Any]) -> None:
        self._path = path
        self._values = dict(values)
        self._known: list[str] = []

    def full_name(self, name: str) -> str:
        return f"{self._path}{name}"

    def names(self) -> list[str]:
        """The keys that are left."""
        return list(self._values)

    def text(self, name: str) -> str | None:
        return self._take(name, _text, "text")

    def integer(self, name: str) -> int | None:
        return self._take(name, _integer, "a whole number")

    def boolean(self, name: str, default: bool) -> bool:
        value = self._take(name, _boolean, "true or false")
        return default if value is None else value

    def require(self, name: str, meaning: str) -> str:
        value = self.text(name)
        if not value:
            raise ConfigurationError(self.full_name(name), value, "missing", f"give {meaning}")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """A block as it stands; empty if absent."""
        self._known.append(name)
        value = self._values.pop(name, None)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = ...
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ConfigurationError(
                self.full_name(name), "(not shown)", "not a block of keys", "write `key: value` lines below it"
            )
        return cast(dict[str, Any], value)

    def section(self, name: str) -> Keys:
        return Keys(f"{self.full_name(name)}.", self.mapping(name))

    def done(self) -> None:
        for name in self._values:
            near = difflib.get_close_matches(name, self._known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(self._known))}"
            raise ConfigurationError(self._path.rstrip(".") or "config", name, "unknown key", fix)

    def _take(self, name: str, convert: Callable[[Any], T | None], kind: str) -> T | None:
        self._known.append(name)
        value = self._values.pop(name, None)
        if value is None:
            return None
        converted = convert(value)
        if converted is None:
            shown = value if "key" not in name.lower() else "(not shown)"
            raise ConfigurationError(self.full_name(name), shown, f"not {kind}", f"write {kind}")
        return converted


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    """`pulumi config set` writes numbers as text, and some of Pulumi's ways make them floats."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value))
