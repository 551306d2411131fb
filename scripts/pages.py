"""Makes the tables of docs/configuration.md and docs/etcd-settings.md from what the code declares.

`UPDATE_GOLDEN=1 scripts/test tests/unit/test_pages.py` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from etcd_cluster.arguments import Defragment, EtcdClusterArgs, Install
from etcd_cluster.backup.arguments import Backup, Keep
from etcd_cluster.backup.restore_arguments import Recover, RestoreInPlace
from etcd_cluster.dns import Dns
from etcd_cluster.etcd import options
from etcd_cluster.load_generator import ClientMachine, LoadGenerator
from etcd_cluster.machines.aws.arguments import AwsMachines
from etcd_cluster.machines.gcp.arguments import GcpMachines
from etcd_cluster.machines.hosts import Host
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.monitoring.arguments import Monitoring
from etcd_cluster.rclone import RcloneInstall
from etcd_cluster.ssh.login import Bastion, Ssh
from etcd_cluster.ssh.proxy_command import ProxyCommand
from etcd_cluster.stack_config import config_name
from etcd_cluster.typed import Between, argument_texts, hints
from etcd_cluster.users import Permission, User

DOCS = Path(__file__).parents[1] / "docs"
MARKED = re.compile(r"(<!-- made by scripts/pages\.py -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)

Block = tuple[str, type, Collection[str]]

BLOCKS: tuple[Block, ...] = (
    (
        "",
        EtcdClusterArgs,
        (
            "machines",
            "ca",
            "install",
            "dns",
            "backup",
            "defragment",
            "monitoring",
            "load_generator",
            "users",
            "roles",
            "etcd",
            "restore_in_place",
            "recover",
        ),
    ),
    ("hosts.NAME.", Host, ()),
    ("ssh.", Ssh, ("bastion", "proxy_command")),
    ("ssh.bastion.", Bastion, ()),
    ("ssh.proxyCommand.", ProxyCommand, ()),
    ("aws.", AwsMachines, ("bastion", "private_key", "proxy_command")),
    ("gcp.", GcpMachines, ("bastion", "private_key", "proxy_command")),
    ("local.", LocalMachines, ()),
    ("install.", Install, ()),
    ("defragment.", Defragment, ()),
)
LOAD_CHECK_BLOCKS: tuple[Block, ...] = (("loadGenerator.", LoadGenerator, ("client",)),)
LOAD_CLIENT_BLOCKS: tuple[Block, ...] = (("loadGenerator.client.", ClientMachine, ()),)
DNS_BLOCKS: tuple[Block, ...] = (("dns.", Dns, ()),)
BACKUP_BLOCKS: tuple[Block, ...] = (
    ("backup.", Backup, ("keep", "rclone")),
    ("backup.keep.", Keep, ()),
    ("backup.rclone.", RcloneInstall, ()),
)
RESTORE_BLOCKS: tuple[Block, ...] = (
    ("restoreInPlace.", RestoreInPlace, ()),
    ("recover.", Recover, ()),
)
MONITORING_BLOCKS: tuple[Block, ...] = (("monitoring.", Monitoring, ()),)
USERS_BLOCKS: tuple[Block, ...] = (
    ("users.NAME.", User, ()),
    ("roles.NAME[].", Permission, ()),
)
"""Each block of stack config: its prefix, the class that it is read into, and fields that are not read from it."""

TWO_WAYS = {"private_key": ("privateKeyFile", "privateKey")}
"""Fields with two keys: the path of a file, and the text that is in it."""

PLATFORM = "| `platform` | Required. Where members run: `local`, `hosts`, `aws` or `gcp` |"
HEADING = "| Key (`etcd-cluster:...`) | What it is |\n|---|---|\n"


def keys_table(blocks: Sequence[Block], *first: str) -> str:
    """Returns the table of the keys of some blocks of stack config, after the rows that are given."""
    rows = [row for prefix, kind, left_out in blocks for row in _rows(prefix, kind, left_out)]
    return HEADING + "".join(f"{row}\n" for row in [*first, *rows])


def _rows(prefix: str, kind: Any, left_out: Collection[str]) -> Iterator[str]:
    """Yields a row for each argument; arguments that the docstring explains together have one row."""
    together: dict[str, list[Any]] = {}
    for field in fields(kind):
        if field.name not in left_out:
            together.setdefault(argument_texts(kind)[field.name], []).append(field)
    for text, found in together.items():
        keys = [key for field in found for key in TWO_WAYS.get(field.name, (config_name(field.name),))]
        required = found[0].default is MISSING and found[0].default_factory is MISSING
        limits = {str(rule) for field in found for rule in _rules(hints(kind)[field.name]) if isinstance(rule, Between)}
        either = "The path of a file, or as a secret what is in it. " if len(keys) > len(found) else ""
        words = (
            f"{either}{'Required. ' if required else ''}{_in_config(text)}{''.join(f' ({limit})' for limit in limits)}"
        )
        yield f"| {', '.join(f'`{prefix}{key}`' for key in keys)} | {words} |"


def _rules(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield from get_args(hint)[1:]
    for argument in get_args(hint):
        yield from _rules(argument)


def _in_config(text: str) -> str:
    """Returns a docstring's sentence with the names and values of stack config."""
    text = re.sub(r"`?(?<![\w/])([a-z]+(?:_[a-z0-9]+)+)\b`?", lambda name: f"`{config_name(name[1])}`", text)
    text = re.sub(r"\b(True|False)\b", lambda value: f"`{value[1].lower()}`", text)
    return text.rstrip(".").replace("|", "\\|")


def settings_table() -> str:
    """Returns the table of etcd's settings that users may set."""
    heading = "| Setting | Value | Versions |\n|---|---|---|\n"
    return heading + "".join(f"| `{each.name}` | {_value(each)} | {_versions(each)} |\n" for each in options.SETTINGS)


def _value(setting: options.Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    bounds = options.bounds(setting)
    return (setting.kind.expected.partition(", such as")[0] + (f", {bounds}" if bounds else "")).replace("|", "\\|")


def _versions(setting: options.Setting) -> str:
    older = f"; as `experimental-{setting.name}` {_ranges(setting.experimental)}" if setting.experimental else ""
    return f"{_ranges(setting.releases)}{older}"


def _ranges(ranges: str) -> str:
    parts = [part.split("..") for part in ranges.split()]
    return ", ".join(f"{since} to before {until}" if until else f"{since} and later" for since, until in parts)


TABLES: Mapping[str, str] = {
    "configuration.md": keys_table(BLOCKS, PLATFORM),
    "backup.md": keys_table(BACKUP_BLOCKS),
    "recover.md": keys_table(RESTORE_BLOCKS),
    "names.md": keys_table(DNS_BLOCKS),
    "load-check.md": keys_table(LOAD_CHECK_BLOCKS),
    "load-from-a-client.md": keys_table(LOAD_CLIENT_BLOCKS),
    "monitoring.md": keys_table(MONITORING_BLOCKS),
    "etcd-settings.md": settings_table(),
    "users.md": keys_table(USERS_BLOCKS),
}


def with_table(page: str, table: str) -> str:
    """Returns a page with its marked part made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{table}{found[3]}", page)
