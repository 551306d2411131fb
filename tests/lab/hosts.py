"""Real systemd hosts on this one machine: booted by systemd-nspawn in a network namespace, reached by ssh.

What runs on the hosts is the tests' business; etcd itself comes from binaries.py.

    with Lab() as lab:
        one, two, three = lab.hosts(3)              # booted, systemd up, ssh answering
        one.run("mkfs.xfs -q /dev/xvdf", user="root")
        url = lab.mirror(folder)                    # http://10.77.0.1:8000, reachable from every host
        lab.run(["ssh", ...])                       # a process of the operator, beside the hosts

Each host has a root of its own (an overlay over one shared base), a blank data disk at /dev/xvdf, an ed25519 host key,
and three users who accept the operator's key: root, admin (sudo without a password) and nosudo. Given user data, it is
a cloud's new instance: cloud-init runs at its first boot, and its host key is the one of the user data.
Hosts and operator reach each other at 10.77.0.0/24 and nothing else: there is no way out of the namespace.

Unlike a machine: no udev (no /dev/disk; blkid and UUID= work), systemd ignores devices in /etc/fstab (mount units
work), no setting of the clock (chronyd runs with -x on its own time), a shared kernel (no modules, sysctl below net/
only), kill() still flushes file systems, and a host that reboots itself stays down until start().
"""

from __future__ import annotations

import atexit
import contextlib
import email
import fcntl
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, final

import yaml

OPERATOR_ADDRESS = "10.77.0.1"
DEVICE = "/dev/xvdf"
NETWORK = "/etc/systemd/network/10-host0.network"
BOOT_TIMEOUT_SECONDS = 600.0
STOP_TIMEOUT_SECONDS = 600.0
BASE_TIMEOUT_SECONDS = 1800.0

PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,sudo,procps,iproute2,curl,ca-certificates,"  # as on a cloud's image
    "xfsprogs,e2fsprogs,chrony,"
    "nginx,openssl"  # what monitoring installs
)
BASE_FILES = {
    "etc/ssh/sshd_config.d/lab.conf": (
        "PermitRootLogin prohibit-password\nUseDNS no\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    ),
    "etc/sudoers.d/admin": "admin ALL=(ALL) NOPASSWD: ALL\n",
    "etc/default/chrony": 'DAEMON_OPTS="-x -F 1"\n',
    "etc/chrony/chrony.conf": "local stratum 10\ndriftfile /var/lib/chrony/chrony.drift\n",
    "etc/systemd/system/chrony.service.d/lab.conf": "[Unit]\nConditionCapability=\n",
    "etc/resolv.conf": "",
}
CLOUD_PACKAGES = f"{PACKAGES},cloud-init"
CLOUD_FILES = {
    **BASE_FILES,
    # The seed is on the host, and its network is the lab's.
    "etc/cloud/cloud.cfg.d/90-lab.cfg": "datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\n",
}
SEED = "var/lib/cloud/seed/nocloud"
SETUP = r"""
set -eu
rm -f /etc/ssh/ssh_host_* /etc/hostname /etc/apt/apt.conf.d/99mmdebstrap
sed -i '/pam_motd/d; /pam_mail/d' /etc/pam.d/sshd
chmod 0440 /etc/sudoers.d/admin
for user in admin nosudo; do useradd -m -s /bin/bash -p '*' "$user"; done
for home in /root /home/admin /home/nosudo; do
    install -d -m 0700 "$home/.ssh"
    chown --reference="$home" "$home/.ssh"
done
systemctl enable --quiet systemd-networkd
systemctl disable --quiet ssh.socket 2> /dev/null || true  # Ubuntu starts sshd by the first connection
systemctl enable --quiet ssh.service
systemctl disable --quiet nginx.service
# Timers would make hosts busy at random moments; gettys and maintenance serve nobody here.
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service systemd-pstore.service console-getty.service getty@tty1.service
"""
# The units of the base that a ready host has up. Not "systemd has finished": an enabled etcd may wait for its peers.
READY = """
until case $(systemctl is-system-running) in
    running | degraded) true ;;
    *) [ "$(systemctl is-active ssh chrony systemd-user-sessions | sort -u)" = active ] ;;
esac; do sleep 0.05; done
"""
USERS = {"root": "root", "admin": "home/admin", "nosudo": "home/nosudo"}

_NAME = re.compile(r"etcdlab-(\d+)-\d+")
_RUN = Path("/run")
# An nspawn machine name: short, as its bridge port is called vb-NAME and an interface name has 15 characters.
_SERIAL = itertools.count(1)
_LAB_SERIAL = itertools.count(1)


class LabError(Exception):
    """Something in the lab failed; the message holds what the tool in question said."""


def cache_dir() -> Path:
    """Where roots and binaries are kept between runs: $ETCD_LAB_CACHE, or ~/.cache/etcd-cluster-lab."""
    return Path(os.environ.get("ETCD_LAB_CACHE") or Path.home() / ".cache" / "etcd-cluster-lab")


def requirements() -> list[str]:
    """Why the lab cannot run on this machine, in words for a reader; empty when it can."""
    if sys.platform != "linux":
        return [f"not Linux but {sys.platform}"]
    packages = {
        "systemd-nspawn": "systemd-container",
        "mmdebstrap": "mmdebstrap",
        "ip": "iproute2",
        "nft": "nftables",
        "ssh": "openssh-client",
        "mkfs.xfs": "xfsprogs",
        "losetup": "util-linux",
    }
    missing = [
        f"{tool} is not on PATH (Debian package {package})"
        for tool, package in packages.items()
        if not shutil.which(tool)
    ]
    if os.geteuid() != 0:
        return ["not root", *missing]
    if not Path("/dev/loop-control").exists():
        missing.append("no loop devices (/dev/loop-control is absent)")
    if shutil.which("unshare") and _try("unshare", "-n", "-m", "true").returncode != 0:
        missing.append("root here may not make network and mount namespaces")
    return missing


@final
class Lab:
    """A network namespace with a bridge, the operator at 10.77.0.1, and hosts. Use as a context manager.

    `private_key_file` is the operator's key, `known_hosts_file` pins every host, `ssh_config_file` (for `ssh -F`)
    joins both.
    Several labs may run side by side. Whatever ends this process, what it started is removed: at once if the process
    can still act, else by the next Lab.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.name = f"etcdlab-{self.owner}-{next(_LAB_SERIAL)}"
        self.folder = _RUN / self.name  # short: sockets live here
        self.roots = cache_dir() / "runs" / self.name
        self.private_key_file = self.folder / "id_ed25519"
        self.known_hosts_file = self.folder / "known_hosts"
        self.ssh_config_file = self.folder / "ssh_config"
        self._hosts: dict[str, Host] = {}
        self._processes: list[subprocess.Popen[Any]] = []
        self._lock = threading.RLock()
        self._open = False
        self._ports = itertools.count(8000)
        self._cgroup_parents = _cgroup_parents()

    def __enter__(self) -> Lab:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Make the namespace, its bridge and the operator's key; first remove what dead runs left."""
        remove_leftovers()
        _open_labs.append(self)
        _catch_signals()
        self._open = True
        try:
            self.folder.mkdir(mode=0o700)
            owner = {"pid": self.owner, "started": _start_time(self.owner), "roots": str(self.roots)}
            (self.folder / "owner").write_text(json.dumps(owner))
            self.roots.mkdir(mode=0o700, parents=True)
            _call("ip", "netns", "add", self.name)
            _call("ip", "-n", self.name, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            for link in ("lo", "br0"):
                _call("ip", "-n", self.name, "link", "set", link, "up")
            _call("ip", "-n", self.name, "address", "add", f"{OPERATOR_ADDRESS}/24", "dev", "br0")
            _make_key(self.private_key_file, "operator")
            self.known_hosts_file.touch()
            self.ssh_config_file.write_text(_ssh_config(self.private_key_file, self.known_hosts_file))
        except BaseException:
            self.close()
            raise

    def host(
        self,
        name: str,
        *,
        disk_gib: int | None = 10,
        disk: Path | None = None,
        address: str | None = None,
        user_data: str | None = None,
        wait: bool = True,
    ) -> Host:
        """Boot a host and, with `wait`, wait until it is ready.

        `disk_gib` is the size of its blank data disk (sparse; XFS needs 1), None for no disk. `disk` gives it the
        disk of a removed host (its `Host.disk`) instead, content and all. `address` defaults to the lowest free
        one from 10.77.0.11. `user_data` is for cloud-init, which may still run when the host is ready.
        """
        host = self._register(name, address)
        host._install(disk_gib, disk, user_data)
        host.start(wait=wait)
        return host

    def hosts(self, count: int, *, disk_gib: int | None = 10) -> list[Host]:
        """Boot `count` hosts at once: host-1, host-2, ... (on later calls, the lowest free numbers)."""
        with self._lock:
            names = (f"host-{number}" for number in itertools.count(1))
            free = itertools.islice((name for name in names if name not in self._hosts), count)
            hosts = [self._register(name, None) for name in list(free)]

        def boot(host: Host) -> None:
            host._install(disk_gib)
            host.start()

        with ThreadPoolExecutor(max_workers=max(1, count)) as pool:
            for booted in [pool.submit(boot, host) for host in hosts]:
                booted.result()
        return hosts

    def mirror(self, folder: Path) -> str:
        """Serve `folder` over http inside the namespace until the lab closes; its URL has no slash at the end."""
        port = next(self._ports)
        log = self.folder / f"mirror-{port}.log"
        command = [sys.executable, "-u", "-m", "http.server", "--bind", OPERATOR_ADDRESS]
        command += ["--directory", str(folder), str(port)]
        with log.open("w") as output:
            server = self.popen(command, stdout=output, stderr=output)

        def decided() -> bool:
            return "Serving HTTP" in log.read_text() or server.poll() is not None

        _wait(decided, 15, f"the mirror of {folder}")
        if server.poll() is not None:
            raise LabError(f"mirror of {folder}: {log.read_text().strip()}")
        return f"http://{OPERATOR_ADDRESS}:{port}"

    def run(self, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """`subprocess.run` beside the hosts; unless told otherwise: text, captured, checked (LabError), 60 s."""
        settings: dict[str, Any] = {"text": True, "timeout": 60.0, "stdin": subprocess.DEVNULL, **options}
        check = settings.pop("check", True)
        if "input" in settings:
            del settings["stdin"]
        if not settings.keys() & {"stdout", "stderr", "capture_output"}:
            settings["capture_output"] = True
        done: subprocess.CompletedProcess[str] = subprocess.run(self._inside(argv), check=False, **settings)
        if check and done.returncode != 0:
            raise LabError(_failure(argv, done))
        return done

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` beside the hosts, in a session of its own; ended when the lab closes."""
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        with self._lock:
            self._check_open()
            process: subprocess.Popen[Any] = subprocess.Popen(self._inside(argv), **settings)
            self._processes.append(process)
        return process

    def close(self) -> None:
        """End every process of this lab and remove all it made; again is no error. LabError if something stays."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            hosts, processes = list(self._hosts.values()), list(self._processes)
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for host in hosts:
            with contextlib.suppress(LabError):
                host._end()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        try:
            _remove(self.name)
        finally:
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2)
            _open_labs.remove(self)
            _release_signals()

    def _register(self, name: str, address: str | None) -> Host:
        """Reserve a name and an address."""
        with self._lock:
            self._check_open()
            if name in self._hosts:
                raise LabError(f"host {name}: this lab has one of that name; remove() it first")
            taken = {host.address for host in self._hosts.values()}
            free = (f"10.77.0.{number}" for number in range(11, 255))
            address = address or next(candidate for candidate in free if candidate not in taken)
            if address in taken:
                raise LabError(f"host {name}: address {address} is taken")
            host = self._hosts[name] = Host(self, name, address)
            return host

    def _inside(self, argv: Sequence[str | Path]) -> list[str]:
        # Not `ip netns exec`: it remounts /sys and so hides the cgroups that nspawn needs.
        return ["nsenter", f"--net=/run/netns/{self.name}", *map(str, argv)]

    def _check_open(self) -> None:
        if not self._open:
            raise LabError(f"lab {self.name} is closed")

    def _pin(self) -> None:
        """Write known_hosts anew from the hosts that are there."""
        with self._lock:
            lines = [f"{host.address} {host.host_key}\n" for host in self._hosts.values() if host.host_key]
            partial = self.known_hosts_file.with_suffix(".new")
            partial.write_text("".join(lines))
            partial.rename(self.known_hosts_file)


@final
class Host:
    """One machine of a lab; made by `Lab.host` and `Lab.hosts`.

    `name`, `address`, `host_key` ("ssh-ed25519 AAAA..."), `device` ("/dev/xvdf" inside, None without a disk),
    `disk` (the image behind it), `private_key_file` (the operator's).
    """

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.lab = lab
        self.name = name
        self.address = address
        self.host_key = ""
        self.disk: Path | None = None
        self.private_key_file = lab.private_key_file
        self._machine = f"e{os.getpid()}-{next(_SERIAL)}"
        self._port = f"vb-{self._machine}"
        self._folder = lab.roots / self._machine
        self._loop: str | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._masters: dict[str, subprocess.Popen[Any]] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    @property
    def device(self) -> str | None:
        """The data disk's path on the host."""
        return DEVICE if self.disk else None

    @property
    def pid(self) -> int:
        """The process that is this host (its nspawn). Raises LabError when it is down."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the machine is on (ready or not)."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def console(self) -> str:
        """What the machine wrote on its console, over all its boots."""
        log = self._folder / "console"
        return log.read_text(errors="replace") if log.exists() else ""

    def run(
        self,
        command: str,
        *,
        user: str = "root",
        check: bool = True,
        timeout: float = 60.0,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command over ssh, with the host key pinned; LabError on failure if `check`.

        A time-out (subprocess.TimeoutExpired) ends the client only: the command runs on. 255 is ssh's own failure.
        """
        self._running()
        argv = [*self._ssh(user), "-T", f"{user}@{self.address}", command]
        refused = self._open_master(user)
        if refused is not None:
            done = subprocess.CompletedProcess(list(map(str, argv)), 255, "", refused)
        elif stdin is None:
            done = self.lab.run(argv, check=False, timeout=timeout)
        else:
            done = self.lab.run(argv, check=False, timeout=timeout, input=stdin)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {_failure([command], done)}")
        return done

    def read(self, path: str) -> str:
        """A text file's content, read as root."""
        return self.run(f"cat -- {shlex.quote(path)}").stdout

    def wait_ready(self, timeout: float = BOOT_TIMEOUT_SECONDS) -> None:
        """Wait until the base's services are up and ssh answers. Units that tests added may still be starting."""
        deadline = time.monotonic() + timeout

        def decided() -> bool:
            leader = self._leader()
            listening = leader is not None and Path(f"/proc/{leader}/root/run/sshd.pid").exists()
            return listening or not self.running

        # Watched from outside: a connection to a host that is not there yet costs seconds in ARP.
        _wait(decided, timeout, f"host {self.name} to boot", lambda: self.console[-2000:])
        if not self.running:
            raise LabError(f"host {self.name} went down while it booted: {self.console[-2000:]}")
        while True:
            left = max(1.0, deadline - time.monotonic())
            command = f"timeout {left:.0f} sh -c {shlex.quote(READY)}"
            done = self.run(command, check=False, timeout=left + 15)
            if done.returncode == 0:
                return
            # On a busy machine, a host that boots may keep ssh waiting for longer than ssh waits.
            if done.returncode != 255 or time.monotonic() > deadline:
                raise LabError(f"{self.name}: {_failure([command], done)}")

    def reboot(self, timeout: float = STOP_TIMEOUT_SECONDS) -> None:
        """Shut down in order, boot the same root again, wait until ready."""
        self.stop(timeout)
        self.start()

    def stop(self, timeout: float = STOP_TIMEOUT_SECONDS) -> None:
        """Shut down in order: services are stopped, file systems unmounted."""
        process = self._running()
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"host {self.name} does not shut down: {self.console[-2000:]}") from None
        self._end()

    def kill(self) -> None:
        """Crash: every process ends at once. Root and disk stay, and the kernel still flushes their file systems."""
        self._end()

    def start(self, *, wait: bool = True) -> None:
        """Boot the root there is, after kill() or stop(); `wait` until ready."""
        if self.running:
            raise LabError(f"host {self.name} is running already")
        root = self._folder / "root"
        options = "-q -b --register=no --keep-unit --network-bridge=br0 --link-journal=no --resolv-conf=off"
        argv = ["systemd-nspawn", *options.split(), "-D", str(root)]
        argv += [f"--machine={self._machine}", f"--hostname={self.name}"]
        if self._loop:
            argv += [f"--bind={self._loop}:{DEVICE}", f"--property=DeviceAllow={self._loop} rwm"]
        # Cgroups of its own: hosts would else share /system.slice, and a stop on one reach the services of all.
        join = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'
        joined = [folder / "cgroup.procs" for folder in self._make_cgroups()]
        with self.lab._lock, (self._folder / "console").open("ab") as console:
            self.lab._check_open()
            self._nspawn = subprocess.Popen(
                ["sh", "-c", join, "sh", *joined, "--", *self.lab._inside(argv)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def pause(self) -> None:
        """Freeze every process: a machine that hangs, its connections neither served nor closed."""
        self._freeze(True)

    def resume(self) -> None:
        """Let a paused machine go on."""
        self._freeze(False)

    def throttle_disk(self, writes_per_second: int) -> None:
        """Let the kernel pass no more writes than that to the data disk; 0 ends it. Raises LabError where it cannot."""
        number = str(self._loop).removeprefix("/dev/loop")
        files = {
            "blkio.throttle.write_iops_device": f"7:{number} {writes_per_second}",
            "io.max": f"7:{number} wiops={writes_per_second or 'max'}",
        }
        found = [folder / name for folder in self._cgroups() for name in files if (folder / name).exists()]
        if not found:
            raise LabError("this kernel's cgroups cannot throttle a disk (no blkio, no io controller)")
        for parent in found:
            # In version 1, a limit does not hold for the groups below.
            for folder, _, _ in os.walk(parent.parent):
                Path(folder, parent.name).write_text(files[parent.name])

    def drop_traffic(self, *others: Host) -> None:
        """Lose every packet to and from this host, silently; with `others`, only those between it and them.

        Lasts over reboots, until restore_traffic(). A second call takes the place of the first.
        """
        if others:
            theirs = ", ".join(other._port for other in others)
            chains = {"forward": [f"iifname {self._port} oifname {{ {theirs} }}"]}
            chains["forward"] += [f"iifname {{ {theirs} }} oifname {self._port}"]
        else:
            into, out = f"iifname {self._port}", f"oifname {self._port}"
            chains = {"forward": [into, out], "input": [into], "output": [out]}
        rules = [f"table bridge {self._table}", f"delete table bridge {self._table}"]  # clears an earlier one
        for hook, matches in chains.items():
            rules += [f"add table bridge {self._table}"]
            rules += [f"add chain bridge {self._table} {hook} {{ type filter hook {hook} priority 0; }}"]
            rules += [f"add rule bridge {self._table} {hook} {match} drop" for match in matches]
        self.lab.run(["nft", "-f", "-"], input="\n".join(rules) + "\n")
        if not others:
            self._end_masters()

    def restore_traffic(self) -> None:
        """Undo drop_traffic()."""
        table = f"table bridge {self._table}"
        self.lab.run(["nft", "-f", "-"], input=f"{table}\ndelete {table}\n")

    def renumber(self, address: str) -> None:
        """Give the machine this address instead of its own, while it runs and for every later boot."""
        old = self.address
        self.run(
            f"sysctl -qw net.ipv4.conf.host0.promote_secondaries=1; ip address add {address}/24 dev host0;"
            f" sed -i s/{old}/{address}/ {NETWORK}"
        )
        self.address = address
        self.lab._pin()
        self._end_masters()
        self.run(f"ip address del {old}/24 dev host0")

    def remove(self) -> None:
        """Take the machine away for good: its name and address are free again. `disk` stays until the lab closes."""
        self._end()
        self.restore_traffic()
        with self.lab._lock:
            self.lab._hosts.pop(self.name, None)
        self.lab._pin()
        if self._loop:
            _detach(self._loop)
            self._loop = None
        _unmount(self._folder / "root")
        _remove_tree(self._folder)

    @property
    def _table(self) -> str:
        return "drop_" + self._machine.replace("-", "_")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._nspawn is None or self._nspawn.poll() is not None:
            raise LabError(f"host {self.name} is down")
        return self._nspawn

    def _install(self, disk_gib: int | None, disk: Path | None = None, user_data: str | None = None) -> None:
        """Make the root (not booted yet), the host key and the disk."""
        base = _base() if user_data is None else _base(CLOUD_PACKAGES, CLOUD_FILES)
        self._folder.mkdir()
        root = self._folder / "root"
        root.mkdir()
        _overlay(base, root)
        _write(root / "etc/hostname", f"{self.name}\n")
        _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost\n")
        _write(root / "etc/machine-id", f"{uuid.uuid4().hex}\n")
        # Sorts before 80-container-host0.network, which would ask for an address by DHCP. The hardware address
        # goes with the address: else a machine that takes over another's is not found for seconds.
        hardware = ":".join(f"{int(part):02x}" for part in f"2.119.{self.address}".split("."))
        network = (
            f"[Match]\nName=host0\n[Link]\nMACAddress={hardware}\n"
            f"[Network]\nAddress={self.address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )
        _write(root / NETWORK.lstrip("/"), network)
        key = root / "etc/ssh/ssh_host_ed25519_key"
        _make_key(key, self.name)
        self.host_key = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        if user_data is not None:
            # The key made above is the image's, which cloud-init has to throw away.
            self.host_key = yaml.safe_load(_first_part(user_data))["ssh_keys"]["ed25519_public"]
            _write(root / SEED / "user-data", user_data)
            _write(root / SEED / "meta-data", f"instance-id: {self._machine}\nlocal-hostname: {self.name}\n")
        for home in USERS.values():
            folder = root / home / ".ssh"
            owner = folder.stat()
            _write(folder / "authorized_keys", self.private_key_file.with_suffix(".pub").read_text())
            os.chown(folder / "authorized_keys", owner.st_uid, owner.st_gid)
        self.lab._pin()
        if disk is None and disk_gib is not None:
            disk = self.lab.roots / f"{self._machine}.disk"
            disk.touch(mode=0o600)
            os.truncate(disk, disk_gib * 1024**3)
        if disk is not None:
            self.disk = disk
            self._loop = _attach(disk)

    def _ssh(self, user: str) -> list[str | Path]:
        return ["ssh", "-F", self.lab.ssh_config_file, "-S", self.lab.folder / f"{self._machine}-{user}"]

    def _open_master(self, user: str) -> str | None:
        """Keep a connection for this user's commands, for speed; what ssh says if it cannot connect."""
        ssh = self._ssh(user)
        socket, log = Path(ssh[-1]), Path(f"{ssh[-1]}.log")
        with self._lock:
            master = self._masters.get(user)
            if master is not None and master.poll() is None:
                return None
            socket.unlink(missing_ok=True)
            with log.open("w") as output:
                opened = self.lab.popen([*ssh, "-M", "-N", f"{user}@{self.address}"], stdout=output, stderr=output)
            _wait(lambda: socket.exists() or opened.poll() is not None, 15, f"ssh to {self.name}")
            if opened.poll() is not None:
                return log.read_text()
            self._masters[user] = opened
            return None

    def _end_masters(self) -> None:
        with self._lock:
            for master in self._masters.values():
                master.kill()
                master.wait(10)
            self._masters.clear()

    def _end(self) -> None:
        """Kill what is left of this boot and wait until it is gone."""
        self._end_masters()
        if self._nspawn is not None:
            if self._nspawn.poll() is None:
                self._nspawn.kill()
                self._freeze(False)
            with contextlib.suppress(subprocess.TimeoutExpired):  # the cgroups below tell
                self._nspawn.wait(10)
            self._nspawn = None
        _end_cgroups(self._cgroups())
        # The kernel takes an ended machine's network away some time later: until then its address would still answer.
        _try("ip", "-n", self.lab.name, "link", "delete", self._port)
        _remove_nspawn_state(self._machine)

    def from_here(self, argv: Sequence[str | Path]) -> list[str]:
        """`argv`, for `Lab.run` or `Lab.popen`: as a process of the test that speaks from this host's address."""
        leader = self._leader()
        if leader is None:
            raise LabError(f"host {self.name} is down")
        return ["nsenter", f"--net=/proc/{leader}/ns/net", *map(str, argv)]

    def _cgroups(self) -> list[Path]:
        return [parent / self.lab.name / self._machine for parent in self.lab._cgroup_parents]

    def _make_cgroups(self) -> list[Path]:
        for folder in self._cgroups():
            folder.mkdir(parents=True, exist_ok=True)
        return self._cgroups()

    def _leader(self) -> int | None:
        """The host's process 1, seen from here."""
        for pid in _pids_below(self._cgroups()[-1]):
            with contextlib.suppress(OSError):
                seen = re.search(r"^NSpid:\t(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
                numbers = seen[1].split() if seen else []
                if len(numbers) > 1 and numbers[-1] == "1":
                    return pid
        return None

    def _freeze(self, frozen: bool) -> None:
        for folder in self._cgroups():
            if (folder / "cgroup.freeze").exists():
                (folder / "cgroup.freeze").write_text("1" if frozen else "0")
                return
        if frozen:
            raise LabError("this kernel's cgroups cannot freeze a machine (no cgroup2)")


def _first_part(user_data: str) -> str:
    """The cluster's own user data, of a text that may have parts."""
    parts = email.message_from_string(user_data)
    first = next((part for part in parts.walk() if not part.is_multipart()), parts) if parts.is_multipart() else None
    return bytes(first.get_payload(decode=True)).decode() if first else user_data


def remove_leftovers() -> None:
    """Remove what labs of processes that are dead left behind."""
    with locked(cache_dir() / "leftovers"):
        places = [Path("/run/netns"), _RUN, cache_dir() / "runs"]
        found = {entry.name for place in places if place.is_dir() for entry in place.iterdir()}
        for name in sorted(found):
            matched = _NAME.fullmatch(name)
            if matched and not _is_alive(name, int(matched[1])):
                with contextlib.suppress(LabError):  # whoever needs a lab should not fail for another's remains
                    _remove(name)
                _remove_nspawn_state(f"e{matched[1]}-*")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock file that goes with `target`, against other processes and threads."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- the base root ---


def _base(packages: str = PACKAGES, added: Mapping[str, str] = BASE_FILES) -> Path:
    """The root that all hosts of a kind share, built if the cache lacks it."""
    suite = _os_release().get("VERSION_CODENAME", "")
    content = json.dumps([suite, os.uname().machine, packages, added, SETUP])
    target = cache_dir() / f"base-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    with locked(target):
        if not target.is_dir():
            _build_base(suite, target, packages, added)
    return target


def _build_base(suite: str, target: Path, packages: str, added: Mapping[str, str]) -> None:
    print("lab: building the base root of the hosts, once (a minute or two)", file=sys.stderr, flush=True)
    partial = target.with_name(f".{target.name}.partial")
    _remove_tree(partial)
    with tempfile.TemporaryDirectory(prefix="etcdlab-apt.") as folder:
        sources = _apt_sources(suite, Path(folder))
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in ("man", "doc", "locale")]
        transport = [f"--aptopt={option}" for option in _apt_transport()]
        include = f"--include={packages}"
        argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory", include]
        _call(*argv, *excluded, *transport, suite, str(partial), *sources, timeout=BASE_TIMEOUT_SECONDS)
    for path, content in added.items():
        _write(partial / path, content)
    _call("chroot", str(partial), "sh", "-c", SETUP)
    partial.rename(target)


def _apt_sources(suite: str, folder: Path) -> list[str]:
    """This machine's own sources of `suite`, filtered into files that mmdebstrap takes."""
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    lines: list[str] = []
    stanzas: list[str] = []
    apt = Path("/etc/apt")
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            for line in path.read_text().splitlines():
                matched = re.match(r"deb\s+(\[.*?\]\s+)?\S+\s+(\S+)\s+(.*)", line)
                if matched and matched[2] in wanted and "main" in matched[3].split():
                    lines.append(line)
        elif path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", path.read_text()):
                fields = {
                    key.lower(): value for key, value in re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, re.MULTILINE)
                }
                of_suite = (
                    wanted & set(fields.get("suites", "").split()) and "main" in fields.get("components", "").split()
                )
                if of_suite and "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
                    stanzas.append(stanza.strip() + "\n")
    files = {"sources.list": "\n".join(lines), "lab.sources": "\n".join(stanzas)}
    written = [str(folder / name) for name, content in files.items() if content]
    for name, content in files.items():
        (folder / name).write_text(content + "\n")
    if not written:
        raise LabError(
            f"no apt source of suite {suite!r} in /etc/apt: the base root is built from this machine's own sources"
        )
    return written


def _apt_transport() -> list[str]:
    """How this machine's apt reaches its mirrors (proxies, certificates), as options for another apt."""
    dumped = _try("apt-config", "dump").stdout
    return re.findall(
        r"^(Acquire::https?::(?:.*::)?(?:Proxy|CaInfo|CAInfo|SslCert|SslKey|Verify-Peer) \".+\");$",
        dumped,
        re.MULTILINE,
    )


def _os_release() -> dict[str, str]:
    text = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    return {key: value.strip('"') for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


# --- file systems and disks ---


def _overlay(base: Path, root: Path) -> None:
    """Put a root over the base: an overlay, or where this file system cannot carry one, a copy."""
    upper, work = root.with_name("upper"), root.with_name("work")
    upper.mkdir(mode=0o755)
    work.mkdir()
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    mounted = _try("mount", "-t", "overlay", "-o", options, "overlay", str(root))
    if mounted.returncode != 0:
        _call("cp", "-a", "--reflink=auto", f"{base}/.", str(root), timeout=600)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(content)


def _attach(image: Path) -> str:
    """A loop device over `image`; makes the node where /dev is not filled by the kernel."""
    complaint = ""
    for _ in range(10):
        done = _try("losetup", "--find", "--show", str(image))
        if done.returncode == 0:
            return done.stdout.strip()
        complaint = done.stderr.strip()
        with open("/dev/loop-control", "rb") as control:
            number = fcntl.ioctl(control, 0x4C82)  # LOOP_CTL_GET_FREE
        with contextlib.suppress(FileExistsError):
            os.mknod(f"/dev/loop{number}", stat.S_IFBLK | 0o660, os.makedev(7, number))
    raise LabError(f"no loop device for {image}: {complaint}")


def _detach(loop: str) -> None:
    bound = Path("/sys/block", Path(loop).name, "loop/backing_file")
    _try("losetup", "--detach", loop)
    _wait(lambda: not bound.exists(), 10, f"{loop} to be released")


def _unmount(path: Path) -> None:
    """Unmount a host's root, and drop the lock that a killed nspawn leaves on it."""
    root = path.stat()
    Path(f"/run/systemd/nspawn/locks/inode-{root.st_dev}:{root.st_ino}").unlink(missing_ok=True)

    def gone() -> bool:
        return str(path) not in _mount_points() or _try("umount", str(path)).returncode == 0

    _wait(gone, 10, f"{path} to be unmounted")


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]


def _remove_tree(path: Path) -> None:
    """Delete a folder, never across a mount."""
    _call("rm", "-rf", "--one-file-system", "--", str(path), timeout=300)


# --- cgroups ---


def _cgroup_parents() -> list[Path]:
    """This process' own cgroup in every hierarchy: version 1, hybrid or 2. Hosts go below it, within its limits."""
    mounts: list[tuple[Path, str, set[str]]] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            mounts.append((Path(before.split()[4]), kind, set(options.split(","))))
    parents: list[Path] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        # A fresh cpuset takes no process until it is filled in, and systemd does not use version 1's.
        if "cpuset" in controllers.split(","):
            continue
        for point, kind, offered in mounts:
            if set(controllers.split(",")) <= offered if controllers else kind == "cgroup2":
                parents.append(point / path.lstrip("/"))
                break
    return parents


def _cgroups_named(name: str) -> list[Path]:
    """Every cgroup of this lab, whoever's cgroup it is below."""
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        if after.split()[0] in ("cgroup", "cgroup2"):
            for folder, below, _ in os.walk(before.split()[4]):
                if name in below:
                    found.append(Path(folder, name))
                    below.remove(name)
    return found


def _pids_below(cgroup: Path) -> list[int]:
    pids: list[int] = []
    for folder, _, _ in os.walk(cgroup):  # not rglob: cgroups may vanish meanwhile
        with contextlib.suppress(OSError):
            pids += map(int, Path(folder, "cgroup.procs").read_text().split())
    return pids


def _end_cgroups(cgroups: list[Path]) -> None:
    """Kill what is in these cgroups and remove them."""

    def gone() -> bool:
        for cgroup in cgroups:
            for pid in _pids_below(cgroup):
                _kill(pid)
            for folder, _, _ in os.walk(cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return not any(cgroup.exists() for cgroup in cgroups)

    _wait(gone, 20, "a host's processes to end")


# --- processes and the end of a lab ---


def _remove(name: str) -> None:
    """Remove a lab by name alone: its processes, mounts, loop devices, namespace, cgroups and folders."""
    problems: list[str] = []

    def step(what: Callable[..., object], *arguments: object) -> None:
        try:
            what(*arguments)
        except (LabError, OSError, subprocess.SubprocessError) as error:
            problems.append(str(error))

    cgroups = _cgroups_named(name)
    for cgroup in cgroups:
        for freezer in cgroup.glob("*/cgroup.freeze"):
            step(freezer.write_text, "0")
    step(_end_cgroups, cgroups)
    if Path("/run/netns", name).exists():
        step(_end_namespace, name)
    below = f"/{name}/"
    for point in _mount_points():
        if below in point:
            step(_unmount, Path(point))
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if below in backing.read_text():
                step(_detach, f"/dev/{backing.parts[3]}")
    step(_remove_tree, Path(_owner(name).get("roots", cache_dir() / "runs" / name)))
    step(_remove_tree, _RUN / name)
    if problems:
        raise LabError(f"lab {name} left something behind: {'; '.join(problems)}")


def _end_namespace(name: str) -> None:
    for pid in map(int, _call("ip", "netns", "pids", name).split()):
        if pid != os.getpid():
            _kill(pid)
    _call("ip", "netns", "delete", name)


def _remove_nspawn_state(machine: str) -> None:
    """nspawn leaves a folder a machine where /run is not a tmpfs."""
    for folder in Path("/run/systemd/nspawn").glob(f"*/{machine}"):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _kill(pid: int) -> None:
    if pid <= 0:  # a process of another pid namespace reads as 0, which would mean ourselves
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _make_key(path: Path, comment: str) -> None:
    _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))


def _start_time(pid: int) -> str:
    """What tells a process from a later one with the same id; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_alive(name: str, pid: int) -> bool:
    """Whether the process that made this lab lives."""
    started = _start_time(pid)
    owner = _owner(name)
    return bool(started) and (not owner or (owner["pid"], owner["started"]) == (pid, started))


def _owner(name: str) -> dict[str, Any]:
    """What a lab noted of itself when it opened; empty when that is gone."""
    try:
        noted: dict[str, Any] = json.loads((_RUN / name / "owner").read_text())
    except (OSError, ValueError):
        return {}
    return noted


def _try(*argv: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a tool of this machine, whatever comes of it."""
    return subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def _call(*argv: str, timeout: float = 60.0) -> str:
    """Run a tool of this machine and return its output; LabError if it fails."""
    done = _try(*argv, timeout=timeout)
    if done.returncode != 0:
        raise LabError(_failure(argv, done))
    return done.stdout


def _failure(argv: Sequence[str | Path], done: subprocess.CompletedProcess[str]) -> str:
    said = (done.stderr or done.stdout or "").strip()
    return f"`{' '.join(map(str, argv))[:500]}` exited {done.returncode}: {said[-2000:]}"


def _wait(condition: Callable[[], bool], timeout: float, what: str, detail: Callable[[], str] = str) -> None:
    """Wait until `condition` holds. Raises LabError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}. {detail()}".strip())
        time.sleep(0.02)


def _ssh_config(key: Path, known_hosts: Path) -> str:
    """Nothing but what stands here is used: no user or system configuration, agent or known host."""
    return f"""Host *
  BatchMode yes
  StrictHostKeyChecking yes
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile none
  UpdateHostKeys no
  HostKeyAlgorithms ssh-ed25519
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  PreferredAuthentications publickey
  ControlPath none
  ConnectTimeout 5
  ServerAliveInterval 5
  ServerAliveCountMax 3
  LogLevel ERROR
"""


_open_labs: list[Lab] = []
_caught_signals: list[signal.Signals] = []


def _close_all() -> None:
    for lab in tuple(_open_labs):
        if lab.owner == os.getpid():  # a forked child inherits the list, not the labs
            try:
                lab.close()
            except LabError as error:
                print(error, file=sys.stderr)


def _end_by_signal(number: int, _: FrameType | None) -> None:
    _close_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _catch_signals() -> None:
    """Close labs before a signal ends this process, where nobody else handles it."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end_by_signal)
                _caught_signals.append(number)


def _release_signals() -> None:
    if not _open_labs and threading.current_thread() is threading.main_thread():
        while _caught_signals:
            signal.signal(_caught_signals.pop(), signal.SIG_DFL)


atexit.register(_close_all)
