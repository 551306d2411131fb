"""Makes the alerts of a cluster for Prometheus, for the minor version that runs. Pure.

The conditions on etcd's own metrics are those of etcd's mixin (contrib/mixin, Apache-2.0), with its limits. The others
are on what metrics.sh writes on each host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import yaml

Severity = Literal["critical", "warning"]
OPERATOR: Mapping[str, object] = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PrometheusRule",
    "metadata": {"name": "etcd-cluster"},
}
FAILING_CODES = "Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded"
MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Thresholds:
    """Limits of the alerts that people may want to change."""

    leader_changes: float = 4
    """Changes of the leader in 15 minutes."""
    failing_share: float = 0.01
    """Share of requests that fail, for a warning; five times that is critical."""
    request_seconds: float = 0.15
    """99th percentile of requests."""
    peer_seconds: float = 0.15
    """99th percentile of round trips between members."""
    failed_proposals: float = 5
    """Proposals that failed in 15 minutes."""
    fsync_seconds: float = 0.5
    """99th percentile of fsync, for a warning; twice that is critical."""
    commit_seconds: float = 0.25
    """99th percentile of commits of the database."""
    quota_share: float = 0.95
    """Share of the quota that the database takes."""
    used_share: float = 0.5
    """Share of the database that is in use: below, it is fragmented."""
    fragmented_mib: float = 100
    """MiB in use from which that counts."""
    backup_intervals: float = 2
    """Intervals after which a backup, or a test of one, is late."""
    certificate_days: float = 30
    """Days before the end of a certificate or a CA, for a warning; a quarter of that is critical."""
    learner_minutes: float = 60
    """Minutes for which a member may be a learner."""
    disk_share: float = 0.1
    """Share of the data's file system that is free."""
    clock_ahead_seconds: float = 5
    """Seconds that a host may be ahead of Prometheus."""
    clock_behind_seconds: float = 90
    """Seconds that it may be behind, the minute between two reports included."""
    report_minutes: float = 10
    """Minutes after which a host's own report is too old."""


@dataclass(frozen=True)
class Rule:
    """One alert.

    Args:
        name: Its name.
        expression: PromQL. `$etcd` stands for the selector of etcd's own metrics.
        hold_seconds: How long the condition has to hold.
        severity: critical wakes somebody up.
        summary: One sentence. `$labels` and `$value` as in Prometheus.
        fix: What to do, in one sentence.
    """

    name: str
    expression: str
    hold_seconds: int
    severity: Severity
    summary: str
    fix: str


def rules(
    series: str,
    *,
    is_extensive: bool = False,
    has_backups: bool = True,
    thresholds: Thresholds | None = None,
    job: str = "etcd",
    hold_at_most_seconds: int | None = None,
) -> list[Rule]:
    """Returns the alerts.

    Args:
        series: Minor version of etcd that runs, such as 3.6.
        is_extensive: etcd's setting `metrics` is `extensive`: then it tells of slow requests, as 3.7 always does.
        has_backups: The cluster has backups.
        thresholds: Limits; default those of `Thresholds`.
        job: Name of the scrape job of etcd's own metrics.
        hold_at_most_seconds: Shortens how long conditions have to hold, to test alerts by real faults.
    """
    limits = thresholds or Thresholds()
    found = [*_members(limits), *_requests(limits, series, is_extensive), *_disk_and_space(limits)]
    found += [*_hosts(limits), *(_backups(limits) if has_backups else ())]
    most = float("inf") if hold_at_most_seconds is None else hold_at_most_seconds
    selected = f'job="{job}"'
    return [
        replace(
            rule,
            expression=rule.expression.replace("$etcd", selected),
            hold_seconds=int(min(rule.hold_seconds, most)),
        )
        for rule in found
    ]


def rules_yaml(series: str, *, for_operator: bool = False, **choices: Any) -> str:
    """Returns the alerts as Prometheus reads them from a file, or as a resource of the Prometheus operator.

    Args:
        series: Minor version of etcd that runs.
        for_operator: Returns a PrometheusRule.
        **choices: As `rules` takes them.
    """
    group = {"name": f"etcd-cluster for etcd {series}", "rules": [_entry(each) for each in rules(series, **choices)]}
    content: Mapping[str, Any] = {"groups": [group]}
    if for_operator:
        content = {**OPERATOR, "spec": content}
    text: str = yaml.safe_dump(content, sort_keys=False, width=1000)
    return "# Made by etcd-cluster for the minor version that runs: after an upgrade, make it anew.\n" + text


def _entry(rule: Rule) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": rule.expression,
        "for": f"{rule.hold_seconds}s",
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "description": rule.fix},
    }


