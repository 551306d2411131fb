"""The peer port lets in members alone: no certificate of clients, and none that anybody else signed, on any minor.

A cluster that was formed before members had a CA of their own gets there in its next `up`, under writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest

from etcd_cluster.pki import x509
from etcd_cluster.pki.x509 import KeyPair
from tests.lab.changes import changing
from tests.lab.clusters import Cluster
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import PROJECT, Stack, host_config

VERSIONS = ("3.4.9", "3.5.35", "3.6.16", "3.7.3")
MIRROR_VERSIONS = list(VERSIONS)
PROGRAM = Path(__file__).with_name("without_peer_ca.py")
CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381

READS = (("GET", "/members"), ("GET", "/raft/probing"), ("GET", "/version"), ("GET", "/hashkv"))
REQUESTS = (
    *READS,
    ("POST", "/raft"),
    ("GET", "/raft/stream/message/1"),
    ("GET", "/raft/stream/msgapp/1"),
    ("POST", "/raft/snapshot"),
    ("POST", "/members/promote/1"),
    ("POST", "/leases"),
    ("POST", "/leases/internal"),
    ("GET", "/downgrade/enabled"),
    ("POST", "/etcdserverpb.KV/Range"),
)
"""All that members ask of one another, by HTTP or, since HTTP/2 is served there as well, by gRPC."""
SURE = ("TLS 1.2, HTTP/1.1", "TLS 1.2, HTTP/2", "TLS 1.3, HTTP/1.1")
"""Where it shows that somebody is let in. What is no call of gRPC, 3.4 and 3.5 leave without an answer in HTTP/2."""
PHASES = (
    "restarting to trust 2 CAs among members",
    "renewing certificates, without a restart",
    "restarting to trust the new CA alone among members",
)


@dataclass
class Clusters:
    """By version: that of 3.4.9 has three members and was formed the old way, the others are of one member each."""

    by_version: Mapping[str, Cluster]

    @property
    def old(self) -> Cluster:
        return self.by_version["3.4.9"]


@pytest.fixture(scope="module")
def clusters(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    hosts = lab.hosts(6)
    shares = [hosts[:3], *([host] for host in hosts[3:])]
    folder = tmp_path_factory.mktemp("peer-port")

    def formed(version: str, members: list[Host]) -> Cluster:
        config = host_config(members, mirror_url, version=version, allowUndersized=True)
        stack = Stack(lab, folder / version, config, program=PROGRAM)
        if len(members) > 1:
            stack.environment["PEER_CA"] = "none"
        cluster = Cluster(lab, members, stack)
        cluster.up()
        return cluster

    with ThreadPoolExecutor(2) as pool:
        return Clusters(dict(zip(VERSIONS, pool.map(formed, VERSIONS, shares), strict=True)))


def pair(cluster: Cluster, name: str) -> KeyPair:
    found = cluster.in_state(name)
    return KeyPair(found["certificate_pem"], found["private_key_pem"])


def foreign_pairs(cluster: Cluster) -> dict[str, KeyPair | None]:
    """All that is not a member's own peer certificate."""
    host = cluster.hosts[0]
    names = [host.name, host.address, "localhost", "127.0.0.1"]
    now = datetime.now(timezone.utc)
    of_clients, foreign = pair(cluster, "etcd-ca"), x509.create_ca("etcd etcd peer CA", now=now)

    def issued(ca: KeyPair, name: str, profile: x509.Profile, hosts: Sequence[str] = ()) -> KeyPair:
        return x509.issue_certificate(ca, common_name=name, profile=profile, hosts=hosts, now=now)

    return {
        "none": None,
        "the exported client's": pair(cluster, "etcd-client"),
        **{f"the server's of {each.name}": pair(cluster, f"etcd-{each.name}-server") for each in cluster.hosts},
        "the CA of clients itself": of_clients,
        "by the CA of clients, with a member's names": issued(of_clients, host.name, "peer", names),
        "by the CA of clients, with a member's name, without addresses": issued(of_clients, host.name, "client"),
        "by the CA of clients, for root": issued(of_clients, "root", "client"),
        "by another CA of the same name, with a member's names": issued(foreign, host.name, "peer", names),
        "by another CA, without addresses": issued(foreign, host.name, "client"),
        "signed by itself": x509.create_ca(host.name, key_algorithm="ECDSA-P256", now=now),
    }


