"""Makes the texts of the files that set a machine's backups up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from etcd_cluster.backup.arguments import interval_seconds
from etcd_cluster.backup.store import StoreUrl, rclone_configuration
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout

RUN_SECONDS = 6 * 3600
"""Limit for one backup with its test: snapshot, transport of 8 GiB, and a restore."""


@dataclass(frozen=True)
class Schedule:
    """When backups are made, and what is kept.

    Args:
        every_seconds: Time between two backups.
        last: The newest backups that are kept.
        daily: Days of which one is kept.
        weekly: Weeks of which one is kept.
        test: daily, weekly or never.
        append_only: Nothing is deleted.
    """

    every_seconds: int
    last: int
    daily: int
    weekly: int
    test: str
    append_only: bool


def schedule_of(props: Mapping[str, Any]) -> Schedule:
    """Returns when backups are made, and what is kept, by the properties of a BackupSchedule."""
    keep = props["keep"]
    return Schedule(
        every_seconds=interval_seconds(props["every"]),
        last=int(keep["last"]),
        daily=int(keep["daily"]),
        weekly=int(keep["weekly"]),
        test=props["test"],
        append_only=props["append_only"] is True,
    )


@dataclass(frozen=True)
class MemberPlace:
    """One member, as far as its backups need to know it.

    Args:
        name: Its name.
        layout: Where its files are.
        ports: Its ports.
    """

    name: str
    layout: Layout
    ports: Ports


def variables(
    cluster: str, token: str, member: MemberPlace, store: StoreUrl, shown: str, schedule: Schedule
) -> dict[str, str]:
    """Returns the shell variables of backup.sh. No credentials are among them."""
    folder = f"{member.layout.configuration}/backup"
    return {
        **render.port_variables(member.ports),
        "cluster": cluster,
        "token": token,
        "backup_parent": store.root,
        "backup_store": store.folder(token),
        "backup_root": store.path if store.scheme == "file" else "",
        "backup_shown": shown,
        "backup_every": str(schedule.every_seconds),
        "backup_test": schedule.test,
        "backup_append_only": "yes" if schedule.append_only else "",
        "keep_last": str(schedule.last),
        "keep_daily": str(schedule.daily),
        "keep_weekly": str(schedule.weekly),
        "rclone_program": f"{folder}/rclone",
        "rclone_configuration": f"{folder}/rclone.conf",
        "retention": retention(),
    }


def set_up_variables(
    member: MemberPlace, own: Mapping[str, str], store: StoreUrl, given: Mapping[str, str], token: str, every: str
) -> dict[str, str]:
    """Returns the shell variables of backup_setup.sh. The file of credentials is among them.

    Args:
        member: The member.
        own: What `variables` returned for it.
        store: The store.
        given: Credentials, and what else rclone is configured with.
        token: Token of the cluster.
        every: Time between two backups, such as 1h.
    """
    folder = f"{member.layout.configuration}/backup"
    program = render.script("backup", member.layout, own)
    host_key = given.get("host_key", "")
    texts = {
        "program": program,
        "configuration": rclone_configuration(store, given, f"{folder}/known_hosts"),
        "store_ca": given.get("ca", ""),
        "known_hosts": f"{known_host(store)} {host_key}\n" if host_key else "",
        "service": service_unit(member, token),
        "timer": timer_unit(token, every),
    }
    return {**own, **{f"file_{name}": render.encode(text) for name, text in texts.items()}}


def restore_variables(
    cluster: str,
    token: str,
    member: MemberPlace,
    store: StoreUrl | None,
    shown: str,
    given: Mapping[str, str],
    rclone: str,
) -> dict[str, str]:
    """Returns the shell variables of restore.sh. The file of credentials is among them; it is there for a step alone.

    Args:
        cluster: PROJECT/STACK/NAME.
        token: Token of the cluster.
        member: The member.
        store: The store; None if nothing is taken from one.
        shown: How the user named it.
        given: Credentials, and what else rclone is configured with.
        rclone: Path of rclone on the machine.
    """
    folder = f"{member.layout.state}/store"
    known = {**render.port_variables(member.ports), "cluster": cluster, "token": token}
    if store is None:
        return known
    host_key = given.get("host_key", "")
    texts = {
        "configuration": rclone_configuration(store, given, f"{folder}/known_hosts"),
        "store_ca": given.get("ca", ""),
        "known_hosts": f"{known_host(store)} {host_key}\n" if host_key else "",
    }
    return {
        **known,
        "backup_parent": store.root,
        "backup_shown": shown,
        "rclone_placed": rclone,
        **{f"file_{name}": render.encode(text) for name, text in texts.items()},
    }


def known_host(store: StoreUrl) -> str:
    """Returns the name of an sftp server in a file of known hosts."""
    return store.host if store.port == 22 else f"[{store.host}]:{store.port}"


@cache
def retention() -> str:
    """Returns the rule of what is kept, an awk program."""
    return _script("retention.awk")


@cache
def store_problem_script() -> str:
    """Returns a program for bash that explains what rclone said, which it reads; its argument names the store."""
    functions = f"pki_path=''\n{_script('common.sh')}\n{_script('store.sh')}"
    return f'{functions}\nbackup_shown=$1\nstore_problem "$(tail -c 20000)"\n'


def _script(name: str) -> str:
    text = (files("etcd_cluster.member") / "scripts" / name).read_text()
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def service_unit(member: MemberPlace, token: str) -> str:
    """Returns the service that makes one backup, at the lowest priority. It may reach the metadata service."""
    return f"""\
{render.owner_line(token)}
[Unit]
Description=Backup of etcd
Documentation=https://etcd.io/docs/
Wants=network-online.target
After=network-online.target time-sync.target etcd-cluster.service

[Service]
Type=oneshot
StandardInput=file:{member.layout.configuration}/backup/program
ExecStart=/usr/bin/env bash -s -- backup member={member.name}
TimeoutStartSec={RUN_SECONDS}
Nice=15
IOSchedulingClass=idle
CPUWeight=20
UMask=0077
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes
NoNewPrivileges=no
"""


def timer_unit(token: str, every: str) -> str:
    """Returns the timer. A slot that passes while the machine is off is made up for once, when it is back."""
    number, unit = int(every[:-1]), every[-1]
    hours = "00" if number == 24 else f"0/{number}"
    calendar = f"*:0/{number}:00" if unit == "m" else f"{hours}:00:00"
    return f"""\
{render.owner_line(token)}
[Unit]
Description=Time of etcd's backups

[Timer]
OnCalendar=*-*-* {calendar} UTC
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
