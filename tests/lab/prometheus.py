"""A real Prometheus beside the hosts, and what it says."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.lab.hosts import OPERATOR_ADDRESS, Lab

URL = f"http://{OPERATOR_ADDRESS}:9090"
PROMETHEUS = shutil.which("prometheus")
PATIENCE_SECONDS = 300


class Prometheus:
    """Scrapes each second, with the files that the command wrote.

    Args:
        folder: With scrape.yml and the certificates that it names.
        rules: The alerts, as a file's text.
    """

    def __init__(self, lab: Lab, folder: Path, rules: str) -> None:
        assert PROMETHEUS
        self._lab = lab
        config: dict[str, Any] = yaml.safe_load((folder / "scrape.yml").read_text())
        for job in config["scrape_configs"]:
            job["scrape_interval"] = "1s"
        (folder / "fast-rules.yml").write_text(rules)
        config = {"global": {"evaluation_interval": "1s"}, "rule_files": ["fast-rules.yml"], **config}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        argv = [PROMETHEUS, "--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "data"]
        with self.log.open("w") as output:
            self._process = lab.popen([*argv, "--web.listen-address", URL.removeprefix("http://")], stderr=output)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression; [] while it does not answer."""
        argv = ["curl", "--silent", "--get", "--data-urlencode", f"query={expression}", f"{URL}/api/v1/query"]
        done = self._lab.run(argv, check=False)
        if done.returncode != 0 or not done.stdout.startswith("{"):
            return []  # it starts
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def up(self) -> Mapping[tuple[str, str], bool]:
        """(job, member) -> whether the last scrape worked."""
        return {(each["metric"]["job"], each["metric"]["member"]): each["value"][1] == "1" for each in self.query("up")}

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Waits until an expression has a result."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (result := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression} has no result\n{self.log.read_text()[-2000:]}"
            time.sleep(0.5)
        return result

    def wait_for_alert(self, *names: str) -> None:
        """Waits until each of these has fired, be it for a moment only."""
        for name in names:
            self.wait_for(f'max_over_time(ALERTS{{alertname="{name}", alertstate="firing"}}[30m])')

    def firing(self) -> set[str]:
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}
