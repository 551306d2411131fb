"""The step that loads a cluster, on this machine: etcd of every minor, `benchmark`, and what is left of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.install.load_generator import benchmark_for
from etcd_cluster.install.sources import this_architecture
from etcd_cluster.load_check.generator import Requests
from etcd_cluster.load_check.samples import COMMIT, FSYNC, NUMBERS, Sample
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.answers import framed_answer
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import RunLoad, SampleLoad
from etcd_cluster.pki import x509
from tests.lab import binaries
from tests.lab.clusters import eventually

VERSIONS = ("3.4.9", "3.5.35", "3.6.16", "3.7.3")
SECONDS = 3
RATE = 50

pytestmark = pytest.mark.skipif(
    bool(binaries.requirements()), reason="Go is not on PATH: etcd is built from its modules"
)


@pytest.fixture(scope="module")
def benchmark() -> str:
    try:
        return str(benchmark_for(this_architecture()))
    except EtcdClusterError as error:
        pytest.skip(str(error))


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@dataclass
class Member:
    """One etcd on loopback, laid out as a member of platform local."""

    layout: Layout
    ports: Ports
    etcdctl: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.client}"

    def command(self, line: Line) -> tuple[list[str], str]:
        """What runs a step, and what it reads."""
        script = render.script(line.step, self.layout, render.port_variables(self.ports))
        return ["bash", "-c", line.text("etcd-1")], script

    def run(self, line: Line) -> str:
        """The step's answer. Raises AssertionError with its errors."""
        command, script = self.command(line)
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return framed_answer(done.stdout, line.step)

    def start(self, line: Line) -> subprocess.Popen[str]:
        command, script = self.command(line)
        run = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        assert run.stdin
        run.stdin.write(script)
        run.stdin.close()
        return run

    def client(self, *arguments: str) -> str:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        command = [str(self.etcdctl), "--endpoints", self.url, *arguments]
        done = subprocess.run(command, capture_output=True, check=True, env=environment, timeout=60)
        return done.stdout.decode(errors="replace")  # keys of `benchmark` are no text

    def all_keys(self) -> str:
        return self.client("get", "", "--from-key", "--keys-only").replace("\0", "")

    @property
    def folder(self) -> Path:
        return Path(self.layout.state, "load-check")

    def is_checking(self) -> bool:
        """Whether etcd's own check writes."""
        return (self.folder / "check_perf.pid").exists() and "load-check/check-perf/" in self.all_keys()

    def is_loading(self) -> bool:
        return all((self.folder / f"{name}.pid").exists() for name in ("writes", "reads"))


def member(version: str, folder: Path) -> Generator[Member, None, None]:
    programs = binaries.ensure(version)
    layout, ports = Layout.below(str(folder)), Ports(*free_ports(3))
    for each in (layout.configuration, layout.state, layout.data, layout.pki):
        Path(each).mkdir(parents=True)
    Path(layout.binaries).symlink_to(programs)
    configuration = Path(layout.configuration, "etcd.yaml")
    peer = f"http://127.0.0.1:{ports.peer}"
    configuration.write_text(
        f"name: etcd-1\ndata-dir: {layout.data}\nlisten-client-urls: http://127.0.0.1:{ports.client}\n"
        f"advertise-client-urls: http://127.0.0.1:{ports.client}\nlisten-peer-urls: {peer}\n"
        f"initial-advertise-peer-urls: {peer}\ninitial-cluster: etcd-1={peer}\n"
        f"listen-metrics-urls: http://127.0.0.1:{ports.metrics}\n"
    )
    command = [str(programs / "etcd"), "--config-file", str(configuration)]
    with open(folder / "log", "wb") as log:
        etcd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    Path(layout.state, "etcd.pid").write_text(f"{etcd.pid}\n")
    made = Member(layout, ports, programs / "etcdctl")

    def serves() -> bool:
        assert etcd.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            return bool(made.client("endpoint", "health") or True)
        except subprocess.CalledProcessError:
            return False

    try:
        eventually(serves, "etcd serves")
        yield made
    finally:
        etcd.kill()
        etcd.wait()
        shutil.rmtree(layout.volume)


