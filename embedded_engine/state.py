"""The recorded resources of a stack, and the file that holds them: one for each project and stack."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from embedded_engine.files import write_atomically
from embedded_engine.passphrase import Crypter
from embedded_engine.values import Value, Values, decode, encode
from etcd_cluster.errors import EtcdClusterError

_VERSION = 1
STACK_TYPE = "pulumi:pulumi:Stack"


class StateError(EtcdClusterError):
    """The state file cannot be used."""


class StackLockedError(StateError):
    """Another run works on the same stack."""


def _no_values() -> Values:
    return {}


@dataclass
class Resource:
    """A resource: as the program asks for it (no id, no outputs yet), and as it is recorded."""

    urn: str
    type: str
    custom: bool
    inputs: Values = field(default_factory=_no_values)
    outputs: Values = field(default_factory=_no_values)
    id: str = ""
    parent: str = ""
    dependencies: list[str] = field(default_factory=list[str])
    property_dependencies: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    protect: bool = False
    retain_on_delete: bool = False
    deleted_with: str = ""
    replacement_trigger: Value = None
    delete_before_replace: bool | None = None
    ignore_changes: list[str] = field(default_factory=list[str])
    replace_on_changes: list[str] = field(default_factory=list[str])
    additional_secret_outputs: list[str] = field(default_factory=list[str])
    hide_diffs: list[str] = field(default_factory=list[str])
    custom_timeouts: dict[str, float] = field(default_factory=dict[str, float])
    # Deleted already, and to be created again.
    pending_replacement: bool = False
    # Replaced already, and to be deleted.
    pending_deletion: bool = False

    @property
    def name(self) -> str:
        """The last part of the URN."""
        return self.urn.split("::", 3)[3]

    def needs(self, *, parent: bool = True) -> set[str]:
        """The URNs of what has to exist before this resource, and as long as it does."""
        needed = {self.deleted_with, *self.dependencies, self.parent if parent else ""}
        for urns in self.property_dependencies.values():
            needed.update(urns)
        return needed - {"", self.urn}


_VALUE_FIELDS = {"inputs", "outputs", "replacement_trigger"}
_DEFAULTS = {
    each.name: each.default_factory() if callable(each.default_factory) else each.default
    for each in fields(Resource)
    if each.name not in ("urn", "type", "custom")
}


def _to_json(resource: Resource, encrypt: Callable[[str], str]) -> dict[str, Any]:
    record: dict[str, Any] = {"urn": resource.urn, "type": resource.type, "custom": resource.custom}
    for name, default in _DEFAULTS.items():
        value = getattr(resource, name)
        if value != default:
            record[name] = encode(value, encrypt) if name in _VALUE_FIELDS else value
    return record


def _from_json(record: Mapping[str, Any], decrypt: Callable[[str], str]) -> Resource:
    known: dict[str, Any] = {
        name: decode(value, decrypt) if name in _VALUE_FIELDS else value
        for name, value in record.items()
        if name in _DEFAULTS or name in ("urn", "type", "custom")
    }
    return Resource(**known)


class State:
    """The resources of one stack. `current` holds one per URN.

    `replaced` holds old ones that still have to be deleted. Each change is on disk before the call returns, unless the
    state was opened for reading only: then it stays in memory.
    """

    def __init__(self, path: Path, crypter: Crypter, writable: bool) -> None:
        """Begins an empty state.

        Args:
            path: The file that changes are written to.
            crypter: Encrypts and decrypts the secrets in it.
            writable: Whether changes are written.
        """
        self.current: dict[str, Resource] = {}
        self.replaced: list[Resource] = []
        self._path = path
        self._crypter = crypter
        self._writable = writable
        self._lock = threading.Lock()

    def load(self, document: Mapping[str, Any]) -> None:
        """Takes the resources of what `read_document` read."""
        for record in document["resources"]:
            resource = _from_json(record, self._crypter.decrypt)
            if resource.pending_deletion:
                self.replaced.append(resource)
            else:
                self.current[resource.urn] = resource

    def resources(self) -> list[Resource]:
        """All, old ones that were replaced included. A copy: steps go on meanwhile."""
        with self._lock:
            return [*self.replaced, *self.current.values()]

    def stack(self) -> Resource | None:
        """The resource of the stack itself."""
        return next((each for each in self.resources() if each.type == STACK_TYPE), None)

    def outputs(self) -> Values:
        """What the stack exports."""
        stack = self.stack()
        return stack.outputs if stack is not None else {}

    def put(self, resource: Resource, *, replaces: Resource | None = None) -> None:
        """Records a completed step. replaces: the old one stays, to be deleted later."""
        with self._lock:
            old = self.current.get(resource.urn)
            self.current[resource.urn] = resource
            if replaces is not None:
                replaces.pending_deletion = True
                self.replaced.append(replaces)
            elif old == resource:
                return
            self._save()

    def remove(self, resource: Resource) -> None:
        """Records that a resource is gone."""
        with self._lock:
            if self.current.get(resource.urn) is resource:
                del self.current[resource.urn]
            self.replaced = [other for other in self.replaced if other is not resource]
            self._save()

    def _save(self) -> None:
        if not self._writable:
            return
        kept = [*self.current.values(), *self.replaced]
        # One a line. Before the salt, which the first secret makes.
        records = [json.dumps(_to_json(each, self._crypter.encrypt), separators=(",", ":")) for each in kept]
        salt = json.dumps(self._crypter.state)
        text = f'{{"version":{_VERSION},"encryptionsalt":{salt},"resources":[\n' + ",\n".join(records) + "\n]}\n"
        try:
            write_atomically(self._path, text)
        except OSError as error:
            raise StateError(f"cannot write the state file {self._path}: {error.strerror}") from None


def read_document(path: Path) -> dict[str, Any]:
    """The state file as JSON, or an empty one."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"version": _VERSION, "encryptionsalt": "", "resources": []}
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read the state file {path}: {error}. Restore it from a backup") from None
    if document.get("version") != _VERSION:
        raise StateError(f"{path} is of version {document.get('version')!r}, this program reads {_VERSION}: update it")
    return document


@contextlib.contextmanager
def stack_lock(state: Path, stack: str) -> Generator[None]:
    """Keeps a second run off the same stack. The lock ends with the process, however that ends.

    Args:
        state: The file of the stack's state; its folder is made if needed, with mode 0700.
        stack: The name of the stack, for the error.

    Raises:
        StackLockedError: Another process holds the lock.
    """
    state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.parent.chmod(0o700)
    with open(os.open(state.with_name(f"{state.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read(32).strip() or "unknown"
            raise StackLockedError(
                f"another run (process {holder}) works on stack {stack}: wait for it to end, or end it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
