"""Turns a stack's config into typed arguments. Errors name every misspelt, mistyped or missing key with its path."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pulumi
from pulumi.runtime.config import CONFIG, is_config_secret

from etcd_cluster.errors import HIDDEN, ConfigurationError, SecretText, is_private_key, shown
from etcd_cluster.etcd.releases import DEFAULT_MIRROR, Pins
from etcd_cluster.etcd.versions import DEFAULT_VERSION
from etcd_cluster.machines.hosts import Host, HostMachines
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.machines.machine import Machines
from etcd_cluster.names import is_one_line
from etcd_cluster.pki.limits import CA_OVERLAP_HOURS
from etcd_cluster.settings import EtcdClusterArgs, Install
from etcd_cluster.ssh.login import Bastion, Ssh

if TYPE_CHECKING:
    from etcd_cluster.machines.aws.arguments import AwsMachines
    from etcd_cluster.machines.gcp.arguments import GcpMachines

NAMESPACE = "etcd-cluster"
SHOWN = ("platform", "size", "version")
"""Keys that every preview and the state show in the clear: they cannot be kept secret."""
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
    overlap_hours = keys.integer("caOverlapHours")
    arguments = EtcdClusterArgs(
        machines=_machines(keys),
        size=cast(Any, keys.text("size") or "small"),  # validated with the rest of the arguments
        members=keys.integer("members"),
        version=keys.text("version") or DEFAULT_VERSION,
        tls=keys.boolean("tls", True),
        ca_rotation=keys.integer("caRotation") or 0,
        ca_overlap_hours=CA_OVERLAP_HOURS if overlap_hours is None else overlap_hours,
        install=_install(keys.section("install")),
        etcd=keys.kept_secret("etcd", keys.mapping("etcd")),
        allow_undersized=keys.boolean("allowUndersized", False),
        allow_unsafe_version=keys.boolean("allowUnsafeVersion", False),
        allow_plaintext=keys.boolean("allowPlaintext", False),
        delete_data=keys.boolean("deleteData", False),
    )
    keys.done()
    return arguments


def _machines(keys: Keys) -> Machines:
    platform = keys.require("platform", "where members run: local, hosts, aws or gcp")
    ssh, hosts, local, aws, gcp = (keys.section(name) for name in ("ssh", "hosts", "local", "aws", "gcp"))
    if platform == "local":
        local.refuse_secret("directory")
        machines: Machines = LocalMachines(local.integer("basePort") or 2379, local.text("directory"))
    elif platform == "hosts":
        machines = HostMachines({name: _host(hosts.section(name)) for name in hosts.names()}, _ssh(ssh))
    elif platform == "aws":
        machines = _aws(aws, ssh)
    elif platform == "gcp":
        machines = _gcp(gcp, ssh)
    else:
        raise ConfigurationError("platform", platform, "unknown", "choose local, hosts, aws or gcp")
    for section in (ssh, hosts, local, aws, gcp):
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


def _aws(keys: Keys, ssh: Keys) -> AwsMachines:
    from etcd_cluster.machines.aws.arguments import AwsMachines  # lazily: no other platform needs it

    return AwsMachines(
        subnet_ids=keys.texts("subnetIds"),
        client_cidrs=keys.texts("clientCidrs"),
        client_security_group_ids=keys.texts("clientSecurityGroupIds"),
        ssh_cidrs=keys.texts("sshCidrs"),
        ssh_security_group_ids=keys.texts("sshSecurityGroupIds"),
        security_group_ids=keys.texts("securityGroupIds"),
        bastion=_bastion(ssh),
        instance_type=keys.text("instanceType"),
        image_id=keys.text("imageId"),
        volume_gib=keys.integer("volumeGib"),
        kms_key_id=keys.text("kmsKeyId"),
        private_key=_private_key(ssh),
        deletion_protection=keys.boolean("deletionProtection", False),
        retain_volumes=keys.boolean("retainVolumes", True),
        replace_member=keys.text("replaceMember"),
        replace_dead_member=keys.text("replaceDeadMember"),
        tags=keys.section("tags").all_texts(),
    )


def _gcp(keys: Keys, ssh: Keys) -> GcpMachines:
    from etcd_cluster.machines.gcp.arguments import GcpMachines  # lazily: no other platform needs it

    return GcpMachines(
        network=keys.require("network", "the name or link of the VPC network"),
        subnetwork=keys.require("subnetwork", "the name or link of the subnetwork"),
        zones=keys.texts("zones"),
        client_ranges=keys.texts("clientRanges"),
        client_tags=keys.texts("clientTags"),
        ssh_ranges=keys.texts("sshRanges"),
        ssh_tags=keys.texts("sshTags"),
        bastion=_bastion(ssh),
        machine_type=keys.text("machineType"),
        image=keys.text("image"),
        disk_gb=keys.integer("diskGb"),
        kms_key=keys.text("kmsKey"),
        private_key=_private_key(ssh),
        deletion_protection=keys.boolean("deletionProtection", False),
        retain_disks=keys.boolean("retainDisks", True),
        replace_member=keys.text("replaceMember"),
        replace_dead_member=keys.text("replaceDeadMember"),
        labels=keys.section("labels").all_texts(),
    )


def _bastion(ssh: Keys) -> Bastion | None:
    keys = ssh.section("bastion")
    if not keys.names():
        return None
    bastion = Bastion(
        address=keys.require("address", "the bastion's IP address or DNS name"),
        host_key=keys.require("hostKey", "the bastion's public SSH host key"),
        port=keys.integer("port") or 22,
        user=keys.text("user"),
        private_key=_private_key(keys),
    )
    keys.done()
    return bastion


def _ssh(keys: Keys) -> Ssh:
    return Ssh(
        user=keys.text("user") or "root",
        port=keys.integer("port") or 22,
        private_key=_private_key(keys),
        bastion=_bastion(keys),
    )


def _private_key(keys: Keys) -> pulumi.Input[str] | None:
    """Returns the key's text, given or read from a file; None for the agent. A preview elsewhere may lack the file."""
    text, path = keys.text("privateKey"), keys.text("privateKeyFile")
    if text is not None:
        return pulumi.Output.secret(text)
    if path is None:
        return None
    key = keys.full_name("privateKeyFile")
    if is_private_key(path) or not is_one_line(path):
        raise ConfigurationError(
            key, HIDDEN, "a key, where the path of a key belongs", "give the key itself as privateKey, with --secret"
        )
    try:
        file = Path(path).expanduser()
        if file.is_file():
            if Path(f"{file}-cert.pub").exists():
                pulumi.log.warn(
                    f"{key}: {shown(path)}: the certificate beside it is not used, since Pulumi's command provider "
                    "logs in with a key alone. Where hosts ask for the certificate, leave privateKeyFile out and load "
                    "both into the SSH agent (`ssh-add`)"
                )
            return pulumi.Output.secret(file.read_text())
    except (OSError, RuntimeError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "cannot be read"
        raise ConfigurationError(key, path, problem, "give the path of an SSH private key") from None
    if not pulumi.runtime.is_dry_run():
        raise ConfigurationError(key, path, "no such file", "give the path of an SSH private key")
    pulumi.log.warn(f"{key}: {shown(path)}: no such file here; `pulumi up` will need it")
    return pulumi.Output.secret("")


def _install(keys: Keys) -> Install:
    install = Install(
        source=cast(Any, keys.text("from")),  # validated with the rest of the arguments
        mirror=keys.text("mirror") or DEFAULT_MIRROR,
        sha256=keys.text_or_texts("sha256"),
        archive=keys.text("archive"),
        go_proxy=keys.text("goProxy"),
    )
    keys.done()
    return install


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

    def integer(self, name: str) -> int | None:
        """Takes one whole number; None if absent."""
        return self._take(name, _integer, "a whole number")

    def boolean(self, name: str, default: bool) -> bool:
        """Takes True or False; `default` if absent."""
        value = self._take(name, _boolean, "true or false")
        return default if value is None else value

    def texts(self, name: str) -> list[str]:
        """Takes a list of texts; empty if absent."""
        return self._take(name, _texts, "a list of texts") or []

    def text_or_texts(self, name: str) -> Pins | None:
        """Takes one text, or a block of them by name."""
        return self._take(name, _text_or_texts, "text, or a block of texts")

    def all_texts(self) -> dict[str, str]:
        """Takes every key that is left, with its text."""
        return {name: self.text(name) or "" for name in self.names()}

    def require(self, name: str, meaning: str) -> str:
        """Takes one text. Raises `ConfigurationError`, which explains it by `meaning`, if absent or empty."""
        value = self.text(name)
        if not value:
            raise ConfigurationError(self.full_name(name), value, "missing", f"give {meaning}")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Takes a block as it stands; empty if absent."""
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
                self.full_name(name), HIDDEN, "not a block of keys", "write `key: value` lines below it"
            )
        return cast(dict[str, Any], value)

    def section(self, name: str) -> Keys:
        """Takes a block, whose keys are taken one by one; empty if absent."""
        values = self.mapping(name)
        return Keys(f"{self.full_name(name)}.", values, values if name in self._secrets else ())

    def done(self) -> None:
        """Raises `ConfigurationError` for a key that was not taken."""
        for name in self._values:
            near = difflib.get_close_matches(name, self._known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(self._known))}"
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


def _text_or_texts(value: Any) -> Any:
    if not isinstance(value, dict):
        return _text(value)
    block = cast("dict[str, Any]", value)
    return block if all(isinstance(each, str) for each in block.values()) else None


def _integer(value: Any) -> int | None:
    """Reads a number: `pulumi config set` writes numbers as text, and Pulumi makes some of them floats."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value))
