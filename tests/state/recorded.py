"""States that releases left: where they are, and how a test gets at one.

A record is a folder VERSION/ENGINE with a stack's config, its state (secrets encrypted, under the passphrase of the
lab's stacks), the files that its members started from, and the time of the record.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from embedded_engine.passphrase import Crypter
from embedded_engine.state import State, read_document
from embedded_engine.values import Secret, Value, decode, encode, plain_values, secret
from etcd_cluster.rollout.desired import DesiredCluster
from tests.lab.stack import PASSPHRASE, PROGRAM_FILES, PROJECT, STACK

FOLDER = Path(__file__).parent / "records"
CONFIG, STATE, FILES, TIME = f"Pulumi.{STACK}.yaml", "state.json", "files", "recorded_at"
WITH_ADDITIONS = "embedded-with-additions"
"""The record, beside those of both engines, of a stack with backups, users and metrics."""
KEY_FILE = "id_ed25519"
"""Of the operator, in the project: a preview reads it, and the state holds what was in it."""


@dataclass(frozen=True)
class Record:
    """One record. folder: VERSION/ENGINE."""

    folder: Path

    @property
    def name(self) -> str:
        return "-".join(self.folder.parts[-2:])

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat((self.folder / TIME).read_text().strip())

    def write_embedded(self, path: Path) -> None:
        """Writes the record's state to `path` in the embedded engine's form. Both engines encrypt secrets alike."""
        document = json.loads((self.folder / STATE).read_text())
        if "deployment" in document:
            deployment = document["deployment"]
            salt = deployment["secrets_providers"]["state"]["salt"]
            crypter = Crypter(lambda: PASSPHRASE, salt, self.name)
            resources = [_embedded(each, crypter) for each in deployment["resources"] if not _is_provider(each)]
            document = {"version": 1, "encryptionsalt": salt, "resources": resources}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))

    def project(self, folder: Path) -> Path:
        """Makes a project in `folder` with today's program, and the config of the record."""
        project = folder / "project"
        project.mkdir()
        for name in PROGRAM_FILES:
            (project / name).symlink_to(PROJECT / name)
        shutil.copy(self.folder / CONFIG, project / CONFIG)
        return project


def without_positions(state: str) -> str:
    """A state of the Pulumi CLI without the places in source files, which are paths of the machine that recorded it."""
    exported: dict[str, Any] = json.loads(state)
    for resource in exported["deployment"]["resources"]:
        for key in ("sourcePosition", "stackTrace"):
            resource.pop(key, None)
    return f"{json.dumps(exported, indent=4)}\n"


def records(name: str) -> list[Record]:
    """Those of one name, "embedded", "pulumi" or `WITH_ADDITIONS`, the oldest release first."""
    return [Record(path) for path in sorted(FOLDER.glob(f"*/{name}"))]


def _is_provider(resource: Mapping[str, Any]) -> bool:
    return str(resource["type"]).startswith("pulumi:providers:")


def _embedded(resource: Mapping[str, Any], crypter: Crypter) -> dict[str, Any]:
    """A resource of the Pulumi CLI's export. What the embedded engine does not keep is left out when it is read."""
    renamed = {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): each for key, each in resource.items()}
    for part in ("inputs", "outputs"):
        renamed[part] = encode(_flat(decode(renamed.get(part, {}), crypter.decrypt)), crypter.encrypt)
    return {**renamed, "hide_diffs": renamed.pop("hide_diff", [])}


def _flat(value: Value) -> Value:
    """Without secrets within secrets, which the Pulumi CLI keeps marked, and in plain text."""
    if isinstance(value, Secret):
        return secret(decode(value.value, lambda text: text))
    if isinstance(value, dict):
        return {key: _flat(each) for key, each in value.items()}
    return [_flat(each) for each in value] if isinstance(value, list) else value


def embedded_state(path: Path) -> State:
    document = read_document(path)
    state = State(path, Crypter(lambda: PASSPHRASE, document["encryptionsalt"], str(path)), writable=False)
    state.load(document)
    return state


def outputs(state: State) -> dict[str, dict[str, Any]]:
    """Name of a resource -> its type, and its outputs in the clear."""
    return {each.name: {"type": each.type, **plain_values(each.outputs)} for each in state.current.values()}


def started_files(text: str) -> dict[str, str]:
    """MEMBER/FILE -> content, of what members start from and people use. Certificates and keys are not among it."""
    desired = DesiredCluster.parse(text)
    found: dict[str, str] = {}
    for name in desired.members:
        spec = desired.spec(name, desired.security, desired.version)
        for file in [*desired.start_files(name, spec, desired.trust), *desired.other_files(name, spec)]:
            if not file.path.endswith(".crt"):
                found[f"{name}/{Path(file.path).name}"] = file.content
    return found
