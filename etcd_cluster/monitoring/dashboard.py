"""Makes a Grafana dashboard of a cluster, for the minor version that runs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 41
"""Of Grafana 12, which also opens older ones."""
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTED = 'job="$job", cluster="$cluster"'
OWN = 'cluster="$cluster"'
GOOD, WARNING, BAD = "green", "orange", "red"

Unit = Literal["short", "none", "s", "bytes", "Bps", "reqps", "ops", "percentunit", "dtdurations"]
Steps = Sequence[tuple[str, float | None]]


@dataclass(frozen=True)
class Query:
    """One line, or several by labels.

    Args:
        expression: PromQL.
        legend: Name of the line.
    """

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        title: What it shows.
        description: What good and bad look like.
        unit: Unit of its values.
        queries: What is drawn.
        width: Columns of 24.
        steps: Colours from values on, of a panel with one figure; none for a graph.
        words: Value -> word that is shown for it.
        lowest: Where the axis of a graph begins at the latest; None leaves it to Grafana.
    """

    title: str
    description: str
    unit: Unit
    queries: Sequence[Query]
    width: int = 8
    steps: Steps = ()
    words: Mapping[str, str] | None = None
    lowest: int | None = 0


def panels(series: str, *, is_extensive: bool, has_backups: bool) -> Mapping[str, Sequence[Panel]]:
    """Returns row -> its panels."""
    return {
        "State": _state(has_backups),
        "Requests": _requests(series, is_extensive),
        "Consensus": _consensus(),
        "Disk and space": _disk(),
        "Machines": _machines(),
    }


def dashboard_json(series: str, *, is_extensive: bool = False, has_backups: bool = True) -> str:
    """Returns the dashboard as Grafana imports it, or as a provisioned file.

    Args:
        series: Minor version of etcd that runs.
        is_extensive: etcd's setting `metrics` is `extensive`.
        has_backups: The cluster has backups.
    """
    rows = panels(series, is_extensive=is_extensive, has_backups=has_backups)
    content: dict[str, Any] = {
        "uid": "etcd-cluster",
        "title": "etcd cluster",
        "description": f"Made by etcd-cluster for etcd {series}: after an upgrade, make it anew.",
        "tags": ["etcd"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_placed(rows)),
    }
    return json.dumps(content, indent=2) + "\n"


def _variables() -> list[dict[str, Any]]:
    def query(name: str, label: str, text: str) -> dict[str, Any]:
        return {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": text, "refId": name},
            "refresh": 2,
            "sort": 1,
            "includeAll": False,
            "multi": False,
        }

    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        query("job", "Job", "label_values(etcd_server_has_leader, job)"),
        query("cluster", "Cluster", 'label_values(etcd_server_has_leader{job="$job"}, cluster)'),
    ]


def _placed(rows: Mapping[str, Sequence[Panel]]) -> Iterator[dict[str, Any]]:
    """Yields Grafana's panels, from left to right, then down."""
    top, number = 0, 0
    for title, content in rows.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
        }
        top, left = top + 1, 0
        height = 4 if content[0].steps else 8
        for panel in content:
            if left + panel.width > WIDTH:
                top, left = top + height, 0
            number += 1
            place = {"h": height, "w": panel.width, "x": left, "y": top}
            yield {"id": number, "gridPos": place, **(_stat(panel) if panel.steps else _graph(panel))}
            left += panel.width
        top += height


def _common(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _stat(panel: Panel) -> dict[str, Any]:
    steps = [{"color": colour, "value": value} for colour, value in panel.steps]
    words = {value: {"text": text, "index": place} for place, (value, text) in enumerate((panel.words or {}).items())}
    return {
        **_common(panel),
        "type": "stat",
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": steps},
                "mappings": [{"type": "value", "options": words}] if words else [],
                "noValue": "unknown",
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
            "wideLayout": False,
        },
    }


