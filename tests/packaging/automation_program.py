"""A program on Pulumi's Automation API, run where only the wheel is installed. Prints what happened as JSON.

Arguments: a folder for everything, and the first of ten free ports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pulumi
from pulumi import automation

from etcd_cluster import EtcdCluster, EtcdClusterArgs, LocalMachines

FOLDER, PORT = Path(sys.argv[1]), int(sys.argv[2])
PROJECT, STACK = "shop", "dev"
PLATFORM = "platform-" + "of-a-department-with-a-long-name-" * 2
CLUSTER = f"{PLATFORM}etcd"
MACHINES = LocalMachines(base_port=PORT, directory=str(FOLDER / "members"))


def name_team(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
    if args.type_ != "command:local:Command":
        return None
    return pulumi.ResourceTransformResult({**args.props, "environment": {"TEAM": "storage"}}, args.opts)


def cluster(opts: pulumi.ResourceOptions) -> None:
    made = EtcdCluster(CLUSTER, EtcdClusterArgs(members=1, delete_data=True, machines=MACHINES), opts)
    pulumi.export("endpoints", made.endpoints)
    pulumi.export("key", made.client_key)


class Platform(pulumi.ComponentResource):
    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("shop:index:Platform", name, None, opts)
        cluster(pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


def nested() -> None:
    Platform(PLATFORM, pulumi.ResourceOptions(transforms=[name_team]))


def moved(protect: bool) -> None:
    before = pulumi.Alias(parent=f"urn:pulumi:{STACK}::{PROJECT}::shop:index:Platform::{PLATFORM}")
    cluster(pulumi.ResourceOptions(transforms=[name_team], aliases=[before], protect=protect))


def main() -> dict[str, Any]:
    backend = f"file://{FOLDER}/state"
    (FOLDER / "state").mkdir(parents=True)
    options = automation.LocalWorkspaceOptions(
        env_vars={"PULUMI_BACKEND_URL": backend, "PULUMI_CONFIG_PASSPHRASE": "x"},
        project_settings=automation.ProjectSettings(PROJECT, "python", backend=automation.ProjectBackend(backend)),
    )
    stack = automation.create_stack(STACK, project_name=PROJECT, program=nested, opts=options)
    said: list[str] = []
    found: dict[str, Any] = {"preview": stack.preview(on_output=said.append).change_summary}
    try:
        up = stack.up(on_output=said.append)
        found["endpoints"], found["key_is_secret"] = up.outputs["endpoints"].value, up.outputs["key"].secret
        found["again"] = stack.preview(on_output=said.append).change_summary
        stack.workspace.program = lambda: moved(protect=True)
        found["moved"] = stack.up(on_output=said.append).summary.resource_changes
        stored = "".join(file.read_text() for file in (FOLDER / "state").rglob("*.json*"))
        assert CLUSTER in stored
        found["key_is_shown"] = "PRIVATE KEY" in stored + "".join(said)
        exported = stack.export_stack().deployment
        assert exported
        resources = exported["resources"]
        found["protected"] = [each["urn"] for each in resources if each.get("protect")]
        commands = [each for each in resources if each["type"] == "command:local:Command"]
        found["teams"] = [each["inputs"]["environment"] for each in commands]
        try:
            stack.destroy(on_output=said.append)
        except automation.CommandError as error:
            found["destroy"] = "protect" in str(error)
    finally:
        stack.workspace.program = lambda: moved(protect=False)
        stack.up(on_output=said.append)
        found["destroyed"] = stack.destroy(on_output=said.append).summary.resource_changes
    return found


print(json.dumps(main()))
