"""A program of somebody else that imports the component twice and names its exports as it likes, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.local.checkout import PASSED_ON, PROJECT, TIMEOUT_SECONDS, free_ports

STACK = "test"
CLUSTERS = ("orders", "stock")
PROGRAM = """
import os
import pulumi
from etcd_cluster import EtcdCluster, EtcdClusterArgs, LocalMachines

for number, name in enumerate({clusters}):
    machines = LocalMachines(base_port={port} + 10 * number, directory="{directory}")
    cluster = EtcdCluster(name, EtcdClusterArgs(machines=machines, members=1, allow_undersized=True, delete_data=True))
    pulumi.export(f"{{name}}Url", cluster.endpoints)
"""
PASSPHRASE = "correct horse battery staple"


class Importing:
    """The program's project in `folder`, and the Pulumi CLI, or the engine in process, that runs it."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.engine, self.folder, self.state = engine, folder / "shop", folder / "state"
        for path in (self.folder, self.state):
            path.mkdir(parents=True)
        program = PROGRAM.format(clusters=CLUSTERS, port=free_ports(), directory=folder / "members")
        (self.folder / "__main__.py").write_text(program)
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        (self.folder / "Pulumi.yaml").write_text(json.dumps({"name": "shop", "runtime": runtime}))
        self.environment = {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ETCD_CLUSTER_STATE_DIR": str(self.state),
            "ETCD_CLUSTER_CACHE_DIR": os.environ.get("ETCD_CLUSTER_CACHE_DIR")
            or str(Path.home() / ".cache" / "etcd-cluster"),
            "PULUMI_BACKEND_URL": f"file://{self.state}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def up(self) -> None:
        if self.engine == "pulumi":
            self.run("pulumi", "stack", "init", STACK, "--non-interactive", "--no-select")
            self.run("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", STACK)
        else:
            self.run(sys.executable, "-m", "embedded_engine", "up", "--stack", STACK)

    def destroy(self) -> None:
        if self.engine == "pulumi":
            self.run("pulumi", "destroy", "--yes", "--skip-preview", "--non-interactive", "--stack", STACK)
        else:
            self.run(sys.executable, "-m", "embedded_engine", "destroy", "--yes", "--stack", STACK)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`etcd-cluster`, from another folder."""
        command = [sys.executable, "-m", "etcd_cluster.cli", "--cwd", str(self.folder), *words]
        return self._run(command, self.folder.parent)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = self._run(command, self.folder)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def _run(self, command: list[str] | tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )


def assert_every_command_answers(program: Importing) -> None:
    """Each command, for each of the two clusters; neither a file of the project nor a secret is given away."""
    files = {path.name for path in program.folder.iterdir()}
    unasked = program.ask("status", "--stack", STACK)
    assert unasked.returncode == 2
    assert f"stack {STACK} has 2 clusters: orders, stock. Choose one with --cluster NAME" in unasked.stderr
    said = [unasked]
    for name in CLUSTERS:
        of_cluster = ("--stack", STACK, "--cluster", name)
        status = program.ask("status", *of_cluster, "--output", "json")
        assert status.returncode == 0, status.stdout + status.stderr
        document = json.loads(status.stdout)
        assert (document["ok"], document["leader"]) == (True, "etcd-1")
        assert document["cluster"] == f"shop/{STACK}/{name}"
        members = program.ask("members", *of_cluster, "--output", "json")
        (member,) = json.loads(members.stdout)["members"]
        assert member["clientUrl"] == document["endpoints"][0]
        env = program.ask("env", *of_cluster)
        healthy = program.run("sh", "-ec", f"{env.stdout}\netcdctl endpoint health --cluster")
        assert "is healthy" in healthy.stdout + healthy.stderr
        said += [status, members, env, program.ask("status", *of_cluster)]
    assert "PRIVATE KEY" not in "".join(each.stdout + each.stderr for each in said)
    assert {path.name for path in program.folder.iterdir()} == files
