"""What member scripts note on a machine, and whom they let take a member off it again; run here, in a folder."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.answers import BUSY, framed_answer
from etcd_cluster.member.layout import Layout
from etcd_cluster.rollout.observed import History, HostBackups
from etcd_cluster.rollout.reports import PeerTest, parse_authentication, parse_host, parse_users
from tests.unit.test_restore_source import PAGE, database, inline, page

CLUSTER, TOKEN = "project/stack/etcd", "the-token"
# In place of etcd: one that makes data and listens on a port, and one that ends at once.
SERVES = """#!/usr/bin/env python3
import pathlib, socket, sys, time
member = pathlib.Path(sys.argv[0]).resolve().parents[2]
(member / "volume" / "data" / "member" / "wal").mkdir(parents=True)
with socket.create_server(("127.0.0.1", PORT)):
    time.sleep(60)
"""
ENDS = "#!/bin/sh\nexit 1\n"
# Begins its log as etcd does, here of another length than etcd's, and ends: with a first entry or without one.
BEGINS = """#!/usr/bin/env python3
import pathlib, struct, sys
log = pathlib.Path(sys.argv[0]).resolve().parents[2] / "volume" / "data" / "member" / "wal" / f"{0:016x}-{0:016x}.wal"
log.parent.mkdir(parents=True)
def frame(kind, content):
    record = bytes([8, kind, 16, 0]) + content
    padding = -len(record) % 8
    return struct.pack("<Q", len(record) | ((0x80 | padding) << 56 if padding else 0)) + record + bytes(padding)
log.write_bytes(b"".join(frame(kind, bytes(9 * kind if kind < 9 else 65532)) for kind in TYPES).ljust(4096, b"\\0"))
sys.exit(1)
"""


class Folder:
    """One member's, as on platform local."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = Layout.below(str(path))

    def run(self, step: str, check: bool = True, *, variables: dict[str, str] | None = None, **words: str) -> Any:
        line = render.command_line(step, {"member": "etcd-1", **words})
        known = render.remove_variables(CLUSTER, TOKEN)
        script = render.script(step, self.layout, {**known, **(variables or {})})
        done = subprocess.run(["sh", "-c", line], input=script, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        if done.returncode == 0:
            done.stdout = framed_answer(done.stdout, step)
        return done

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.run("check", ports="1", install="local").stdout)
        return report

    def has(self, *paths: str) -> dict[str, bool]:
        return {path: (self.path / path).exists() for path in paths}

    def prepare(self, token: str = TOKEN) -> Any:
        """With the programs of `install`, which has to be called before."""
        variables = render.prepare_variables(CLUSTER, "etcd-1", token, self.layout)
        return self.run("prepare", False, variables={**variables, "version": "3.6.16"}, install="local")

    def install(self, etcd: str) -> None:
        folder = self.path / "versions" / "3.6.16"
        folder.mkdir(parents=True, exist_ok=True)
        version = '[ "$1" != --version ] || { echo "etcd Version: 3.6.16"; exit; }\n'
        program = f'#!/bin/sh\n{version}exec "${{0%/*}}/program" "$@"\n'
        for name, content in (("etcd", program), ("etcdctl", ENDS), ("program", etcd)):
            (folder / name).write_text(content)
            (folder / name).chmod(0o755)

    def start(self, port: int) -> Any:
        files = {"configuration/bootstrap.yaml": "# to form\n", "configuration/etcd.yaml": "# to go on\n"}
        manifest = "".join(f"640 member {render.encode(text)} {self.path / path}\n" for path, text in files.items())
        (self.path / "state").mkdir(exist_ok=True)
        (self.path / "state" / "run").write_text("run")
        ports = render.port_variables(Ports(client=1, peer=port, metrics=2))
        variables = {"manifest": manifest, "history": render.encode("members=founding\n"), **ports}
        words = {
            "action": "start",
            "say": "starting",
            "version": "3.6.16",
            "until": "listening",
            "timeout-seconds": "20",
        }
        return self.run("apply", False, variables=variables, run="run", index="0", **{**words, "peer-port": str(port)})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "a member")


# --- what a host tells ---