def thresholds_of(given: Mapping[str, float]) -> Thresholds:
    """Returns the limits with some of them changed, by their names in camelCase."""
    return Thresholds(**{field: given[name] for name, field in threshold_names().items() if name in given})


def threshold_names() -> Mapping[str, str]:
    """Returns name in camelCase -> name of the field."""
    return {_camel(field.name): field.name for field in fields(Thresholds)}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _members(limits: Thresholds) -> Sequence[Rule]:
    return [
        Rule(
            "EtcdMemberDown",
            "up{$etcd} == 0",
            5 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: member {{ $labels.member }} gives no metrics",
            "Run `etcd-cluster status`; docs/troubleshooting.md and docs/replace-a-member.md say what follows.",
        ),
        Rule(
            "EtcdQuorumLost",
            "2 * sum by (cluster) (up{$etcd}) <= count by (cluster) (up{$etcd})",
            3 * MINUTE,
            "critical",
            "{{ $labels.cluster }}: half of the members or more give no metrics, so writes stop",
            "Bring one of them back; if their data is lost, see docs/recover.md.",
        ),
        Rule(
            "EtcdNoLeader",
            "etcd_server_has_leader{$etcd} == 0",
            MINUTE,
            "critical",
            "{{ $labels.cluster }}: member {{ $labels.member }} has no leader",
            "Look at the network between members (port 2380) and at `etcd-cluster status`.",
        ),
        Rule(
            "EtcdLeaderChangesOften",
            "max by (cluster) (increase(etcd_server_leader_changes_seen_total{$etcd}[15m])) >= "
            f"{limits.leader_changes:.12g}",
            5 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: the leader changed {{ $value }} times in 15 minutes",
            "Slow disks or a slow network are the usual causes: compare fsync and round trips on the dashboard.",
        ),
        Rule(
            "EtcdLearnerForLong",
            "etcd_server_is_learner{$etcd} == 1",
            int(limits.learner_minutes * MINUTE),
            "warning",
            "{{ $labels.cluster }}: member {{ $labels.member }} is still a learner, and does not vote",
            "Run `pulumi up`: it promotes a learner that has caught up.",
        ),
        Rule(
            "EtcdVersionsDiffer",
            "count by (cluster) (count by (cluster, server_version) (etcd_server_version{$etcd})) > 1",
            2 * HOUR,
            "warning",
            "{{ $labels.cluster }}: members run {{ $value }} versions of etcd",
            "Run `pulumi up`: an upgrade was not finished.",
        ),
        Rule(
            "EtcdPeersSlow",
            "histogram_quantile(0.99, sum by (cluster, member, To, le) "
            f"(rate(etcd_network_peer_round_trip_time_seconds_bucket{{$etcd}}[5m]))) > {limits.peer_seconds:.12g}",
            10 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: round trips from {{ $labels.member }} to {{ $labels.To }} take {{ $value }} s",
            "Look at the network between these machines; heartbeat-interval has to fit it.",
        ),
        Rule(
            "EtcdProposalsFail",
            "sum by (cluster, member) (increase(etcd_server_proposals_failed_total{$etcd}[15m])) > "
            f"{limits.failed_proposals:.12g}",
            15 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: {{ $value }} proposals of {{ $labels.member }} failed in 15 minutes",
            "Elections or a lost quorum end them: look at the leader and at the peers.",
        ),
    ]


def _requests(limits: Thresholds, series: str, is_extensive: bool) -> list[Rule]:
    by = "cluster, grpc_service, grpc_method"
    failing = (
        f'sum by ({by}) (rate(grpc_server_handled_total{{$etcd, grpc_code=~"{FAILING_CODES}"}}[5m])) / '
        f"sum by ({by}) (rate(grpc_server_handled_total{{$etcd}}[5m]))"
    )
    summary = "{{ $labels.cluster }}: {{ $value | humanizePercentage }} of {{ $labels.grpc_method }} requests fail"
    fix = "etcd's log (journalctl -u etcd-cluster) and the alarms say why."
    found = [
        Rule("EtcdRequestsFail", f"{failing} > {limits.failing_share:.12g}", 10 * MINUTE, "warning", summary, fix),
        Rule(
            "EtcdManyRequestsFail", f"{failing} > {5 * limits.failing_share:.12g}", 5 * MINUTE, "critical", summary, fix
        ),
    ]
    slow = ""
    if is_extensive:
        slow = (
            "histogram_quantile(0.99, sum by (cluster, member, grpc_method, le) (rate("
            'grpc_server_handling_seconds_bucket{$etcd, grpc_type="unary", grpc_method!="Defragment"}[5m])))'
        )
    elif tuple(map(int, series.split("."))) >= (3, 7):
        slow = (
            "histogram_quantile(0.99, sum by (cluster, member, type, le) "
            "(rate(etcd_server_request_duration_seconds_bucket{$etcd}[5m])))"
        )
    if slow:
        found.append(
            Rule(
                "EtcdRequestsSlow",
                f"{slow} > {limits.request_seconds:.12g}",
                10 * MINUTE,
                "critical",
                "{{ $labels.cluster }}: requests to {{ $labels.member }} take {{ $value }} s",
                "Compare fsync, commits and round trips on the dashboard; large range requests do it, too.",
            )
        )
    return found


