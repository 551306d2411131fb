"""What exposes a cluster's metrics: arguments, resources, files on machines, and the command."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_cluster import AwsMachines, ConfigurationError, EtcdClusterArgs, GcpMachines, LocalMachines, Monitoring
from etcd_cluster.backup.arguments import Backup
from etcd_cluster.cli import clusters
from etcd_cluster.cli.command import ExitCode
from etcd_cluster.errors import SecretText
from etcd_cluster.machines.machine import Machines, Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.lines import Line
from etcd_cluster.member.machines import MemberMachines
from etcd_cluster.monitoring.endpoints_lifecycle import MetricsEndpointsLifecycle, variables_of
from etcd_cluster.pki import x509
from etcd_cluster.settings import Settings, validate_arguments
from tests.unit.test_cli import MEMBERS, ONE, Cli, secret, urn
from tests.unit.test_cluster import HOSTS, build
from tests.unit.test_member_scripts import Folder

KEY = "-----BEGIN PRIVATE KEY-----\nof the metrics\n-----END PRIVATE KEY-----\n"
HOOK = "curl -d failed https://example/TOKEN-nobody-sees"
PROMTOOL = shutil.which("promtool")


ALL_DEFAULTS = Monitoring()


def settings(machines: Machines = HOSTS, monitoring: Monitoring | None = ALL_DEFAULTS) -> Settings:
    return validate_arguments(EtcdClusterArgs(machines=machines, monitoring=monitoring))


def aws(**more: Any) -> AwsMachines:
    return AwsMachines(subnet_ids=["subnet-a", "subnet-b", "subnet-c"], ssh_cidrs=["10.0.0.0/16"], **more)


def gcp(**more: Any) -> GcpMachines:
    zones = ["europe-west1-b", "europe-west1-c", "europe-west1-d"]
    return GcpMachines(network="n", subnetwork="s", zones=zones, ssh_ranges=["10.0.0.0/16"], **more)


@pytest.mark.parametrize(
    ("machines", "monitoring", "key"),
    [
        (LocalMachines(), Monitoring(), "monitoring"),
        (HOSTS, Monitoring(port=2380), "monitoring.port"),
        (HOSTS, Monitoring(port=22), "monitoring.port"),
        (HOSTS, Monitoring(port=0), "monitoring.port"),
        (HOSTS, Monitoring(port=70_000), "monitoring.port"),
        (HOSTS, Monitoring(textfile_folder="var/lib"), "monitoring.textfileFolder"),
        (HOSTS, Monitoring(textfile_folder="/var/\nlib"), "monitoring.textfileFolder"),
        (HOSTS, Monitoring(on_failure="two\nlines"), "monitoring.onFailure"),
        (HOSTS, Monitoring(on_failure=""), "monitoring.onFailure"),
        (aws(), Monitoring(port=9000), "monitoring.port"),
        (aws(monitoring_cidrs=["10.1.0.0/16"]), None, "aws.monitoringCidrs"),
        (aws(monitoring_security_group_ids=["sg-1"]), None, "aws.monitoringSecurityGroupIds"),
        (aws(monitoring_cidrs=["0.0.0.0/0"]), Monitoring(), "aws.monitoringCidrs"),
        (gcp(), Monitoring(port=9000), "monitoring.port"),
        (gcp(monitoring_tags=["prometheus"]), None, "gcp.monitoringTags"),
        (gcp(monitoring_ranges=["0.0.0.0/1"]), Monitoring(), "gcp.monitoringRanges"),
    ],
)
def test_what_cannot_work_is_refused(machines: Machines, monitoring: Monitoring | None, key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings(machines, monitoring)
    assert refused.value.key == key


def test_a_cloud_whose_rules_let_nobody_in_says_so() -> None:
    assert [each for each in settings(aws()).warnings if "aws.monitoringCidrs" in each]
    assert [each for each in settings(gcp()).warnings if "gcp.monitoringRanges" in each]
    let_in = settings(aws(monitoring_cidrs=["10.1.0.0/16"]))
    assert not [each for each in let_in.warnings if "monitoring" in each]


def test_a_cluster_without_it_has_none_of_its_resources_and_outputs() -> None:
    recording = build()
    assert not [name for name in recording.resources if "monitoring" in name or "metrics" in name]
    assert "monitoring" not in recording.outputs["etcd"]


def test_its_resources_are_these_and_come_after_the_rollout() -> None:
    recording = build(monitoring=Monitoring(), backup=Backup(to="/mnt/backups", every="2h"))
    added = recording.resources.keys() - build(backup=Backup(to="/mnt/backups", every="2h")).resources.keys()
    assert added == {
        "etcd-monitoring-ca",
        "etcd-monitoring-client",
        "etcd-metrics",
        *(f"etcd-host-{number}-monitoring" for number in (1, 2, 3)),
    }
    metrics = recording.resources["etcd-metrics"]
    assert metrics.value("backup_seconds") == 7200
    assert metrics.value("test_seconds") == 86_400


def test_certificates_of_metrics_are_of_a_ca_that_etcd_does_not_know() -> None:
    recording = build(monitoring=Monitoring())
    for name in ("etcd-host-1-monitoring", "etcd-monitoring-client"):
        assert recording.resources[name].value("ca_private_key_pem") == "etcd-monitoring-ca-key"
    desired = json.dumps(recording.resources["etcd-rollout"].value("desired"), default=str)
    assert "monitoring" not in desired, "no member's files change, so none restarts"


def test_a_secret_command_is_secret_in_the_state() -> None:
    recording = build(monitoring=Monitoring(on_failure=SecretText(HOOK)))
    metrics = recording.resources["etcd-metrics"]
    assert metrics.is_secret("on_failure")


def props(**changes: Any) -> dict[str, Any]:
    """What a state holds."""
    place = {"address": "10.0.0.1", "layout": vars(Layout.system()), "ports": vars(Ports()), "machine": "m"}
    return {
        "cluster": "shop/prod/orders",
        "token": "TOKEN",
        "port": 2382.0,
        "textfile_folder": "/var/lib/prom",
        "on_failure": HOOK,
        "backup_seconds": 3600.0,
        "test_seconds": None,
        "proxy": "",
        "no_proxy": "",
        "ca": "CA\n",
        "certificates": {"etcd-1": {"certificate": "CERTIFICATE\n", "key": KEY}},
        "client_ends": {"client": "2031-01-01T00:00:00Z"},
        "members": {"etcd-1": place},
        "connections": {},
        "drift": [],
        **changes,
    }


def decoded(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix("file_"): base64.b64decode(text).decode()
        for name, text in variables.items()
        if name.startswith("file_")
    }


def test_a_cluster_without_backups_has_metrics_all_the_same() -> None:
    """An engine hands no property on whose value is None."""
    without = {name: value for name, value in props().items() if name not in ("backup_seconds", "test_seconds")}
    assert decoded(variables_of(without, "etcd-1")) == decoded(variables_of(props(backup_seconds=None), "etcd-1"))


def test_secrets_are_in_files_of_roots_alone() -> None:
    files = decoded(variables_of(props(), "etcd-1"))
    assert [name for name, text in files.items() if "PRIVATE KEY" in text] == ["key"]
    assert [name for name, text in files.items() if "TOKEN-nobody-sees" in text] == ["hook"]
    assert files["hook"] == f"#!/bin/sh\n{HOOK}\n"


@pytest.mark.parametrize(
    ("address", "listened"),
    [
        ("10.0.0.1", ["10.0.0.1:2382"]),
        ("fd00::1", ["[fd00::1]:2382"]),
        ("a.example", ["2382", "[::]:2382"]),
    ],
)
def test_the_member_s_own_address_is_listened_on(address: str, listened: list[str]) -> None:
    members = {"etcd-1": {**props()["members"]["etcd-1"], "address": address}}
    text = decoded(variables_of(props(members=members), "etcd-1"))["configuration"]
    assert [line.split()[1] for line in text.splitlines() if line.strip().startswith("listen ")] == listened


def test_a_cluster_without_backups_has_metrics() -> None:
    """Engines leave out what is None."""
    without = {name: value for name, value in props(backup_seconds=None).items() if value is not None}
    assert "test_seconds" not in without
    assert variables_of(without, "etcd-1") == variables_of(props(backup_seconds=None), "etcd-1")


def test_only_what_differs_is_a_change() -> None:
    lifecycle = MetricsEndpointsLifecycle()
    assert not lifecycle.diff("id", props(), props(proxy="http://proxy:3128")).changes
    assert lifecycle.diff("id", props(), props(port=2383)).changes
    assert lifecycle.diff("id", props(), props(drift=["etcd-1: metrics: nginx.conf differs"])).changes


def test_drift_is_looked_for_in_an_up_without_changes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Line] = []

    def run(_self: MemberMachines, _name: str, line: Line, *_words: Any, **_named: Any) -> str:
        asked.append(line)
        return "nginx.conf differs"

    monkeypatch.setattr(MemberMachines, "run", run)
    lifecycle = MetricsEndpointsLifecycle()
    checked = lifecycle.check(props(), {**props(), "looks": True}).inputs
    assert checked["drift"] == ["etcd-1: metrics: nginx.conf differs"]
    assert lifecycle.check(props(), {**props(), "looks": False}).inputs["drift"] == []
    assert lifecycle.check(props(), {**props(port=9), "looks": True}).inputs["drift"] == []
    assert lifecycle.check({}, {**props(), "looks": True}).inputs["drift"] == []
    assert len(asked) == 1


# --- the command ---


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(tmp_path, monkeypatch)


def with_metrics() -> list[dict[str, Any]]:
    """A state whose cluster exposes its metrics."""
    resources = json.loads(json.dumps(ONE))
    component = next(each for each in resources if each["type"] == clusters.CLUSTER_TYPE)
    component["outputs"]["monitoring"] = {
        "caCertificate": "CA\n",
        "clientCertificate": "CERTIFICATE\n",
        "clientKey": secret(KEY),
    }
    metrics = {
        "type": clusters.METRICS_TYPE,
        "urn": urn(clusters.METRICS_TYPE, "orders-metrics"),
        "parent": component["urn"],
        "inputs": props(members={name: {"address": each["address"]} for name, each in MEMBERS.items()}),
    }
    return [*resources, metrics]


def test_files_for_a_prometheus_are_its_own(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "given"
    assert cli.install(with_metrics()).run("monitoring", "files", str(folder)) == ExitCode.SUCCESS
    assert sorted(path.name for path in folder.iterdir()) == [
        "ca.crt",
        "client.crt",
        "client.key",
        "dashboard.json",
        "rules.yml",
        "scrape.yml",
    ]
    assert stat.S_IMODE((folder / "client.key").stat().st_mode) == 0o600
    jobs = yaml.safe_load((folder / "scrape.yml").read_text())["scrape_configs"]
    targets = [each["targets"][0] for each in jobs[0]["static_configs"]]
    assert targets == [f"{member['address']}:2382" for member in MEMBERS.values()]
    assert jobs[0]["tls_config"]["key_file"] == str(folder / "client.key")
    assert "PRIVATE" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["scrape"], ["scrape", "--for", "operator"], ["rules"], ["rules", "--for", "operator"]]
)
def test_yaml_is_printed(words: list[str], cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(with_metrics()).run("monitoring", *words) == ExitCode.SUCCESS
    said = capsys.readouterr().out
    assert list(yaml.safe_load_all(said))
    assert "PRIVATE" not in said


def test_the_dashboard_is_printed(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(with_metrics()).run("monitoring", "dashboard") == ExitCode.SUCCESS
    assert json.loads(capsys.readouterr().out)["uid"] == "etcd-cluster"


def test_another_limit_is_taken(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(with_metrics()).run("monitoring", "rules", "--limit", "certificateDays=14") == ExitCode.SUCCESS
    assert f"< {14 * 86_400}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "limit", ["days=14", "certificateDays", "certificateDays=x", "certificateDays=-1", "certificateDays=inf"]
)
def test_a_limit_that_is_none_is_named(limit: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(with_metrics()).run("monitoring", "rules", "--limit", limit) == ExitCode.NO_ANSWER
    assert f"--limit {limit}: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["scrape", "files"])
def test_a_cluster_that_exposes_none_says_what_to_set(
    command: str, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "given")] if command == "files" else []
    assert cli.install(ONE).run("monitoring", command, *words) == ExitCode.NO_ANSWER
    assert "Set `monitoring: {}`, then run `pulumi up`" in capsys.readouterr().err
    assert not (tmp_path / "given").exists()


def test_status_as_a_page(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.install(ONE).run("status", "--html") == ExitCode.SUCCESS
    assert capsys.readouterr().out.startswith("<!doctype html>")
    assert cli.run("status", "--html", "--watch") == ExitCode.NO_ANSWER
    assert cli.run("status", "--html", "--output", "json") == ExitCode.NO_ANSWER


# --- what a host writes ---

SLOT = "20301127T040000Z-7-etcd-1"


def write_metrics(folder: Folder, **changes: str) -> dict[str, float]:
    """Series -> value, as the script writes them for a member that is away."""
    own = variables_of(props(textfile_folder="", on_failure=""), "etcd-1")
    own |= render.port_variables(Ports(client=1, peer=2, metrics=3))
    own |= {"monitoring_path": f"{folder.path}/monitoring", "hook_path": f"{folder.path}/hook"}
    (folder.path / "run").mkdir(parents=True, exist_ok=True)
    file = folder.path / "run" / "metrics.prom"
    for path in ("state", "volume", "pki"):
        (folder.path / path).mkdir(exist_ok=True)
    folder.run("metrics_file", variables={**own, "metrics_path": str(file), **changes})
    assert file.stat().st_mode & 0o777 == 0o644
    assert not list(file.parent.glob("*.new"))
    if PROMTOOL:
        done = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=file.read_text(), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def named(found: Mapping[str, float], name: str) -> dict[str, float]:
    """Further labels -> value."""
    own = 'cluster="shop/prod/orders",member="etcd-1"'
    prefix = f"etcd_cluster_{name}{{{own}"
    return {series[len(prefix) : -1].strip(","): value for series, value in found.items() if series.startswith(prefix)}


def test_a_host_tells_of_its_disk_its_time_and_that_no_alarm_is_known(tmp_path: Path) -> None:
    before = int(time.time())
    found = write_metrics(Folder(tmp_path / "m"))
    assert before <= named(found, "timestamp_seconds")[""] <= time.time()
    assert named(found, "alarms_answered") == {"": 0}
    assert named(found, "alarms") == {}
    assert 0 < named(found, "data_disk_available_bytes")[""] <= named(found, "data_disk_bytes")[""]
    assert named(found, "certificate_expiry_timestamp_seconds") == {'certificate="client"': 1_924_992_000}
    assert named(found, "backup_newest_timestamp_seconds") == {}, "it has no backups"


def test_a_host_tells_of_backups_as_they_were_noted(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "m")
    (folder.path / "configuration" / "backup").mkdir(parents=True)
    (folder.path / "state").mkdir()
    (folder.path / "state" / "backup").write_text(
        f"attempt=1\nresult=failed\nfailure=x\nnewest={SLOT}\ntested=\nlocal=\n"
    )
    (folder.path / "state" / "members-differ").write_text("they differ\n")
    found = write_metrics(folder, backup_test_every="86400")
    assert named(found, "backup_newest_timestamp_seconds") == {"": 1_921_982_400}
    assert named(found, "backup_interval_seconds") == {"": 3600}
    assert named(found, "backup_failed") == {"": 1}
    assert named(found, "members_differ") == {"": 1}


def test_a_host_tells_of_the_certificates_that_it_has(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "m")
    now = datetime.now(timezone.utc)
    ca = x509.create_ca("etcd CA", key_algorithm="ECDSA-P256", validity_hours=1000, now=now)
    (folder.path / "pki").mkdir(parents=True)
    for name in ("server.crt", "ca.crt"):
        (folder.path / "pki" / name).write_text(ca.certificate_pem)
    found = write_metrics(folder)
    end = named(found, "certificate_expiry_timestamp_seconds")['certificate="server"']
    assert end == named(found, "ca_expiry_timestamp_seconds")['ca="ca"']
    assert abs(end - now.timestamp() - 1000 * 3600) < 3600


def test_a_failure_is_told_once_also_if_it_is_seen_before_etcd_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "m")
    folder.path.mkdir()
    told = tmp_path / "told"
    hook = folder.path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1 $2" >> {told}\n')
    hook.chmod(0o755)
    systemctl = tmp_path / "tools" / "systemctl"
    systemctl.parent.mkdir()
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=os.pathsep)
    moments = [
        ("success", 0, "running", 0),
        ("signal", 0, "auto-restart", 5),
        ("success", 1, "running", 5),
        ("success", 1, "running", 5),
        ("exit-code", 1, "failed", 9),
    ]
    for result, restarts, state, since in moments:
        shown = f"Result) echo {result} ;; NRestarts) echo {restarts} ;; SubState) echo {state} ;; *) echo {since} ;;"
        others = "Result) echo success ;; NRestarts) echo 0 ;; *) echo ;;"
        systemctl.write_text(
            f"#!/bin/sh\ncase $* in *backup*) case $3 in {others} esac ;; *) case $3 in {shown} esac ;; esac\n"
        )
        systemctl.chmod(0o755)
        write_metrics(folder)
    assert told.read_text() == "etcd-cluster.service restarted\netcd-cluster.service exit-code\n"
