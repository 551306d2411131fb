"""How a load check goes: on machines that are played, in an `up` and by the command."""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster.cli import clusters
from etcd_cluster.cli.command import ExitCode
from etcd_cluster.cli.load_client import ClientAddress, client_address
from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.etcd.sizes import SIZES
from etcd_cluster.install.delivery import Destination
from etcd_cluster.install.sources import this_architecture
from etcd_cluster.load_check import client as load_client
from etcd_cluster.load_check import lifecycle
from etcd_cluster.load_check.files import keep
from etcd_cluster.load_check.lifecycle import LoadCheckFailedError, LoadCheckLifecycle
from etcd_cluster.load_check.load import Load
from etcd_cluster.load_check.run import SPARE_SECONDS, HoldsKeysError, LoadCheckRefusedError
from etcd_cluster.load_check.verdict import Limits, judge
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.lines import Line, RunLoad, SampleLoad
from etcd_cluster.member.machines import BUSY_SECONDS, MemberMachines, StepFailedError
from etcd_cluster.pki import x509
from etcd_cluster.rollout.machines import ClusterMachines
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.ssh.connection import Connection
from etcd_cluster.users import Users
from tests.unit.keys import host_key, private_key
from tests.unit.load_check_model import measured
from tests.unit.test_cli import KEY, ONE, Cli, secret, urn
from tests.unit.test_load_check import REPORT, SAMPLE
from tests.unit.test_status import NAMES, observation

QUOTA = "etcd_server_quota_backend_bytes 2147483648\n"


def report(rate: int = 100) -> str:
    """What `benchmark` reports of a load that was borne."""
    seconds = "".join(f"{1795753500 + at},1ms,2ms,3ms,{rate}\n" for at in range(60))
    head = REPORT[: REPORT.index("1795753501,")].replace("10.01056", "60.0").replace("0.033594941", "0.009")
    return f"{head}{seconds}"


