"""What an `up` promises of the cluster it forms, and of every `up`, reboot and `destroy` after it, on real hosts.

tests/engine runs some of these cases with the real CLI: it imports them beside an `engine` fixture of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_cluster.pki import x509
from tests.lab import binaries
from tests.lab.changes import change
from tests.lab.clusters import (
    Cluster,
    changes_nothing,
    eventually,
    private_keys,
    traces,
    watched_processes,
)
from tests.lab.faults import leader
from tests.lab.hosts import Host, Lab
from tests.lab.stack import Engine, Run, Stack, host_config

MIRROR_VERSIONS = ["3.4.9", "3.6.16"]
GIB = 1024**3


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.EMBEDDED


@dataclass
class Formed:
    """A cluster, the `up` that formed it, and what processes were given meanwhile."""

    cluster: Cluster
    run: Run
    processes: set[bytes]


@pytest.fixture(scope="module")
def formed(lab: Lab, mirror_url: str, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Formed:
    """Three members with TLS: user admin, a disk each, one setting of the user's. Tests leave it healthy."""
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, etcd={"max-txn-ops": 256})
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("formed"), config, engine), engine)
    with watched_processes() as processes:
        run = cluster.up()
    return Formed(cluster, run, processes)


@pytest.fixture
def cluster(formed: Formed) -> Cluster:
    return formed.cluster


# --- what an up leaves ---


def test_every_member_is_healthy_and_serves_a_client_beside_the_hosts(cluster: Cluster) -> None:
    health = json.loads(cluster.etcdctl("endpoint", "health", "--write-out", "json"))
    assert [endpoint["health"] for endpoint in health] == [True] * 3
    cluster.etcdctl("put", "first", "of many")
    assert cluster.etcdctl("get", "--print-value-only", "first") == "of many\n"
    assert len(cluster.cluster_ids()) == 1


def test_outputs_say_all_that_a_client_needs(cluster: Cluster) -> None:
    addresses = {host.name: host.address for host in cluster.hosts}
    outputs = cluster.outputs
    assert outputs["endpoints"] == [f"https://{address}:2379" for address in addresses.values()]
    assert outputs["members"] == {
        name: {"address": address, "clientUrl": f"https://{address}:2379", "peerUrl": f"https://{address}:2380"}
        for name, address in addresses.items()
    }
    assert outputs["version"] == "3.6.16"
    client = x509.KeyPair(outputs["clientCertificate"], outputs["clientKey"])
    x509.verify_certificate(client, outputs["caCertificate"], datetime.now(timezone.utc))


def test_the_client_key_is_a_secret_output(formed: Formed) -> None:
    assert "clientKey" in formed.run.output
    assert re.search(r"clientKey\W+\[secret\]", formed.run.output)