@pytest.fixture(scope="module", params=VERSIONS)
def of_each_minor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    yield from member(request.param, tmp_path_factory.mktemp(f"v{request.param}"))


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    yield from member("3.6.16", tmp_path_factory.mktemp("newest"))


def load(one: Member, program: str, **changes: object) -> RunLoad:
    values = {
        "urls": one.url,
        "program": program,
        "writes": RATE,
        "reads": RATE,
        "clients": 10,
        "seconds": SECONDS,
        "limit_seconds": 60,
        "value_bytes": 1024,
        **changes,
    }
    return RunLoad(**values)  # type: ignore[arg-type]


def requests(answer: str, name: str) -> Requests:
    lines = [line.removeprefix(f"{name}:") for line in answer.splitlines() if line.startswith(f"{name}:")]
    return Requests.parse("\n".join(lines), RATE * SECONDS, ended=f"\n{name}_status=0\n" in answer)


def test_every_minor_is_loaded_measured_and_left_as_it_was(of_each_minor: Member, benchmark: str) -> None:
    one = of_each_minor
    one.client("put", "kept", "value")
    before = Sample.parse(one.run(SampleLoad()), 0.0)
    answer = one.run(load(one, benchmark, compact=True))
    after = Sample.parse(one.run(SampleLoad()), 5.0)
    for name in ("writes", "reads"):
        found = requests(answer, name)
        assert (found.ended, found.done, found.error_count) == (True, RATE * SECONDS, 0)
        assert 0 < found.percentiles[50.0] <= found.percentiles[99.0] <= found.slowest
    assert set(NUMBERS) <= after.numbers.keys()
    assert after.histograms[FSYNC][float("inf")] > before.histograms[FSYNC][float("inf")] + 10
    assert after.histograms[COMMIT][float("inf")] > before.histograms[COMMIT][float("inf")]
    assert after.version in VERSIONS
    assert one.all_keys().split() == ["kept"]
    assert not one.folder.exists()


def test_all_keys_that_benchmark_can_write_are_known(newest: Member, benchmark: str) -> None:
    """More writes than keys: it then begins anew, with what its buffer held."""
    answer = newest.run(load(newest, benchmark, writes=500, reads=1))
    assert "writes_status=0" in answer
    assert newest.all_keys() == ""


def test_a_cluster_with_keys_is_not_loaded_where_it_must_have_none(newest: Member, benchmark: str) -> None:
    newest.client("put", "kept", "value")
    found = re.search(r'"Revision" : (\d+)', newest.client("put", "kept", "later", "--write-out", "fields"))
    assert found
    assert newest.run(load(newest, benchmark, only_without_keys=True, compact=True)) == "holds=1\n"
    assert newest.run(RunLoad(clean=True, only_without_keys=True)) == "holds=1\n"
    before = newest.client("get", "kept", "--rev", str(int(found[1]) - 1), "--print-value-only")
    assert before == "value\n", "the history of somebody's keys stays"
    newest.client("del", "kept")
    assert newest.run(RunLoad(clean=True, only_without_keys=True)) == ""


def test_keys_of_another_benchmark_stay(newest: Member, benchmark: str) -> None:
    put = [benchmark, "--endpoints", newest.url, "put", "--key-size", "64", "--total", "1"]
    subprocess.run(put, check=True, capture_output=True, timeout=60)
    with pytest.raises(AssertionError, match="the cluster holds keys that `benchmark` writes"):
        newest.run(load(newest, benchmark))
    assert newest.client("get", "", "--from-key", "--keys-only", "--write-out", "fields").count('"Count" : 1\n') == 1
    newest.client("del", "", "--from-key")


