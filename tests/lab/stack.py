"""One stack of the real program against hosts of the lab, run by the embedded engine or by the real Pulumi CLI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from tests.lab import binaries
from tests.lab.hosts import Host, Lab

PROJECT = Path(__file__).parents[2]
PROGRAM_FILES = ("__main__.py", "Pulumi.yaml", "etcd_cluster", "embedded_engine")
STACK = "lab"
PASSPHRASE = "correct horse battery staple"
NOT_PACKED = "0" * 64
"""Pinned before the lab has packed any release."""
UP_TIMEOUT_SECONDS = 600


class Engine(Enum):
    """What runs the program."""

    EMBEDDED = "embedded"
    PULUMI = "pulumi"


def host_config(hosts: Sequence[Host], mirror_url: str, *, user: str = "admin", **changes: Any) -> dict[str, Any]:
    """Stack config for these hosts, with `changes` to its top-level keys."""
    return {
        "platform": "hosts",
        "ssh": {"user": user, "privateKeyFile": str(hosts[0].private_key_file)},
        "install": {"mirror": mirror_url, "sha256": binaries.release_sums() or NOT_PACKED},
        "hosts": {host.name: _host_block(host) for host in hosts},
        **changes,
    }


def _host_block(host: Host) -> dict[str, str]:
    device = {"device": host.device} if host.device else {}
    return {"address": host.address, "hostKey": host.host_key, **device}


@dataclass(frozen=True)
class Run:
    """How one run ended. `output` holds all that a person would have seen."""

    returncode: int
    output: str
    seconds: float


class Failed(Exception):
    """A run failed that should not have; its text is the whole output."""


class Stack:
    """A checkout of the program in `folder`, with a stack of its own. `config` may be changed between runs.

    program: runs in place of the project's own; it may import from `tests`.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        config: Mapping[str, Any],
        engine: Engine = Engine.EMBEDDED,
        program: Path | None = None,
    ) -> None:
        self._lab = lab
        self._engine = engine
        self.name = STACK
        self.config = dict(config)
        self.folder = folder / "project"
        self.state = folder / "state"
        for path in (self.folder, self.state):
            path.mkdir(parents=True)
        for name in PROGRAM_FILES:
            (self.folder / name).symlink_to(PROJECT / name)
        if program is not None:
            (self.folder / "tests").symlink_to(PROJECT / "tests")
            (self.folder / "__main__.py").unlink()
            (self.folder / "__main__.py").symlink_to(program)
        (self.folder / ".venv").symlink_to(sys.prefix)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ETCD_CLUSTER_STATE_DIR": str(self.state),
            "ETCD_CLUSTER_CACHE_DIR": os.environ.get(
                "ETCD_CLUSTER_CACHE_DIR", str(Path.home() / ".cache/etcd-cluster")
            ),
            "PULUMI_BACKEND_URL": f"file://{self.state}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "NO_COLOR": "1",
        }
        self.environment.pop("SSH_AUTH_SOCK", None)
        if engine is Engine.PULUMI:
            self._write_config()
            self._run(["pulumi", "stack", "init", self.name, "--non-interactive"])

    def up(self, *, check: bool = True) -> Run:
        return self._run(self.up_command(), check=check)

    def up_command(self) -> list[str]:
        """Also writes the config: for callers that start and stop the run by themselves."""
        self._write_config()
        if self._engine is Engine.EMBEDDED:
            return self._embedded("up")
        return ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", self.name]

    def preview(self, *, check: bool = True, diff: bool = False) -> Run:
        """diff: with every value that changes, as the embedded engine always shows them."""
        self._write_config()
        pulumi = ["pulumi", "preview", "--non-interactive", "--stack", self.name, *(["--diff"] if diff else [])]
        return self._run(self._embedded("preview") if self._engine is Engine.EMBEDDED else pulumi, check=check)

    def destroy(self, *, check: bool = True) -> Run:
        self._write_config()
        pulumi = ["pulumi", "destroy", "--yes", "--skip-preview", "--non-interactive", "--stack", self.name]
        return self._run(self._embedded("destroy", "--yes") if self._engine is Engine.EMBEDDED else pulumi, check=check)

    def rename(self, name: str) -> None:
        """By the Pulumi CLI, which takes the stack's file along."""
        self._run(["pulumi", "stack", "rename", name, "--non-interactive", "--stack", self.name])
        self.name = name

    def unlock(self) -> Run:
        """What a user does after a killed run. The embedded engine's lock goes with its process."""
        pulumi = ["pulumi", "cancel", "--yes", "--non-interactive", "--stack", self.name]
        return Run(0, "", 0.0) if self._engine is Engine.EMBEDDED else self._run(pulumi)

    def clear_pending(self) -> Run:
        """What a user does about the creations that a killed run left in the state of the Pulumi CLI as pending."""
        refresh = ["pulumi", "refresh", "--clear-pending-creates", "--yes", "--skip-preview"]
        return self._run([*refresh, "--non-interactive", "--stack", self.name])

    def outputs(self) -> dict[str, Any]:
        """All stack outputs, secrets in the clear."""
        pulumi = ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", self.name]
        embedded = self._embedded("outputs", "--json", "--show-secrets")
        outputs: dict[str, Any] = json.loads(self._run(embedded if self._engine is Engine.EMBEDDED else pulumi).output)
        return outputs

    def exported(self) -> list[dict[str, Any]]:
        """The state of the Pulumi CLI, secrets in the clear but marked."""
        exported = self._run(["pulumi", "stack", "export", "--show-secrets", "--stack", self.name]).output
        resources: list[dict[str, Any]] = json.loads(exported)["deployment"].get("resources", [])
        return resources

    def exported_text(self) -> str:
        """The state of the Pulumi CLI, secrets encrypted."""
        return self._run(["pulumi", "stack", "export", "--stack", self.name]).output

    def operations(self, command: str) -> set[tuple[str, str]]:
        """(create, update, replace or delete; URN): what `up` or `destroy` does."""
        self._write_config()
        if self._engine is Engine.EMBEDDED:
            output = self._run(self._embedded(command, "--json", *(["--yes"] if command == "destroy" else []))).output
            document = json.loads(output[output.index("\n{") :])
            found = [(each["operation"], each["urn"]) for each in document["operations"]]
        else:
            pulumi = ["pulumi", command, "--yes", "--skip-preview", "--non-interactive", "--json", "--stack", self.name]
            lines = [json.loads(line) for line in self._run(pulumi).output.splitlines() if line.startswith("{")]
            steps = [line["resOutputsEvent"]["metadata"] for line in lines if "resOutputsEvent" in line]
            found = [(step["op"], step["urn"]) for step in steps if "pulumi:providers:" not in step["urn"]]
        return {step for step in found if step[0] in ("create", "update", "replace", "delete")}

    def recorded(self, name: str) -> dict[str, Any]:
        """What the state holds of the resource of that name: id, outputs and more; empty if it is not there."""
        if self._engine is Engine.EMBEDDED:
            files = list(self.state.glob(f"*/{self.name}.json"))
            resources = json.loads(files[0].read_text())["resources"] if files else []
        else:
            resources = self.exported()
        return next((resource for resource in resources if resource["urn"].endswith(f"::{name}")), {})

    def popen(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Starts `command` as `up` would run, in a process group of its own; output is one stream."""
        return self._lab.popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def etcdctl(self, *arguments: str, binaries: Path, credentials: bool = True) -> subprocess.CompletedProcess[str]:
        """etcdctl beside the hosts, as a client with the exported certificate."""
        outputs = self.outputs()
        command = [str(binaries / "etcdctl"), "--endpoints", ",".join(outputs["endpoints"]), "--command-timeout", "5s"]
        if credentials and outputs["clientKey"]:
            for flag, name in (("cacert", "caCertificate"), ("cert", "clientCertificate"), ("key", "clientKey")):
                file = self.folder / f"{name}.pem"
                file.write_text(outputs[name])
                command += [f"--{flag}", str(file)]
        return self._lab.run([*command, *arguments], check=False, capture_output=True, text=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder.parent)

    def _embedded(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "embedded_engine", *arguments, "--stack", self.name]

    def _write_config(self) -> None:
        # JSON is YAML too.
        values = {f"etcd-cluster:{key}": value for key, value in self.config.items()}
        path = self.folder / f"Pulumi.{self.name}.yaml"
        kept = path.read_text() if path.exists() else ""
        salt = next((line for line in kept.splitlines() if line.startswith("encryptionsalt:")), "")
        path.write_text(f"{salt}\nconfig: {json.dumps(values)}\n")

    def _run(self, command: Sequence[str], *, check: bool = True) -> Run:
        start = time.monotonic()
        done = self._lab.run(
            command,
            cwd=self.folder,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=UP_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        run = Run(done.returncode, done.stdout, time.monotonic() - start)
        if check and run.returncode != 0:
            raise Failed(run.output)
        return run