ON_A_HOST = {
    "etcd runs as etcd": ("stat -c %U /proc/$(systemctl show -P MainPID etcd-cluster)", "etcd"),
    "nobody logs in as etcd": (
        "getent passwd etcd | cut -d: -f7; getent shadow etcd | cut -c1-6",
        "/usr/sbin/nologin\netcd:!",
    ),
    "keys are etcd's alone": (
        "stat -c '%n %a %U' /etc/etcd/pki /etc/etcd/pki/*",
        "/etc/etcd/pki 500 etcd\n/etc/etcd/pki/ca.crt 444 etcd\n"
        "/etc/etcd/pki/peer-ca.crt 444 etcd\n/etc/etcd/pki/peer.crt 444 etcd\n/etc/etcd/pki/peer.key 400 etcd\n"
        "/etc/etcd/pki/server.crt 444 etcd\n/etc/etcd/pki/server.key 400 etcd",
    ),
    "the configuration is not the world's": ("stat -c '%a %U' /etc/etcd/etcd.yaml", "640 etcd"),
    "data are etcd's alone": ("stat -c '%a %U' /data/etcd/data", "700 etcd"),
    "programs are root's": ("stat -Lc '%a %U' /opt/etcd/bin /opt/etcd/bin/etcd", "755 root\n755 root"),
    "data are on the device": ("findmnt -no SOURCE,FSTYPE /data/etcd", "/dev/xvdf xfs"),
    "the disk is mounted on boot": ("systemctl is-active data-etcd.mount; systemctl is-enabled data-etcd.mount",
                                    "active\nenabled"),
    "etcd starts on boot": ("systemctl is-active etcd-cluster && systemctl is-enabled etcd-cluster", "active\nenabled"),
    "metrics are for this machine only": ("ss -Hltn 'sport = :2381' | awk '{ print $4 }'", "127.0.0.1:2381"),
    "metrics answer": (
        "curl -fsS http://127.0.0.1:2381/metrics | grep ^etcd_server_has_leader",
        "etcd_server_has_leader 1",
    ),
    "etcdctl works for root in a login shell": (
        "bash -lc 'etcdctl endpoint health --cluster' 2>&1 | grep -c 'is healthy'",
        "3",
    ),
    "as many Go processors as there are": (
        "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID etcd-cluster)/environ | grep GOMAXPROCS= | tr -d 'A-Z=\\n';"
        " echo -$(nproc)",
        re.compile(r"(\d+)-\1"),
    ),
    "enough open files": ("systemctl show -P LimitNOFILE etcd-cluster", "65536"),
    "the clock is kept": ("systemctl is-active chrony", "active"),
    "no unit failed": ("systemctl list-units --failed --no-legend", ""),
    "nothing is left of the installation": (
        "cd /opt/etcd; find . -maxdepth 2 | sort; find /tmp -type f;"
        " find /run /etc/etcd -name '.new-*' -o -name 'etcd-cluster-*'",
        ".\n./bin\n./versions\n./versions/3.6.16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("promise", ON_A_HOST)
def test_on_a_host(cluster: Cluster, promise: str) -> None:
    command, expected = ON_A_HOST[promise]
    printed = cluster.hosts[1].run(command, check=False).stdout.strip()
    if isinstance(expected, re.Pattern):
        assert expected.fullmatch(printed), printed
    else:
        assert printed == expected


def test_etcd_is_configured_as_asked(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    configuration = yaml.safe_load(host.read("/etc/etcd/etcd.yaml"))
    expected = {
        "name": host.name,
        "data-dir": "/data/etcd/data",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "quota-backend-bytes": 2 * GIB,
        "max-txn-ops": 256,
        "auto-compaction-mode": "periodic",
    }
    assert {key: configuration[key] for key in expected} == expected
    for side in ("client", "peer"):
        assert configuration[f"{side}-transport-security"]["client-cert-auth"] is True


# One GET, in plaintext or by TLS with the given certificate and key; prints the status line, or the error.
PROBE = """
import socket, ssl, sys
address, port, ca, certificate, key = sys.argv[1:]
connection = socket.create_connection((address, int(port)), 5)
try:
    if ca:
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(certificate, key)
        connection = context.wrap_socket(connection, server_hostname=address)
    connection.sendall(b"GET /version HTTP/1.0\\r\\n\\r\\n")
    print(connection.recv(100).partition(b"\\r\\n")[0].decode() or "closed")
except OSError as error:
    print(error)
"""


@dataclass(frozen=True)
class Caller:
    """Who knocks, what it sees, and what the member's log says of it."""

    credentials: str
    sees: str
    logged: str = ""


CALLERS = {
    "with the exported certificate": Caller("own", r"HTTP/1\.[01] 200"),
    "without a certificate": Caller("none", "CERTIFICATE_REQUIRED", "client didn't provide a certificate"),
    "with a certificate of another CA": Caller(
        "foreign", "UNKNOWN_CA|BAD_CERTIFICATE", "certificate signed by unknown authority"
    ),
    "in plaintext": Caller("plaintext", r"closed|reset|400", "first record does not look like a TLS handshake"),
}


@pytest.mark.parametrize(
    ("caller", "port"),
    [*((name, 2379) for name in CALLERS), ("in plaintext", 2380)],
    ids=[*(f"{name}-client port" for name in CALLERS), "in plaintext-peer port"],
)
def test_only_certificates_of_the_clusters_ca_are_let_in(
    cluster: Cluster, tmp_path: Path, caller: str, port: int
) -> None:
    """Certificates at the peer port: test_peer_port.py."""
    host, expected = cluster.hosts[0], CALLERS[caller]
    ca = str(cluster.file("caCertificate"))
    credentials = {
        "own": [ca, str(cluster.file("clientCertificate")), str(cluster.file("clientKey"))],
        "none": [ca, "", ""],
        "foreign": [ca, *foreign_certificate(tmp_path)],
        "plaintext": ["", "", ""],
    }[expected.credentials]
    since = host.run("date '+%F %T'").stdout.strip()
    answer = cluster.lab.run([sys.executable, "-c", PROBE, host.address, str(port), *credentials]).stdout
    assert re.search(expected.sees, answer), answer
    log = f"journalctl --unit etcd-cluster --since '{since}' --output cat --no-pager"
    eventually(lambda: expected.logged in host.run(log).stdout, f"the log says {expected.logged!r}")


def foreign_certificate(folder: Path) -> list[str]:
    """The files of a client certificate and its key, in order, but of a CA that nobody here trusts."""
    now = datetime.now(timezone.utc)
    ca = x509.create_ca("etcd etcd CA", now=now)
    certificate = x509.issue_certificate(ca, common_name="client", profile="client", hosts=[], now=now)
    files = [folder / "foreign.crt", folder / "foreign.key"]
    for file, text in zip(files, (certificate.certificate_pem, certificate.private_key_pem), strict=True):
        file.write_text(text)
    return [str(file) for file in files]


def test_no_private_key_is_anywhere_but_in_its_file(formed: Formed, lab: Lab) -> None:
    cluster = formed.cluster
    on_hosts = cluster.each_host("for key in /etc/etcd/pki/*.key; do cat $key; done")
    own = {key for text in on_hosts.values() for key in private_keys(text)}
    login = lab.private_key_file.read_text()
    keys = cluster.private_keys_in_state() | own | {login, cluster.outputs["clientKey"]}
    assert len(keys) == 3 * 2 + len(["CA", "peer CA", "client", "login"])  # those on the hosts are those of the state
    needles = sorted({trace for key in keys for trace in traces(key)})

    said = {
        "the output of up": formed.run.output,
        "the arguments and environments of processes": b"\n".join(formed.processes).decode(errors="replace"),
    }
    said |= {str(file): file.read_text(errors="replace") for file in cluster.state_files()}
    said |= {
        f"the journal of {name}": text for name, text in cluster.each_host("journalctl --no-pager --output cat").items()
    }
    assert {where for where, text in said.items() for needle in needles if needle in text} == set()
    for host in cluster.hosts:
        places = "/boot /data /dev/shm /etc /home /opt /root /run /srv /tmp /usr/local /var"
        found = host.run(f"grep -rlF -f - {places} 2> /dev/null", stdin="\n".join(needles), check=False).stdout
        assert sorted(found.split()) == ["/etc/etcd/pki/peer.key", "/etc/etcd/pki/server.key"]


# --- every up after it ---


def test_nothing_changed_means_that_nothing_is_done(cluster: Cluster) -> None:
    before = cluster.pids(), cluster.each_host("stat -c '%n %Y' /etc/etcd/* /etc/etcd/pki/* /etc/systemd/system/*")
    assert changes_nothing(cluster.stack.preview())
    assert changes_nothing(cluster.stack.up())
    after = cluster.pids(), cluster.each_host("stat -c '%n %Y' /etc/etcd/* /etc/etcd/pki/* /etc/systemd/system/*")
    assert after == before
    assert "0" not in before[0].values()


def _other_hosts(config: dict[str, Any]) -> dict[str, Any]:
    return {"hosts": {"other": {**config["hosts"]["host-1"], "address": "10.77.0.200"}}}


def _older_patch(config: dict[str, Any]) -> dict[str, Any]:
    return {"version": "3.6.15", "install": {**config["install"], "sha256": "0" * 64}}


REFUSED_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "none of its members": (_other_hosts, r"members: other: none of host-1, host-2, host-3 .*Keep at least one"),
    "no TLS": (lambda _: {"tls": False}, r"tls: false: .*Set tls back to true, or set allowPlaintext"),
    "an older patch": (_older_patch, r"version: 3\.6\.15: .*no way back.* Set version to 3\.6\.16"),
    "an older minor": (lambda _: {"version": "3.5.35"}, r"version: 3\.5\.35: .*going back to 3\.5 is not supported"),
    "a misspelt setting": (lambda _: {"etcd": {"max-txn-opps": 1}}, r"etcd\.max-txn-opps.*Use max-txn-ops"),
}


@pytest.mark.parametrize("change", REFUSED_CHANGES)
def test_a_change_that_would_do_harm_is_refused_by_a_preview(cluster: Cluster, change: str) -> None:
    changed, message = REFUSED_CHANGES[change]
    with config_changed(cluster.stack, **changed(cluster.stack.config)):
        run = cluster.stack.preview(check=False)
    assert run.returncode != 0
    assert re.search(message, run.output), run.output


def test_a_refused_change_changes_nothing(cluster: Cluster) -> None:
    before = cluster.pids()
    with config_changed(cluster.stack, tls=False):
        assert cluster.stack.up(check=False).returncode != 0
    assert cluster.pids() == before
    assert changes_nothing(cluster.stack.preview())


@contextmanager
def config_changed(stack: Stack, **changes: Any) -> Iterator[None]:
    before = stack.config
    stack.config = {**before, **changes}
    try:
        yield
    finally:
        stack.config = before


def test_a_lost_state_never_forms_a_second_cluster(cluster: Cluster) -> None:
    before = cluster.pids(), cluster.cluster_ids()
    kept = cluster.stack.state.with_name("kept")
    cluster.stack.state.rename(kept)
    try:
        cluster.stack.state.mkdir()
        run = cluster.stack.up(check=False)
    finally:
        shutil.rmtree(cluster.stack.state)
        kept.rename(cluster.stack.state)
    assert run.returncode != 0
    assert re.search(r"host-1, host-2, host-3: a member of this cluster runs there already, .*stack import", run.output)
    assert (cluster.pids(), cluster.cluster_ids()) == before


# --- reboots, crashes, lost disks ---


def _crash(host: Host) -> None:
    host.kill()
    host.start()


@pytest.mark.parametrize("again", [Host.reboot, _crash], ids=["reboot", "power cut"])
def test_a_member_comes_back_by_itself(cluster: Cluster, again: Callable[[Host], None]) -> None:
    cluster.etcdctl("put", "kept", again.__name__)
    again(cluster.hosts[0])
    cluster.await_health()
    assert cluster.etcdctl("get", "--print-value-only", "kept") == f"{again.__name__}\n"
    assert cluster.hosts[0].run("findmnt -no FSTYPE /data/etcd").stdout == "xfs\n"


def test_etcd_does_not_start_without_its_disk(cluster: Cluster) -> None:
    host = cluster.hosts[2]
    host.run("systemctl stop etcd-cluster && umount /data/etcd && mount --bind /dev/null /dev/xvdf")
    try:
        assert host.run("systemctl start etcd-cluster", check=False).returncode != 0
        assert host.run("ls -A /data/etcd").stdout == ""
        assert host.run("systemctl is-active etcd-cluster", check=False).stdout != "active\n"
        # An `up` does not start it either.
        with config_changed(cluster.stack, etcd={"max-txn-ops": 384}):
            run = cluster.stack.up(check=False)
        assert run.returncode != 0
        assert re.search(r"host-3: device /dev/xvdf .*bring the disk back", run.output), run.output
        assert host.run("ls -A /data/etcd").stdout == ""
    finally:
        host.run("umount /dev/xvdf && systemctl start etcd-cluster")  # only unmounted, it is mounted again
    assert host.run("findmnt -no FSTYPE /data/etcd").stdout == "xfs\n"
    cluster.await_health()


@pytest.mark.parametrize("lost", ["data", "data etcd-cluster.json"], ids=["data directory", "whole file system"])
def test_an_emptied_member_never_starts_as_a_new_one(cluster: Cluster, lost: str) -> None:
    """By itself, it does not start at all; an `up` has it join again, with all data (see test_membership)."""
    host = cluster.hosts[2]
    before = cluster.cluster_ids()
    host.run(f"systemctl stop etcd-cluster && mkdir /data/away && cd /data/etcd && mv {lost} /data/away/")
    try:
        assert host.run("systemctl start etcd-cluster", check=False).returncode != 0
        assert cluster.pids()[host.name] == "0"
        assert host.run("find /data/etcd -path '*/member*'").stdout == ""
    finally:
        host.run(
            f"cd /data/etcd && rm -rf {lost} && mv /data/away/* . && rmdir /data/away && systemctl start etcd-cluster"
        )
    cluster.await_health()
    assert cluster.cluster_ids() == before


# --- changes ---


def test_a_changed_setting_rolls_one_member_at_a_time_the_leader_last_without_a_failed_write(cluster: Cluster) -> None:
    led = leader(cluster).name
    followers = [host.name for host in cluster.hosts if host.name != led]
    done = change(cluster, etcd={"max-txn-ops": 1024})
    assert done.restarted == [*followers, led]
    restarting = [f"{name}: restarting with etcd 3.6.16" for name in done.restarted]
    assert done.steps == [
        *restarting[:2],
        f"{led}: handing leadership over to {followers[0]}",
        restarting[2],
    ]
    assert set(cluster.each_host("grep max-txn-ops /etc/etcd/etcd.yaml").values()) == {"max-txn-ops: 1024\n"}
    assert changes_nothing(cluster.stack.preview())


REINSTALLED = """
systemctl disable --quiet --now data-etcd.mount
rm -r /etc/systemd/system/data-etcd.mount /var/lib/etcd-cluster /data
userdel etcd
"""


def test_destroy_keeps_data_and_up_brings_them_back(cluster: Cluster) -> None:
    cluster.etcdctl("put", "survivor", "still here")
    before = cluster.cluster_ids()
    cluster.stack.destroy()
    left = "systemctl list-unit-files --no-legend 'etcd*.service'; ls -A /etc/etcd /opt/etcd/bin /etc/profile.d/etcd.sh"
    assert set(cluster.each_host(f"{left} 2> /dev/null; pgrep -x etcd; true").values()) == {""}

    # Two disks short, it is not formed anew.
    lost = cluster.hosts[1:]
    for host in lost:
        host.run("mkdir /data/away && mv /data/etcd/* /data/away/")
    run = cluster.stack.up(check=False)
    assert run.returncode != 0
    assert "host-2, host-3: no data, and with those of host-1 alone, 1 of 3 members" in run.output
    assert set(cluster.each_host("pgrep -x etcd; true").values()) == {""}
    for host in lost:
        host.run("mv /data/away/* /data/etcd/ && rmdir /data/away")

    # Nothing but the disks is needed.
    cluster.each_host(REINSTALLED)
    cluster.up()
    assert cluster.cluster_ids() == before
    assert cluster.etcdctl("get", "--print-value-only", "survivor") == "still here\n"


# --- other shapes ---


@pytest.fixture(scope="module")
def five(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Formed:
    """Five members in plaintext: etcd 3.7, an archive sent from here, root on hosts without sudo and without a disk."""
    hosts = lab.hosts(5, disk_gib=None)
    for host in hosts:
        host.run("mv /usr/bin/sudo /usr/bin/sudo.away")
    install = {"from": "archive", "archive": str(binaries.archive("3.7.3"))}
    config = host_config(hosts, "", user="root", version="3.7.3", tls=False, install=install)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("five"), config))
    return Formed(cluster, cluster.up(), set())


def test_five_members_form_from_an_archive_as_root_without_sudo_and_without_a_device(five: Formed) -> None:
    assert five.cluster.healthy()
    assert len(five.cluster.cluster_ids()) == 1
    assert five.cluster.versions() == {'"3.7.3"'}
    assert len(five.cluster.etcdctl("member", "list").splitlines()) == 5
    assert set(
        five.cluster.each_host("findmnt -n /data/etcd; systemctl cat data-etcd.mount 2> /dev/null; true").values()
    ) == {""}


def test_plaintext_is_called_unsafe(five: Formed) -> None:
    assert re.search(r"warning: .*tls: false: anyone who reaches .* can read and change everything", five.run.output)
    assert all(endpoint.startswith("http://") for endpoint in five.cluster.outputs["endpoints"])
    assert five.cluster.outputs["clientKey"] == ""
    assert "transport-security" not in five.cluster.hosts[0].read("/etc/etcd/etcd.yaml")


def test_3_7_is_configured_without_experimental_settings(five: Formed) -> None:
    configuration = yaml.safe_load(five.cluster.hosts[0].read("/etc/etcd/etcd.yaml"))
    assert [key for key in configuration if key.startswith("experimental")] == []
    assert configuration["feature-gates"] == "CompactHashCheck=true,InitialCorruptCheck=true,SetMemberLocalAddr=true"


@pytest.fixture(scope="module")
def one(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """One host, not formed yet, for a cluster of etcd 3.4.9 that is too large for it."""
    host = lab.host("only")
    config = host_config([host], mirror_url, version="3.4.9", size="medium", allowUndersized=True)
    return Cluster(lab, [host], Stack(lab, tmp_path_factory.mktemp("one"), config))


def test_a_release_of_another_sum_is_not_installed(one: Cluster) -> None:
    install = {**one.stack.config["install"], "sha256": "0" * 64}
    with config_changed(one.stack, install=install):
        run = one.stack.up(check=False)
    assert run.returncode != 0
    assert re.search(
        r"etcd-v3\.4\.9-linux-\w+\.tar\.gz has SHA-256 [0-9a-f]{64}, expected 0{64}; .*not installed: check install",
        run.output,
    )
    assert one.hosts[0].run("find /opt/etcd -type f; pgrep -x etcd", check=False).stdout == ""


def test_one_member_of_3_4_forms_on_a_host_too_small_when_that_is_allowed(one: Cluster) -> None:
    run = one.up()
    assert one.healthy()
    assert one.versions() == {'"3.4.9"'}
    assert re.search(r"warning: .*etcd 3\.4\.9: upstream support of 3\.4 ended", run.output)
    configuration = yaml.safe_load(one.hosts[0].read("/etc/etcd/etcd.yaml"))
    assert configuration["quota-backend-bytes"] == 4 * GIB
    assert configuration["experimental-initial-corrupt-check"] is True
    assert "feature-gates" not in configuration


def test_destroy_deletes_data_when_asked_by_name(one: Cluster) -> None:
    before = one.up() and one.pids()
    one.stack.config["deleteData"] = True
    one.stack.up()
    assert one.pids() == before  # to say so restarts nothing
    one.stack.destroy()
    assert one.hosts[0].run("ls -A /data/etcd").stdout == ""
    del one.stack.config["deleteData"]


def test_a_build_from_go_modules_is_sent_to_a_host_without_a_way_out(lab: Lab, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("go is not on PATH")
    host = lab.host("builder")
    config = host_config([host], "http://10.77.0.1:1", install={"from": "build"})
    cluster = Cluster(lab, [host], Stack(lab, tmp_path, config))
    cluster.up()
    assert cluster.healthy()
    assert cluster.versions() == {'"3.6.16"'}
