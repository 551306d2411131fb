"""What metrics cost: seconds for as many writes, without Prometheus, and with scrapes each 15 s and each second.

    python -m benchmarks.metrics [--rounds 5] [--writes 3000]

Three members with TLS share this machine with Prometheus and its scrapes over mutual TLS, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.engines import clean_stack
from benchmarks.forming import MEMBERS, USER, VERSION
from benchmarks.ratios import table
from tests.lab import binaries
from tests.lab.hosts import Lab
from tests.lab.prometheus import PROMETHEUS
from tests.lab.stack import Engine, host_config
from tests.lab.writes import Access, writing

INTERVALS = {"no scrapes": None, "each 15 s": 15, "each second": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--writes", type=int, default=3000, help="writes of a round (default: 3000)")
    options = parser.parse_args()
    print(f"{options.writes} writes, {options.rounds} rounds")
    print(table(measure(options.rounds, options.writes), next(iter(INTERVALS))), flush=True)


def measure(rounds: int, count: int) -> dict[str, list[float]]:
    """Interval -> seconds of each round."""
    assert PROMETHEUS, "it needs Prometheus (Debian package prometheus)"
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        mirror_url = lab.mirror(binaries.mirror(Path(folder, "mirror"), [VERSION]))
        hosts = lab.hosts(MEMBERS)
        config = host_config(hosts, mirror_url, user=USER, version=VERSION, allowUndersized=True, monitoring={})
        with clean_stack(lab, config, Engine.EMBEDDED) as stack:
            stack.up()
            outputs = stack.outputs()
            seconds: dict[str, list[float]] = {name: [] for name in INTERVALS}
            with writing(lab, Access.of(outputs)) as writes:
                for _ in range(rounds):
                    for name, interval in INTERVALS.items():
                        process = _prometheus(lab, Path(folder), outputs["monitoring"], interval) if interval else None
                        began, acknowledged = time.monotonic(), writes.acknowledged()
                        writes.await_more(count, seconds=600)
                        done = writes.acknowledged() - acknowledged
                        seconds[name].append((time.monotonic() - began) * count / done)
                        if process:
                            process.terminate()
                            process.wait()
            return seconds


def _prometheus(lab: Lab, folder: Path, given: dict[str, str], interval: int) -> subprocess.Popen[bytes]:
    """Waits until it has scraped once."""
    for key, name in (("caCertificate", "ca.crt"), ("clientCertificate", "client.crt"), ("clientKey", "client.key")):
        (folder / name).write_text(given[key])
    config = yaml.safe_load(given["scrapeConfig"].replace("/etc/prometheus/etcd-cluster", str(folder)))
    for job in config["scrape_configs"]:
        job["scrape_interval"] = f"{interval}s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = [PROMETHEUS or "", "--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "data"]
    with (folder / "prometheus.log").open("a") as log:
        process: subprocess.Popen[bytes] = lab.popen([*argv, "--web.listen-address", "127.0.0.1:9090"], stderr=log)
    deadline = time.monotonic() + 120
    ready = ["curl", "--silent", "--fail", "http://127.0.0.1:9090/-/ready"]
    while lab.run(ready, check=False).returncode != 0:
        assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()[-2000:]
        time.sleep(0.2)
    return process


if __name__ == "__main__":
    main()
