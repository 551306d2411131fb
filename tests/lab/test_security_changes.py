"""Certificates, authorities, TLS itself and the way in by SSH change under a running cluster, and no write is lost.

One cluster's story, each test goes on where the one before ended: formed in plaintext; to TLS, with certificates from
long ago; other ways in; due certificates; two rotations of the authority; back to plaintext, and to TLS once more.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.pki import x509
from tests.lab.changes import change, changing, configure, started
from tests.lab.clusters import Cluster, private_keys, traces, watched_processes
from tests.lab.hosts import Host, Lab, LabError
from tests.lab.operator import Operator
from tests.lab.stack import Run, Stack, host_config
from tests.lab.writes import Access, writing

PROGRAM = Path(__file__).with_name("aged_program.py")
LONG_AGO_HOURS = x509.LEAF_VALIDITY_HOURS * 0.7

FILES = (
    "find /etc/etcd /etc/systemd/system/etcd.service /opt/etcd /data/etcd/*.json /data/etcd/history"
    " -printf '%p %i %T@ %m %u\\n' | sort"
)
DATABASE = "stat -c '%i %W' /data/etcd/data/member/snap/db /data/etcd/data/member/wal/0000000000000000-*"


@pytest.fixture(scope="module")
def said() -> list[Run]:
    """Every run of the module, for the search for keys."""
    return []


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory, said: list[Run]) -> Cluster:
    hosts = lab.hosts(3)
    config = host_config(hosts, mirror_url, tls=False, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("story"), config, program=PROGRAM))
    said.append(cluster.up())
    return cluster


def both_ways(cluster: Cluster) -> tuple[str, ...]:
    """Every client URL of the cluster, with TLS and without."""
    return tuple(f"{scheme}://{host.address}:2379" for host in cluster.hosts for scheme in ("http", "https"))


def issued(cluster: Cluster) -> dict[str, str]:
    """What clients need for TLS, as soon as it is in the state."""
    client = cluster.in_state("etcd-client")
    return {
        "authority": cluster.in_state("etcd-authority")["trusted_pem"],
        "certificate": client["certificate_pem"],
        "key": client["private_key_pem"],
    }


def killed_at(stack: Stack, line: str) -> Run:
    """An `up` that is killed at the first such line."""
    operator = Operator(stack)
    operator.wait_for(line)
    operator.kill()
    return Run(-9, operator.output, 0.0)


def let_in(cluster: Cluster, access: Access) -> bool:
    """Whether clients can write through every endpoint."""
    ways = (dataclasses.replace(access, endpoints=(endpoint,)) for endpoint in access.endpoints)
    return all(_writes(cluster.lab, way) for way in ways)


def shut_out(cluster: Cluster, access: Access) -> bool:
    """Whether no endpoint takes a write."""
    return not _writes(cluster.lab, access)


def _writes(lab: Lab, access: Access) -> bool:
    try:
        with writing(lab, access, clients=1, first_seconds=3):
            return True
    except LabError:
        return False


# --- TLS for a running cluster ---


KILLED_AT = (
    "restarting with certificates at hand",
    "telling the cluster that .* is at https",
    "restarting with TLS among members",
    "restarting with TLS for clients",
)


def test_plaintext_to_tls_killed_at_every_pass(cluster: Cluster, said: list[Run]) -> None:
    """Clients have both URLs of every member, and get their certificate before the first member wants one."""
    cluster.stack.environment["AGED_HOURS"] = str(LONG_AGO_HOURS)
    database = cluster.each_host(DATABASE)
    cluster.etcdctl("put", "written-before", "in plaintext")
    configure(cluster, tls=True)
    preview = cluster.stack.preview()
    assert "every member moves to TLS towards clients" in preview.output
    with changing(cluster, access=Access(both_ways(cluster))) as judged:
        for line in KILLED_AT[:-1]:
            said.append(killed_at(cluster.stack, line))
        judged.writes.use(**issued(cluster))
        said.append(killed_at(cluster.stack, KILLED_AT[-1]))
        said.append(cluster.up())
    assert cluster.outputs["endpoints"] == [f"https://{host.address}:2379" for host in cluster.hosts]
    assert cluster.each_host(DATABASE) == database
    assert cluster.etcdctl("get", "--print-value-only", "written-before") == "in plaintext\n"
    members = cluster.etcdctl("member", "list")
    assert all(f", https://{host.address}:2380, https://{host.address}:2379, " in members for host in cluster.hosts)


# --- the way in ---


def _another_user(cluster: Cluster, _: Path) -> dict[str, Any]:
    return {"ssh": {**cluster.stack.config["ssh"], "user": "root"}}


def _another_port(cluster: Cluster, _: Path) -> dict[str, Any]:
    cluster.each_host("printf 'Port 22\\nPort 2222\\n' > /etc/ssh/sshd_config.d/ports.conf && systemctl reload ssh")
    return {"ssh": {**cluster.stack.config["ssh"], "port": 2222}}


def _another_key(cluster: Cluster, folder: Path) -> dict[str, Any]:
    key = folder / "another"
    cluster.lab.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    public = key.with_suffix(".pub").read_text().strip()
    cluster.each_host(f"echo '{public}' >> /root/.ssh/authorized_keys")
    ssh = {name: value for name, value in cluster.stack.config["ssh"].items() if name != "privateKeyFile"}
    return {"ssh": {**ssh, "privateKey": key.read_text()}}


def _another_host_key(cluster: Cluster, _: Path) -> dict[str, Any]:
    key = "/etc/ssh/ssh_host_ecdsa_key"
    make = f"ssh-keygen -q -t ecdsa -N '' -f {key} && echo HostKey {key} > /etc/ssh/sshd_config.d/ecdsa.conf"
    keys = cluster.each_host(f"{make} && systemctl reload ssh && cut -d ' ' -f 1,2 {key}.pub")
    hosts = cluster.stack.config["hosts"]
    return {"hosts": {name: {**block, "hostKey": keys[name].strip()} for name, block in hosts.items()}}


def _another_address_for_ssh(cluster: Cluster, _: Path) -> dict[str, Any]:
    cluster.hosts[0].run("ip address add 10.77.0.99/24 dev host0")
    hosts = cluster.stack.config["hosts"]
    return {"hosts": {**hosts, "host-1": {**hosts["host-1"], "sshAddress": "10.77.0.99"}}}


def _through_a_bastion(cluster: Cluster, _: Path) -> dict[str, Any]:
    ssh, first = cluster.stack.config["ssh"], cluster.hosts[0]
    bastion = {"address": first.address, "hostKey": first.host_key, "user": "root", "privateKey": ssh["privateKey"]}
    return {"ssh": {**ssh, "bastion": bastion}}


WAYS_IN: dict[str, Callable[[Cluster, Path], dict[str, Any]]] = {
    "user": _another_user,
    "port": _another_port,
    "key": _another_key,
    "host key": _another_host_key,
    "address": _another_address_for_ssh,
    "bastion": _through_a_bastion,
}


def test_another_way_in_by_ssh_touches_nothing_on_hosts(cluster: Cluster, tmp_path: Path, said: list[Run]) -> None:
    before = cluster.each_host(FILES)
    kept = cluster.stack.config
    with changing(cluster, restarts=()):
        for name, way in WAYS_IN.items():
            configure(cluster, **way(cluster, tmp_path))
            said.append(cluster.up())
            assert cluster.each_host(FILES) == before, name
        cluster.stack.config = kept
        said.append(cluster.up())


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


def wanted(cluster: Cluster) -> dict[str, list[str]]:
    """The same, as the state has them."""
    return {
        host.name: [cluster.in_state(f"etcd-{host.name}-{side}")["fingerprint"] for side in ("server", "peer")]
        for host in cluster.hosts
    }


def test_due_certificates_are_renewed_in_place_without_a_restart(cluster: Cluster, said: list[Run]) -> None:
    before = shown(cluster)
    assert before == wanted(cluster)
    del cluster.stack.environment["AGED_HOURS"]
    done = change(cluster, restarts=())
    said.append(done.run)
    after = shown(cluster)
    assert after == wanted(cluster)
    assert not {each for pair in after.values() for each in pair} & {each for pair in before.values() for each in pair}


# --- the authority ---


def test_an_authority_is_rotated_with_both_trusted_in_between(cluster: Cluster, said: list[Run]) -> None:
    old = Access.of(cluster.outputs)
    with watched_processes() as processes:
        configure(cluster, authorityRotation=1)
        assert "comes to trust the new one before the old one is dropped" in cluster.stack.preview().output
        with changing(cluster) as judged:
            said.append(cluster.up())
            new = Access.of(cluster.outputs)
            judged.writes.use(new)
            judged.writes.await_more()
        assert len(x509.split_bundle(new.authority)) == 2
        assert let_in(cluster, old)
        assert let_in(cluster, new)

        said.append(change(cluster, authorityOverlapHours=0).run)
    assert "renewing certificates" not in said[-2].output
    assert len(x509.split_bundle(cluster.outputs["caCertificate"])) == 1
    assert shown(cluster) == wanted(cluster)
    assert shut_out(cluster, old)
    # One who has the new certificate and both authorities is none the wiser.
    assert let_in(cluster, new)
    assert let_in(cluster, Access.of(cluster.outputs))
    assert_no_keys(cluster, said, processes)


def assert_no_keys(cluster: Cluster, said: list[Run], processes: set[bytes]) -> None:
    """No private key is in any output or in the arguments and environments of processes, and on hosts only where it
    belongs."""
    on_hosts = cluster.each_host("cat /etc/etcd/pki/*.key").values()
    keys = cluster.private_keys_in_state() | {key for text in on_hosts for key in private_keys(text)}
    needles = sorted({trace for key in keys for trace in traces(key)})
    seen = b"\n".join(processes).decode(errors="replace") + "".join(run.output for run in said)
    assert [needle for needle in needles if needle in seen] == []
    places = "/boot /data /dev/shm /etc /home /opt /root /run /srv /tmp /usr/local /var"
    for host in cluster.hosts:
        found = host.run(f"grep -rlF -f - {places} 2> /dev/null", stdin="\n".join(needles), check=False).stdout
        assert sorted(found.split()) == ["/etc/etcd/pki/peer.key", "/etc/etcd/pki/server.key"]


PHASES = (
    "restarting to trust 2 authorities",
    "renewing certificates",
    "restarting to trust the new authority alone",
)


def test_a_rotation_at_once_is_finished_wherever_it_was_killed(cluster: Cluster, said: list[Run]) -> None:
    """Clients of the old authority are shut out when it is dropped, until they have what the last `up` exports."""
    old = Access.of(cluster.outputs)
    configure(cluster, authorityRotation=2)
    with changing(cluster, expect_downtime=True) as judged:
        for line in PHASES:
            said.append(killed_at(cluster.stack, line))
        said.append(cluster.up())
        judged.writes.use(Access.of(cluster.outputs))
        judged.writes.await_more()
    assert shown(cluster) == wanted(cluster)
    assert shut_out(cluster, old)
    assert_no_keys(cluster, said, set())


# --- back, and forth again ---


def test_the_way_back_to_plaintext_is_refused_unless_allowed(cluster: Cluster, said: list[Run]) -> None:
    before = started(cluster)
    configure(cluster, tls=False)
    refused = cluster.stack.preview(check=False)
    assert refused.returncode != 0
    assert "tls: false: this cluster speaks TLS" in refused.output
    assert "allowPlaintext: true" in refused.output
    assert cluster.stack.up(check=False).returncode != 0
    assert started(cluster) == before

    database = cluster.each_host(DATABASE)
    both = dataclasses.replace(Access.of(cluster.outputs), endpoints=both_ways(cluster))
    configure(cluster, allowPlaintext=True)
    with changing(cluster, access=both):
        said.append(cluster.up())
    assert cluster.outputs["endpoints"] == [f"http://{host.address}:2379" for host in cluster.hosts]
    assert cluster.each_host(DATABASE) == database
    assert "transport-security" not in cluster.hosts[0].read("/etc/etcd/etcd.yaml")


def test_tls_comes_back_with_another_authority(cluster: Cluster, said: list[Run]) -> None:
    configure(cluster, tls=True, allowPlaintext=None)
    with changing(cluster, access=Access(both_ways(cluster))) as judged:
        said.append(killed_at(cluster.stack, "restarting with TLS among members"))
        judged.writes.use(**issued(cluster))
        said.append(cluster.up())
    assert shown(cluster) == wanted(cluster)
    assert_no_keys(cluster, said, set())
