"""What is wrong is said before anything is changed: with the value, the place, and what to do about it."""

from __future__ import annotations

import base64
import re
import shlex
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.hosts import Host, Lab
from tests.lab.stack import Run, Stack, host_config
from tests.unit.keys import host_key, private_key

Config = dict[str, Any]
NOBODY = "10.77.0.200"
UNREACHABLE_SECONDS = 200

# All that an `up` could leave on a host: files, units, users, file systems.
FINGERPRINT = """
find /etc /home /opt /root /usr/local /data /var/lib /var/tmp /tmp -xdev -printf '%p %m %u %s %T@\\n' 2> /dev/null |
    grep -vE '^/(etc|var/lib|tmp) |chrony|systemd/timesync|random-seed' | sort
systemctl list-unit-files --no-legend 'etcd*' 'data*' 2> /dev/null
getent passwd etcd
cat /proc/mounts | grep -w xvdf
head -c 4194304 /dev/xvdf | sha256sum
pgrep -x etcd
true
"""


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    """Two hosts, for tests that leave them as they were."""
    pair = lab.hosts(2)
    for host in pair:
        host.run("sudo -n true", user="admin")  # the first time, sudo leaves a note
    return pair


@pytest.fixture
def host(hosts: list[Host]) -> Host:
    return hosts[0]


def refused_up(lab: Lab, folder: Path, config: Mapping[str, Any], *hosts: Host) -> Run:
    """An `up` that fails and leaves every one of the hosts as it was."""
    with unchanged(*hosts):
        run = Stack(lab, folder, config).up(check=False)
    assert run.returncode != 0, run.output
    return run


@contextmanager
def unchanged(*hosts: Host) -> Iterator[None]:
    """Fails if the block leaves a trace on one of the hosts."""
    before = [fingerprint(host) for host in hosts]
    yield
    traces = {host.name: fingerprint(host) ^ lines for host, lines in zip(hosts, before, strict=True)}
    assert traces == {host.name: set() for host in hosts}


def fingerprint(host: Host) -> set[str]:
    return set(host.run(FINGERPRINT).stdout.splitlines())


def says(run: Run, *texts: str) -> None:
    """Every text, as a pattern, is in one line of what the run printed."""
    pattern = ".*".join(texts)
    assert re.search(pattern, run.output), f"{pattern}\n{run.output}"


# --- the config, before any machine is asked ---

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDuzmC2YbFYbJYr4QEBIQzmDQVwTjH8EGYUpDGmNFqTS"


def fictional_config(count: int, **changes: Any) -> Config:
    hosts = {
        f"host-{number}": {"address": f"192.0.2.{number}", "hostKey": host_key(number)}
        for number in range(1, count + 1)
    }
    return {"platform": "hosts", "ssh": {"privateKey": private_key()}, "hosts": hosts, **changes}


def with_host(name: str, **changes: Any) -> Config:
    config = fictional_config(3)
    block = {**config["hosts"]["host-3"], **changes}
    del config["hosts"]["host-3"]
    config["hosts"][name] = {key: value for key, value in block.items() if value is not None}
    return config


