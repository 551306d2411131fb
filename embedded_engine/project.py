"""Reads Pulumi.yaml and Pulumi.STACK.yaml: the name of the project and the configuration of the stack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded_engine.passphrase import Crypter
from embedded_engine.plan import PropertyPath, parse_path
from embedded_engine.values import is_list, is_map
from etcd_cluster.errors import EtcdClusterError


class ProjectError(EtcdClusterError):
    """Pulumi.yaml or the configuration of the stack cannot be used."""


@dataclass(frozen=True)
class Project:
    name: str
    directory: Path
    # Where __main__.py is.
    program: Path
    declared: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """Values as Pulumi hands them to a program: strings, and JSON for what is no scalar, by `namespace:key`."""

    values: dict[str, str]
    secret_keys: list[str]
    # Every decrypted value by itself.
    secrets: list[str]


def read_project(directory: Path) -> Project:
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
    """Merges the stack's values with the defaults of the project. Raises ProjectError naming each key that is wrong."""
    values: dict[str, Any] = {}
    secret_keys: set[str] = set()
    secrets: list[str] = []
    given: dict[str, Any] = document.get("config") or {}
    for key, raw in given.items():
        full = _full_key(project.name, key)

        def reveal(ciphertext: str, key: str = full) -> str:
            secret_keys.add(key)
            secrets.append(crypter.decrypt(ciphertext))
            return secrets[-1]

        values[full] = _revealed(raw, reveal)
    missing = [key for key in project.declared if not _apply_declared(project, stack, key, values, secret_keys)]
    if missing:
        listed = ", ".join(repr(key) for key in sorted(missing))
        plural = "values" if len(missing) > 1 else "value"
        raise ProjectError(
            f"stack {stack!r} is missing configuration {plural} {listed}: write them under `config:` in "
            f"Pulumi.{stack}.yaml"
        )
    return Configuration({key: _as_text(value) for key, value in values.items()}, sorted(secret_keys), secrets)


def _apply_declared(project: Project, stack: str, key: str, values: dict[str, Any], secret_keys: set[str]) -> bool:
    """Checks one key that Pulumi.yaml declares, or gives it its default. False if it has neither value nor default."""
    declared: Any = project.declared[key]
    schema = declared if is_map(declared) else {"default": declared}
    full = _full_key(project.name, key)
    root, path = _split(full)
    found, value = _get(values, root, path)
    if not found:
        default = schema.get("default", schema.get("value"))
        if default is not None:
            _set(values, root, path, default)
        # A key of another namespace can only carry a value.
        return default is not None or not full.startswith(f"{project.name}:")
    if schema.get("secret") and root not in secret_keys:
        raise ProjectError(
            f"configuration key {key!r} of stack {stack!r} must be encrypted as it's secret: "
            f"set it with `pulumi config set --secret {key}`"
        )
    if "type" in schema and not _is_of_type(value, schema):
        raise ProjectError(f"configuration key {key!r} of stack {stack!r} must be of type {_type_name(schema)!r}")
    return True


def _full_key(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _split(full: str) -> tuple[str, PropertyPath]:
    """`project:a.b[0]` as the key `project:a` and the path below it."""
    namespace, _, name = full.partition(":")
    path = parse_path(name)
    return f"{namespace}:{path[0]}", path[1:]


def _get(values: Any, root: str, path: PropertyPath) -> tuple[bool, Any]:
    for step in (root, *path):
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return False, None
    return True, values


def _set(values: dict[str, Any], root: str, path: PropertyPath, value: Any) -> None:
    at: dict[Any, Any] = values
    steps = (root, *path)
    for step in steps[:-1]:
        below: Any = at.setdefault(step, {})
        if not is_map(below):
            raise ProjectError(f"configuration key {root!r} has to be an object, to hold {'.'.join(map(str, path))!r}")
        at = below
    at[steps[-1]] = value


def _revealed(raw: Any, reveal: Callable[[str], str]) -> Any:
    if is_map(raw):
        if list(raw) == ["secure"] and isinstance(raw["secure"], str):
            return reveal(raw["secure"])
        return {str(key): _revealed(value, reveal) for key, value in raw.items()}
    if is_list(raw):
        return [_revealed(value, reveal) for value in raw]
    return raw


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "" if value is None else str(value)


def _is_of_type(value: Any, schema: Mapping[str, Any]) -> bool:
    type_: Any = schema.get("type")
    items: Any = schema.get("items")
    if type_ == "string":
        # What is compared is the text of a scalar.
        return not isinstance(value, (dict, list))
    if type_ == "integer":
        if isinstance(value, str):
            return re.fullmatch(r"[+-]?\d+", value) is not None
        return not isinstance(value, bool) and isinstance(value, (int, float)) and value == int(value)
    if type_ == "boolean":
        return isinstance(value, bool) or value in ("true", "false")
    if type_ == "object":
        return isinstance(value, dict)
    return type_ == "array" and is_list(value) and bool(items) and all(_is_of_type(item, items) for item in value)


def _type_name(schema: Mapping[str, Any]) -> str:
    items: Any = schema.get("items")
    return f"array<{_type_name(items)}>" if items else str(schema.get("type"))


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