def _disk_and_space(limits: Thresholds) -> list[Rule]:
    fsync = (
        "histogram_quantile(0.99, sum by (cluster, member, le) "
        "(rate(etcd_disk_wal_fsync_duration_seconds_bucket{$etcd}[5m])))"
    )
    summary = "{{ $labels.cluster }}: fsync on {{ $labels.member }} takes {{ $value }} s"
    fix = "The disk is too slow, or shared: docs/hardware.md has what a size needs."
    database, in_use = "etcd_mvcc_db_total_size_in_bytes{$etcd}", "etcd_mvcc_db_total_size_in_use_in_bytes{$etcd}"
    quota = "etcd_server_quota_backend_bytes{$etcd}"
    return [
        Rule("EtcdFsyncSlow", f"{fsync} > {limits.fsync_seconds:.12g}", 10 * MINUTE, "warning", summary, fix),
        Rule("EtcdFsyncVerySlow", f"{fsync} > {2 * limits.fsync_seconds:.12g}", 10 * MINUTE, "critical", summary, fix),
        Rule(
            "EtcdCommitSlow",
            "histogram_quantile(0.99, sum by (cluster, member, le) "
            f"(rate(etcd_disk_backend_commit_duration_seconds_bucket{{$etcd}}[5m]))) > {limits.commit_seconds:.12g}",
            10 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: commits on {{ $labels.member }} take {{ $value }} s",
            fix,
        ),
        Rule(
            "EtcdDatabaseNearQuota",
            f"{database} / {quota} > {limits.quota_share:.12g}",
            10 * MINUTE,
            "critical",
            "{{ $labels.cluster }}: {{ $value | humanizePercentage }} of the quota of {{ $labels.member }} is taken",
            "Delete keys, compact and defragment, or raise quota-backend-bytes: at the quota, no more writes work.",
        ),
        Rule(
            "EtcdDatabaseGrows",
            f"predict_linear({database}[4h], {4 * HOUR}) > {quota}",
            10 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: the database of {{ $labels.member }} reaches its quota within 4 hours",
            "Find out who writes so much; raise quota-backend-bytes, or the size.",
        ),
        Rule(
            "EtcdDatabaseFragmented",
            f"{in_use} / {database} < {limits.used_share:.12g} and {in_use} > {limits.fragmented_mib * 1024**2:.0f}",
            10 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: {{ $labels.member }} uses only {{ $value | humanizePercentage }} of its database",
            "Defragment it.",
        ),
        Rule(
            "EtcdNoSpaceAlarm",
            'max by (cluster) (etcd_cluster_alarms{type="NOSPACE"}) > 0',
            0,
            "critical",
            "{{ $labels.cluster }}: alarm NOSPACE: etcd takes no more writes",
            "Run `pulumi up`, which makes room and ends the alarm: docs/space.md.",
        ),
        Rule(
            "EtcdCorruptAlarm",
            'max by (cluster) (etcd_cluster_alarms{type="CORRUPT"}) > 0',
            0,
            "critical",
            "{{ $labels.cluster }}: alarm CORRUPT: a member holds other keys than the others",
            "Run `pulumi up`, which replaces it: docs/space.md.",
        ),
        Rule(
            "EtcdDiskFull",
            f"etcd_cluster_data_disk_available_bytes / etcd_cluster_data_disk_bytes < {limits.disk_share:.12g}",
            10 * MINUTE,
            "critical",
            "{{ $labels.cluster }}: {{ $value | humanizePercentage }} of the disk of {{ $labels.member }} is free",
            "Free some space, or grow the disk: docs/grow-a-disk.md.",
        ),
        Rule(
            "EtcdDiskWillFill",
            f"predict_linear(etcd_cluster_data_disk_available_bytes[6h], {DAY}) < 0",
            HOUR,
            "warning",
            "{{ $labels.cluster }}: the data's disk on {{ $labels.member }} is full within a day",
            "Find out what grows there; docs/grow-a-disk.md says how a disk grows.",
        ),
    ]


