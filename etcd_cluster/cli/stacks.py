"""Reads the recorded state of a stack, from the engine that keeps it. Nothing here changes or selects a stack.

Secrets are decrypted only for a caller that needs them; they stay in memory.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from etcd_cluster.cli.command import CommandError
from etcd_cluster.state_folder import state_folder

if TYPE_CHECKING:
    from pulumi.automation import LocalWorkspace, PulumiCommand

EMBEDDED_ENGINE = "embedded_engine"
DEFAULT_STACK = "dev"
HIDDEN = "[secret]"
# How Pulumi marks a secret in an exported state.
_SECRET_MARK = "4dabf18193072939515e22adb298388d"  # noqa: S105
_PROJECT_FILES = ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json")


@dataclass(frozen=True)
class Project:
    """A Pulumi project.

    Attributes:
        name: As its Pulumi.yaml says.
        folder: Where that file is.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class StackResource:
    """One resource of a state.

    Attributes:
        type: The type token.
        urn: The URN.
        parent: The URN of its parent, or "".
        inputs: Secrets are decrypted, or `HIDDEN`.
        outputs: Secrets are decrypted, or `HIDDEN`.
    """

    type: str
    urn: str
    parent: str
    inputs: Mapping[str, Any] = field(repr=False)
    outputs: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The name by which the program registered it."""
        return self.urn.rpartition("::")[2]


@dataclass(frozen=True)
class Stack:
    """A recorded stack.

    Attributes:
        name: As the Pulumi CLI takes it.
        project: The project that it belongs to.
        resources: The existing resources, without those that wait to be deleted.
    """

    name: str
    project: Project
    resources: Sequence[StackResource]


def find_project(folder: Path) -> Project:
    """Returns the project of a folder, or of one above it.

    Raises:
        CommandError: There is none, or its file has no name.
    """
    for each in (folder.absolute(), *folder.absolute().parents):
        for file in (each / name for name in _PROJECT_FILES):
            if file.is_file():
                return Project(_project_name(file), each)
    raise CommandError(
        f"{folder.absolute()}: there is no Pulumi.yaml there or above. Run this where the Pulumi project is, or name "
        "its folder with --cwd"
    )


def _project_name(file: Path) -> str:
    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CommandError(f"{file}: cannot be read as YAML: {error}") from None
    name = cast("dict[str, object]", document).get("name") if isinstance(document, dict) else None
    if not isinstance(name, str):
        raise CommandError(f"{file}: has no `name`. A Pulumi project needs one")
    return name


def read_stack(name: str | None, folder: Path, *, secrets: bool) -> Stack:
    """Reads a stack's state.

    Args:
        name: The stack; None for the one that the Pulumi CLI has selected there, else `DEFAULT_STACK`.
        folder: A folder in the project.
        secrets: Whether secrets are decrypted. Without, neither a passphrase nor a key is needed.

    Raises:
        CommandError: The stack does not exist, or its state cannot be read.
    """
    project = find_project(folder)
    kept = state_folder(os.environ, project.name)
    name = name or _selected(project) or DEFAULT_STACK
    resources = _embedded_resources(project, kept, name, secrets=secrets)
    if resources is None:
        resources = _pulumi_resources(project, kept, name, secrets=secrets)
    return Stack(name, project, resources)


# --- The engine in process ---


def _embedded_resources(project: Project, kept: Path, stack: str, *, secrets: bool) -> list[StackResource] | None:
    """Returns the resources of a stack of the embedded engine; None for any other stack.

    `scripts/up` uses that engine if there is no Pulumi CLI. It is part of a checkout, not of the installed package.
    """
    try:
        document: dict[str, Any] = json.loads((kept / f"{stack}.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not document.get("resources"):
        return None
    if (project.folder / EMBEDDED_ENGINE).is_dir():
        sys.path.append(str(project.folder))
    try:
        program = importlib.import_module(f"{EMBEDDED_ENGINE}.program")
        values = importlib.import_module(f"{EMBEDDED_ENGINE}.values")
    except ImportError:
        raise CommandError(
            f"stack {stack} was made without the Pulumi CLI, by the engine of the project's checkout, which is not in "
            f"{project.folder}. Run this in the checkout that made it"
        ) from None
    plain = values.plain if secrets else values.shown
    return [
        StackResource(each.type, each.urn, each.parent, plain(each.inputs), plain(each.outputs))
        for each in program.resources(stack, project.folder)
    ]


# --- The Pulumi CLI ---


def _pulumi_cli() -> PulumiCommand:
    """Returns the CLI on PATH, else the one where its installer puts it."""
    from pulumi.automation import InvalidVersionError, PulumiCommand

    for home in (None, os.environ.get("PULUMI_HOME"), os.path.expanduser("~/.pulumi")):
        if home is None or Path(home, "bin", "pulumi").exists():
            try:
                return PulumiCommand(home)
            except OSError:
                continue
            except InvalidVersionError as error:
                raise CommandError(f"{error} See https://www.pulumi.com/docs/install") from None
    raise CommandError("there is no `pulumi` on PATH. Install the Pulumi CLI: https://www.pulumi.com/docs/install")


def _workspace(cli: PulumiCommand, project: Project, environment: Mapping[str, str]) -> LocalWorkspace:
    from pulumi.automation import LocalWorkspace

    return LocalWorkspace(work_dir=str(project.folder), pulumi_command=cli, env_vars=environment)


def _selected(project: Project) -> str | None:
    """Returns the stack that `pulumi stack select` chose; None without one, without a CLI, or without a log-in."""
    from pulumi.automation import CommandError as PulumiError

    try:
        current = _workspace(_pulumi_cli(), project, {}).stack()
    except (PulumiError, CommandError):
        return None
    return current.name if current else None


def _pulumi_resources(project: Project, kept: Path, stack: str, *, secrets: bool) -> list[StackResource]:
    from pulumi.automation import CommandError as PulumiError

    try:
        cli = _pulumi_cli()
    except CommandError as error:
        raise CommandError(f"stack {stack} is not up, or only the Pulumi CLI knows it: {error}") from None
    environment = _pulumi_environment(kept, stack)
    try:
        if secrets:
            deployment = _workspace(cli, project, environment).export_stack(stack).deployment
        else:
            # The Automation API's own export always decrypts.
            done = cli.run(["stack", "export", "--stack", stack], str(project.folder), environment)
            deployment = json.loads(done.stdout).get("deployment")
    except PulumiError as error:
        said = str(error).rpartition("stderr: ")[2].strip()
        raise CommandError(
            f"stack {stack} is not up, or its state cannot be read. The Pulumi CLI says: {said.removeprefix('error: ')}"
        ) from None
    resources: list[dict[str, Any]] = (deployment or {}).get("resources") or []
    return [
        StackResource(
            each["type"],
            each["urn"],
            each.get("parent") or "",
            without_marks(each.get("inputs") or {}),
            without_marks(each.get("outputs") or {}),
        )
        for each in resources
        if not each.get("delete")
    ]


def _pulumi_environment(kept: Path, stack: str) -> dict[str, str]:
    """Returns the variables that `scripts/up` made the stack with, except for those that the caller has set."""
    found = {"PULUMI_SKIP_UPDATE_CHECK": "true"}
    backend = kept / f"{stack}.backend"
    if not os.environ.get("PULUMI_BACKEND_URL") and backend.is_file():
        found["PULUMI_BACKEND_URL"] = backend.read_text().strip()
    passphrase = kept / "passphrase"
    given = "PULUMI_CONFIG_PASSPHRASE" in os.environ or os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if not given and passphrase.is_file():
        found["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase)
    return found


def without_marks(value: Any) -> Any:
    """Returns a value of an exported state: a decrypted secret as it is, any other as `HIDDEN`.

    Args:
        value: The JSON value, where a secret is an object with JSON text inside.
    """
    if isinstance(value, dict):
        values = cast("dict[str, Any]", value)
        if _SECRET_MARK in values:
            return without_marks(json.loads(values["plaintext"])) if "plaintext" in values else HIDDEN
        return {key: without_marks(item) for key, item in values.items()}
    return [without_marks(item) for item in cast("list[object]", value)] if isinstance(value, list) else value