def kill(process: int | subprocess.Popen[str], number: signal.Signals) -> None:
    os.kill(process if isinstance(process, int) else process.pid, number)


def step_of(run: subprocess.Popen[str]) -> list[int]:
    """Every bash of the step."""
    found = subprocess.run(["pgrep", "-x", "-g", str(run.pid), "bash"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(each, marks=pytest.mark.exhaustive) for each in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)),
    ],
)
def test_a_step_that_is_ended_cleans_up_itself(number: signal.Signals, newest: Member, benchmark: str) -> None:
    run = newest.start(load(newest, benchmark, seconds=30))
    eventually(newest.is_loading, "it loads")
    for pid in step_of(run):
        kill(pid, number)
    run.wait(120)
    eventually(lambda: newest.all_keys() == "" and not newest.folder.exists(), "nothing is left")


def test_a_step_whose_reader_is_gone_ends_and_cleans_up(newest: Member, benchmark: str) -> None:
    run = newest.start(load(newest, benchmark, seconds=60, limit_seconds=240))
    eventually(newest.is_loading, "it loads")
    assert run.stdout
    assert run.stderr
    run.stdout.close()
    run.stderr.close()
    run.wait(120)
    eventually(lambda: newest.all_keys() == "" and not newest.folder.exists(), "nothing is left")


@pytest.mark.parametrize(
    "when", ["load", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("begin", "end"))]
)
def test_the_next_step_removes_what_a_killed_one_left(when: str, newest: Member, benchmark: str) -> None:
    conditions: dict[str, Callable[[], bool]] = {
        "begin": lambda: "load-check" in newest.all_keys(),
        "load": newest.is_loading,
        "end": lambda: newest.is_loading() and not newest.all_keys().strip().endswith("value"),
    }
    run = newest.start(load(newest, benchmark, seconds=2))
    eventually(lambda: conditions[when]() or run.poll() is not None, when, seconds=60)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(60)
    newest.run(RunLoad(clean=True))
    assert newest.all_keys() == ""
    assert not newest.folder.exists()


def test_what_a_killed_one_left_is_removed_from_a_full_database_too(newest: Member, benchmark: str) -> None:
    run = newest.start(load(newest, benchmark, seconds=2))
    eventually(newest.is_loading, "it loads")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(60)
    eventually(lambda: not loaders(newest), "its load ends")
    with full(newest):
        newest.run(RunLoad(clean=True))
        assert newest.all_keys() == ""


@contextmanager
def full(one: Member) -> Iterator[None]:
    """An etcd that takes no writes but deletions, by its alarm."""
    member_id = int(
        json.loads(one.client("endpoint", "status", "--write-out", "json"))[0]["Status"]["header"]["member_id"]
    )
    alarm = json.dumps({"action": "ACTIVATE", "memberID": str(member_id), "alarm": "NOSPACE"}).encode()
    urllib.request.urlopen(f"{one.url}/v3/maintenance/alarm", alarm, timeout=60).read()
    try:
        yield
    finally:
        one.client("alarm", "disarm")


def lock_elsewhere(one: Member, seconds: int) -> None:
    """As a load check on the machine of etcd-9 writes it. What it left besides is the next one's to remove."""
    lease = re.search(r"lease (\w+) granted", one.client("lease", "grant", str(seconds)))
    assert lease
    one.client("put", "/etcd-cluster/load-check/running", "etcd-9 0123", f"--lease={lease[1]}")


def test_one_on_another_machine_is_waited_for(newest: Member, benchmark: str) -> None:
    lock_elsewhere(newest, 5)
    said = ended(newest.start(load(newest, benchmark)))
    assert re.search(r"etcd-1: waits for a load check on etcd-9: its lock key lasts for [1-5] s at most\n", said)
    assert newest.all_keys() == ""


