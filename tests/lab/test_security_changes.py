"""Certificates, CAs, TLS itself and the way in by SSH change under a running cluster, and no write is lost.

One cluster's story, each test goes on where the one before ended: formed in plaintext; to TLS, with certificates from
long ago; other ways in; due certificates; two rotations of the CA; back to plaintext, and to TLS once more.
"""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.pki import x509
from tests.lab import binaries
from tests.lab.changes import change, changing, configure
from tests.lab.clusters import CLIENT_VERSION, Cluster, traces, watched_processes
from tests.lab.hosts import Host, Lab
from tests.lab.observed import on_all
from tests.lab.operator import Operator
from tests.lab.stack import Run, Stack, host_config
from tests.lab.writes import Access

PROGRAM = Path(__file__).with_name("aged_program.py")
LONG_AGO_HOURS = x509.CERTIFICATE_VALIDITY_HOURS * 0.7

FILES = (
    "find /etc/etcd /etc/systemd/system/etcd-cluster.service /opt/etcd /data/etcd/*.json /data/etcd/history"
    " -printf '%p %i %T@ %m %u\\n' | sort"
)
DATABASE = "stat -c '%i %W' /data/etcd/data/member/snap/db /data/etcd/data/member/wal/0000000000000000-*"


@dataclass
class Heard:
    """What the runs of this module said, and every private key that there was meanwhile."""

    said: list[str] = field(default_factory=list[str])
    keys: set[str] = field(default_factory=set[str])

    def note(self, cluster: Cluster, run: Run) -> Run:
        self.said.append(run.output)
        self.keys |= cluster.private_keys_in_state()
        return run


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, tls=False, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("story"), config, program=PROGRAM))
    cluster.up()
    return cluster


def both_ways(cluster: Cluster) -> tuple[str, ...]:
    """Every client URL of the cluster, with TLS and without."""
    return tuple(f"{scheme}://{host.address}:2379" for host in cluster.hosts for scheme in ("http", "https"))


def issued(cluster: Cluster) -> Access:
    """What clients need for TLS, as soon as it is in the state; plaintext is tried, too."""
    ca, client = cluster.in_state("etcd-ca"), cluster.in_state("etcd-client")
    certificates = (ca["trusted_pem"], client["certificate_pem"], client["private_key_pem"])
    return Access(both_ways(cluster), *certificates)


def killed_at(stack: Stack, line: str) -> Run:
    """An `up` that is killed at the first such line."""
    operator = Operator(stack)
    operator.wait_for(line)
    operator.kill()
    return Run(-9, operator.output, 0.0)


def let_in(cluster: Cluster, access: Access, folder: Path) -> bool:
    """Whether a client can write through every endpoint. Raises AssertionError if through some only."""
    flags: list[str | Path] = []
    for name, text in (("cacert", access.ca), ("cert", access.certificate), ("key", access.key)):
        (folder / name).write_text(text)
        flags += [f"--{name}", folder / name]

    def takes(endpoint: str) -> bool:
        etcdctl = [binaries.ensure(CLIENT_VERSION) / "etcdctl", "--endpoints", endpoint, "--command-timeout", "2s"]
        return cluster.lab.run([*etcdctl, *flags, "put", "let", "in"], check=False).returncode == 0

    with ThreadPoolExecutor() as pool:
        (all_alike,) = set(pool.map(takes, access.endpoints))
    return all_alike


# --- TLS for a running cluster ---


KILLED_AT = (
    r"restarting \(TLS certificates installed, peers still plaintext\)",
    "telling the cluster that .* is at https",
    "restarting with TLS among members",
    "restarting with TLS for clients",
)


def test_plaintext_to_tls_killed_at_every_pass(cluster: Cluster, heard: Heard) -> None:
    """Clients have both URLs of every member, and get their certificate before the first member wants one."""
    cluster.stack.environment["AGED_HOURS"] = str(LONG_AGO_HOURS)
    database = cluster.each_host(DATABASE)
    cluster.etcdctl("put", "written-before", "in plaintext")
    configure(cluster, tls=True)
    preview = cluster.stack.preview()
    assert "every member moves to TLS towards clients" in preview.output
    with changing(cluster, access=Access(both_ways(cluster))) as judged:
        for line in KILLED_AT[:-1]:
            heard.note(cluster, killed_at(cluster.stack, line))
        judged.writes.use(issued(cluster))
        heard.note(cluster, killed_at(cluster.stack, KILLED_AT[-1]))
        heard.note(cluster, cluster.up())
    assert cluster.outputs["endpoints"] == [f"https://{host.address}:2379" for host in cluster.hosts]
    assert cluster.each_host(DATABASE) == database
    assert cluster.etcdctl("get", "--print-value-only", "written-before") == "in plaintext\n"
    members = cluster.etcdctl("member", "list")
    assert all(f", https://{host.address}:2380, https://{host.address}:2379, " in members for host in cluster.hosts)


