"""What goes wrong while a cluster is changed: faults of hosts of the lab, each undone where its block ends.

A machine that is off, hangs or cannot be reached at all: Host.stop, kill, pause, drop_traffic. There is no slow network
in the lab: its kernel need not have netem.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from tests.lab.clusters import Cluster, eventually
from tests.lab.hosts import Host, LabError

VOLUME = "/data/etcd"
DATE = "/usr/local/bin/date"

LEADS = "curl -fsS --max-time 2 http://127.0.0.1:2381/metrics | grep -E '^etcd_server_(has|is)_leader '"

# A session is a process of sshd's; what it runs lives on, with nobody to talk to.
RESTART_SSHD = """
systemctl restart ssh
listener=$(systemctl show --property MainPID --value ssh)
for session in $(pgrep -x sshd); do [ "$session" = "$listener" ] || kill -9 "$session"; done
"""


def leader(cluster: Cluster) -> Host:
    """The host whose member leads. Raises AssertionError where none does."""
    for host, leads in _leading(cluster).items():
        if leads:
            return host
    raise AssertionError("no member leads")


def followers(cluster: Cluster) -> list[Host]:
    """Hosts whose members answer and do not lead, in the cluster's order."""
    return [host for host, leads in _leading(cluster).items() if not leads]


@contextmanager
def clock_ahead(host: Host, minutes: int) -> Iterator[None]:
    """What asks `date` for the time gets one that is off, backwards if negative. Hosts share the kernel's clock, so
    etcd itself, and `date` with a time of its own (-d), still go by the right one."""
    host.run(f"""printf '#!/bin/sh\\nexec /usr/bin/date -d "{minutes} minutes" "$@"\\n' > {DATE}; chmod 755 {DATE}""")
    try:
        yield
    finally:
        host.run(f"rm {DATE}")


@contextmanager
def full_disk(host: Host, folder: str = VOLUME) -> Iterator[None]:
    """Not a byte is left on the file system of `folder`, which has to be a data disk: others are this machine's own.
    etcd goes on inside of what it has reserved for its log; what makes a file or grows one fails."""
    filling = f"{folder}/filling"
    host.run(
        f"""
        findmnt --mountpoint {folder} > /dev/null || {{ echo {folder} has no file system of its own >&2; exit 1; }}
        mkdir {filling}
        fallocate --length "$(df --output=avail --block-size=1 {folder} | tail -n 1)" {filling}/most || true
        # Room comes back in pieces, as reservations are given up: until not even a file of one byte fits.
        for file in $(seq 10000); do
            dd if=/dev/zero of={filling}/most oflag=append conv=notrunc,fsync bs=64K status=none
            printf x > {filling}/$file || break
        done 2> /dev/null
        """
    )
    try:
        yield
    finally:
        host.run(f"rm -r {filling}")


@contextmanager
def partitioned(host: Host, *others: Host) -> Iterator[None]:
    """Members lose every packet between `host` and the others. Operator and clients reach them all, as before."""
    host.drop_traffic(*others)
    try:
        yield
    finally:
        host.restore_traffic()


def restart_sshd(host: Host) -> None:
    """sshd is restarted, and every connection to the host breaks. What ran over one runs on by itself; returns once
    the host can be reached again."""
    host.run('systemd-run --quiet --collect sh -c "$(cat)"', stdin=RESTART_SSHD)
    eventually(lambda: _answers(host), f"sshd of {host.name} answers again")


@contextmanager
def stopped(host: Host) -> Iterator[None]:
    """etcd is stopped, in order. Afterwards it is started, if nothing else did that; it may not be healthy yet."""
    host.run("systemctl stop etcd-cluster")
    try:
        yield
    finally:
        host.run("systemctl start --no-block etcd-cluster")


@contextmanager
def frozen(host: Host) -> Iterator[None]:
    """etcd's process does nothing any more, but is there, and its connections with it (SIGSTOP)."""
    process = host.run("systemctl show --property MainPID --value etcd-cluster").stdout.strip()
    assert process != "0", f"{host.name}: etcd does not run"
    host.run(f"kill -STOP {process}")
    try:
        yield
    finally:
        host.run(f"kill -CONT {process}", check=False)  # it may have been killed


def change_data(host: Host, old: str, new: str) -> None:
    """The member holds another value in the place of `old`, which is as long, and goes on: its process stands still
    while its database is written to. It has to hold that value, and not as what it wrote last."""
    assert len(old) == len(new)
    host.run(
        f"""
        process=$(systemctl show --property MainPID --value etcd-cluster) database={VOLUME}/data/member/snap/db
        kill -STOP "$process"
        grep -abo {old} $database | cut -d : -f 1 | while read -r place; do
            printf %s {new} | dd of=$database bs=1 seek="$place" conv=notrunc status=none
        done
        kill -CONT "$process"
        """
    )


def kill_etcd(host: Host) -> None:
    """kill -9; systemd starts it again two seconds later."""
    host.run("systemctl kill --signal KILL etcd-cluster")


def _leading(cluster: Cluster) -> dict[Host, bool]:
    """Host -> whether its member leads, for members that have a leader. Each is asked on its own host."""

    def leads(host: Host) -> str:
        with suppress(LabError):
            return host.run(LEADS, check=False).stdout
        return ""

    with ThreadPoolExecutor(len(cluster.hosts)) as pool:
        said = dict(zip(cluster.hosts, pool.map(leads, cluster.hosts), strict=True))
    return {host: "is_leader 1\n" in text for host, text in said.items() if "has_leader 1\n" in text}


def _answers(host: Host) -> bool:
    with suppress(LabError):
        return host.run("true", check=False).returncode == 0
    return False


@contextmanager
def clients_only(*hosts: Host) -> Iterator[None]:
    """README's firewall: between machines of members only the peer port is open. Operator and clients reach 2379."""
    ports = ", ".join(host._port for host in hosts)
    rules = [
        "add table bridge clients_only",
        "add chain bridge clients_only forward { type filter hook forward priority 0; }",
        f"add rule bridge clients_only forward iifname {{ {ports} }} oifname {{ {ports} }} tcp dport 2379 drop",
    ]
    lab = hosts[0].lab
    lab.run(["nft", "-f", "-"], input="\n".join(rules) + "\n")
    try:
        yield
    finally:
        lab.run(["nft", "delete", "table", "bridge", "clients_only"])


@contextmanager
def hanging(host: Host, user: str = "admin") -> Iterator[None]:
    """That user logs in, but nothing it is to run ever begins: as where /etc/ssh/sshrc waits for a dead server."""
    script = f'[ "$USER" != {user} ] || read -r line < /run/nobody-writes'
    host.run("mkfifo /run/nobody-writes; cat > /etc/ssh/sshrc", stdin=f"{script}\n")
    try:
        yield
    finally:
        host.run("rm /etc/ssh/sshrc; for each in 1 2 3; do timeout 0.1 sh -c ': > /run/nobody-writes' || true; done")
