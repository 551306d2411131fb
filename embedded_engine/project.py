"""Reads Pulumi.yaml and Pulumi.STACK.yaml: the name of the project and the configuration of the stack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_engine.passphrase import Crypter
from embedded_engine.provider import UnsupportedFeatureError
from embedded_engine.values import is_list, is_map
from etcd_cluster.errors import EtcdClusterError


class ProjectError(EtcdClusterError):
    """Pulumi.yaml or the configuration of the stack cannot be used."""


@dataclass(frozen=True)
class Project:
    """What Pulumi.yaml says. program: the folder of __main__.py. declared: its `config`, by key."""

    name: str
    directory: Path
    program: Path
    declared: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """Values as Pulumi hands them to a program: strings, and JSON for what is no scalar, by `namespace:key`.

    secrets: every decrypted value by itself.
    """

    values: dict[str, str]
    secret_keys: list[str]
    secrets: list[str]


def read_project(directory: Path) -> Project:
    """Reads Pulumi.yaml in the directory. Raises ProjectError if it is missing, or names no project."""
    document = _read_yaml(directory / "Pulumi.yaml")
    if document is None:
        raise ProjectError(f"no Pulumi.yaml in {directory}: run this where the project is, or give --directory")
    name = document.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.startswith("."):
        raise ProjectError(f"{directory / 'Pulumi.yaml'}: its `name` is missing, or is no name: {name!r}")
    return Project(name, directory, directory / str(document.get("main") or "."), document.get("config") or {})


def read_stack(project: Project, stack: str) -> dict[str, Any]:
    """The document Pulumi.STACK.yaml; a stack without one has no configuration of its own."""
    return _read_yaml(project.directory / f"Pulumi.{stack}.yaml") or {}


def configuration(project: Project, stack: str, document: Mapping[str, Any], crypter: Crypter) -> Configuration:
    """Merges the stack's values with the defaults of the project.

    Args:
        project: Declares keys, with types and defaults.
        stack: The name of the stack, for errors.
        document: What `read_stack` read.
        crypter: Decrypts the secrets in it.

    Raises:
        ProjectError: A value is missing or of the wrong type; the text names its key.
        UnsupportedFeatureError: The project declares a key in a way that only the Pulumi CLI reads.
    """
    values: dict[str, Any] = {}
    secret_keys: set[str] = set()
    secrets: list[str] = []
    given: dict[str, Any] = document.get("config") or {}
    for key, raw in given.items():
        full = _full_key(project.name, key)

        def decrypt(ciphertext: str, key: str = full) -> str:
            secret_keys.add(key)
            secrets.append(crypter.decrypt(ciphertext))
            return secrets[-1]

        values[full] = _decrypted(raw, decrypt)
    missing = [key for key in project.declared if not _apply_declared(project, stack, key, values)]
    if missing:
        listed = ", ".join(repr(key) for key in sorted(missing))
        plural = "values" if len(missing) > 1 else "value"
        raise ProjectError(
            f"stack {stack!r} is missing configuration {plural} {listed}: write them under `config:` in "
            f"Pulumi.{stack}.yaml"
        )
    return Configuration({key: _as_text(value) for key, value in values.items()}, sorted(secret_keys), secrets)


def _apply_declared(project: Project, stack: str, key: str, values: dict[str, Any]) -> bool:
    """Gives one key that Pulumi.yaml declares its default, or checks its value. False if it has neither."""
    schema: Any = project.declared[key]
    if ":" in key or "." in key or not is_map(schema) or not schema.keys() <= {"type", "default", "description"}:
        raise UnsupportedFeatureError(f"Pulumi.yaml: {key!r} declares more than `type`, `default` and `description`")
    type_ = schema.get("type")
    if type_ not in (None, "string", "boolean"):
        raise UnsupportedFeatureError(f"Pulumi.yaml: {key!r} of type {type_!r}")
    full = _full_key(project.name, key)
    if full not in values:
        if "default" in schema:
            values[full] = schema["default"]
        return full in values
    value = values[full]
    # What a program gets is the text of a scalar: true and 3 are strings as well.
    if (type_ == "string" and isinstance(value, (dict, list))) or (
        type_ == "boolean" and _as_text(value) not in ("true", "false")
    ):
        raise ProjectError(f"configuration key {key!r} of stack {stack!r} must be of type {type_!r}")
    return True


def _full_key(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _decrypted(raw: Any, decrypt: Callable[[str], str]) -> Any:
    if is_map(raw):
        if list(raw) == ["secure"] and isinstance(raw["secure"], str):
            return decrypt(raw["secure"])
        return {str(key): _decrypted(value, decrypt) for key, value in raw.items()}
    if is_list(raw):
        return [_decrypted(value, decrypt) for value in raw]
    return raw


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "" if value is None else str(value)


def _read_yaml(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None
    import yaml

    # The C loader is a tenth of the time, but not every build has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document: Any = yaml.load(text, Loader=loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ProjectError(f"{path} is not valid YAML: {error}") from None
    if not is_map(document):
        raise ProjectError(f"{path}: should be a mapping, with `name:` or `config:`")
    return document