class Machines:
    """Plays the machines of three members, of which etcd-2 leads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[str, Line]] = []
        self.load: str | Exception = self.answer()
        self.keys = ""
        self.observed: Observation = observation()
        self.free_mib = self.free_mib_on_client = 5000
        self.client_clock: Callable[[], float] = lambda: 1795753500.0
        self.samples = 0
        self.given: Mapping[str, str] = {}
        self.placed: list[str] = []
        monkeypatch.setattr(MemberMachines, "run", lambda _, *words, **named: self.run(*words, **named))
        monkeypatch.setattr(ClusterMachines, "observe", lambda _, **__: self.observed)
        monkeypatch.setattr("etcd_cluster.load_check.run.place_benchmark", self.place)

    def place(self, connection: Connection | None, *_: Any) -> str:
        self.placed.append(connection.host if connection else "")
        return "/opt/etcd/benchmark"

    @staticmethod
    def answer(rate: int = 100, status: int = 0) -> str:
        lines = [f"{name}:{line}" for name in ("writes", "reads") for line in report(rate).splitlines()]
        facts = ["began=1795753500000", "ended=1795753560000", f"writes_status={status}", "reads_status=0"]
        return "\n".join([*facts, *lines])

    def run(self, name: str, line: Line, given: Any = None, *, timeout_seconds: int, say: Any = None) -> str:
        self.ran.append((name, line))
        self.given = given or self.given
        if isinstance(line, RunLoad) and line.clean:
            return self.keys
        if isinstance(line, RunLoad):
            if isinstance(self.load, Exception):
                raise self.load
            return self.load
        assert isinstance(line, SampleLoad)
        if line.client:
            facts = f"cpu {100 * len(self.ran)} 0 0 50 0 0 0 0\nprocessors 8\nfree_mib {self.free_mib_on_client}\n"
            return f"clock {self.client_clock() * 1000:.0f}\n{facts}"
        self.samples += 1
        done = 100 * self.samples
        text = SAMPLE.replace("free_mib 5000", f"free_mib {self.free_mib}") + QUOTA
        text = text.replace("is_leader 1", f"is_leader {int(name == 'etcd-2')}").replace(
            'le="0.001"} 10', f'le="0.001"}} {done}'
        )
        text = text.replace('le="+Inf"} 20', f'le="+Inf"}} {done + 10}').replace(
            'le="0.002"} 20', f'le="0.002"}} {done + 10}'
        )
        return text + "".join(
            f'etcd_disk_wal_fsync_duration_seconds_bucket{{le="{edge}"}} {done}\n' for edge in ("0.001", "+Inf")
        )

    @property
    def loads(self) -> list[tuple[str, RunLoad]]:
        return [(name, line) for name, line in self.ran if isinstance(line, RunLoad) and not line.clean]


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machines:
    monkeypatch.setenv("ETCD_CLUSTER_STATE_DIR", str(tmp_path / "kept"))
    return Machines(monkeypatch)


def props(mode: str = "require", **changes: Any) -> dict[str, Any]:
    place = {"layout": vars(Layout.system()), "ports": vars(Ports())}
    return {
        "cluster": "shop/prod/orders",
        "mode": mode,
        "size": "small",
        "members": dict.fromkeys(NAMES, place),
        "urls": [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)],
        "generator": {"source": "build"},
        "connections": {},
        "result": None,
        **changes,
    }


def test_the_page_of_a_cluster_with_a_slash_in_its_name_is_in_the_same_folder(
    machines: Machines, tmp_path: Path
) -> None:
    LoadCheckLifecycle().create(props(cluster="shop/prod/team/../orders"))
    folder = tmp_path / "kept" / "shop" / "load-checks"
    names = ["prod-team%2F..%2Forders.html", "prod-team%2F..%2Forders.json"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_figures_are_beside_the_page_whatever_its_name(tmp_path: Path) -> None:
    found = measured()
    page = keep(found, judge(found, Limits()), "shop/prod/orders", tmp_path / "page.json")
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "page.json.json").read_text())["load"]["size"] == "small"


def test_a_page_that_cannot_be_written_does_not_end_an_up_that_asks_for_a_report(
    machines: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").write_text("a file in the place of the folder")
    made = LoadCheckLifecycle().create(props("report"))
    assert made.outs is not None
    assert made.outs["result"] == {"passed": False}
    assert "load-checks: Not a directory" in capsys.readouterr().err
    with pytest.raises(EtcdClusterError, match="load-checks: Not a directory"):
        LoadCheckLifecycle().create(props())


def test_a_new_cluster_is_loaded_from_a_follower_and_passes(machines: Machines, tmp_path: Path) -> None:
    made = LoadCheckLifecycle().create(props())
    ((name, line),) = machines.loads
    assert name == "etcd-1"
    assert line == RunLoad(
        urls="https://10.0.0.1:2379,https://10.0.0.2:2379,https://10.0.0.3:2379",
        program="/opt/etcd/benchmark",
        writes=100,
        reads=100,
        clients=100,
        seconds=60,
        limit_seconds=240,
        value_bytes=1024,
        only_without_keys=True,
        compact=True,
    )
    assert made.outs is not None
    assert made.outs["result"] == {
        "passed": True,
        "size": "small",
        "writes_per_second": 100.0,
        "reads_per_second": 100.0,
        "write_99": 0.009,
        "read_99": 0.009,
    }
    folder = tmp_path / "kept" / "shop" / "load-checks"
    assert sorted(path.name for path in folder.iterdir()) == ["prod-orders.html", "prod-orders.json"]
    assert json.loads((folder / "prod-orders.json").read_text())["passed"] is True


def test_one_that_is_required_and_fails_is_no_resource(machines: Machines) -> None:
    machines.load = machines.answer(rate=50)
    with pytest.raises(LoadCheckFailedError, match=r"writes a second: 50, first after 5 s.* Its page is /"):
        LoadCheckLifecycle().create(props())


def test_one_that_is_reported_and_fails_is_recorded(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    machines.load = machines.answer(rate=50)
    made = LoadCheckLifecycle().create(props("report"))
    assert made.outs is not None
    assert made.outs["result"]["passed"] is False
    assert "load check: failed: the cluster does not bear the load of size small" in capsys.readouterr().err


@pytest.mark.parametrize("why", [StepFailedError("etcd refuses"), "holds=7\n"])
def test_one_that_is_reported_ends_no_up(why: Any, machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    machines.load = why
    made = LoadCheckLifecycle().create(props("report"))
    assert made.outs is not None
    assert made.outs["result"] == {"passed": False}
    assert "load check: " in capsys.readouterr().err


def test_a_cluster_with_keys_is_not_loaded_by_an_up(machines: Machines) -> None:
    machines.load = "holds=7\n"
    refused = r"holds 7 keys.*`etcd-cluster load-check --yes`"
    with pytest.raises(HoldsKeysError, match=refused):
        LoadCheckLifecycle().create(props())
    machines.ran, machines.placed, machines.keys = [], [], "holds=7\n"
    with pytest.raises(HoldsKeysError, match=refused):
        LoadCheckLifecycle().create(props(client=named_by_stack(), connections=of_members()))
    assert machines.ran[-1] == ("etcd-1", RunLoad(clean=True, only_without_keys=True))
    assert (machines.placed, machines.loads) == ([], []), "nothing is built or placed"


def test_a_benchmark_that_was_ended_fails(machines: Machines) -> None:
    machines.load = machines.answer(status=137)
    with pytest.raises(LoadCheckFailedError, match="writes a second: not all were answered in time"):
        LoadCheckLifecycle().create(props())


PASSED, FAILED = {"passed": True}, {"passed": False}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (("require", PASSED), "require", False),
        (("report", PASSED), "require", False),
        (("report", FAILED), "require", True),
        (("report", FAILED), "report", False),
        (("require", PASSED), "report", False),
    ],
)
def test_what_was_passed_once_is_not_asked_for_again(
    before: tuple[str, Mapping[str, bool]], after: str, changes: bool, machines: Machines
) -> None:
    olds = props(before[0], result=before[1], size="large", urls=["https://elsewhere:2379"])
    assert LoadCheckLifecycle().diff("id", olds, props(after)).changes is changes
    assert machines.ran == []


def test_a_cluster_that_is_not_well_is_not_loaded(machines: Machines) -> None:
    machines.observed = observation(healthy=())
    with pytest.raises(LoadCheckRefusedError, match=r"not healthy.*Expected: every member healthy"):
        LoadCheckLifecycle().create(props())
    assert machines.loads == []


def test_a_disk_without_room_is_not_loaded(machines: Machines) -> None:
    machines.free_mib = 100
    with pytest.raises(LoadCheckRefusedError, match="has 100 MiB free for its data"):
        LoadCheckLifecycle().create(props())
    assert machines.loads == []


def test_the_lifecycle_is_what_the_engine_gets() -> None:
    assert issubclass(LoadCheckFailedError, EtcdClusterError)
    assert lifecycle.INPUTS == ("cluster", "mode", "size", "members", "urls", "generator", "connections", "client")


# --- the command ---


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: Machines) -> Cli:
    cli = Cli(tmp_path, monkeypatch)
    cli.install(ONE)
    return cli


def test_a_running_cluster_is_loaded_only_with_consent(
    cli: Cli, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("load-check", "--stack", "prod") == ExitCode.NO_ANSWER
    assert "Expected: your consent. Add --yes" in capsys.readouterr().err
    assert machines.ran == []


def test_the_command_prints_every_limit_and_the_page(
    cli: Cli, machines: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.html"
    assert cli.run("load-check", "--stack", "prod", "--yes", "--html", str(file)) == ExitCode.SUCCESS
    said = capsys.readouterr().out
    assert "99 % of the log's syncs of etcd-2" in said
    assert f"page  {file}" in said
    assert "passed: the cluster bears the load of size small" in said
    assert file.read_text().startswith("<!doctype html>")
    assert [(line.only_without_keys, line.compact) for _, line in machines.loads] == [(False, False)]


def test_another_size_and_json(cli: Cli, machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run("load-check", "--stack", "prod", "--yes", "--size", "medium", "--output", "json")
    assert code == ExitCode.NOT_HEALTHY, "a hundred writes a second are not five hundred"
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["load"]["writesPerSecond"], found["load"]["clients"]) == (False, 500, 500)


def test_what_a_killed_one_left_is_removed(cli: Cli, machines: Machines) -> None:
    assert cli.run("load-check", "--stack", "prod", "--clean") == ExitCode.SUCCESS
    assert machines.ran[-1] == ("etcd-1", RunLoad(clean=True))


def test_etcds_own_check_runs_afterwards_and_decides_nothing(
    cli: Cli, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "check_perf_status=1\ncheck_perf:FAIL: Throughput too low: 90 writes/s\ncheck_perf:FAIL\n"
    machines.load = f"{machines.answer()}\n{own}"
    assert cli.run("load-check", "--stack", "prod", "--yes", "--check-perf") == ExitCode.SUCCESS
    assert [line.check_perf for _, line in machines.loads] == ["s"]
    said = capsys.readouterr().out
    assert "`etcdctl check perf --load=s` failed" in said
    assert "  FAIL: Throughput too low: 90 writes/s\n" in said
    assert "passed: the cluster bears the load of size small" in said


def test_etcds_own_check_is_not_run_unasked(cli: Cli, machines: Machines) -> None:
    assert cli.run("load-check", "--stack", "prod", "--yes") == ExitCode.SUCCESS
    ((_, line),) = machines.loads
    assert "check-perf" not in line.text("etcd-1")


def test_a_page_that_cannot_be_written_is_found_before_the_load(
    cli: Cli, machines: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "page.html"
    for file, why in ((below, f"{below.parent}: File exists"), (tmp_path, f"{tmp_path}: Is a directory")):
        assert cli.run("load-check", "--stack", "prod", "--yes", "--html", str(file)) == ExitCode.NO_ANSWER
        assert f"{why}. Expected: a place for the page" in capsys.readouterr().err
    assert machines.ran == []


# --- from a machine that runs no member ---

CA = x509.create_ca("etcd CA", now=datetime.now(timezone.utc), key_algorithm="ECDSA-P256")
CLIENT = "client app-1.example"


def certificate(name: str, common_name: str) -> dict[str, Any]:
    return {
        "type": clusters.CERTIFICATE_TYPE,
        "urn": urn(clusters.CERTIFICATE_TYPE, name),
        "parent": urn(clusters.CLUSTER_TYPE, "orders"),
        "inputs": {
            "ca_certificate_pem": CA.certificate_pem,
            "ca_private_key_pem": secret(CA.private_key_pem),
            "common_name": common_name,
            "profile": "client",
        },
    }


def named_by_stack() -> dict[str, Any]:
    """The client, as a LoadCheck gets it."""
    connection = {"host": "app-1.example", "user": "admin", "hostKey": host_key(1), "privateKey": KEY}
    issuer = {
        "certificate_pem": CA.certificate_pem,
        "private_key_pem": CA.private_key_pem,
        "common_name": "client",
        "trusted": CA.certificate_pem,
    }
    return {"connection": connection, "version": "3.6.16", "issuer": issuer}


def of_members() -> dict[str, Any]:
    return {name: {"host": name, "hostKey": host_key(1)} for name in NAMES}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch, cli: Cli, tmp_path: Path) -> list[Connection]:
    """Connections over which the client was prepared."""
    found: list[Connection] = []
    program = shutil.copy(sys.executable, tmp_path / "etcdctl")

    def send(destination: Destination, file: Path, *_: Any) -> str:
        assert file == Path(program)
        found.append(destination._connection)
        return "/opt/etcd/etcdctl/3.6.16/etcdctl"

    monkeypatch.setattr(Destination, "architecture", lambda _: "amd64")
    monkeypatch.setattr(Destination, "receive_program", lambda *_: Path(program))
    monkeypatch.setattr(Destination, "send_program", send)
    monkeypatch.setattr(load_client, "require_linux_program", lambda *_: None)
    cli.install([*ONE, certificate("orders-client", "client"), certificate("other", "other")])
    return found


def load_from(cli: Cli, *options: str) -> int:
    named = () if "--from" in options else ("--from", "app-1.example")
    return cli.run("load-check", "--stack", "prod", "--yes", *named, "--host-key", host_key(1), *options)


def test_a_machine_that_is_named_loads_the_cluster_as_a_client(
    cli: Cli, machines: Machines, reached: list[Connection], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_from(cli, "--output", "json") == ExitCode.SUCCESS
    ((name, line),) = machines.loads
    assert (name, line.client) == (CLIENT, True)
    assert line.urls == "https://192.0.2.1:2379,https://192.0.2.2:2379,https://192.0.2.3:2379"
    (connection,) = reached
    assert (connection.host, connection.user, connection.port, connection.host_key) == (
        "app-1.example",
        "admin",
        22,
        host_key(1),
    )
    assert connection.private_key == KEY, "it is logged in to as the members are"
    assert machines.placed == ["app-1.example"]
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["generatedOn"] == CLIENT
    assert found["client"]["processors"] == 8
    assert found["members"].keys() == set(NAMES)
    assert CLIENT in Path(found["page"]).read_text()
    held = base64.b64decode(machines.given["file_client_key"]).decode()
    assert not any(each in said.out + said.err for each in held.splitlines()[1:-1])


def test_nothing_is_touched_on_a_client_of_a_cluster_that_refuses_the_load(
    cli: Cli,
    machines: Machines,
    reached: list[Connection],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ClusterMachines, "observe", lambda _, **__: machines.observed)
    for observed, free_mib, said in (
        (observation(healthy=()), 5000, "the cluster is not well"),
        (observation(), 100, "has 100 MiB free for its data"),
    ):
        machines.observed, machines.free_mib = observed, free_mib
        assert load_from(cli) == ExitCode.NO_ANSWER
        assert said in capsys.readouterr().err
        with pytest.raises(LoadCheckRefusedError, match=said):
            LoadCheckLifecycle().create(props(client=named_by_stack(), connections=of_members()))
    assert (reached, machines.placed) == ([], [])
    assert not [name for name, _ in machines.ran if name == CLIENT]


def test_its_certificate_is_made_for_it_and_ends_with_it(
    cli: Cli, machines: Machines, reached: list[Connection]
) -> None:
    load_from(cli)
    given = {name: base64.b64decode(text).decode() for name, text in machines.given.items()}
    pair = x509.KeyPair(given["file_client_certificate"], given["file_client_key"])
    x509.verify_certificate(pair, CA.certificate_pem, datetime.now(timezone.utc))
    assert x509.parse_certificate(pair.certificate_pem).subject.rfc4514_string() == "CN=client"
    validity = x509.validity_of(pair.certificate_pem)
    of_step = timedelta(seconds=Load.of(SIZES["small"]).limit_seconds + SPARE_SECONDS + BUSY_SECONDS)
    left = validity.not_after - datetime.now(timezone.utc)
    assert timedelta(0) < left - of_step <= timedelta(minutes=5)
    assert validity.not_after - validity.not_before == of_step + timedelta(minutes=10)


def test_the_clock_of_a_client_is_told_where_it_is_off(cli: Cli, machines: Machines, reached: list[Connection]) -> None:
    for ahead, clock in (
        (0.0, ""),
        (-7200.0, rf"the clock of {CLIENT} is 7(1[5-9]|2[0-4])\d s behind this machine's"),
        (7200.0, rf"the clock of {CLIENT} is 7(1[5-9]|2[0-4])\d s ahead of this machine's"),
    ):
        machines.client_clock = lambda ahead=ahead: time.time() + ahead
        load_from(cli)
        assert re.fullmatch(clock, machines.loads[-1][1].clock)


def test_a_certificate_that_a_member_would_not_take_is_not_made(
    cli: Cli,
    machines: Machines,
    reached: list[Connection],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is dated by the clock of this machine, which is five hours off."""
    apart = observation(clocks=dict.fromkeys(NAMES, -18000.0))
    monkeypatch.setattr(ClusterMachines, "observe", lambda _, **__: apart)
    assert load_from(cli) == ExitCode.NO_ANSWER
    assert "the clock of etcd-1 is 18000 s behind this machine's. Expected: clocks that are" in capsys.readouterr().err
    assert (reached, machines.placed) == ([], [])
    assert cli.run("load-check", "--stack", "prod", "--yes") == ExitCode.SUCCESS, "a member has its own certificate"