def test_a_lock_that_lasts_for_longer_than_one_waits_is_told_with_its_seconds(of_each_minor: Member) -> None:
    lock_elsewhere(of_each_minor, 4000)
    try:
        told = r"a load check on etcd-9 is at work, or .*, and its lock key lasts for another (3[5-9]\d\d|4000) s\. "
        with pytest.raises(AssertionError, match=told):
            of_each_minor.run(RunLoad(clean=True))
    finally:
        of_each_minor.client("del", "/etcd-cluster/load-check/running")


@dataclass
class Client(Member):
    """A machine that runs no member, with a state of its own."""

    name: str
    certificate: Mapping[str, str] = field(default_factory=lambda: render.client_variables("", None))

    @staticmethod
    def beside(one: Member, name: str, folder: Path) -> Client:
        folder.mkdir()
        return Client(replace(one.layout, state=str(folder), data=str(folder)), one.ports, one.etcdctl, name)

    def command(self, line: Line) -> tuple[list[str], str]:
        variables = {**render.port_variables(self.ports), **self.certificate}
        return ["bash", "-c", line.text(self.name)], render.script(line.step, self.layout, variables)


def loaders(one: Member) -> str:
    """Processes of `benchmark` at this member."""
    pattern = f"[b]enchmark .*{re.escape(one.url)}"
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout


def ended(run: subprocess.Popen[str]) -> str:
    """What a step that was started said. It has ended well."""
    assert run.stdout
    assert run.stderr
    output, errors = run.stdout.read(), run.stderr.read()
    assert run.wait(600) == 0, errors
    assert "writes_status=0" in output
    return errors


def test_two_machines_that_have_one_name_wait_for_one_another(newest: Member, benchmark: str, tmp_path: Path) -> None:
    one, other = (Client.beside(newest, "client 192.168.1.10", tmp_path / name) for name in ("one", "other"))
    first = one.start(load(newest, benchmark, seconds=6, client=True))
    eventually(one.is_loading, "the first loads")
    second = other.start(load(newest, benchmark, client=True))
    ended(first)
    assert "waits for a load check on client 192.168.1.10" in ended(second)
    assert newest.all_keys() == ""


@pytest.mark.parametrize("another_came", [True, False], ids=["another came", "nobody came"])
def test_a_machine_that_was_away_for_longer_than_its_note_lasts(
    another_came: bool, newest: Member, benchmark: str, tmp_path: Path
) -> None:
    """It wakes up, ends its load, and removes nothing of another one's."""
    one, other = (Client.beside(newest, f"client {name}", tmp_path / name) for name in ("one", "other"))
    first = one.start(load(newest, benchmark, client=True))
    eventually(one.is_loading, "the first loads")
    os.killpg(first.pid, signal.SIGSTOP)
    eventually(lambda: not loaders(newest), "its load ends: the lease lasts for longer")
    newest.client("del", "/etcd-cluster/load-check/running")  # as if it had expired
    if another_came:
        second = other.start(load(newest, benchmark, seconds=15, client=True))
        eventually(other.is_loading, "the second loads")
        os.killpg(first.pid, signal.SIGCONT)
        ended(first)
        held = newest.all_keys()
        if other.is_loading():  # on a busy machine the first may take longer
            assert "load-check/value" in held, "what the second reads"
        ended(second)
    else:
        os.killpg(first.pid, signal.SIGCONT)
        ended(first)
    assert newest.all_keys() == ""