def test_a_link_in_a_folder_of_another_user_is_not_written_through(folder: Folder, tmp_path: Path) -> None:
    """The folder of node_exporter's textfile collector may be its user's, and root writes there."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    target = tmp_path / "etcd-cluster.prom"
    for name in ("etcd-cluster.prom", "etcd-cluster.prom.new"):
        (tmp_path / name).symlink_to(precious)
    functions, call, _ = render.script("metrics_file", folder.layout, {}).rpartition('\nanswer "$@"')
    assert call
    publish = f"{functions}\npublish {shlex.quote(str(target))} figures"
    subprocess.run(["bash"], input=publish, text=True, check=True)
    assert (precious.read_text(), target.read_text(), target.is_symlink()) == ("precious", "figures\n", False)
    assert not list(tmp_path.glob("*.new-*"))


# --- what etcd measures of itself ---

METRICS = """etcd_cluster_version{cluster_version="3.6"} 1
etcd_network_active_peers{Local="a",Remote="b"} 1
etcd_network_active_peers{Local="a",Remote="c"} 0
etcd_server_has_leader 1
etcd_server_id{server_id="a"} 1
etcd_server_is_leader 1
etcd_server_version{server_version="3.6.16"} 1
"""


def metrics(folder: Folder, *answers: str) -> str:
    """Of ports that answer like this."""
    ports = [str(port) for port in range(1, len(answers) + 1)]
    answering = "http_get() { case $1 in " + " ".join(
        f"{port}) printf %s {shlex.quote(answer)} ;;" for port, answer in zip(ports, answers, strict=True)
    )
    asking = f'metrics {" ".join(ports)} || echo none; declare -p measured | sed "s/.*=(//"; exit; '
    script = render.script("observe", folder.layout, render.remove_variables(CLUSTER, TOKEN))
    functions, call, _ = script.rpartition('\nanswer "$@"')
    assert call
    return subprocess.run(
        ["bash"], input=f"{functions}\n{answering} esac; }}\n{asking}", capture_output=True, text=True, check=True
    ).stdout


def test_metrics_that_are_cut_short_are_no_answer(folder: Folder) -> None:
    """A leader whose answer ends before it says that it leads would pass for a follower."""
    lines = METRICS.splitlines(keepends=True)
    for length in range(len(lines)):
        assert metrics(folder, "".join(lines[:length])).split() == ["none", ")"], length
    assert '[active_peers]="b"' in metrics(folder, METRICS)
    assert '[server_is_leader]="1"' in metrics(folder, "".join(lines[:4]), METRICS)
    assert '[active_peers]=""' in metrics(folder, "".join(lines[3:])), "no line for a peer is an answer"


@pytest.mark.parametrize("before", ["3.5", "3.7"])
def test_the_version_that_the_cluster_had_before_is_none_that_it_has(folder: Folder, before: str) -> None:
    """etcd keeps the line, with 0: after an upgrade, and after a downgrade."""
    line = f'etcd_cluster_version{{cluster_version="{before}"}} 0\n'
    first, rest = METRICS.partition("\n")[::2]
    for text in (f"{line}{first}\n{rest}", f"{first}\n{line}{rest}"):
        assert '[cluster_version]="3.6"' in metrics(folder, text)


def data_version(folder: Folder, database: bytes) -> str:
    """As a member that does not run has it."""
    path = Path(folder.layout.data, "member")
    for name in ("wal", "snap"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "snap" / "db").write_bytes(database)
    lines = folder.run("observe").stdout.splitlines()
    return "".join(line.partition("=")[2] for line in lines if line.startswith("data_version="))


@pytest.mark.parametrize("version", ["3.4.0", "3.6.0", "3.10.0"])
def test_a_database_tells_the_version_that_the_cluster_was_raised_to(folder: Folder, version: str) -> None:
    """What clients stored is no answer: that database has a value that looks like one."""
    content = database(version)
    assert data_version(folder, content) == version
    # The same with its buckets on another page, as in a database that has large ones; and with a page for that bucket.
    branch = struct.pack("<QHHIIIQ", 2, 1, 1, 0, 16, 0, 4).ljust(PAGE, b"\0")
    moved = content[2 * PAGE : 3 * PAGE]
    assert data_version(folder, content[: 2 * PAGE] + branch + content[3 * PAGE :] + moved) == version
    root = page(2, {b"alarm": (1, inline({})), b"cluster": (1, struct.pack("<QQ", 4, 0))})
    own = page(4, {b"clusterVersion": (0, version.encode()), b"downgrade": (0, b"{}")})
    assert data_version(folder, content[: 2 * PAGE] + root + content[3 * PAGE :] + own) == version


def test_a_database_without_that_version_is_another_answer_than_none(folder: Folder) -> None:
    content = database("3.6.0")
    assert data_version(folder, content.replace(b"clusterVersion3.6", b"clusterVersioN3.6")) == "0.0.0"
    endless = struct.pack("<QHHIIIQ", 2, 1, 1, 0, 16, 0, 2).ljust(PAGE, b"\0")
    far = struct.pack("<QHHIIIQ", 2, 1, 1, 0, 16, 0, 2**63).ljust(PAGE, b"\0")
    for damaged in (endless, far):
        assert data_version(folder, content[: 2 * PAGE] + damaged + content[3 * PAGE :]) == ""
    for damaged in (b"", b"\0" * len(content), b"no database", content[:PAGE]):
        assert data_version(folder, damaged) == ""


REJECTED = (
    '{"level":"warn","msg":"rejected connection on peer endpoint","remote-addr":"10.0.0.2:1","dns-names":["etcd-2"],'
    '"error":"tls: \\"10.0.0.2\\" does not match any of DNSNames"}\n'
)
LATE = '{"level":"warn","msg":"leader failed to send out heartbeat on time; took too long","to":"f00"}\n'
OF_PEERS = (
    '{"level":"warn","msg":"prober detected unhealthy status","remote-peer-id":"f00","error":"i/o timeout"}\n'
    '{"level":"info","msg":"started remote peer","remote-peer-id":"f00"}\n'
    '{"level":"info","msg":"started remote peer","remote-peer-id":"f11"}\n'
)


@pytest.mark.parametrize(
    ("logged", "name", "found"),
    [
        (OF_PEERS, "etcd-2", "i/o timeout"),
        (OF_PEERS + LATE, "etcd-2", "i/o timeout"),
        (OF_PEERS + REJECTED, "etcd-2", "does not match any of DNSNames"),
        (OF_PEERS + REJECTED, "etcd-3", "i/o timeout"),
        (OF_PEERS.replace("f00", "f22"), "etcd-2", ""),
        (OF_PEERS.splitlines(keepends=True)[1], "etcd-2", "started remote peer"),
        ("", "etcd-2", ""),
    ],
)
def test_of_a_log_the_last_line_on_a_peer_is_shown(folder: Folder, logged: str, name: str, found: str) -> None:
    (folder.path / "logs").mkdir(parents=True)
    (folder.path / "logs" / "etcd.log").write_text(logged)
    line = folder.run("peer_log", peer="f00", name=name).stdout.strip()
    assert found in line
    assert bool(found) == bool(line)


@pytest.mark.parametrize(
    ("routes", "problems"),
    [
        ({"10.0.0.2": "10.0.0.2 dev eth0 src 10.0.9.1 uid 0", "fd00::2": "fd00::2 dev eth0 src 10.0.9.1"}, []),
        (
            {"10.0.0.2": "10.0.0.2 dev eth0 src 10.0.0.1 uid 0"},
            ["come from 10.0.0.1", "no route to the member at fd00::2"],
        ),
        (
            {"fd00::2": "fd00::2 from :: dev eth0 src fd00::1 metric 0"},
            ["no route to the member at 10.0.0.2", "fd00::1"],
        ),
    ],
)
def test_a_source_address_that_no_certificate_names_is_a_problem(
    folder: Folder, routes: dict[str, str], problems: list[str]
) -> None:
    cases = "".join(f"{peer}) echo {shlex.quote(route)} ;; " for peer, route in routes.items())
    ip = f"ip() {{ case $4 in {cases} *) echo RTNETLINK answers: Network is unreachable; return 2 ;; esac; }}"
    script = render.script("check", folder.layout, {})
    functions, call, _ = script.rpartition('\nanswer "$@"')
    assert call
    asking = 'spec=([source]=10.0.9.1 [peers]=10.0.0.2,fd00::2); check_source; printf "%s\n" "${problems[@]}"'
    text = f"{functions}\n{ip}\n{asking}"
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True)
    lines = done.stdout.split("\n")[: len(problems)]
    assert len(done.stdout.strip().splitlines()) == len(problems)
    assert all(each in line for each, line in zip(problems, lines, strict=True))


RECEIVED = """HTTP/1.0 200 OK