CONFIGS: dict[str, tuple[Config, list[str]]] = {
    "unknown size": (fictional_config(3, size="tiny"), [r"size: \"tiny\"", "Choose one of small, medium"]),
    "no version": (fictional_config(3, version="3.6"), [r"version: \"3.6\"", r"Use 3\.6\.\d+"]),
    "unsupported version": (fictional_config(3, version="3.3.27"), [r"version: \"3.3.27\"", r"Use 3\.6\.\d+"]),
    "version that corrupts data": (
        fictional_config(3, version="3.5.1"),
        [r"version: \"3.5.1\"", "loses transactions", r"Use 3\.5\.\d+", "allowUnsafeVersion"],
    ),
    "misspelt key": (fictional_config(3, verison="3.6.16"), ["verison", "unknown key", "Did you mean version"]),
    "misspelt setting of etcd": (
        fictional_config(3, etcd={"heartbeat-intervall": 100}),
        ["etcd.heartbeat-intervall", "Use heartbeat-interval"],
    ),
    "unknown platform": (
        fictional_config(3, platform="mainframe"),
        [r"platform: \"mainframe\"", "Choose local, hosts, aws or gcp"],
    ),
    "two hosts": (fictional_config(2), ["hosts: 2", "tolerates no more failures", "Choose 1, 3, 5 or 7"]),
    "four members": (fictional_config(4, members=4), ["members: 4", "Choose 1, 3, 5 or 7"]),
    "no hosts": (fictional_config(0), ["hosts", "no host is listed", "List 1, 3, 5 or 7 hosts"]),
    "one address twice": (with_host("host-3", address="192.0.2.1"), ["hosts.host-3.address", "host-1 has the same"]),
    "no host key": (with_host("host-3", hostKey=None), ["hosts.host-3.hostKey", "missing", "ssh_host_ed25519_key.pub"]),
    "unusable name": (with_host("Host_3"), ["hosts.Host_3", "lower-case letters"]),
    "no such key file": (
        fictional_config(3, ssh={"privateKeyFile": "/no/such/key"}),
        ["ssh.privateKeyFile", "/no/such/key", "no such file"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", CONFIGS)
def test_a_config_that_cannot_work_is_refused_before_anything_else(lab: Lab, tmp_path: Path, problem: str) -> None:
    config, texts = CONFIGS[problem]
    run = refused_up(lab, tmp_path, config)
    says(run, *texts)
    assert "creating" not in run.output


# --- the machine ---


def lvm_label() -> bytes:
    """The first KiB of a physical volume of LVM."""
    body = struct.pack("<I8s", 32, b"LVM2 001") + b"0123456789abcdefghijklmnopqrstuv"
    body = body.ljust(512 - 20, b"\0")
    initial = 0xF597A6CF
    checksum = zlib.crc32(body, initial ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return bytes(512) + b"LABELONE" + struct.pack("<QI", 1, checksum) + body


def partition_table() -> bytes:
    """A master boot record with one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0, b"\x02\x00\x00", 0x83, b"\xff\xff\xff", 2048, 200_000)
    return bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa"


def on_device(content: bytes, offset: int = 0) -> str:
    """A command that writes to the data disk."""
    encoded = base64.b64encode(content).decode()
    return f"echo {encoded} | base64 -d | dd of=/dev/xvdf bs=1 seek={offset} conv=notrunc status=none"


MARKER = '{"cluster": "shop/prod/etcd", "member": "host-9", "token": "4711"}'
AN_HOUR_AHEAD = 'printf \'#!/bin/sh\\nexec /usr/bin/date -d "1 hour" "$@"\\n\''
WIPE = "dd if=/dev/zero of=/dev/xvdf bs=1M count=80 conv=notrunc status=none"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a host and how it is repaired (as root), what the config is, and what has to be said."""

    texts: list[str]
    spoil: str = "true"
    repair: str = "true"
    config: Callable[[Config], Config] = dict


def without_device(config: Config) -> Config:
    """On a root file system of any size."""
    hosts = {
        name: {key: value for key, value in each.items() if key != "device"} for name, each in config["hosts"].items()
    }
    return {**config, "hosts": hosts, "allowUndersized": True}


def changed(**changes: Any) -> Callable[[Config], Config]:
    return lambda config: {**config, **changes}


def changed_host(**changes: Any) -> Callable[[Config], Config]:
    return lambda config: {**config, "hosts": {"host-1": {**config["hosts"]["host-1"], **changes}}}


def as_user(user: str) -> Callable[[Config], Config]:
    return lambda config: {**config, "ssh": {**config["ssh"], "user": user}}


def not_blank(found: str) -> list[str]:
    return ["host-1: device /dev/xvdf is not blank", found, "choose another, or wipe it yourself"]


PROBLEMS = {
    "no sudo": Problem(
        ["user nosudo may not become root on host-1", "Give it sudo without a password"],
        config=as_user("nosudo"),
    ),
    "sudo that wants a terminal": Problem(
        ["user admin may not become root on host-1: .*tty", "Defaults:admin !requiretty"],
        "echo 'Defaults:admin requiretty' > /etc/sudoers.d/zz-tty",
        "rm /etc/sudoers.d/zz-tty",
    ),
    "sudo that records what it reads": Problem(
        ["sudo on host-1 records what it reads", "private keys", "Defaults:admin !log_input"],
        "echo 'Defaults log_input' > /etc/sudoers.d/zz-log",
        "rm -rf /etc/sudoers.d/zz-log /var/log/sudo-io",
    ),
    "sudo with a rule that records what it reads": Problem(
        ["sudo on host-1 records what it reads", "private keys", "NOLOG_INPUT:"],
        "echo 'admin ALL=(ALL) NOPASSWD: LOG_INPUT: ALL' > /etc/sudoers.d/zz-log",
        "rm -rf /etc/sudoers.d/zz-log /var/log/sudo-io",
    ),
    "sudo that records what it reads, but for another command": Problem(
        ["sudo on host-1 records what it reads"],
        "printf '%s\\n' 'Defaults log_input' 'Defaults!/usr/bin/su !log_input' > /etc/sudoers.d/zz-log",
        "rm -rf /etc/sudoers.d/zz-log /var/log/sudo-io",
    ),
    "sudo that records another command": Problem(
        ["host-1: address 10.77.0.200 is not on this machine"],
        "echo 'Defaults!/usr/bin/su log_input' > /etc/sudoers.d/zz-log",
        "rm -rf /etc/sudoers.d/zz-log /var/log/sudo-io",
        config=lambda config: changed_host(address=NOBODY, sshAddress=config["hosts"]["host-1"]["address"])(config),
    ),
    "sudo that does not list what it allows": Problem(
        ["sudo on host-1 does not list what user admin may do", "Defaults:admin listpw=never"],
        "echo 'Defaults listpw=always' > /etc/sudoers.d/zz-list",
        "rm /etc/sudoers.d/zz-list",
    ),
    "sudo that would record, but for this user": Problem(  # as the advice has it: another problem is named
        ["host-1: address 10.77.0.200 is not on this machine"],
        "printf '%s\\n' 'Defaults log_input' 'Defaults:admin !log_input' > /etc/sudoers.d/zz-log",
        "rm -rf /etc/sudoers.d/zz-log /var/log/sudo-io",
        config=lambda config: changed_host(address=NOBODY, sshAddress=config["hosts"]["host-1"]["address"])(config),
    ),
    "no systemd": Problem(
        ["host-1: this machine does not run systemd", "use a distribution with systemd"],
        "mv /run/systemd/system /run/systemd/away",
        "mv /run/systemd/away /run/systemd/system",
    ),
    "port taken": Problem(
        [r"host-1: port 2380 is taken by \W?sshd\W?, process \d+", "stop it, or use another machine"],
        "/usr/sbin/sshd -p 2380 -o PidFile=/run/other.pid",
        "kill $(cat /run/other.pid)",
    ),
    "clocks apart": Problem(
        [r"the clock of host-1 is (3599|3600|3601) s ahead of this machine's", "Set them right", "chronyc makestep"],
        f"{AN_HOUR_AHEAD} > /usr/local/bin/date; chmod 755 /usr/local/bin/date",
        "rm /usr/local/bin/date",
    ),
    "ext4 on the device": Problem(not_blank("it carries ext4"), "mkfs.ext4 -q /dev/xvdf", WIPE),
    "someone's XFS on the device": Problem(not_blank("it carries xfs photos"), "mkfs.xfs -q -L photos /dev/xvdf", WIPE),
    "partitions on the device": Problem(not_blank("it carries dos"), on_device(partition_table()), WIPE),
    "LVM on the device": Problem(not_blank("it carries LVM2_member"), on_device(lvm_label()), WIPE),
    "something on the device": Problem(not_blank("its first MiB is not empty"), on_device(b"precious", 700_000), WIPE),
    "mounted device": Problem(
        not_blank("it is mounted at /mnt"), "mkfs.xfs -q /dev/xvdf && mount /dev/xvdf /mnt", f"umount /mnt; {WIPE}"
    ),
    "no such device": Problem(
        ["host-1: device /dev/nvme7n1 is not a block device here", "see `lsblk`"],
        config=changed_host(device="/dev/nvme7n1"),
    ),
    "data of another cluster": Problem(
        ["holds the data of member host-9 of cluster shop/prod/etcd", "this is member host-1", "Use another disk"],
        f"mkdir -p /data/etcd/data/member && echo {shlex.quote(MARKER)} > /data/etcd/etcd-cluster.json",
        "rm -r /data",
        config=without_device,
    ),
    "disk of another cluster": Problem(
        ["holds the data of member host-9 of cluster shop/prod/etcd", "this is member host-1", "Use another disk"],
        "mkfs.xfs -q -L etcd-data /dev/xvdf && mount /dev/xvdf /mnt && mkdir -p /mnt/data/member &&"
        f" echo {shlex.quote(MARKER)} > /mnt/etcd-cluster.json && umount /mnt",
        WIPE,
    ),
    "data of nobody known": Problem(
        ["/data/etcd holds etcd data that this cluster did not make", "move it away"],
        "mkdir -p /data/etcd/data/member",
        "rm -r /data",
    ),
    "someone's etcd-cluster.service": Problem(
        [r"/etc/systemd/system/etcd-cluster\.service is somebody else's \(it begins with: \[Unit\]\)", "Remove it"],
        "printf '[Unit]\\nDescription=theirs\\n' > /etc/systemd/system/etcd-cluster.service",
        "rm /etc/systemd/system/etcd-cluster.service",
    ),
    "someone's etcd.service": Problem(
        [
            r"etcd\.service here is not of this cluster: it is from /etc/systemd/system/etcd\.service",
            "systemctl disable --now etcd",
        ],
        "printf '[Service]\\nExecStart=/usr/bin/etcd\\n' > /etc/systemd/system/etcd.service",
        "rm /etc/systemd/system/etcd.service",
    ),
    "a label alone": Problem(
        ["device /dev/xvdf has the label etcd-data, but holds photos and nothing of", "use another disk"],
        "mkfs.xfs -q -L etcd-data /dev/xvdf && mount /dev/xvdf /mnt && touch /mnt/photos && umount /mnt",
        WIPE,
    ),
    "a tool is missing": Problem(
        ["host-1: this machine lacks the programs wipefs", "install the packages"],
        "mv /usr/sbin/wipefs /usr/sbin/wipefs.away",
        "mv /usr/sbin/wipefs.away /usr/sbin/wipefs",
    ),
    "etcd is another name of root": Problem(
        ["host-1: user etcd has uid 0", "give that name to a user without root's rights"],
        "useradd --non-unique --uid 0 etcd",
        "userdel --force etcd; groupdel etcd 2> /dev/null || true",
    ),
    "a link to nothing": Problem(
        ["host-1: /data is a symbolic link to nothing", "correct the link"], "ln -s /srv/nothing /data", "rm /data"
    ),
    "a file in the place of a folder": Problem(
        ["host-1: /opt/etcd is not a folder", "move it away"], "touch /opt/etcd", "rm /opt/etcd"
    ),
    "a folder that the unit hides": Problem(
        ["host-1: /data/etcd is in /home/big, which etcd's unit does not let etcd see"],
        "mkdir /home/big && ln -s /home/big /data",
        "rm -r /data /home/big",
        config=without_device,
    ),
    "a folder that etcd may not pass": Problem(
        [r"host-1: user etcd may not pass /opt \(mode 700, of root:root\)", r"allow it \(chmod o\+x /opt\)"],
        "chmod 700 /opt",
        "chmod 755 /opt",
    ),
    "programs may not run": Problem(
        ["host-1: /opt is on a file system that is mounted noexec", "mount it without noexec"],
        "mount -t tmpfs -o noexec tmpfs /opt",
        "umount /opt",
    ),
    "nothing can be written": Problem(
        ["host-1: /etc/etcd is on a file system that is mounted read-only", "mount it read-write"],
        "mkdir /etc/etcd && mount -t tmpfs -o ro tmpfs /etc/etcd",
        "umount /etc/etcd && rmdir /etc/etcd",
    ),
    "no room": Problem(
        [r"host-1: /opt: 8 MiB free, but 200 MiB are needed there", "free some space"],
        "mount -t tmpfs -o size=8m tmpfs /opt",
        "umount /opt",
    ),
    "no room for systemd": Problem(
        [r"host-1: /run/systemd: \d+ MiB free, but 16 MiB are needed there"],
        "mount -o remount,size=$(($(df --output=used -k /run | tail -n 1) + 4096))k /run",
        "mount -o remount,size=20% /run",
    ),
    "no room for more files": Problem(
        [r"host-1: /opt: its file system has room for \d+ more files, but 200 are needed there"],
        "mount -t tmpfs -o nr_inodes=50 tmpfs /opt",
        "umount /opt",
    ),
    "a drop-in that waits for the unit": Problem(
        [r"/etc/systemd/system/etcd-cluster\.service\.d/a\.conf changes the unit", "Remove this"],
        "mkdir /etc/systemd/system/etcd-cluster.service.d; touch /etc/systemd/system/etcd-cluster.service.d/a.conf",
        "rm -r /etc/systemd/system/etcd-cluster.service.d",
    ),
    "too small": Problem(
        ["host-1: device /dev/xvdf: 10 GiB, but size medium needs 12 GiB", "allowUndersized"],
        config=changed(size="medium"),
    ),
    "address of another machine": Problem(
        [f"host-1: address {NOBODY} is not on this machine", r"it has 10\.77\.0\.11", "correct the member's address"],
        config=lambda config: changed_host(address=NOBODY, sshAddress=config["hosts"]["host-1"]["address"])(config),
    ),
    "wrong host key": Problem(
        [r"host key of 10\.77\.0\.11 is not the pinned one", "pin its new key"],
        config=changed_host(hostKey=HOST_KEY),
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_of_a_host_is_named_and_nothing_is_changed(
    lab: Lab, host: Host, tmp_path: Path, problem: str
) -> None:
    row = PROBLEMS[problem]
    config = row.config(host_config([host], "http://10.77.0.1:1"))
    host.run(row.spoil)
    try:
        run = refused_up(lab, tmp_path, config, host)
    finally:
        host.run(row.repair)
    says(run, *row.texts)


def test_all_problems_of_a_host_are_named_at_once(lab: Lab, host: Host, tmp_path: Path) -> None:
    config = host_config([host], "http://10.77.0.1:1", size="medium", allowUndersized=True)
    config["hosts"]["host-1"].update(address=NOBODY, sshAddress=host.address, device="/dev/nvme7n1")
    run = refused_up(lab, tmp_path, config, host)
    says(run, "address")
    says(run, "device /dev/nvme7n1")
    assert "allowUndersized" not in run.output


def test_a_key_that_is_not_let_in_is_named(lab: Lab, host: Host, tmp_path: Path) -> None:
    other = tmp_path / "other"
    lab.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
    config = host_config([host], "http://10.77.0.1:1")
    config["ssh"]["privateKeyFile"] = str(other)
    run = refused_up(lab, tmp_path / "stack", config, host)
    says(run, r"10\.77\.0\.11", "refused")
    assert "BEGIN" not in run.output


def test_hosts_that_do_not_answer_are_named_within_seconds(lab: Lab, hosts: list[Host], tmp_path: Path) -> None:
    """One that nobody has the address of, and one that loses every packet."""
    config = host_config(hosts, "http://10.77.0.1:1")
    config["hosts"]["nobody"] = {"address": NOBODY, "hostKey": HOST_KEY}
    unreachable = hosts[1]
    with unchanged(*hosts):
        unreachable.drop_traffic()
        try:
            run = Stack(lab, tmp_path, config).up(check=False)
        finally:
            unreachable.restore_traffic()
    assert run.returncode != 0
    assert run.seconds < UNREACHABLE_SECONDS
    for name, address in {"nobody": NOBODY, unreachable.name: unreachable.address}.items():
        says(run, f"etcd-{name}-check: .*failed", address)


def test_one_machine_by_two_addresses_is_found_out(lab: Lab, hosts: list[Host], tmp_path: Path) -> None:
    # By its second host key, too: one key for two hosts is refused before any of them is asked.
    key = "/etc/ssh/ssh_host_ecdsa_key"
    hosts[0].run(f"ssh-keygen -q -t ecdsa -N '' -f {key} && echo HostKey {key} > /etc/ssh/sshd_config.d/ecdsa.conf")
    public = hosts[0].run(f"systemctl reload ssh && cut -d ' ' -f 1,2 {key}.pub").stdout.strip()
    twin = {"address": NOBODY, "hostKey": public, "device": hosts[0].device}
    config = host_config(hosts, "http://10.77.0.1:1")
    config["hosts"]["twin"] = twin
    hosts[0].run(f"ip address add {NOBODY}/24 dev host0")
    try:
        run = refused_up(lab, tmp_path, config, *hosts)
    finally:
        hosts[0].run(f"ip address del {NOBODY}/24 dev host0")
        hosts[0].run(f"rm {key} {key}.pub /etc/ssh/sshd_config.d/ecdsa.conf && systemctl reload ssh")
    says(run, "twin and host-1 are the same machine", "nothing was changed", "Give every member its own")


def test_a_mended_host_forms_on_the_next_up(lab: Lab, mirror_url: str, host: Host, tmp_path: Path) -> None:
    """Also when preflight itself had passed, so that the engine sees no reason to run it again."""
    stack = Stack(lab, tmp_path, host_config([host], mirror_url))
    spoiled = PROBLEMS["clocks apart"]
    host.run(spoiled.spoil)
    assert stack.up(check=False).returncode != 0
    host.run(spoiled.repair)
    stack.up()
    assert host.run("systemctl is-active etcd-cluster").stdout == "active\n"