def test_with_users_it_is_root_as_other_steps_are(
    cli: Cli, machines: Machines, reached: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.install([*ONE, certificate("orders-client", "client"), certificate("orders-root-user", "root")])
    desired = clusters.Cluster.desired
    with_users = replace(desired(cluster_of(cli)), users=Users({"app": ["root"]}, {}))
    monkeypatch.setattr(clusters.Cluster, "desired", lambda _: with_users)
    load_from(cli)
    pem = base64.b64decode(machines.given["file_client_certificate"]).decode()
    assert x509.parse_certificate(pem).subject.rfc4514_string() == "CN=root"


def cluster_of(cli: Cli) -> clusters.Cluster:
    return clusters.selected_cluster(argparse.Namespace(stack="prod", cluster=None, cwd=cli.project), secrets=True)


def test_where_it_is_logged_in_to_can_be_said(
    cli: Cli, machines: Machines, reached: list[Connection], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(private_key())
    load_from(cli, "--from", "me@[2001:db8::9]:2222", "--identity", str(file))
    (connection,) = reached
    assert (connection.host, connection.user, connection.port) == ("2001:db8::9", "me", 2222)
    assert connection.private_key == private_key()
    assert [name for name, _ in machines.loads] == ["client [2001:db8::9]:2222"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "app-1.example"], "--from: no host key is known for app-1.example. Expected: one in ~/.ssh/known"),
        (["--from", "app-1.example", "--host-key", "AAAA"], '--host-key: "AAAA": not an ed25519 or ECDSA public'),
        (["--from", "a", "--host-key", host_key(1), "--identity", "/none"], '--identity: "/none": cannot be read'),
        (["--host-key", host_key(1)], "--host-key: nothing uses it without --from"),
        (["--identity", "/none"], "--identity: nothing uses it without --from"),
        (["--clean", "--from", "a"], "--clean: a member removes what is left"),
    ],
)
def test_what_cannot_be_used_is_told_before_any_machine_is_asked(
    options: Sequence[str], said: str, cli: Cli, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("load-check", "--stack", "prod", "--yes", *options) == ExitCode.NO_ANSWER
    assert said in capsys.readouterr().err
    assert machines.ran == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app-1.example", ClientAddress("app-1.example", "", 22)),
        ("me@10.0.0.9", ClientAddress("10.0.0.9", "me", 22)),
        ("App-1:2222", ClientAddress("app-1", "", 2222)),
        ("[2001:db8::9]", ClientAddress("2001:db8::9", "", 22)),
        ("me@[2001:db8::9]:22", ClientAddress("2001:db8::9", "me", 22)),
        *(
            (text, None)
            for text in ("", "2001:db8::9", "a b", "ssh://a", "a:b", "a:0", "a:70000", "@a", "a/b", "-oX@a")
        ),
        *((text, None) for text in ("me:secret@a", "a?x", "a#x", "10.0.0.300", "a\nb", "-a")),
    ],
)
def test_a_machine_to_log_in_to(text: str, expected: ClientAddress | None) -> None:
    if expected is None:
        with pytest.raises(argparse.ArgumentTypeError):
            client_address(text)
    else:
        assert client_address(text) == expected