# --- the way in ---


def _another_login(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """User, port and key."""
    key = folder / "another"
    cluster.lab.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    public = key.with_suffix(".pub").read_text().strip()
    cluster.each_host(
        f"""
        echo '{public}' >> /root/.ssh/authorized_keys
        printf 'Port 22\\nPort 2222\\n' > /etc/ssh/sshd_config.d/ports.conf
        systemctl reload ssh
        """
    )
    return {"ssh": {"user": "root", "port": 2222, "privateKey": key.read_text()}}


def _another_machine_as_it_seems(cluster: Cluster, _: Path) -> dict[str, Any]:
    """Host keys, and addresses for SSH."""
    key = "/etc/ssh/ssh_host_ecdsa_key"
    make = f"ssh-keygen -q -t ecdsa -N '' -f {key} && echo HostKey {key} > /etc/ssh/sshd_config.d/ecdsa.conf"
    keys = cluster.each_host(f"{make} && systemctl reload ssh && cut -d ' ' -f 1,2 {key}.pub")
    hosts = {name: {**it, "hostKey": keys[name].strip()} for name, it in cluster.stack.config["hosts"].items()}
    cluster.hosts[0].run("ip address add 10.77.0.99/24 dev host0")
    return {"hosts": {**hosts, "host-1": {**hosts["host-1"], "sshAddress": "10.77.0.99"}}}


def _through_a_bastion(cluster: Cluster, _: Path) -> dict[str, Any]:
    """A member is no bastion: one by another address and host key than the config has for it stands for one."""
    ssh, first = cluster.stack.config["ssh"], cluster.hosts[0]
    first.run("ip address add 10.77.0.98/24 dev host0")
    bastion = {"address": "10.77.0.98", "hostKey": first.host_key, "user": "root", "privateKey": ssh["privateKey"]}
    return {"ssh": {**ssh, "bastion": bastion}}


WAYS_IN = (_another_login, _another_machine_as_it_seems, _through_a_bastion)


def test_another_way_in_by_ssh_touches_nothing_on_hosts(cluster: Cluster, tmp_path: Path, heard: Heard) -> None:
    before = cluster.each_host(FILES)
    kept = cluster.stack.config
    with changing(cluster, restarts=()):
        for way in WAYS_IN:
            configure(cluster, **way(cluster, tmp_path))
            heard.note(cluster, cluster.up())
            assert cluster.each_host(FILES) == before, way
    cluster.stack.config = kept


# --- certificates ---

SHOWN = """
import ssl, sys
for port in (2379, 2380):
    print(ssl.get_server_certificate((sys.argv[1], port)))
"""


def shown(cluster: Cluster) -> dict[str, list[str]]:
    """Host name -> fingerprints of the certificates that its member shows to whoever comes now: clients, then peers."""

    def ask(host: Host) -> list[str]:
        printed = cluster.lab.run([sys.executable, "-c", SHOWN, host.address]).stdout
        return [x509.fingerprint(each) for each in x509.split_bundle(printed)]

    return {host.name: ask(host) for host in cluster.hosts}


def desired(cluster: Cluster) -> dict[str, list[str]]:
    """The same, as the state has them."""
    return {
        host.name: [cluster.in_state(f"etcd-{host.name}-{side}")["fingerprint"] for side in ("server", "peer")]
        for host in cluster.hosts
    }


def test_due_certificates_are_renewed_in_place_without_a_restart(cluster: Cluster, heard: Heard) -> None:
    before = shown(cluster)
    assert before == desired(cluster)
    del cluster.stack.environment["AGED_HOURS"]
    done = change(cluster, restarts=())
    heard.note(cluster, done.run)
    after = shown(cluster)
    assert after == desired(cluster)
    assert not {each for pair in after.values() for each in pair} & {each for pair in before.values() for each in pair}


# --- the CA ---


def test_a_ca_is_rotated_with_both_trusted_in_between(cluster: Cluster, tmp_path: Path, heard: Heard) -> None:
    old = Access.of(cluster.outputs)
    configure(cluster, caRotation=1)
    assert "comes to trust the new one before the old one is dropped" in cluster.stack.preview().output
    with changing(cluster) as judged:
        added = heard.note(cluster, cluster.up())
        new = Access.of(cluster.outputs)
        judged.writes.use(new)
        judged.writes.await_more()
    assert "renewing certificates" not in added.output
    assert len(x509.split_bundle(new.ca)) == 2
    assert let_in(cluster, old, tmp_path)
    assert let_in(cluster, new, tmp_path)

    configure(cluster, caOverlapHours=0)
    with changing(cluster, access=new):
        heard.note(cluster, cluster.up())
    assert shown(cluster) == desired(cluster)
    assert len(x509.split_bundle(cluster.outputs["caCertificate"])) == 1
    assert not let_in(cluster, old, tmp_path)
    assert let_in(cluster, Access.of(cluster.outputs), tmp_path)


PHASES = (
    "restarting to trust 2 CAs",
    "renewing certificates",
    "restarting to trust the new CA alone",
)


def test_a_rotation_at_once_is_finished_wherever_it_was_killed(cluster: Cluster, tmp_path: Path, heard: Heard) -> None:
    """Clients of the old CA are shut out when it is dropped, until they have what the last `up` exports."""
    old = Access.of(cluster.outputs)
    configure(cluster, caRotation=2)
    with changing(cluster, expect_downtime=True) as judged:
        for line in PHASES:
            heard.note(cluster, killed_at(cluster.stack, line))
        heard.note(cluster, cluster.up())
        judged.writes.use(Access.of(cluster.outputs))
        judged.writes.await_more()
    assert shown(cluster) == desired(cluster)
    assert not let_in(cluster, old, tmp_path)


# --- back, and forth again ---


def test_the_way_back_to_plaintext_is_refused_unless_allowed(cluster: Cluster, heard: Heard) -> None:
    configure(cluster, tls=False)
    refused = cluster.stack.preview(check=False)
    assert refused.returncode != 0
    assert "tls: false: this cluster uses TLS" in refused.output
    assert "allowPlaintext: true" in refused.output

    database = cluster.each_host(DATABASE)
    both = dataclasses.replace(Access.of(cluster.outputs), endpoints=both_ways(cluster))
    configure(cluster, allowPlaintext=True)
    with changing(cluster, access=both):
        heard.note(cluster, cluster.up())
    assert cluster.outputs["endpoints"] == [f"http://{host.address}:2379" for host in cluster.hosts]
    assert cluster.each_host(DATABASE) == database
    assert "transport-security" not in cluster.hosts[0].read("/etc/etcd/etcd.yaml")


def test_tls_comes_back_with_another_ca(cluster: Cluster, heard: Heard) -> None:
    """What the last one left on hosts is in nobody's way."""
    configure(cluster, tls=True, allowPlaintext=None)
    with watched_processes() as processes, changing(cluster, access=Access(both_ways(cluster))) as judged:
        operator = Operator(cluster.stack)
        operator.wait_for("restarting with TLS among members")
        judged.writes.use(issued(cluster))
        assert heard.note(cluster, operator.wait()).returncode == 0
        cluster.read_outputs()
    assert shown(cluster) == desired(cluster)
    heard.said += [each.decode(errors="replace") for each in processes]


def test_no_private_key_was_said_or_is_left_anywhere(cluster: Cluster, heard: Heard) -> None:
    """Neither in any output nor in arguments or environments of processes, and on hosts only where it belongs."""
    needles = sorted({trace for key in heard.keys for trace in traces(key)})
    assert len(heard.keys) > 2 * 8
    said = "\n".join(heard.said)
    assert [needle for needle in needles if needle in said] == []
    places = "/boot /data /dev/shm /etc /home /opt /root /run /srv /tmp /usr/local /var"

    def places_of_keys(host: Host) -> list[str]:
        found = host.run(f"grep -rlF -f - {places} 2> /dev/null", stdin="\n".join(needles), check=False).stdout
        return sorted(found.split())

    assert on_all(cluster.hosts, places_of_keys) == [["/etc/etcd/pki/peer.key", "/etc/etcd/pki/server.key"]] * 3
