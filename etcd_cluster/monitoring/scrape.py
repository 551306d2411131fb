"""Makes what a Prometheus, or its operator, reads to scrape a cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from etcd_cluster.monitoring.files import OWN_METRICS_PATH

JOB, OWN_JOB = "etcd", "etcd-cluster"
FOLDER = "/etc/prometheus/etcd-cluster"
OF_OPERATOR = "etcd-cluster-monitoring"
"""The Secret that the operator's manifests name: it has the three files as its keys."""
FILES = {"ca_file": "ca.crt", "cert_file": "client.crt", "key_file": "client.key"}


@dataclass(frozen=True)
class Scraped:
    """What is scraped.

    Args:
        cluster: PROJECT/STACK/NAME.
        addresses: Member name -> address.
        port: Port of the metrics.
    """

    cluster: str
    addresses: Mapping[str, str]
    port: int

    def targets(self) -> list[dict[str, Any]]:
        """Returns each member, with the labels that the alerts and the dashboard go by."""
        return [
            {
                "targets": [f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"],
                "labels": {"cluster": self.cluster, "member": name},
            }
            for name, address in self.addresses.items()
        ]


def prometheus_config(scraped: Scraped, folder: str = FOLDER, interval: str = "15s") -> str:
    """Returns a file for `scrape_config_files` of Prometheus (2.43), or the part of its configuration.

    Args:
        scraped: What is scraped.
        folder: Where Prometheus has ca.crt, client.crt and client.key.
        interval: How often.
    """
    tls = {key: f"{folder}/{name}" for key, name in FILES.items()}

    def job(name: str, path: str) -> dict[str, Any]:
        return {
            "job_name": name,
            "scheme": "https",
            "metrics_path": path,
            "scrape_interval": interval,
            "tls_config": tls,
            # The host's own figures name their cluster and member themselves.
            **({"honor_labels": True} if name == OWN_JOB else {}),
            "static_configs": scraped.targets(),
        }

    return _yaml({"scrape_configs": [job(JOB, "/metrics"), job(OWN_JOB, OWN_METRICS_PATH)]})


def operator_manifests(scraped: Scraped, interval: str = "15s") -> str:
    """Returns two ScrapeConfigs of the Prometheus operator."""

    def named(key: str) -> dict[str, Any]:
        return {"name": OF_OPERATOR, "key": key}

    def manifest(name: str, path: str) -> dict[str, Any]:
        return {
            "apiVersion": "monitoring.coreos.com/v1alpha1",
            "kind": "ScrapeConfig",
            "metadata": {"name": name},
            "spec": {
                "jobName": name,
                "scheme": "HTTPS",
                "metricsPath": path,
                "scrapeInterval": interval,
                "tlsConfig": {
                    "ca": {"secret": named("ca.crt")},
                    "cert": {"secret": named("client.crt")},
                    "keySecret": named("client.key"),
                },
                **({"honorLabels": True} if name == OWN_JOB else {}),
                # The operator names jobs by itself; alerts go by these names.
                "relabelings": [{"targetLabel": "job", "replacement": name}],
                "staticConfigs": scraped.targets(),
            },
        }

    return "---\n".join(_yaml(each) for each in (manifest(JOB, "/metrics"), manifest(OWN_JOB, OWN_METRICS_PATH)))


def _yaml(content: Mapping[str, Any]) -> str:
    text: str = yaml.dump(content, Dumper=_Plain, sort_keys=False, width=1000)
    return text


class _Plain(yaml.SafeDumper):
    """Writes everything out: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