def test_a_client_without_room_in_memory_gets_nothing(
    cli: Cli, machines: Machines, reached: list[Connection], capsys: pytest.CaptureFixture[str]
) -> None:
    machines.free_mib_on_client = 1
    assert load_from(cli, "--seconds", "600") == ExitCode.NO_ANSWER
    assert f"{CLIENT} has 1 MiB free in /run. Expected: 10 MiB, for its certificate" in capsys.readouterr().err
    assert (reached, machines.placed, machines.loads) == ([], [], [])


def test_a_machine_of_another_architecture_is_refused(
    cli: Cli,
    machines: Machines,
    reached: list[Connection],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from etcd_cluster.install.elf import require_linux_program

    monkeypatch.setattr(load_client, "require_linux_program", require_linux_program)
    monkeypatch.setattr(Destination, "architecture", lambda _: "arm64" if this_architecture() == "amd64" else "amd64")
    assert load_from(cli) == ExitCode.NO_ANSWER
    assert "Expected: a machine of the members' architecture, as it runs their etcdctl" in capsys.readouterr().err
    assert machines.loads == []


def test_an_up_can_load_from_a_client_too(cli: Cli, machines: Machines, reached: list[Connection]) -> None:
    made = LoadCheckLifecycle().create(props(client=named_by_stack(), connections=of_members()))
    ((name, line),) = machines.loads
    assert (name, line.client, line.only_without_keys, line.compact) == (CLIENT, True, True, True)
    assert [each.host for each in reached] == machines.placed == ["app-1.example"]
    assert made.outs is not None
    assert made.outs["result"]["passed"] is True