def knock(
    cluster: Cluster,
    pairs: Mapping[str, KeyPair | None],
    port: int = PEER_PORT,
    requests: Sequence[tuple[str, str]] = REQUESTS,
) -> dict[str, str]:
    """Whoever asks, in which way, for what -> how that ended. From the first member's own address: on the peer port, a
    certificate with addresses counts there alone."""
    host = cluster.hosts[0]
    asked = {
        "address": host.address,
        "port": port,
        "pairs": {name: [each.certificate_pem, each.private_key_pem] if each else [] for name, each in pairs.items()},
        "requests": requests,
    }
    command = host.from_here([sys.executable, "-m", "tests.lab.knocking"])
    done = cluster.lab.run(command, cwd=PROJECT, input=json.dumps(asked), timeout=300)
    return {" | ".join(words): outcome for *words, outcome in json.loads(done.stdout)}


def let_in(outcomes: Mapping[str, str]) -> dict[str, str]:
    return {who: outcome for who, outcome in outcomes.items() if not outcome.startswith("refused: ")}


@pytest.mark.exhaustive
def test_before_a_peer_ca_the_exported_client_was_let_in(clusters: Clusters) -> None:
    """Without what this file is about, its other tests would fail."""
    cluster = clusters.old
    outcomes = knock(cluster, {"client": pair(cluster, "etcd-client")}, requests=[("GET", "/members")])
    assert set(let_in(outcomes)) >= {f"client | {protocol} | GET | /members" for protocol in SURE}
    members = outcomes["client | TLS 1.3, HTTP/1.1 | GET | /members"]
    assert all(f"https://{host.address}:2380" in members for host in cluster.hosts)


def test_a_cluster_gets_its_peer_ca_in_an_up_that_is_killed_at_every_step_and_loses_no_write(
    clusters: Clusters,
) -> None:
    cluster = clusters.old
    client = {each: cluster.outputs[each] for each in ("caCertificate", "clientCertificate", "clientKey")}
    del cluster.stack.environment["PEER_CA"]
    preview = cluster.stack.preview().output
    assert "the peer port gets a CA of its own, so that only members are let in there" in preview
    with changing(cluster):
        for line in PHASES:
            operator = Operator(cluster.stack)
            operator.wait_for(line)
            operator.kill()
        cluster.up()
    assert client == {each: cluster.outputs[each] for each in client}, "no client has to change anything"


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_but_a_members_own_peer_certificate_is_let_in(clusters: Clusters, version: str) -> None:
    cluster = clusters.by_version[version]
    pids = cluster.pids()
    outcomes = knock(cluster, foreign_pairs(cluster))
    assert let_in(outcomes) == {}
    in_handshake = [outcome for who, outcome in outcomes.items() if " | TLS 1.2, " in who]
    assert all("ALERT" in outcome for outcome in in_handshake), set(in_handshake)
    host = cluster.hosts[0]
    outcomes = knock(cluster, {"own": pair(cluster, f"etcd-{host.name}-peer")}, requests=READS)
    assert set(let_in(outcomes)) >= {f"own | {protocol} | GET | /members" for protocol in SURE}
    assert f"https://{host.address}:2380" in outcomes["own | TLS 1.3, HTTP/1.1 | GET | /members"]
    assert (cluster.pids(), cluster.healthy()) == (pids, True)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_members_ask_of_one_another_is_served_on_the_peer_port_alone(clusters: Clusters, version: str) -> None:
    """A client gets none of it on the client port, nor anybody on the port of metrics, which is open on loopback alone;
    and a peer certificate is no client's."""
    cluster = clusters.by_version[version]
    host = cluster.hosts[0]
    raft = [each for each in REQUESTS if each[1] not in ("/version", "/etcdserverpb.KV/Range")]
    outcomes = knock(cluster, {"client": pair(cluster, "etcd-client")}, CLIENT_PORT, raft)
    answers = {outcome.partition("\r\n")[0] for who, outcome in outcomes.items() if "HTTP/1.1" in who}
    assert answers == {"let in: HTTP/1.1 404 Not Found"}
    peer = {"peer": pair(cluster, f"etcd-{host.name}-peer")}
    assert let_in(knock(cluster, peer, CLIENT_PORT, [("GET", "/version")])) == {}

    code = "curl -s -o /dev/null -w '%{http_code} ' -X "
    asked = "; ".join(f"{code}{method} http://127.0.0.1:{METRICS_PORT}{path}" for method, path in raft)
    assert set(host.run(asked).stdout.split()) == {"404"}
    outside = f"curl -s -m 5 http://{host.address}:{METRICS_PORT}/metrics"
    assert host.run(outside, check=False).returncode == 7, "nobody listens there"
