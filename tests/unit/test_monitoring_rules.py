"""Alerts and dashboard: promtool checks and tests every rule; each names only metrics that its minor version has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_cluster.monitoring.dashboard import WIDTH, dashboard_json, panels
from etcd_cluster.monitoring.rules import Thresholds, rules, rules_yaml, threshold_names, thresholds_of
from etcd_cluster.monitoring.scrape import Scraped, operator_manifests, prometheus_config

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool (Debian package prometheus)")
SERIES = ("3.4", "3.5", "3.6", "3.7")
RECORDED = Path(__file__).parent / "golden" / "metrics"
MINUTES = 180
"""How long the played series last: longer than any rule holds."""
ETCD = 'job="etcd", cluster="c", member="m1"'
OWN = 'cluster="c", member="m1"'

# Values are as promtool has them, one a minute: 5+0x180 is 181 times 5, and 0+1x180 counts up.
Series = Mapping[str, str]
FLAT, GIB = "x180", 1024**3
UP = f"up{{{ETCD}}}"


def histogram(name: str, labels: str, seconds: str) -> Series:
    """All observations are at most that bound: each minute 60."""
    bounds = ("0.0001", seconds, "100", "+Inf")
    counts = ("0+0x180", "0+60x180", "0+60x180", "0+60x180")
    return {f'{name}_bucket{{{labels}, le="{le}"}}': count for le, count in zip(bounds, counts, strict=True)}


def constant(name: str, value: float, labels: str = ETCD) -> Series:
    return {f"{name}{{{labels}}}": f"{value}+0{FLAT}"}


def counting(name: str, step: float, labels: str = ETCD) -> Series:
    return {f"{name}{{{labels}}}": f"0+{step}{FLAT}"}


def two_members(second: int) -> Series:
    return {UP: f"1+0{FLAT}", UP.replace("m1", "m2"): f"{second}+0{FLAT}", UP.replace("m1", "m3"): f"{second}+0{FLAT}"}


def handled(failing: float) -> Series:
    labels = f'{ETCD}, grpc_service="etcdserverpb.KV", grpc_method="Put"'
    name = "grpc_server_handled_total"
    return {
        **counting(name, 1000 - failing, f'{labels}, grpc_code="OK"'),
        **counting(name, failing, f'{labels}, grpc_code="Unavailable"'),
    }


def database(size: float, in_use: float, quota: float, grows: float = 0) -> Series:
    return {
        f"etcd_mvcc_db_total_size_in_bytes{{{ETCD}}}": f"{size:.0f}+{grows:.0f}{FLAT}",
        **constant("etcd_mvcc_db_total_size_in_use_in_bytes", in_use),
        **constant("etcd_server_quota_backend_bytes", quota),
    }


def disk(free: float, shrinks: float = 0) -> Series:
    return {
        **constant("etcd_cluster_data_disk_bytes", 100 * GIB, OWN),
        f"etcd_cluster_data_disk_available_bytes{{{OWN}}}": f"{free:.0f}-{shrinks:.0f}{FLAT}",
    }


def backups(name: str, seconds_ago: int, interval: str, every: int) -> Series:
    """It is so old at the end of the series."""
    return {
        **constant(name, MINUTES * 60 - seconds_ago, OWN),
        **constant(interval, every, OWN),
    }


NEWEST = ("etcd_cluster_backup_newest_timestamp_seconds", "etcd_cluster_backup_interval_seconds")
TESTED = ("etcd_cluster_backup_tested_timestamp_seconds", "etcd_cluster_backup_test_interval_seconds")
WRITTEN = f"etcd_cluster_timestamp_seconds{{{OWN}}}"
CERTIFICATE = ("etcd_cluster_certificate_expiry_timestamp_seconds", f'{OWN}, certificate="server"')
CA = ("etcd_cluster_ca_expiry_timestamp_seconds", f'{OWN}, ca="ca"')
DAY = 86_400
ALARM = "etcd_cluster_alarms"

# Alert -> series for which it fires at the end, and series for which it does not.
CASES: Mapping[str, tuple[Series, Series]] = {
    "EtcdMemberDown": (constant("up", 0), constant("up", 1)),
    "EtcdQuorumLost": (two_members(0), two_members(1)),
    "EtcdNoLeader": (constant("etcd_server_has_leader", 0), constant("etcd_server_has_leader", 1)),
    "EtcdLeaderChangesOften": (
        counting("etcd_server_leader_changes_seen_total", 1),
        counting("etcd_server_leader_changes_seen_total", 0.1),
    ),
    "EtcdLearnerForLong": (constant("etcd_server_is_learner", 1), constant("etcd_server_is_learner", 0)),
    "EtcdVersionsDiffer": (
        {
            **constant("etcd_server_version", 1, f'{ETCD}, server_version="3.6.14"'),
            **constant("etcd_server_version", 1, f'{ETCD.replace("m1", "m2")}, server_version="3.6.16"'),
        },
        constant("etcd_server_version", 1, f'{ETCD}, server_version="3.6.16"'),
    ),
    "EtcdPeersSlow": (
        histogram("etcd_network_peer_round_trip_time_seconds", f'{ETCD}, To="2"', "0.8"),
        histogram("etcd_network_peer_round_trip_time_seconds", f'{ETCD}, To="2"', "0.01"),
    ),
    "EtcdProposalsFail": (
        counting("etcd_server_proposals_failed_total", 1),
        counting("etcd_server_proposals_failed_total", 0),
    ),
    "EtcdRequestsFail": (handled(20), handled(5)),
    "EtcdManyRequestsFail": (handled(60), handled(20)),
    "EtcdRequestsSlow": (
        {
            **histogram("grpc_server_handling_seconds", f'{ETCD}, grpc_type="unary", grpc_method="Put"', "0.8"),
            **histogram("etcd_server_request_duration_seconds", f'{ETCD}, type="Put"', "0.8"),
        },
        {
            **histogram("grpc_server_handling_seconds", f'{ETCD}, grpc_type="unary", grpc_method="Put"', "0.01"),
            **histogram("etcd_server_request_duration_seconds", f'{ETCD}, type="Put"', "0.01"),
        },
    ),
    "EtcdFsyncSlow": (
        histogram("etcd_disk_wal_fsync_duration_seconds", ETCD, "0.8"),
        histogram("etcd_disk_wal_fsync_duration_seconds", ETCD, "0.2"),
    ),
    "EtcdFsyncVerySlow": (
        histogram("etcd_disk_wal_fsync_duration_seconds", ETCD, "2"),
        histogram("etcd_disk_wal_fsync_duration_seconds", ETCD, "0.8"),
    ),
    "EtcdCommitSlow": (
        histogram("etcd_disk_backend_commit_duration_seconds", ETCD, "0.5"),
        histogram("etcd_disk_backend_commit_duration_seconds", ETCD, "0.1"),
    ),
    "EtcdDatabaseNearQuota": (database(96, 96, 100), database(90, 90, 100)),
    "EtcdDatabaseGrows": (database(0, 0, 6 * GIB, GIB / 60), database(0, 0, 12 * GIB, GIB / 60)),
    "EtcdDatabaseFragmented": (database(GIB, 0.4 * GIB, 2 * GIB), database(GIB, 0.6 * GIB, 2 * GIB)),
    "EtcdNoSpaceAlarm": (constant(ALARM, 3, f'{OWN}, type="NOSPACE"'), constant(ALARM, 3, f'{OWN}, type="CORRUPT"')),
    "EtcdCorruptAlarm": (constant(ALARM, 1, f'{OWN}, type="CORRUPT"'), constant(ALARM, 0, f'{OWN}, type="CORRUPT"')),
    "EtcdDiskFull": (disk(9 * GIB), disk(11 * GIB)),
    "EtcdDiskWillFill": (disk(50 * GIB, GIB / 10), disk(90 * GIB, GIB / 60)),
    "EtcdCertificateExpires": (
        constant(CERTIFICATE[0], 20 * DAY, CERTIFICATE[1]),
        constant(CERTIFICATE[0], 40 * DAY, CERTIFICATE[1]),
    ),
    "EtcdCertificateEndsNow": (
        constant(CERTIFICATE[0], 5 * DAY, CERTIFICATE[1]),
        constant(CERTIFICATE[0], 20 * DAY, CERTIFICATE[1]),
    ),
    "EtcdCAExpires": (constant(CA[0], 60 * DAY, CA[1]), constant(CA[0], 120 * DAY, CA[1])),
    "EtcdClockDrift": ({WRITTEN: f"30+60{FLAT}"}, {WRITTEN: f"0+60{FLAT}"}),
    "EtcdClockUnsynchronized": (
        constant("etcd_cluster_clock_synchronized", 0, OWN),
        constant("etcd_cluster_clock_synchronized", 1, OWN),
    ),
    "EtcdAlarmsUnknown": (
        constant("etcd_cluster_alarms_answered", 0, OWN),
        {
            **constant("etcd_cluster_alarms_answered", 0, OWN),
            **constant("etcd_cluster_alarms_answered", 1, OWN.replace("m1", "m2")),
        },
    ),
    "EtcdHostMetricsOld": (constant("up", 1), {**constant("up", 1), WRITTEN: f"0+60{FLAT}"}),
    "EtcdBackupTooOld": (
        backups(NEWEST[0], 9000, NEWEST[1], 3600),
        backups(NEWEST[0], 6000, NEWEST[1], 3600),
    ),
    "EtcdBackupUntested": (
        backups(TESTED[0], 9000, TESTED[1], 3600),
        backups(TESTED[0], 6000, TESTED[1], 3600),
    ),
    "EtcdBackupFailed": (
        constant("etcd_cluster_backup_failed", 1, OWN),
        constant("etcd_cluster_backup_failed", 0, OWN),
    ),
    "EtcdMembersDiffer": (
        constant("etcd_cluster_members_differ", 1, OWN),
        constant("etcd_cluster_members_differ", 0, OWN),
    ),
}


def promtool(*words: str | Path) -> str:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
@pytest.mark.parametrize("is_extensive", [False, True], ids=["basic", "extensive"])
@pytest.mark.parametrize("series", SERIES)
def test_promtool_accepts_the_rules(series: str, is_extensive: bool, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(rules_yaml(series, is_extensive=is_extensive))
    assert f"{len(rules(series, is_extensive=is_extensive))} rules found" in promtool("check", "rules", file)


@needs_promtool
@pytest.mark.parametrize("series", ["3.6", "3.7"])
def test_every_alert_fires_on_its_condition_and_not_beside_it(series: str, tmp_path: Path) -> None:
    """In one run of promtool, with two clusters for each alert: one that it fires for, one that it is quiet for."""
    is_extensive = series == "3.6"
    found = [rule.name for rule in rules(series, is_extensive=is_extensive)]
    assert set(found) == CASES.keys()
    (tmp_path / "rules.yml").write_text(rules_yaml(series, is_extensive=is_extensive))
    played = {
        name.replace('cluster="c"', f'cluster="{alert}, {kind}"'): values
        for alert in found
        for kind, series in zip(("fires", "quiet"), CASES[alert], strict=True)
        for name, values in series.items()
    }
    expected = [
        {
            "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing", cluster="{alert}, {kind}"}}) > bool 0 '
            "or vector(0)",
            "eval_time": f"{MINUTES}m",
            "exp_samples": [{"labels": "{}", "value": int(kind == "fires")}],
        }
        for alert in found
        for kind in ("fires", "quiet")
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in played.items()],
        "promql_expr_test": expected,
    }
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    promtool("test", "rules", tmp_path / "tests.yml")


def named_metrics(expression: str) -> set[str]:
    """Metrics of etcd in an expression, histograms without their ending."""
    found = re.findall(r"\b(?:etcd|grpc|os|process)_[a-z0-9_]+", re.sub(r'"[^"]*"|\bby \([^)]*\)', "", expression))
    labels = {"grpc_code", "grpc_method", "grpc_service", "grpc_type"}
    return {re.sub("_bucket$", "", name) for name in found} - labels


def own_metrics() -> set[str]:
    """What metrics.sh writes."""
    script = Path(__file__).parents[2] / "etcd_cluster/member/scripts/metrics.sh"
    return {f"etcd_cluster_{name}" for name in re.findall(r"^\s*metric ([a-z_]+) '", script.read_text(), re.MULTILINE)}


def expressions(series: str, *, is_extensive: bool) -> Iterator[str]:
    yield from (rule.expression for rule in rules(series, is_extensive=is_extensive))
    for content in panels(series, is_extensive=is_extensive, has_backups=True).values():
        yield from (query.expression for panel in content for query in panel.queries)


@pytest.mark.parametrize("is_extensive", [False, True], ids=["basic", "extensive"])
@pytest.mark.parametrize("series", SERIES)
def test_every_metric_exists_on_that_minor(series: str, is_extensive: bool) -> None:
    """In golden/metrics are the families that a fresh member of each minor has; tests/lab compares them."""
    there = set((RECORDED / f"{series}.txt").read_text().split()) | own_metrics()
    if not is_extensive:
        there.discard("grpc_server_handling_seconds")
    missing = {
        name
        for text in expressions(series, is_extensive=is_extensive)
        for name in named_metrics(text)
        if name not in there
    }
    assert missing == set()


def test_a_metric_that_does_not_exist_is_found() -> None:
    assert named_metrics('rate(etcd_no_such_total{grpc_code="etcd_x"}[5m])') == {"etcd_no_such_total"}


def test_every_figure_of_a_host_is_used() -> None:
    used = {name for text in expressions("3.6", is_extensive=False) for name in named_metrics(text)}
    assert own_metrics() <= used


def test_each_rule_says_what_to_do_and_is_named_once() -> None:
    found = rules("3.6", is_extensive=True)
    assert len({rule.name for rule in found}) == len(found)
    for rule in found:
        assert "{{ $labels.cluster }}" in rule.summary
        assert rule.fix.endswith(".")


def test_limits_change_by_their_names() -> None:
    assert thresholds_of({"certificateDays": 14, "quotaShare": 0.8}) == Thresholds(certificate_days=14, quota_share=0.8)
    assert len(threshold_names()) == len(vars(Thresholds()))
    changed = rules("3.6", thresholds=Thresholds(certificate_days=1), hold_at_most_seconds=7)
    assert next(rule for rule in changed if rule.name == "EtcdCertificateExpires").expression.endswith("< 86400")
    assert max(rule.hold_seconds for rule in changed) == 7


def test_a_cluster_without_backups_has_no_rules_about_them() -> None:
    assert not [rule.name for rule in rules("3.6", has_backups=False) if "Backup" in rule.name]
    assert "backup" not in dashboard_json("3.6", has_backups=False)


def test_the_operator_gets_the_same_rules() -> None:
    plain, wrapped = yaml.safe_load(rules_yaml("3.6")), yaml.safe_load(rules_yaml("3.6", for_operator=True))
    assert wrapped["kind"] == "PrometheusRule"
    assert wrapped["spec"] == plain


SCRAPED = Scraped("shop/prod/orders", {"etcd-1": "10.0.0.1", "etcd-2": "fd00::2", "etcd-3": "c.example"}, 2382)


@needs_promtool
def test_prometheus_takes_the_scrape_configuration(tmp_path: Path) -> None:
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).touch()
    (tmp_path / "prometheus.yml").write_text(prometheus_config(SCRAPED, str(tmp_path)))
    promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yml")
    jobs = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    targets = [each["targets"][0] for each in jobs[0]["static_configs"]]
    assert targets == ["10.0.0.1:2382", "[fd00::2]:2382", "c.example:2382"]


def test_the_operator_scrapes_the_same() -> None:
    plain = yaml.safe_load(prometheus_config(SCRAPED))["scrape_configs"]
    manifests = list(yaml.safe_load_all(operator_manifests(SCRAPED)))
    assert [each["spec"]["metricsPath"] for each in manifests] == [job["metrics_path"] for job in plain]
    assert [each["spec"]["staticConfigs"] for each in manifests] == [job["static_configs"] for job in plain]


def placed(series: str = "3.6") -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = json.loads(dashboard_json(series))["panels"]
    return found


@needs_promtool
@pytest.mark.parametrize("series", SERIES)
def test_every_query_of_the_dashboard_parses(series: str, tmp_path: Path) -> None:
    """As a recording rule: promtool parses these."""
    found = [
        query.expression
        for content in panels(series, is_extensive=False, has_backups=True).values()
        for panel in content
        for query in panel.queries
    ]
    recorded = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "1m")}
        for number, text in enumerate(found)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")


def test_panels_fill_their_rows_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in placed():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= WIDTH
        taken |= cells
    assert len(taken) == WIDTH * (max(y for _, y in taken) + 1), "no holes"


def test_panels_have_units_and_a_word_on_what_is_good() -> None:
    shown = [panel for panel in placed() if panel["type"] != "row"]
    assert len({panel["id"] for panel in placed()}) == len(placed())
    for panel in shown:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"])