def test_a_client_whose_clock_is_behind_is_told_why_tls_fails(of_each_minor: Member, memory: Path) -> None:
    """By its clock the certificates of a new cluster are of the future. Here the clock is right, and they are."""
    later = datetime.now(timezone.utc) + timedelta(hours=2)
    ca = x509.create_ca("etcd CA", now=later, key_algorithm="ECDSA-P256")
    server = x509.issue_certificate(ca, common_name="server", profile="server", hosts=["127.0.0.1"], now=later)
    own = x509.issue_certificate(ca, common_name="client", profile="client", now=later)
    certificate = render.client_variables(
        ca.certificate_pem, render.CertificatePair(own.certificate_pem, own.private_key_pem)
    )
    client = replace(Client.beside(of_each_minor, "client 192.168.1.10", memory / "one"), certificate=certificate)
    clock = "the clock of client 192.168.1.10 is 7200 s behind this machine's"
    with tls_server(server, memory) as url, pytest.raises(AssertionError, match="no answer from") as failed:
        client.run(load(client, "/none", urls=url, client=True, clock=clock))
    said = str(failed.value)
    assert "certificate has expired or is not yet valid" in said
    assert f"; and {clock}, by which certificates are judged. Expected: a machine that reaches" in said
    assert "set the clock (chronyc makestep), then run again" in said
    assert not client.folder.exists()


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@contextmanager
def tls_server(pair: x509.KeyPair, folder: Path) -> Iterator[str]:
    """A server of which no more is asked than to shake hands. Its URL."""
    file = folder / "server.pem"
    file.write_text(pair.private_key_pem + pair.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            with suppress(OSError), context.wrap_socket(request, server_side=True) as connection:
                connection.recv(1)

    with Server(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_step_that_is_killed_outright_leaves_no_file(newest: Member, benchmark: str, tmp_path: Path) -> None:
    one = Client.beside(newest, "client one", tmp_path / "one")
    run = one.start(load(newest, benchmark, client=True))
    eventually(one.is_loading, "it loads")
    for pid in step_of(run):
        kill(pid, signal.SIGKILL)
    run.wait(60)
    eventually(lambda: not one.folder.exists(), "its files go, the certificate's too, once its programs have ended")
    one.run(load(newest, benchmark, client=True))
    assert newest.all_keys() == ""


def test_one_that_takes_too_long_is_ended(newest: Member, benchmark: str) -> None:
    answer = newest.run(load(newest, benchmark, seconds=60, limit_seconds=3))
    assert "writes_status=137" in answer
    assert newest.all_keys() == ""


def checkers(one: Member) -> str:
    """Processes of etcd's own check at this member."""
    pattern = f"{re.escape(one.url)} .*[c]heck perf"
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout


@pytest.mark.exhaustive  # on 3.6.16 it is made in the lab
@pytest.mark.parametrize("version", VERSIONS)
def test_etcds_own_check_says_what_it_thinks_and_leaves_nothing(version: str, tmp_path: Path, benchmark: str) -> None:
    with contextmanager(member)(version, tmp_path) as one:
        one.client("put", "kept", "value")
        answer = one.run(load(one, benchmark, check_perf="s"))
        assert re.search(r"^check_perf_status=[01]\n(check_perf:.*\n){3,}check_perf:(PASS|FAIL)$", answer, re.MULTILINE)
        assert one.all_keys().split() == ["kept"]
        assert not one.folder.exists()
        assert checkers(one) == ""


@pytest.mark.parametrize(
    "how", ["ended", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in ("killed", "etcdctl killed"))]
)
def test_etcds_own_check_is_ended_with_the_step_and_nothing_is_left(how: str, newest: Member, benchmark: str) -> None:
    run = newest.start(load(newest, benchmark, check_perf="s"))
    eventually(lambda: run.poll() is not None or newest.is_checking(), "etcd's own check writes")
    assert run.poll() is None
    if how == "ended":
        for pid in step_of(run):
            kill(pid, signal.SIGTERM)
    elif how == "killed":
        os.killpg(run.pid, signal.SIGKILL)  # `timeout` and etcdctl are in a group of their own, and go on
    else:
        for each in checkers(newest).split():
            kill(int(each), signal.SIGKILL)
    run.wait(120)
    if how == "killed":
        eventually(lambda: checkers(newest) == "", "etcdctl ends by itself, and holds the lock until then")
        newest.run(RunLoad(clean=True))
    eventually(lambda: not newest.folder.exists(), "the step ends, with this folder at last")
    assert (checkers(newest), newest.all_keys()) == ("", "")