etcd_network_peer_received_bytes_total{{From="0"}} {nobody}
etcd_network_peer_received_bytes_total{{From="b"}} {b}
etcd_network_peer_received_bytes_total{{From="c"}} 1.5e+06
etcd_server_is_leader 1
etcd_server_version{{server_version="3.6.16"}} 1
"""


def sending(folder: Folder, *answers: str, configuration: str | None = "heartbeat-interval: 1000\n") -> list[str]:
    """What `health` says of b, c and d where etcd's metrics are these, one after the other."""
    if configuration is not None:
        (folder.path / "configuration").mkdir()
        (folder.path / "configuration/etcd.yaml").write_text(configuration)
    for number, answer in enumerate(answers, start=1):
        (folder.path / f"answer-{number}").write_text(answer)
    fake = f"""
http_get() {{ echo >>'{folder.path}/asked'; cat '{folder.path}'/answer-$(wc -l <'{folder.path}/asked'); }}
metrics_port=2381
service_facts() {{ pid=1; }}
find_sockets() {{ sockets='2381 127.0.0.1'; }}
health_of() {{ echo "[$1]"; }}
sleep() {{ :; }}
health health peers=b,c,d urls=http://b
exit
"""
    script = render.script("health", folder.layout, render.remove_variables(CLUSTER, TOKEN))
    functions, call, _ = script.rpartition('\nanswer "$@"')
    assert call
    done = subprocess.run(["bash"], input=f"{functions}\n{fake}", capture_output=True, text=True, check=True)
    first, *lines = done.stdout.splitlines()
    assert first == f"health={render.encode('[http://b]' + chr(10))}"
    return lines


def test_a_running_peer_sends_bytes_to_the_leader(folder: Folder) -> None:
    folder.path.mkdir()
    before, after = RECEIVED.format(nobody=7, b=10), RECEIVED.format(nobody=8, b=11)
    assert sending(folder, before, after) == ["sending=b"]


@pytest.mark.parametrize(
    "answers",
    [
        (RECEIVED.format(nobody=7, b=10), RECEIVED.format(nobody=9, b=10)),  # no heartbeat fell into that time
        (RECEIVED.format(nobody=7, b=10), ""),
        ("", RECEIVED.format(nobody=7, b=10)),
        (RECEIVED.format(nobody=7, b=10)[:150], RECEIVED.format(nobody=7, b=11)),  # cut short
        # It leads no more, or not yet: then only the leader sends it anything.
        (RECEIVED.format(nobody=7, b=10), RECEIVED.format(nobody=7, b=11).replace("leader 1", "leader 0")),
        (RECEIVED.format(nobody=7, b=10).replace("leader 1", "leader 0"), RECEIVED.format(nobody=7, b=11)),
    ],
)
def test_without_two_whole_looks_that_differ_no_peer_is_called_unreachable(
    folder: Folder, answers: Sequence[str]
) -> None:
    folder.path.mkdir()
    assert sending(folder, *answers) == []


@pytest.mark.parametrize("configuration", ["heartbeat-interval: 2000\n", None], ids=["slow", "unknown"])
def test_no_peer_is_called_unreachable_where_heartbeats_may_be_rare(folder: Folder, configuration: str | None) -> None:
    folder.path.mkdir()
    looks = (RECEIVED.format(nobody=7, b=10), RECEIVED.format(nobody=8, b=11))
    assert sending(folder, *looks, configuration=configuration) == []


def test_no_peer_is_called_unreachable_by_a_process_that_may_be_older_than_its_configuration(folder: Folder) -> None:
    (folder.path / "state").mkdir(parents=True)
    (folder.path / "state/pending").touch()
    assert sending(folder, RECEIVED.format(nobody=7, b=10), RECEIVED.format(nobody=8, b=11)) == []


# --- who it is ---


