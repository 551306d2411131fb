"""What `up` does where it cannot see: files that are lost on all hosts, looks that get no answer, credentials that are
gone. Members move one at a time or not at all, under continuous writes. One cluster of three goes through it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.lab import faults
from tests.lab.changes import changing, configure, started, steps
from tests.lab.clusters import Cluster, eventually
from tests.lab.hosts import Host, Lab
from tests.lab.operator import Operator
from tests.lab.stack import Run, Stack, host_config

CONFIGURATION = "/etc/etcd/etcd.yaml"
PKI = "/etc/etcd/pki"
UNIT = "/etc/systemd/system/etcd-cluster.service"
QUOTE = rf"""sed -i -E "s|^(listen-metrics-urls\|advertise-client-urls): (.*)|\1: '\2'|" {CONFIGURATION}"""

_settings = count(2000)


@pytest.fixture(scope="module")
def cluster(lab: Lab, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Tests leave it healthy."""
    hosts = lab.hosts(3, disk_gib=None)
    config = host_config(hosts, mirror_url, allowUndersized=True)
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("unknown"), config))
    cluster.up()
    return cluster


@contextmanager
def without_loopback(host: Host) -> Iterator[None]:
    """Nothing on the host reaches the member by 127.0.0.1; clients and the other members do, as before."""
    host.run("ip address del 127.0.0.1/8 dev lo")
    try:
        yield
    finally:
        host.run("ip address add 127.0.0.1/8 dev lo")


def assert_in_turn(run: Run, cluster: Cluster) -> None:
    """Each member was restarted by a step of its own."""
    restarted = [step.partition(":")[0] for step in steps(run) if ": restarting" in step]
    assert sorted(restarted) == [host.name for host in cluster.hosts], run.output
    assert "restarting into the desired state" not in run.output


@pytest.mark.exhaustive
def test_configuration_that_is_gone_from_all_hosts_comes_back_in_turn(cluster: Cluster) -> None:
    with changing(cluster):
        cluster.each_host(f"rm {CONFIGURATION} {UNIT}")
        run = cluster.up()
    assert_in_turn(run, cluster)


@pytest.mark.exhaustive
def test_where_no_member_can_be_asked_none_is_restarted_and_all_are_named(cluster: Cluster) -> None:
    """The files differ on all of them, by a value that somebody quoted; they serve all the same."""
    with changing(cluster):
        before = started(cluster)
        cluster.each_host(QUOTE)
        assert cluster.each_host(f'grep -c "\'http" {CONFIGURATION}') == {host.name: "2\n" for host in cluster.hosts}
        with ExitStack() as blind:
            for host in cluster.hosts:
                blind.enter_context(without_loopback(host))
            refused = cluster.stack.up(check=False)
        assert refused.returncode != 0
        assert "it is unknown whether a majority of the members serves, so none is restarted: " in refused.output
        for host in cluster.hosts:
            assert re.search(rf"{host.name}: its process does not tell its metrics within 3 seconds", refused.output)
        assert started(cluster) == before
        run = cluster.up()
    assert_in_turn(run, cluster)


def test_members_that_all_hang_for_a_while_are_waited_for_and_then_restarted_in_turn(cluster: Cluster) -> None:
    configure(cluster, etcd={"max-txn-ops": next(_settings)})
    with changing(cluster, expect_downtime=True):
        with ExitStack() as hanging:
            for host in cluster.hosts:
                hanging.enter_context(faults.frozen(host))
            operator = Operator(cluster.stack)
            asked = "ss -Htn 'sport = :2381' | grep -c . || true"
            eventually(lambda: "0\n" not in cluster.each_host(asked).values(), "all metrics asked")
        run = operator.wait(120)
    assert run.returncode == 0, run.output
    assert_in_turn(run, cluster)


# --- what members are looked at by ---


def on_all(run: Run, what: str) -> bool:
    return all(f"host-{number}: {what}, without a restart" in steps(run) for number in (1, 2, 3))


def expired(certificate_pem: str, ca: dict[str, Any]) -> tuple[str, str]:
    """A certificate like that one whose time is over, and its key."""
    parsed, now = x509.load_pem_x509_certificate(certificate_pem.encode()), datetime.now(timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(parsed.issuer, parsed.subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=2)).not_valid_after(now - timedelta(hours=1))
    for extension in parsed.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signer = serialization.load_pem_private_key(ca["private_key_pem"].encode(), None)
    assert isinstance(signer, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(signer, hashes.SHA256()).public_bytes(pem).decode(), private.decode()


def test_certificates_that_expired_on_all_hosts_are_put_in_place_without_a_restart(cluster: Cluster) -> None:
    """Each member was restarted with them, as after a power cut: nobody trusts anybody, and no member leads."""
    ca = cluster.in_state("etcd-ca")
    with changing(cluster, expect_downtime=True):
        for host in cluster.hosts:
            for side in ("server", "peer"):
                certificate, key = expired(host.read(f"{PKI}/{side}.crt"), ca)
                host.run(f"cat > {PKI}/{side}.crt", stdin=certificate)
                host.run(f"cat > {PKI}/{side}.key", stdin=key)
        cluster.each_host("systemctl restart --no-block etcd-cluster")
        run = cluster.up()
    assert on_all(run, "repairing certificates"), run.output
    assert re.search(rf"host-1: found: .*{PKI}/server.crt has expired", run.output), run.output
    assert not [step for step in steps(run) if ": restarting" in step or ": starting" in step]


def test_cas_and_keys_that_are_gone_from_all_hosts_are_put_in_place_first(cluster: Cluster) -> None:
    """Clients that come while the keys are gone are not served; nothing that was written is lost."""
    with changing(cluster, expect_downtime=True):
        cluster.each_host(f"rm {PKI}/ca.crt {PKI}/*.key")
        run = cluster.up()
    assert on_all(run, "restoring the CA file"), run.output
    assert on_all(run, "repairing certificates"), run.output
    assert_in_turn(run, cluster)