def _hosts(limits: Thresholds) -> list[Rule]:
    certificate, ca = "etcd_cluster_certificate_expiry_timestamp_seconds", "etcd_cluster_ca_expiry_timestamp_seconds"
    days = limits.certificate_days * DAY
    written = "etcd_cluster_timestamp_seconds"
    age = f"min_over_time((timestamp({written}) - {written})[5m:15s])"
    return [
        Rule(
            "EtcdCertificateExpires",
            f"{certificate} - time() < {days:.12g}",
            HOUR,
            "warning",
            "{{ $labels.cluster }}: certificate {{ $labels.certificate }} of {{ $labels.member }} ends in "
            "{{ $value | humanizeDuration }}",
            "Run `pulumi up`, which renews it: docs/certificates.md. Clients need the new files.",
        ),
        Rule(
            "EtcdCertificateEndsNow",
            f"{certificate} - time() < {days / 4:.12g}",
            10 * MINUTE,
            "critical",
            "{{ $labels.cluster }}: certificate {{ $labels.certificate }} of {{ $labels.member }} ends in "
            "{{ $value | humanizeDuration }}",
            "Run `pulumi up` now, and give clients the new files.",
        ),
        Rule(
            "EtcdCAExpires",
            f"{ca} - time() < {3 * days:.12g}",
            HOUR,
            "warning",
            "{{ $labels.cluster }}: {{ $labels.ca }} ends in {{ $value | humanizeDuration }}",
            "Run `pulumi up`, which rotates it; one of your own you rotate: docs/certificates.md.",
        ),
        Rule(
            "EtcdClockDrift",
            f"({age} < -{limits.clock_ahead_seconds:.12g} or {age} > {limits.clock_behind_seconds:.12g}) "
            f"and changes({written}[5m]) > 0",
            5 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: the clock of {{ $labels.member }} differs from that of Prometheus",
            "Look at its time service (chronyc tracking): certificates, leases and backups go by the clock.",
        ),
        Rule(
            "EtcdClockUnsynchronized",
            "etcd_cluster_clock_synchronized == 0",
            HOUR,
            "warning",
            "{{ $labels.cluster }}: nothing keeps the clock of {{ $labels.member }}",
            "Look at its time service (timedatectl; chronyc sources).",
        ),
        Rule(
            "EtcdAlarmsUnknown",
            "max by (cluster) (etcd_cluster_alarms_answered) == 0",
            15 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: no member says which alarms stand",
            "Run `etcd-cluster status`.",
        ),
        Rule(
            "EtcdHostMetricsOld",
            f"timestamp({written}) - {written} > {60 * limits.report_minutes:.12g} "
            f"or (up{{$etcd}} == 1 unless on (cluster, member) {written})",
            10 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: {{ $labels.member }} no longer tells of alarms, backups and certificates",
            "Run `pulumi up`; on the host, `systemctl status etcd-cluster-metrics.service` says what is wrong.",
        ),
    ]


def _backups(limits: Thresholds) -> list[Rule]:
    often = f"{limits.backup_intervals:.12g}"
    return [
        Rule(
            "EtcdBackupTooOld",
            "time() - max by (cluster) (etcd_cluster_backup_newest_timestamp_seconds) > "
            f"{often} * max by (cluster) (etcd_cluster_backup_interval_seconds)",
            5 * MINUTE,
            "critical",
            "{{ $labels.cluster }}: the newest backup is {{ $value | humanizeDuration }} old",
            "Run `etcd-cluster backup now`, which says why none is made.",
        ),
        Rule(
            "EtcdBackupUntested",
            "time() - max by (cluster) (etcd_cluster_backup_tested_timestamp_seconds) > "
            f"{often} * max by (cluster) (etcd_cluster_backup_test_interval_seconds)",
            5 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: the last restore that proved a backup is {{ $value | humanizeDuration }} old",
            "Run `etcd-cluster backup test latest`, which says why none is tested.",
        ),
        Rule(
            "EtcdBackupFailed",
            "etcd_cluster_backup_failed == 1",
            5 * MINUTE,
            "warning",
            "{{ $labels.cluster }}: the last backup on {{ $labels.member }} failed",
            "`etcd-cluster status` has the reason.",
        ),
        Rule(
            "EtcdMembersDiffer",
            "max by (cluster) (etcd_cluster_members_differ) == 1",
            0,
            "critical",
            "{{ $labels.cluster }}: members did not hold the same keys when a backup compared them",
            "Find the one that differs (etcdctl endpoint hashkv --cluster), and let it join anew: docs/space.md.",
        ),
    ]
