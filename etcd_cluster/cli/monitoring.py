"""`etcd-cluster monitoring`: what a Prometheus and a Grafana need of a cluster, printed or written to files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.clusters import Cluster, recorded_backups, recorded_metrics, selected_cluster
from etcd_cluster.cli.command import Command, CommandError, CommandGroup, ExitCode, Option
from etcd_cluster.cli.env import write_private

if TYPE_CHECKING:
    from etcd_cluster.monitoring.scrape import Scraped

FOR = Option(
    "--for",
    "files of Prometheus, or resources of its operator for Kubernetes (default: prometheus)",
    {"choices": ("prometheus", "operator"), "default": "prometheus", "dest": "reader"},
)
FOLDER = Option(
    "--certificates",
    "where Prometheus has ca.crt, client.crt and client.key (default: /etc/prometheus/etcd-cluster)",
    {"metavar": "FOLDER", "default": None},
)
LIMIT = Option(
    "--limit",
    "another limit of the alerts, such as certificateDays=14 (docs/monitoring.md has all); may be repeated",
    {"metavar": "NAME=NUMBER", "action": "append", "default": []},
)

DESCRIPTION = """\
Prints what a Prometheus and a Grafana need of a cluster whose metrics are exposed (`monitoring` in its
config): the scrape configuration, the alerts and a dashboard, made for the minor version of etcd that runs.
No command asks a machine."""


def _scrape(options: argparse.Namespace) -> ExitCode:
    from etcd_cluster.monitoring.scrape import FOLDER as USUAL
    from etcd_cluster.monitoring.scrape import operator_manifests, prometheus_config

    scraped = _scraped(selected_cluster(options, secrets=True))
    if options.reader == "operator":
        print(operator_manifests(scraped), end="")
    else:
        print(prometheus_config(scraped, options.certificates or USUAL), end="")
    return ExitCode.SUCCESS


def _rules(options: argparse.Namespace) -> ExitCode:
    print(_rules_text(selected_cluster(options, secrets=True), options), end="")
    return ExitCode.SUCCESS


def _dashboard(options: argparse.Namespace) -> ExitCode:
    from etcd_cluster.monitoring.dashboard import dashboard_json

    cluster = selected_cluster(options, secrets=True)
    print(dashboard_json(_series(cluster), **_choices(cluster)), end="")
    return ExitCode.SUCCESS


def _files(options: argparse.Namespace) -> ExitCode:
    from etcd_cluster.monitoring.dashboard import dashboard_json
    from etcd_cluster.monitoring.scrape import prometheus_config

    cluster = selected_cluster(options, secrets=True)
    folder: Path = options.folder
    outputs = _outputs(cluster)
    texts = {
        "ca.crt": outputs["caCertificate"],
        "client.crt": outputs["clientCertificate"],
        "client.key": outputs["clientKey"],
        "scrape.yml": prometheus_config(_scraped(cluster), options.certificates or str(folder.absolute())),
        "rules.yml": _rules_text(cluster, options),
        "dashboard.json": dashboard_json(_series(cluster), **_choices(cluster)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_private(folder / name, text)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}. Give a folder that you may write to") from None
    print(f"{folder}: {', '.join(texts)}")
    return ExitCode.SUCCESS


def _rules_text(cluster: Cluster, options: argparse.Namespace) -> str:
    from etcd_cluster.monitoring.rules import rules_yaml, thresholds_of

    limits = thresholds_of(_limits(options.limit))
    is_operator = getattr(options, "reader", "prometheus") == "operator"
    return rules_yaml(_series(cluster), for_operator=is_operator, thresholds=limits, **_choices(cluster))


def _limits(given: list[str]) -> dict[str, float]:
    from etcd_cluster.monitoring.rules import threshold_names

    limits: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in threshold_names():
            raise CommandError(f"--limit {text}: no such limit. It has: {', '.join(threshold_names())}")
        try:
            limits[name] = float(number)
        except ValueError:
            raise CommandError(f"--limit {text}: not a number. Write it like {name}=2") from None
        if not 0 <= limits[name] < float("inf"):
            raise CommandError(f"--limit {text}: out of range. Write a number from 0 on")
    return limits


def _series(cluster: Cluster) -> str:
    from etcd_cluster.etcd.versions import Version

    return Version.parse(cluster.outputs["version"]).series


def _choices(cluster: Cluster) -> dict[str, bool]:
    is_extensive = cluster.desired().options.get("metrics") == "extensive"
    return {"is_extensive": is_extensive, "has_backups": recorded_backups(cluster.stack, cluster.name) is not None}


def _outputs(cluster: Cluster) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = cluster.outputs.get("monitoring")
    if not found:
        raise CommandError(f"cluster {cluster.name} exposes no metrics. Set `monitoring: {{}}`, then run `pulumi up`")
    return found


def _scraped(cluster: Cluster) -> Scraped:
    from etcd_cluster.monitoring.scrape import Scraped

    _outputs(cluster)
    props = recorded_metrics(cluster.stack, cluster.name)
    addresses = {name: member["address"] for name, member in props["members"].items()}
    return Scraped(cluster.desired().cluster, addresses, int(props["port"]))


COMMANDS = CommandGroup(
    name="monitoring",
    summary="scrape configuration, alerts and a dashboard for Prometheus and Grafana",
    description=DESCRIPTION,
    commands=(
        Command(
            name="files",
            summary="writes all of it to a folder: certificates too",
            description="""\
Writes ca.crt, client.crt, client.key, scrape.yml, rules.yml and dashboard.json, which only you can read.
The key opens the metrics and nothing else: etcd does not know the CA that signed it.""",
            examples=(("etcd-cluster monitoring files etcd-cluster --stack prod", "a folder to copy to Prometheus"),),
            options=(
                Option("folder", "the folder; it is made if it is missing", {"metavar": "FOLDER", "type": Path}),
                FOLDER,
                LIMIT,
            ),
            run=_files,
        ),
        Command(
            name="scrape",
            summary="the scrape configuration",
            description="""\
Prints a file for `scrape_config_files` of Prometheus (2.43 or newer; its `scrape_configs` else), or two
ScrapeConfigs of the operator, which read the certificates from a Secret `etcd-cluster-monitoring`.""",
            examples=(
                ("etcd-cluster monitoring scrape --stack prod > etcd.yml", "for scrape_config_files"),
                ("etcd-cluster monitoring scrape --for operator | kubectl apply -f -", "for the operator"),
            ),
            options=(FOR, FOLDER),
            run=_scrape,
        ),
        Command(
            name="rules",
            summary="the alerts",
            description="Prints the alerts as a file for `rule_files`, or as a PrometheusRule of the operator.",
            examples=(
                ("etcd-cluster monitoring rules --stack prod > etcd-rules.yml", "for rule_files"),
                ("etcd-cluster monitoring rules --limit certificateDays=14", "with another limit"),
            ),
            options=(FOR, LIMIT),
            run=_rules,
        ),
        Command(
            name="dashboard",
            summary="the dashboard for Grafana",
            description="Prints a dashboard that Grafana imports, or that its provisioning reads as a file.",
            examples=(("etcd-cluster monitoring dashboard --stack prod > etcd.json", "to import"),),
            options=(),
            run=_dashboard,
        ),
    ),
)