def _graph(panel: Panel) -> dict[str, Any]:
    return {
        **_common(panel),
        "type": "timeseries",
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                **({} if panel.lowest is None else {"min": panel.lowest}),
                "color": {"mode": "palette-classic"},
                "custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _state(has_backups: bool) -> Sequence[Panel]:
    width = 4 if has_backups else 6
    found = [
        Panel(
            "Members that answer",
            "Of all that are scraped.",
            "percentunit",
            [Query(f"avg(up{{{SELECTED}}})", "up")],
            width,
            [(BAD, None), (WARNING, 0.51), (GOOD, 1)],
        ),
        Panel(
            "Leader",
            "Every member has to see one.",
            "none",
            [Query(f"min(etcd_server_has_leader{{{SELECTED}}})", "leader")],
            width,
            [(BAD, None), (GOOD, 1)],
            {"0": "missing", "1": "seen by all"},
        ),
        Panel(
            "Alarms",
            "NOSPACE: no more writes. CORRUPT: members hold different keys.",
            "none",
            [Query(f"max by (type) (etcd_cluster_alarms{{{OWN}}})", "{{type}}")],
            width,
            [(GOOD, None), (BAD, 1)],
            {"0": "none"},
        ),
        Panel(
            "First certificate to end",
            "The next `pulumi up` renews what has a third of its life left.",
            "dtdurations",
            [Query(f"min(etcd_cluster_certificate_expiry_timestamp_seconds{{{OWN}}}) - time()", "certificate")],
            width,
            [(BAD, None), (WARNING, 7 * 86_400), (GOOD, 30 * 86_400)],
        ),
    ]
    if has_backups:
        newest, tested = "etcd_cluster_backup_newest_timestamp_seconds", "etcd_cluster_backup_tested_timestamp_seconds"
        interval, test = "etcd_cluster_backup_interval_seconds", "etcd_cluster_backup_test_interval_seconds"
        late = [(GOOD, None), (WARNING, 1.5), (BAD, 2.0)]
        found += [
            Panel(
                "Age of the newest backup",
                "In intervals: two are too many.",
                "short",
                [Query(f"(time() - max({newest}{{{OWN}}})) / max({interval}{{{OWN}}})", "backup")],
                width,
                late,
            ),
            Panel(
                "Age of the last proven restore",
                "In intervals: two are too many.",
                "short",
                [Query(f"(time() - max({tested}{{{OWN}}})) / max({test}{{{OWN}}})", "restore")],
                width,
                late,
            ),
        ]
    return found


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{SELECTED}{more}}}[$__rate_interval]))"


def _percentile(metric: str, by: str, more: str = "") -> str:
    return f"histogram_quantile(0.99, {_rate(f'{metric}_bucket', f'{by}, le', more)})"


def _requests(series: str, is_extensive: bool) -> Sequence[Panel]:
    handled = "grpc_server_handled_total"
    is_new = tuple(map(int, series.split("."))) >= (3, 7)
    latency = Query(_percentile("etcd_disk_backend_commit_duration_seconds", "member"), "commit, {{member}}")
    title, description = "Commit (99 %)", "etcd measures requests themselves with `metrics: extensive`, or from 3.7 on."
    if is_extensive:
        title, description = "Latency by method (99 %)", "Below 0.15 s, streams left out."
        latency = Query(
            _percentile("grpc_server_handling_seconds", "grpc_method", ', grpc_type="unary"'), "{{grpc_method}}"
        )
    elif is_new:
        title, description = "Latency by request (99 %)", "Below 0.15 s."
        latency = Query(_percentile("etcd_server_request_duration_seconds", "type"), "{{type}}")
    return [
        Panel("Requests", "By method.", "reqps", [Query(_rate(handled, "grpc_method"), "{{grpc_method}}")]),
        Panel(
            "Requests that fail",
            "By code, without those that clients cancel.",
            "reqps",
            [Query(_rate(handled, "grpc_code", ', grpc_code!~"OK|Canceled"'), "{{grpc_code}}")],
        ),
        Panel(title, description, "s", [latency]),
        Panel(
            "Traffic with clients",
            "Bytes from and to clients.",
            "Bps",
            [
                Query(_rate("etcd_network_client_grpc_received_bytes_total", "member"), "from clients, {{member}}"),
                Query(_rate("etcd_network_client_grpc_sent_bytes_total", "member"), "to clients, {{member}}"),
            ],
            12,
        ),
        Panel(
            "Watchers and streams",
            "Open watches, and the events that wait for them.",
            "short",
            [
                Query(f"etcd_debugging_mvcc_watcher_total{{{SELECTED}}}", "watchers, {{member}}"),
                Query(f"etcd_debugging_mvcc_pending_events_total{{{SELECTED}}}", "pending events, {{member}}"),
            ],
            12,
        ),
    ]


