"""What judges changes is itself judged: lost, failed and stalled writes are counted, and none where nothing happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from etcd_cluster.pki import x509
from tests.lab import binaries
from tests.lab.clusters import eventually
from tests.lab.hosts import OPERATOR_ADDRESS, Lab, LabError
from tests.lab.writes import Access, writing

ALL = [
    ("3.4.9", "plaintext"),
    ("3.4.9", "TLS"),
    ("3.5.35", "TLS"),
    ("3.6.16", "plaintext"),
    ("3.6.16", "TLS"),
    ("3.7.3", "TLS"),
]
PORTS = (2379, 2479, 2579)


class Members:
    """A cluster of three beside the hosts, plain processes: quicker than hosts, and as real to a client."""

    def __init__(self, lab: Lab, folder: Path, version: str, *, tls: bool) -> None:
        self._lab = lab
        self._folder = folder
        self._etcd = binaries.ensure(version)
        self._scheme = "https" if tls else "http"
        self._flags = self._make_certificates() if tls else []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for port in PORTS:
            self.start(port)
        eventually(self.healthy, "the members form a cluster")

    def start(self, port: int) -> None:
        name, own = f"member-{port}", f"{self._scheme}://{OPERATOR_ADDRESS}"
        command: list[str | Path] = [self._etcd / "etcd", "--name", name, "--log-level", "error"]
        command += ["--data-dir", self._folder / name]
        for flag, its_port in (("client", port), ("peer", port + 1)):
            command += [f"--listen-{flag}-urls", f"{own}:{its_port}"]
        command += ["--advertise-client-urls", f"{own}:{port}", "--initial-advertise-peer-urls", f"{own}:{port + 1}"]
        command += ["--initial-cluster", ",".join(f"member-{each}={own}:{each + 1}" for each in PORTS)]
        log = (self._folder / f"{name}.log").open("ab")
        self._processes[port] = self._lab.popen([*command, *self._flags], stdout=log, stderr=log)
        log.close()

    def end(self, number: signal.Signals, *ports: int) -> None:
        """All at once, and for good."""
        self.signal(number, *ports)
        for port in ports:
            self._processes.pop(port).wait(30)

    def signal(self, number: signal.Signals, *ports: int) -> None:
        for port in ports:
            os.kill(self._processes[port].pid, number)

    def kill(self) -> None:
        self.end(signal.SIGKILL, *self._processes)

    def healthy(self) -> bool:
        try:
            self.etcdctl("endpoint", "health")
        except LabError:
            return False
        return True

    def access(self) -> Access:
        endpoints = tuple(f"{self._scheme}://{OPERATOR_ADDRESS}:{port}" for port in PORTS)
        texts = [(self._folder / name).read_text() for name in ("ca.crt", "client.crt", "client.key") if self._flags]
        return Access(endpoints, *texts)

    def etcdctl(self, *arguments: str) -> str:
        command = [str(self._etcd / "etcdctl"), "--endpoints", ",".join(self.access().endpoints)]
        if self._flags:
            for flag, name in (("cacert", "ca.crt"), ("cert", "client.crt"), ("key", "client.key")):
                command += [f"--{flag}", str(self._folder / name)]
        return self._lab.run([*command, *arguments], env={**os.environ, "ETCDCTL_API": "3"}).stdout

    def followers(self) -> list[int]:
        """Ports of the members that do not lead."""
        answers = json.loads(self.etcdctl("endpoint", "status", "--write-out", "json"))
        leads = [answer["Status"]["leader"] == answer["Status"]["header"]["member_id"] for answer in answers]
        return [port for port, leading in zip(PORTS, leads, strict=True) if not leading]

    def _make_certificates(self) -> list[str | Path]:
        now = datetime.now(timezone.utc)
        ca = x509.create_ca("etcd", now=now)
        (self._folder / "ca.crt").write_text(ca.certificate_pem)
        for name, hosts in (("server", [OPERATOR_ADDRESS]), ("client", [])):
            profile: x509.Profile = "peer" if hosts else "client"
            certificate = x509.issue_certificate(ca, common_name=name, profile=profile, hosts=hosts, now=now)
            (self._folder / f"{name}.crt").write_text(certificate.certificate_pem)
            (self._folder / f"{name}.key").write_text(certificate.private_key_pem)
        flags: list[str | Path] = []
        for prefix in ("", "peer-"):
            flags += [f"--{prefix}client-cert-auth", f"--{prefix}trusted-ca-file", self._folder / "ca.crt"]
            flags += [f"--{prefix}cert-file", self._folder / "server.crt"]
            flags += [f"--{prefix}key-file", self._folder / "server.key"]
        return flags


@contextmanager
def members_of(lab: Lab, folder: Path, version: str = "3.6.16", *, tls: bool = True) -> Iterator[Members]:
    try:
        members = Members(lab, folder, version, tls=tls)
    except binaries.BuildError as error:
        pytest.skip(str(error))
    try:
        yield members
    finally:
        members.kill()


@pytest.mark.parametrize(("version", "transport"), ALL)
def test_where_nothing_happens_nothing_is_lost_fails_or_stalls(
    lab: Lab, tmp_path: Path, version: str, transport: str
) -> None:
    tls = transport == "TLS"
    with members_of(lab, tmp_path, version, tls=tls) as members, writing(lab, members.access()) as writes:
        writes.await_more(200)
    result = writes.result
    writes.assert_nothing_lost()
    assert result.acknowledged > 200
    assert result.read_through == members.access().endpoints
    assert result.longest_stall_seconds < 0.5 + result.own_delay_seconds, str(result)
    assert result.first_revision < result.last_revision <= result.read_revision
    assert len(result.cluster_ids) == 1


@pytest.fixture(scope="module")
def members(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """With TLS. Tests leave all three running."""
    with members_of(lab, tmp_path_factory.mktemp("members")) as running:
        yield running


def test_a_lost_write_and_a_changed_one_are_counted(lab: Lab, members: Members) -> None:
    with writing(lab, members.access(), prefix="spoiled/") as writes:
        writes.await_more(20)
        members.etcdctl("del", "spoiled/0/00000001")
        members.etcdctl("put", "spoiled/1/00000000", "another")
    assert {failure.key: failure.why.partition(" has another, not ")[1] for failure in writes.result.lost} == {
        "spoiled/0/00000001": "",
        "spoiled/1/00000000": " has another, not ",
    }
    for expect_downtime in (True, False):
        with pytest.raises(AssertionError, match="2 lost"):
            writes.assert_nothing_lost(expect_downtime=expect_downtime)


def test_a_member_that_restarts_costs_no_write(lab: Lab, members: Members) -> None:
    with writing(lab, members.access()) as writes:
        members.end(signal.SIGTERM, PORTS[0])
        writes.await_more(100)
        members.start(PORTS[0])
        writes.await_more(100)
    writes.assert_nothing_lost()
    assert writes.result.retried > 0
    assert any("UNAVAILABLE" in error for error in writes.result.retry_errors)


def test_a_cluster_that_is_down_for_longer_than_clients_try_fails_their_writes(lab: Lab, members: Members) -> None:
    with writing(lab, members.access(), give_up_seconds=1.0) as writes:
        writes.await_more(10)
        members.end(signal.SIGKILL, *PORTS)
        time.sleep(1.5)
        for port in PORTS:
            members.start(port)
        writes.await_more(10)
    result = writes.result
    writes.assert_nothing_lost(expect_downtime=True)
    with pytest.raises(AssertionError, match=r"0 lost, [1-9]"):
        writes.assert_nothing_lost()
    assert len(result.failed) >= 4
    assert result.longest_stall_seconds > 1.5
    assert result.longest_write_seconds > 1.0


def test_without_a_quorum_writes_stall_for_as_long_as_that_lasts(lab: Lab, members: Members) -> None:
    with writing(lab, members.access()) as writes:
        members.signal(signal.SIGSTOP, *PORTS[1:])
        time.sleep(1.0)
        members.signal(signal.SIGCONT, *PORTS[1:])
        writes.await_more(50)
    writes.assert_nothing_lost()
    assert 0.9 < writes.result.longest_stall_seconds < 8.0, str(writes.result)


def test_a_client_that_waits_is_no_stall_while_the_others_write(lab: Lab, members: Members) -> None:
    """Nor is it one that the others are done."""
    frozen = members.followers()[0]
    try:
        with writing(lab, members.access()) as writes:
            members.signal(signal.SIGSTOP, frozen)
            writes.await_more(100)
    finally:
        members.signal(signal.SIGCONT, frozen)
    writes.assert_nothing_lost()
    assert writes.result.longest_write_seconds > 2.9, str(writes.result)
    assert writes.result.longest_stall_seconds < 0.5 + writes.result.own_delay_seconds, str(writes.result)
    assert len(writes.result.read_through) == 2


def test_short_stalls_show(lab: Lab, members: Members) -> None:
    with writing(lab, members.access()) as writes:
        writes.await_more(100)
        members.signal(signal.SIGSTOP, *PORTS)
        time.sleep(0.15)
        members.signal(signal.SIGCONT, *PORTS)
        writes.await_more(100)
    assert writes.result.longest_stall_seconds > 0.1, str(writes.result)
    writes.assert_nothing_lost()


def test_endpoints_and_certificates_change_under_way(lab: Lab, members: Members) -> None:
    """As when a cluster goes from plaintext to TLS: for a while, clients try both."""
    access = members.access()
    plain = tuple(endpoint.replace("https:", "http:") for endpoint in access.endpoints)
    with writing(lab, access) as writes:
        writes.use(endpoints=(*plain, *access.endpoints))
        writes.await_more(100)
        writes.use(endpoints=access.endpoints[1:])
        writes.await_more(20)
        members.end(signal.SIGTERM, PORTS[0])
        writes.await_more(100)
    members.start(PORTS[0])
    writes.assert_nothing_lost()
    assert any("http:" in error for error in writes.result.retry_errors)
    assert writes.result.read_through == access.endpoints[1:]


def test_a_certificate_that_is_not_trusted_writes_nothing(lab: Lab, members: Members) -> None:
    now = datetime.now(timezone.utc)
    other = x509.issue_certificate(
        x509.create_ca("other", now=now), common_name="client", profile="client", hosts=[], now=now
    )
    with writing(lab, members.access(), give_up_seconds=0.5) as writes:
        writes.use(certificate=other.certificate_pem, key=other.private_key_pem)
        time.sleep(1.5)
        writes.use(members.access())
        writes.await_more(10)
    assert writes.result.failed
    writes.assert_nothing_lost(expect_downtime=True)


def test_clients_that_reach_nobody_say_so(lab: Lab) -> None:
    nobody = Access((f"http://{OPERATOR_ADDRESS}:1",))
    with (
        pytest.raises(LabError, match=r"not every client has written anything.*UNAVAILABLE"),
        writing(lab, nobody, first_seconds=1.0),
    ):
        pass