class OnePath(BaseHTTPRequestHandler):
    """Answers as a member does at its peer port."""

    sources: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.sources.add(self.client_address[0])
        self.send_response(200 if self.path == "/raft/probing" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


@pytest.mark.parametrize("source", ["", "127.0.0.2"])
@pytest.mark.parametrize("curl", [True, False])
def test_the_peer_ports_that_answer_and_those_that_nothing_reaches_are_reported(
    folder: Folder, port: int, source: str, curl: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without curl it is unknown whether the member answers, not whether its port is open."""
    OnePath.sources.clear()
    (folder.path / "pki").mkdir(parents=True)
    if not curl:
        whole = render.script
        monkeypatch.setattr(render, "script", lambda *of: whole(*of).replace("-v curl", "-v no-curl"))
    closed = f"http://127.0.0.1:{port}"
    with ThreadingHTTPServer(("127.0.0.1", 0), OnePath) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            said = folder.run("reach", urls=f"{closed},{url},{url}/not-a-member", source=source).stdout
        finally:
            server.shutdown()
    assert PeerTest.parse(said) == PeerTest(frozenset([url] if curl else []), frozenset([closed]))
    assert not curl or {source or "127.0.0.1"} == OnePath.sources


def test_a_folder_that_was_deleted_and_made_again_is_another_machine(folder: Folder) -> None:
    first = folder.report()["machine"]
    assert folder.report()["machine"] == first
    assert f"machine={first}" in folder.run("observe").stdout.splitlines()
    shutil.rmtree(folder.path)
    assert folder.report()["machine"] != first


# --- what is noted ---


def test_a_report_tells_data_from_a_marker_and_from_what_was_noted_of_them(folder: Folder) -> None:
    assert {
        key: folder.report()[key] for key in ("token", "cluster", "member", "data", "history", "formed", "formedBy")
    } == {
        "token": "",
        "cluster": "",
        "member": "",
        "data": False,
        "history": None,
        "formed": "",
        "formedBy": "",
    }
    volume, state = folder.path / "volume", folder.path / "state"
    volume.mkdir()
    (volume / "etcd-cluster.json").write_text(render.identity(CLUSTER, "etcd-1", TOKEN))
    assert (folder.report()["token"], folder.report()["data"]) == (TOKEN, False)
    (volume / "history").write_text("series=3.6\nmembers=1a,2b\nid=1a\n")
    shutil.copy(volume / "etcd-cluster.json", state / "formed")
    (volume / "data" / "member").mkdir(parents=True)
    assert (folder.report()["data"], folder.report()["history"], folder.report()["formed"]) == (True, "1a,2b", TOKEN)
    assert [folder.report()[key] for key in ("cluster", "member", "formedBy")] == [CLUSTER, "etcd-1", CLUSTER]


@pytest.mark.parametrize("beside", ["", "volume/data/member", "volume/history"])
def test_a_marker_of_another_forming_is_rewritten_beside_no_data_only(folder: Folder, beside: str) -> None:
    folder.install(ENDS)
    marker = folder.path / "volume" / "etcd-cluster.json"
    marker.parent.mkdir()
    marker.write_text(render.identity("another/one", "etcd-1", "old"))
    if beside:
        path = folder.path / beside
        path.mkdir(parents=True) if beside.endswith("member") else path.write_text("members=1\n")
    prepared = folder.prepare()
    assert (prepared.returncode == 0) is (not beside), prepared.stderr
    assert json.loads(marker.read_text())["token"] == ("old" if beside else TOKEN)


def test_a_cluster_of_another_name_by_now_is_known_by_its_token_and_takes_its_new_name(folder: Folder) -> None:
    folder.install(ENDS)
    folder.prepare()
    marker = folder.path / "volume" / "etcd-cluster.json"
    (folder.path / "volume" / "data" / "member").mkdir(parents=True)
    marker.write_text(render.identity("project/old-name/etcd", "etcd-1", TOKEN))
    assert folder.run("check", ports="1", install="local").returncode == 0
    assert folder.prepare().returncode == 0
    assert json.loads(marker.read_text()) == {"cluster": CLUSTER, "member": "etcd-1", "token": TOKEN}


def test_data_that_were_there_before_are_noted_when_the_machine_is_prepared(folder: Folder) -> None:
    folder.install(ENDS)
    assert folder.prepare().returncode == 0
    assert folder.has("state/formed") == {"state/formed": False}
    (folder.path / "volume" / "data" / "member").mkdir()
    assert folder.prepare().returncode == 0
    assert (folder.path / "state" / "formed").read_text() == (folder.path / "volume" / "etcd-cluster.json").read_text()
    assert f"formed={TOKEN}" in folder.run("observe").stdout.splitlines()


@pytest.mark.parametrize(
    ("noted", "beside", "is_ours"),
    [
        (render.identity(CLUSTER, "etcd-1", TOKEN), "id=1a\n", True),
        (render.identity(CLUSTER, "etcd-1", TOKEN), "", False),
        (render.identity(CLUSTER, "etcd-2", TOKEN), "id=1a\n", False),
        (render.identity("another/one", "etcd-1", "other"), "id=1a\n", False),
        ("", "id=1a\n", False),
    ],
)
def test_a_marker_that_was_deleted_beside_data_is_written_again_where_they_were_noted(
    folder: Folder, noted: str, beside: str, is_ours: bool
) -> None:
    folder.install(ENDS)
    marker = folder.path / "volume" / "etcd-cluster.json"
    for path in ("volume/data/member", "state"):
        (folder.path / path).mkdir(parents=True)
    (folder.path / "state" / "formed").write_text(noted)
    if beside:
        (folder.path / "volume" / "history").write_text(beside)
    checked = folder.run("check", False, ports="1", install="local")
    if is_ours or "another/one" in noted:  # which one that is, is judged when a cluster is formed
        found = json.loads(checked.stdout)
        assert (found["token"], found["cluster"]) == ((TOKEN, CLUSTER) if is_ours else ("other", "another/one"))
    else:
        assert checked.returncode != 0
    prepared = folder.prepare()
    assert (prepared.returncode == 0) is is_ours, prepared.stderr
    assert (marker.exists() and json.loads(marker.read_text())["token"] == TOKEN) is is_ours


@pytest.mark.parametrize("spoilt", ["series_index=abc\n", "id=1a2b x\n", "members=\udcff\n", "id=1a"])
def test_a_history_that_was_spoilt_by_hand_is_read_as_far_as_it_is_whole(folder: Folder, spoilt: str) -> None:
    (folder.path / "volume").mkdir(parents=True)
    text = f"series=3.6\nseries_index=7\nmembers=1a,2b\nmembers_index=8\n{spoilt}"
    (folder.path / "volume" / "history").write_bytes(text.encode(errors="surrogateescape"))
    host, _ = parse_host(folder.run("observe").stdout)
    assert host.history == History("3.6", 7, "1a,2b", 8, "1a" if spoilt == "id=1a" else "")
    assert host.clock


NOTED = ("state/formed", "state/forming", "volume/history", "configuration/bootstrap.yaml")


@pytest.fixture
def port() -> int:
    """On which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    return number


def test_a_first_start_is_noted_and_nothing_is_left_to_start_from_nothing_again(folder: Folder, port: int) -> None:
    folder.install(SERVES.replace("PORT", str(port)))
    assert folder.prepare().returncode == 0
    started = folder.start(port)
    process = (folder.path / "state" / "etcd.pid").read_text().strip()
    subprocess.run(["kill", process], check=False)
    assert started.returncode == 0, started.stderr
    assert folder.has(*NOTED) == dict(zip(NOTED, (True, False, True, False), strict=True))


def test_a_first_start_that_made_no_data_leaves_the_machine_as_new(folder: Folder, port: int) -> None:
    folder.install(ENDS)
    assert folder.prepare().returncode == 0
    assert "etcd does not start" in folder.start(port).stderr
    assert not any(folder.has(*NOTED).values())


@pytest.mark.parametrize(
    ("types", "has_data"),
    [((4, 1, 5), False), ((4, 1, 5, 3), True), ((4, 1, 5, 2, 3), True), ((4, 1, 5, 9), True), ((4, 1), True)],
)
def test_a_first_start_that_only_began_its_log_leaves_the_machine_as_new(
    folder: Folder, port: int, types: tuple[int, ...], has_data: bool
) -> None:
    folder.install(BEGINS.replace("TYPES", str(types)))
    assert folder.prepare().returncode == 0
    assert "etcd does not start" in folder.start(port).stderr
    assert folder.has(*NOTED) == dict(zip(NOTED, (has_data, False, has_data, False), strict=True))
    assert folder.has("volume/data/member") == {"volume/data/member": has_data}


# --- whose it is ---


def configured(folder: Folder, token: str = TOKEN) -> Folder:
    for path in ("configuration", "pki", "versions", "state", "volume/data/member"):
        (folder.path / path).mkdir(parents=True)
    (folder.path / "configuration" / "etcd.yaml").write_text(f"# etcd-cluster: {token}\n")
    return folder


DELETE: dict[str, Any] = {"delete-data": "yes"}  # as keyword arguments: "-" is in no name


@pytest.mark.parametrize(
    ("written", "asked", "removed"),
    [("", "", True), ("", "one", True), ("one", "one", True), ("two", "one", False), ("two", "", False)],
)
@pytest.mark.parametrize("deletes", [False, True])
def test_only_the_record_that_stands_on_a_machine_takes_a_member_off_it(
    folder: Folder, written: str, asked: str, removed: bool, deletes: bool
) -> None:
    configured(folder)
    (folder.path / "volume" / "etcd-cluster.json").write_text(render.identity(CLUSTER, "etcd-1", TOKEN))
    if written:
        folder.run("record", record=written)
    words: dict[str, Any] = {**({"record": asked} if asked else {}), **(DELETE if deletes else {})}
    for _ in range(2):
        said = folder.run("remove", run="run", members="1", **words).stderr
        assert ("nothing was stopped or removed" in said) is (not removed)
    assert folder.has("pki") == {"pki": not removed}
    assert folder.has("volume/data") == {"volume/data": not (removed and deletes)}


@pytest.mark.parametrize("of", ["another/stack/etcd", CLUSTER, None])
def test_data_of_another_cluster_are_not_deleted(folder: Folder, of: str | None) -> None:
    """It was destroyed, and its data stayed: by now the machine is in no record."""
    (folder.path / "volume" / "data" / "member").mkdir(parents=True)
    if of:
        (folder.path / "volume" / "etcd-cluster.json").write_text(render.identity(of, "etcd-1", "another-token"))
    folder.run("record", record="one")
    said = folder.run("remove", run="run", members="1", record="one", **DELETE).stderr
    assert f"is not this cluster's but that of {of or 'nobody known here'}" in said
    assert all(folder.has("volume/data/member").values())


def test_a_machine_that_is_another_clusters_by_now_is_left_alone(folder: Folder) -> None:
    configured(folder, "another-token")
    said = folder.run("remove", run="run", members="1", record="one", **DELETE).stderr
    assert "belongs to another cluster by now (token another-token); nothing was stopped" in said
    assert all(folder.has("pki", "volume/data/member").values())


@pytest.mark.parametrize(
    "line", [TOKEN, CLUSTER, f"{CLUSTER}, written by `pulumi up`: change the stack, not this file"]
)
def test_files_are_this_clusters_by_its_token_or_as_before_the_first_release_by_its_name(
    folder: Folder, line: str
) -> None:
    configured(folder, line)
    folder.run("remove", run="run", members="1")
    assert folder.has("pki") == {"pki": False}


def test_a_removed_member_leaves_no_figures_with_node_exporter(folder: Folder) -> None:
    configured(folder)
    (folder.path / "configuration" / "monitoring").mkdir(exist_ok=True)
    program = f"x=1\ntextfile_folder={shlex.quote(str(folder.path))}\n"
    (folder.path / "configuration" / "monitoring" / "program").write_text(program)
    for name in ("etcd-cluster.prom", "other.prom"):
        (folder.path / name).write_text("figures")
    folder.run("record", record="one")
    folder.run("remove", run="run", members="1", record="one")
    assert folder.has("etcd-cluster.prom", "other.prom") == {"etcd-cluster.prom": False, "other.prom": True}


def test_an_etcd_that_nothing_says_is_this_clusters_is_left_alone(folder: Folder) -> None:
    """A host that was unlisted long ago: its member was taken off, and somebody else's etcd has moved in."""
    configured(folder)
    folder.run("record", record="one")
    folder.run("remove", run="run", members="1", record="one")
    assert not any(folder.has("pki", "configuration", "state/record").values())
    configuration = configured_by_others(folder)
    said = folder.run("remove", run="run", members="1", record="one", **DELETE).stderr
    assert "does not say that it is this cluster's; nothing was stopped or removed" in said
    assert configuration.read_text() == "name: theirs\n"
    assert all(folder.has("pki", "volume/data/member").values())


OPENS = """
import pathlib, sys, time
database = pathlib.Path(sys.argv[1], "member", "snap", "db")
database.parent.mkdir(parents=True, exist_ok=True)
with database.open("w"):
    print(flush=True)
    time.sleep(60)
"""


@contextmanager
def running(folder: Folder, data: Path) -> Iterator[str]:
    """A process that systemd, or here the file with its id, has for the member's etcd; its database is in `data`."""
    configuration = str(folder.path / "configuration" / "etcd.yaml")
    command = [sys.executable, "-c", OPENS, str(data), configuration]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (folder.path / "state" / "etcd.pid").write_text(f"{process.pid}\n")
        try:
            yield str(process.pid)
        finally:
            process.kill()


def test_an_etcd_whose_data_are_elsewhere_is_no_member_and_is_left_alone(folder: Folder, tmp_path: Path) -> None:
    configured(folder)
    folder.run("record", record="one")
    data = tmp_path / "their data"
    with running(folder, data) as process:
        facts = folder.run("observe").stdout.splitlines()
        assert f"foreign={data}/member/snap/db" in facts
        assert f"pid={process}" in facts
        assert (
            f"another etcd runs here, whose database is {data}/member/snap/db"
            in folder.run("check", False, ports="1").stderr
        )
        said = folder.run("remove", run="run", members="1", record="one", **DELETE).stderr
        assert (
            f"is somebody else's by now (its database is {data}/member/snap/db); nothing was stopped or removed" in said
        )
        assert f"pid={process}" in folder.run("observe").stdout.splitlines()
    assert all(folder.has("pki", "configuration/etcd.yaml", "volume/data/member").values())


@pytest.mark.parametrize("moved", [False, True])
def test_a_member_whose_data_were_moved_under_it_is_ours_all_the_same(folder: Folder, moved: bool) -> None:
    configured(folder)
    data = folder.path / "volume" / "data"
    with running(folder, data):
        if moved:
            data.rename(folder.path / "volume" / "data.moved")
        assert "foreign=" not in folder.run("observe").stdout
        folder.run("remove", run="run", members="1")
    assert not any(folder.has("pki", "configuration").values())


def test_the_data_of_a_member_may_be_a_link(folder: Folder, tmp_path: Path) -> None:
    folder.run("record", record="one")
    (folder.path / "volume").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    (folder.path / "volume" / "data").symlink_to(tmp_path / "disk")
    with running(folder, folder.path / "volume" / "data"):
        assert "foreign=" not in folder.run("observe").stdout


def test_files_without_our_line_are_somebody_elses(folder: Folder) -> None:
    """Another etcd was installed here since, and does not run right now."""
    folder.run("record", record="one")
    configuration = configured_by_others(folder)
    said = folder.run("remove", run="run", members="1", record="one", **DELETE).stderr
    assert f"{configuration} does not say that it is this cluster's; nothing was stopped or removed" in said
    assert configuration.exists()


def configured_by_others(folder: Folder) -> Path:
    configuration = folder.path / "configuration" / "etcd.yaml"
    configuration.parent.mkdir()
    configuration.write_text("name: theirs\n")
    (folder.path / "pki").mkdir(parents=True)
    return configuration


@pytest.mark.parametrize(
    ("token", "marker", "deleted"),
    [
        ("", render.identity(CLUSTER, "etcd-1", "a-token"), True),
        ("", render.identity("another/stack/etcd", "etcd-1", "a-token"), False),
        ("", "", False),
        (TOKEN, "", False),
        (TOKEN, render.identity(CLUSTER, "etcd-1", TOKEN), True),
    ],
)
def test_data_are_deleted_by_the_token_or_by_the_name_of_a_state_that_has_none(
    folder: Folder, token: str, marker: str, deleted: bool
) -> None:
    (folder.path / "volume" / "data" / "member").mkdir(parents=True)
    if marker:
        (folder.path / "volume" / "etcd-cluster.json").write_text(marker)
    folder.run("record", record="one")
    variables = render.remove_variables(CLUSTER, token)
    folder.run("remove", variables=variables, run="run", members="1", record="one", **DELETE)
    assert folder.has("volume/data") == {"volume/data": not deleted}


@pytest.mark.parametrize(("held", "claimed"), [("", True), (TOKEN, True), ("another-token", False)])
def test_a_machine_with_data_of_another_cluster_is_not_claimed(folder: Folder, held: str, claimed: bool) -> None:
    folder.run("record", record="one")
    (folder.path / "state" / "run").write_text("their-run")
    if held:
        (folder.path / "volume").mkdir()
        (folder.path / "volume" / "etcd-cluster.json").write_text(render.identity(CLUSTER, "etcd-1", held))
    facts = folder.run("observe", claim="our-run", token=TOKEN).stdout.splitlines()
    assert f"claim={'our' if claimed else 'their'}-run" in facts


@pytest.mark.parametrize("step", ["observe", "record", "remove", "prepare"])
def test_a_step_waits_for_one_of_an_earlier_run_and_says_so(folder: Folder, step: str) -> None:
    words: dict[str, Any] = {"claim": "run", "record": "one", "run": "run", "members": "1", "install": "local"}
    (folder.path / "state").mkdir(parents=True)
    with (folder.path / "state" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = folder.run(step, False, variables={"quiet_seconds": "0", "lock_seconds": "0"}, **words)
        assert refused.returncode == BUSY, "who sends the step asks again"
        assert "etcd-1: waits for another step, which still runs on this machine" in refused.stderr
        threading.Timer(1, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
        done = folder.run(step, False, **words)
    assert "another run is at work" not in done.stderr
    assert (done.returncode == 0) is (step != "prepare"), "no programs are given here"


UNWRITABLE = {
    "prepare": ("pki", "state"),
    "record": ("state",),
    "observe": ("state",),
    "check": ("state",),
}


@pytest.mark.parametrize(("step", "name"), [(step, name) for step, names in UNWRITABLE.items() for name in names])
def test_what_no_step_may_write_is_named_with_its_member_and_the_reason(folder: Folder, step: str, name: str) -> None:
    """As a read-only file system: here a link into nowhere, which no permission lets root write through."""
    folder.path.mkdir()
    folder.install(ENDS)
    (folder.path / name).symlink_to("/proc/nowhere/at-all")
    words: dict[str, Any] = {"claim": "run", "record": "one", "install": "local", "ports": "1"}
    variables = {**render.prepare_variables(CLUSTER, "etcd-1", TOKEN, folder.layout), "version": "3.6.16"}
    said = folder.run(step, False, variables=variables, **words).stderr
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert errors[0].startswith("error: etcd-1: ")
    assert str(folder.path / name) in errors[0]
    assert "No such file or directory" in errors[0] or "File exists" in errors[0]


def test_a_command_that_fails_by_surprise_is_named_once_with_its_member_and_what_to_do(folder: Folder) -> None:
    for failing, shown in (
        ("false", "log: false ended with 1"),
        ("inner() { (exit 3); }; inner", "log: ( exit 3 ) ended with 3"),
        ("found=$(ls /nowhere)", "log: found=$(ls /nowhere) ended with 2"),
        ("fail known", "error: etcd-1: known"),
        ("found=$(fail known)", "error: etcd-1: known"),
        ("must false", "error: etcd-1: false ended with 1; fix it"),
        ("must ls /nowhere", "error: etcd-1: ls: cannot access '/nowhere': No such file or directory; fix it"),
    ):
        script = render.script("log", folder.layout).replace(
            'answer "$@"; exit', f'log() {{ read_spec "$@"; {failing}; }}\nanswer "$@"; exit'
        )
        line = render.command_line("log", {"member": "etcd-1"})
        done = subprocess.run(["sh", "-c", line], input=script, capture_output=True, text=True, check=False)
        assert done.returncode not in (0, BUSY)
        errors = [each for each in done.stderr.splitlines() if each.startswith("error: etcd-1: ")]
        assert len(errors) == 1, (failing, done.stderr)
        assert shown in errors[0], errors


@pytest.mark.parametrize("ends", ["true", "false", "fail that", "kill $BASHPID"])
def test_what_a_step_has_to_clean_up_is_done_however_it_ends(folder: Folder, ends: str) -> None:
    """The last one first, whatever another one of them does."""
    step = f"""log() {{
      at_exit first; at_exit taken_back; at_exit breaks; at_exit last; not_at_exit taken_back; {ends}
    }}
    first() {{ echo "first $ended" >&2; }}
    last() {{ echo last >&2; }}
    taken_back() {{ echo taken back >&2; }}
    breaks() {{ false; echo not reached >&2; }}
    """
    script = render.script("log", folder.layout).replace('answer "$@"; exit', f'{step}\nanswer "$@"; exit')
    done = subprocess.run(["bash", "-s", "log"], input=script, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("error: ")]
    assert lines[:1] == ["last"]
    assert lines[1].startswith("first ")
    assert len(lines) == 2
    assert (done.returncode == 0) is (ends == "true")
    assert (lines[1] == "first 0") is (ends not in ("false", "fail that"))


def test_no_step_has_a_trap_of_its_own() -> None:
    """It would take the place of all that was to be cleaned up."""
    scripts = sorted(Path(render.__file__).with_name("scripts").glob("*.sh"))
    assert [path.name for path in scripts if re.search(r"^\s*trap\b.*EXIT", path.read_text(), re.MULTILINE)] == [
        "common.sh"
    ]


def test_a_limit_of_the_log_in_is_lifted_as_far_as_the_user_may(folder: Folder) -> None:
    """etcd here inherits it, and neither its programs nor its data fit in a small file."""
    script = render.script("log", folder.layout).replace('answer "$@"; exit', "ulimit -S -f; ulimit -H -f; exit")
    line = f"ulimit -S -f 8; {render.command_line('log', {})}"
    done = subprocess.run(["bash", "-c", line], input=script, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"unlimited"}


def test_a_limit_of_the_log_in_that_stays_is_named(folder: Folder) -> None:
    line = f"ulimit -f 4096; {render.command_line('check', {'member': 'etcd-1', 'ports': '1', 'install': 'local'})}"
    script = render.script("check", folder.layout).replace('answer "$@"', 'ulimit() { echo 4096; }; answer "$@"')
    done = subprocess.run(["bash", "-c", line], input=script, capture_output=True, text=True, check=False)
    assert "error: etcd-1: a file may have 4 MiB at most here (ulimit -f)" in done.stderr
    assert done.stderr.count("error: ") == 1


@pytest.mark.parametrize("link", ["volume/data/member/wal", "volume/data/member/snap", "volume/data/member"])
def test_data_behind_a_link_to_nothing_are_not_taken_for_lost(folder: Folder, link: str, tmp_path: Path) -> None:
    """Their disk is not mounted: a member without its log would be thrown out of the cluster, and join anew."""
    target = tmp_path / "fast" / "wal"
    path = folder.path / link
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    assert f"missing=file-system {target}" in folder.run("observe").stdout.splitlines()
    assert f"behind a link to {target}, which is not there" in functions(folder, "volume_obstacle")
    target.mkdir(parents=True)
    assert "missing=" not in folder.run("observe").stdout


@pytest.mark.parametrize(("link", "refused"), [("../../beside", True), ("../kept", False)])
def test_data_where_the_unit_lets_etcd_not_write_are_named(folder: Folder, link: str, refused: bool) -> None:
    member = folder.path / "volume" / "data" / "member"
    member.mkdir(parents=True)
    (member / "wal").symlink_to(link)
    (member / link).resolve().mkdir(parents=True)
    said = functions(folder, "supervisor=systemd; volume_obstacle")
    assert (f"{member}/wal is a link" in said) is refused
    assert bool(said) is refused


@pytest.mark.parametrize(("free", "chosen"), [((0, 9999), "/dev/shm"), ((9999, 9999), "/run"), ((0, 0), "/tmp")])
def test_keys_are_written_where_there_is_room_in_memory_first(
    folder: Folder, free: tuple[int, int], chosen: str
) -> None:
    cases = f"/run) echo {free[0]} ;; /dev/shm) echo {free[1]} ;; *) echo 9999 ;;"
    df = f"df() {{ echo Avail; case ${{!#}} in {cases} esac; }}"
    assert functions(folder, f"{df}; memory_folder", step="probe") == chosen


def functions(folder: Folder, call: str, step: str = "check") -> str:
    """What a function of a step prints."""
    script, answer, _ = render.script(step, folder.layout).rpartition('\nanswer "$@"')
    assert answer
    done = subprocess.run(["bash"], input=f"{script}\n{call}\n", capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.strip()


def asked_of_users(folder: Folder, revision: str, asked: str, *answers: str) -> tuple[list[str], dict[str, str]]:
    """What etcdctl is asked about users, and what is reported, where it answers so."""
    stub = (
        "etcdctl_at() { shift; printf '%s\\n' \"$*\" >&3; case $* in " + " ".join(answers) + " *) return 1 ;; esac; }"
    )
    printed = functions(
        folder,
        f"{stub}\ndeclare -A spec=([users]={asked}) measured=([debugging_auth_revision]={revision}); url=u\n"
        "{ observe_authentication; } 3>&1",
        "observe",
    ).splitlines()
    matches = filter(None, (re.fullmatch(r"(users|authentication)=(.*)", line) for line in printed))
    facts = {found[1]: found[2] for found in matches}
    decoded = base64.b64decode(facts.get("authentication", "")).decode()
    return [line for line in printed if line.partition("=")[0] not in facts], {**facts, "authentication": decoded}


OFF = "'--user etcd-cluster:- user list') echo app ;;"
ON = "'--user etcd-cluster:- user list') echo authentication failed; return 1 ;;"
EMPTY = "*' get '*) echo '{}' ;;"


def listed(kind: str, *names: str) -> str:
    """What etcdctl answers as the list of users or roles: Go has escapes of its own, and leaves an empty list out."""
    found = {"header": {"revision": 1}, **({f"{kind}s": names} if names else {})}
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    for each in "<>&\u2028":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return f"'{kind} list --write-out json') printf '%s\\n' {shlex.quote(text)} ;;"


USERS = listed("user", "app", "root")


@pytest.mark.parametrize("asked", ["own", "all"])
def test_where_users_were_never_touched_etcd_is_asked_nothing_about_them(folder: Folder, asked: str) -> None:
    assert asked_of_users(folder, "1", asked) == ([], {"authentication": "off\nasked\n"})
    assert asked_of_users(folder, "2", asked)[0] == ["--user etcd-cluster:- user list"]


def test_without_users_in_the_stack_those_of_others_are_not_asked_for(folder: Folder) -> None:
    roles = listed("role", "app", "etcd-cluster-x", '"etcd-cluster"', "\netcd-cluster\n")
    asked, found = asked_of_users(folder, "2", "own", ON, USERS, roles, EMPTY)
    assert found["authentication"] == "on\nasked\n"
    assert parse_users(found["users"]) == {"app", "root"}
    assert len(asked) == 3
    asked, found = asked_of_users(folder, "2", "own", OFF, roles, EMPTY)
    assert found == {"authentication": "off\nasked\n"}


def test_users_that_this_package_made_are_asked_for_although_the_stack_names_none(folder: Folder) -> None:
    roles = listed("role", "app", "etcd-cluster")
    _, found = asked_of_users(folder, "2", "own", ON, USERS, roles, EMPTY)
    lines = ["on", 'user\t"app"\t{}', 'user\t"root"\t{}', 'role\t"app"\t{}', 'role\t"etcd-cluster"\t{}', "asked", ""]
    assert found["authentication"].split("\n") == lines


@pytest.mark.parametrize(
    "name", ["a\nb", "\n", "a\tb", 'q","z', "back\\", "\\u003c", "<&>", "é", "a b", "-x", "a,b", "\r\x01", "*"]
)
def test_a_user_of_any_name_is_told_with_what_it_has(folder: Folder, name: str) -> None:
    """Somebody may have made it with any library. etcdctl's own list would have a name on two lines, or two on one."""
    get = f"""$'user get --write-out json -- '{shlex.quote(name)}) echo '{{"roles":["x"]}}' ;;"""
    _, found = asked_of_users(folder, "2", "all", ON, listed("user", "app", name), listed("role", name), get, EMPTY)
    told = parse_authentication(found["authentication"])
    assert told
    assert (told.users, told.roles) == ({"app": frozenset(), name: {"x"}}, {name: {}})
    assert parse_users(found["users"]) == {"app", name}


@pytest.mark.parametrize("name", ["app\0", "\u2028", "\\\0"])
def test_a_name_that_no_command_can_be_given_is_told_alone(folder: Folder, name: str) -> None:
    """And is not taken for the name that is left of it."""
    asked, found = asked_of_users(folder, "2", "all", ON, listed("user", "app", name), listed("role"), EMPTY)
    told = parse_authentication(found["authentication"])
    assert told
    assert told.users == {"app": frozenset(), name: frozenset()}
    assert len([line for line in asked if " get " in line]) == 1


@pytest.mark.parametrize("answer", ["app", '{"header":{},"users":["app","', ""])
def test_a_list_of_users_that_is_cut_is_no_answer(folder: Folder, answer: str) -> None:
    users = f"'user list --write-out json') printf '%s' {shlex.quote(answer)} ;;"
    _, found = asked_of_users(folder, "2", "all", ON, users, listed("role"), EMPTY)
    assert parse_authentication(found["authentication"]) is None


def test_what_no_member_may_ask_the_user_root_is_asked_by_the_step_that_changes_users(folder: Folder) -> None:
    """And a part of an answer, such as of a list without its roles, is none."""
    answers = ("'user list') echo app ;;", listed("user", "app", "a\nb"), "*' get '*) echo '{\"roles\":[\"app\"]}' ;;")
    for roles, expected in ((listed("role", "app"), {"app": {"app"}, "a\nb": {"app"}}), ("", None)):
        stub = f"etcdctl_at() {{ shift; case $* in {' '.join((*answers, roles))} *) return 1 ;; esac; }}"
        call = f"{stub}; declare -A spec=([timeout-seconds]=0); url=u; (read_users) 2>/dev/null || echo failed"
        printed = functions(folder, call, "users")
        told = parse_authentication(printed)
        assert (told and told.users) == expected
        assert (printed == "failed") == (expected is None)


def test_a_name_keeps_the_line_break_at_its_end_when_etcd_is_asked_to_change_it(folder: Folder) -> None:
    """Or the role of another name would go."""
    words = " ".join(render.encode(word) for word in ("role", "delete", "--", "app\n"))
    call = f"request() {{ printf '<%s>' \"$@\"; }}; requests={shlex.quote(words)}; set_users"
    assert functions(folder, call, "users") == "<role><delete><--><app\n>"


def test_a_member_that_may_not_ask_for_users_tells_that_authentication_is_on_and_no_more(folder: Folder) -> None:
    _, found = asked_of_users(folder, "2", "own", ON)
    assert found == {"authentication": ""}


def test_a_login_file_that_starts_another_shell_in_place_of_the_step_is_named() -> None:
    """Then that shell reads the script, and the words of the line are lost."""
    script = render.script("observe", Layout.system())
    for shell in filter(shutil.which, ("bash", "sh", "zsh")):
        done = subprocess.run([shell], input=script, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode
        assert "unbound variable" not in done.stderr
        assert done.stderr.startswith("error: ")
        assert ".bashrc" in done.stderr


def test_a_marker_that_is_spoilt_beside_data_is_as_good_as_none(folder: Folder) -> None:
    (folder.path / "volume" / "data" / "member").mkdir(parents=True)
    (folder.path / "state").mkdir()
    (folder.path / "volume" / "etcd-cluster.json").write_text("")
    (folder.path / "volume" / "history").write_text("members=1a\nid=1a\n")
    (folder.path / "state" / "formed").write_text(render.identity(CLUSTER, "etcd-1", TOKEN))
    assert (folder.report()["token"], folder.report()["cluster"]) == (TOKEN, CLUSTER)


def test_a_snapshot_is_whole_only_if_its_sum_fits(tmp_path: Path) -> None:
    """`etcdutl snapshot status` accepts a changed byte and a missing sum."""
    database = bytes(range(256)) * 8
    whole = database + hashlib.sha256(database).digest()
    changed = bytearray(whole)
    changed[100] ^= 1
    other_sum = bytearray(whole)
    other_sum[-1] ^= 1
    scripts = Path(render.__file__).parent / "scripts"
    found = {}
    for name, content in {
        "whole": whole,
        "changed": bytes(changed),
        "other sum": bytes(other_sum),
        "cut": whole[:-512],
        "without sum": database,
        "empty": b"",
    }.items():
        file = tmp_path / name
        file.write_bytes(content)
        command = f"set -euo pipefail; . {scripts}/snapshot.sh; sum_fits {shlex.quote(str(file))}"
        found[name] = (
            subprocess.run(["bash", "-c", command], check=False, capture_output=True, timeout=60).returncode == 0
        )
    assert [name for name, fits in found.items() if fits] == ["whole"]


@pytest.mark.parametrize("openssl", ["absent", "broken", "of another output", "works"])
def test_a_sum_is_right_whatever_openssl_is_here(openssl: str, tmp_path: Path) -> None:
    program = {
        "absent": "exit 127",
        "broken": "cat >/dev/null; exit 1",
        "of another output": 'echo "SHA2-256(stdin)= $(sha256sum | cut -c1-64)"',
        "works": f"sha256sum; echo used >>{shlex.quote(str(tmp_path / 'used'))}",
    }[openssl]
    (tmp_path / "openssl").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "openssl").chmod(0o755)
    scripts = Path(render.__file__).parent / "scripts"
    command = (
        f"set -euo pipefail; PATH={shlex.quote(str(tmp_path))}:$PATH; . {scripts}/snapshot.sh; printf data | sha256"
    )
    done = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{hashlib.sha256(b'data').hexdigest()}\n"
    assert (tmp_path / "used").exists() == (openssl == "works")


def test_a_machine_with_backups_tells_of_the_last_one(folder: Folder) -> None:
    assert parse_host(folder.run("observe").stdout)[0].backups is None
    (folder.path / "configuration" / "backup").mkdir(parents=True)
    assert parse_host(folder.run("observe").stdout)[0].backups == HostBackups()
    (folder.path / "state").mkdir(exist_ok=True)
    noted = "attempt=1900000000\nresult=failed\nfailure=the store is full\nnewest=20261127T100000Z-7-etcd-1\n"
    (folder.path / "state" / "backup").write_text(f"{noted}tested=\nlocal=\nattempt=soon\n\x01\npid=1\n")
    found, _ = parse_host(folder.run("observe").stdout)
    assert found.backups == HostBackups(1_900_000_000, "the store is full", "20261127T100000Z-7-etcd-1")
    assert found.pid == ""


@pytest.mark.parametrize(
    ("shown", "has_timer", "next_run"),
    [
        ("ActiveState=active\nNextElapseUSecRealtime=Fri 2026-11-27 01:00:00 UTC\n", True, 1_795_741_200),
        ("NextElapseUSecRealtime=\nActiveState=active\n", True, 0),
        ("ActiveState=inactive\nNextElapseUSecRealtime=\n", False, 0),
    ],
    ids=["waits", "runs just now", "stopped"],
)
def test_a_timer_tells_when_it_runs_next(folder: Folder, shown: str, has_timer: bool, next_run: int) -> None:
    """In UTC, whatever the machine's time zone is."""
    functions, call, _ = render.script("observe", folder.layout, {}).rpartition('\nanswer "$@"')
    assert call
    asked = f"systemctl() {{ [[ $TZ == UTC ]] && printf %s {shlex.quote(shown)}; }}; supervisor=systemd; observe_backup"
    done = subprocess.run(
        ["bash"], input=f"{functions}\nTZ=Asia/Tokyo\n{asked}; exit\n", capture_output=True, text=True, check=True
    )
    assert parse_host(done.stdout)[0].backups == HostBackups(has_timer=has_timer, next_run=next_run)