def _consensus() -> Sequence[Panel]:
    return [
        Panel(
            "Proposals",
            "Applied follows committed; what waits stays near zero.",
            "ops",
            [
                Query(_rate("etcd_server_proposals_committed_total", "member"), "committed, {{member}}"),
                Query(_rate("etcd_server_proposals_applied_total", "member"), "applied, {{member}}"),
                Query(_rate("etcd_server_proposals_failed_total", "member"), "failed, {{member}}"),
            ],
        ),
        Panel(
            "Leader",
            "Which member leads, and how often that changed in 15 minutes.",
            "short",
            [
                Query(f"etcd_server_is_leader{{{SELECTED}}} == 1", "{{member}} leads"),
                Query(f"max(increase(etcd_server_leader_changes_seen_total{{{SELECTED}}}[15m]))", "changes"),
            ],
        ),
        Panel(
            "Round trips between members (99 %)",
            "Below 0.15 s; heartbeat-interval has to fit them.",
            "s",
            [Query(_percentile("etcd_network_peer_round_trip_time_seconds", "member, To"), "{{member}} to {{To}}")],
        ),
    ]


def _disk() -> Sequence[Panel]:
    return [
        Panel(
            "fsync of the log (99 %)",
            "Below 10 ms on a disk that suits.",
            "s",
            [Query(_percentile("etcd_disk_wal_fsync_duration_seconds", "member"), "{{member}}")],
        ),
        Panel(
            "Commit of the database (99 %)",
            "Below 25 ms on a disk that suits.",
            "s",
            [Query(_percentile("etcd_disk_backend_commit_duration_seconds", "member"), "{{member}}")],
        ),
        Panel(
            "Free space for the data",
            "Of the file system with the data.",
            "percentunit",
            [
                Query(
                    f"etcd_cluster_data_disk_available_bytes{{{OWN}}} / etcd_cluster_data_disk_bytes{{{OWN}}}",
                    "{{member}}",
                )
            ],
        ),
        Panel(
            "Database",
            "At the quota, etcd takes no more writes. In use is less than its size: defragment.",
            "bytes",
            [
                Query(f"etcd_mvcc_db_total_size_in_bytes{{{SELECTED}}}", "{{member}}"),
                Query(f"etcd_mvcc_db_total_size_in_use_in_bytes{{{SELECTED}}}", "in use, {{member}}"),
                Query(f"min(etcd_server_quota_backend_bytes{{{SELECTED}}})", "quota"),
            ],
            12,
        ),
        Panel(
            "Keys",
            "The same on all members.",
            "short",
            [Query(f"etcd_debugging_mvcc_keys_total{{{SELECTED}}}", "{{member}}")],
            12,
        ),
    ]


def _machines() -> Sequence[Panel]:
    written = f"etcd_cluster_timestamp_seconds{{{OWN}}}"
    return [
        Panel(
            "Memory of etcd",
            "At least the size of the database.",
            "bytes",
            [Query(f"process_resident_memory_bytes{{{SELECTED}}}", "{{member}}")],
        ),
        Panel(
            "Processors that etcd uses",
            "1 is one of them, all the time.",
            "short",
            [Query(_rate("process_cpu_seconds_total", "member"), "{{member}}")],
        ),
        Panel(
            "Clocks",
            "Age of each host's own report: up to a minute and a half. Negative: its clock is ahead.",
            "s",
            [Query(f"timestamp({written}) - {written}", "{{member}}")],
            lowest=None,
        ),
    ]
