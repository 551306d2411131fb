"""Reads Pulumi.yaml and Pulumi.STACK.yaml: the name of the project and the configuration of the stack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etcd_cluster.embedded.passphrase import Crypter
from etcd_cluster.embedded.plan import parse_path
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
    for key, raw in (document.get("config") or {}).items():
        full = _full_key(project.name, str(key))

        def reveal(ciphertext: str, key: str = full) -> str:
            secret_keys.add(key)
            secrets.append(crypter.decrypt(ciphertext))
            return secrets[-1]

        values[full] = _revealed(raw, reveal)
    _apply_declared(project, stack, values, secret_keys)
    return Configuration({key: _as_text(value) for key, value in values.items()}, sorted(secret_keys), secrets)


def _apply_declared(project: Project, stack: str, values: dict[str, Any], secret_keys: set[str]) -> None:
    missing: list[str] = []
    for key, declared in project.declared.items():
        shorthand = not isinstance(declared, dict)
        schema: Mapping[str, Any] = {"default": declared} if shorthand else declared
        full = _full_key(project.name, str(key))
        own = full.startswith(f"{project.name}:")
        root, path = _split(full)
        found, value = _get(values, root, path)
        if not found:
            default = schema.get("default", schema.get("value"))
            if default is not None:
                _set(values, root, path, default)
                continue
            if own:
                missing.append(str(key))
            continue
        if schema.get("secret") and root not in secret_keys:
            raise ProjectError(
                f"configuration key {key!r} of stack {stack!r} must be encrypted as it's secret: "
                f"set it with `pulumi config set --secret {key}`"
            )
        type_ = schema.get("type")
        if type_ is not None and not _is_of_type(value, str(type_), schema.get("items")):
            raise ProjectError(f"configuration key {key!r} of stack {stack!r} must be of type {_type_name(schema)!r}")
    if missing:
        listed = ", ".join(repr(key) for key in sorted(missing))
        plural = "values" if len(missing) > 1 else "value"
        raise ProjectError(
            f"stack {stack!r} is missing configuration {plural} {listed}: write them under `config:` in "
            f"Pulumi.{stack}.yaml"
        )


def _full_key(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _split(full: str) -> tuple[str, tuple[str | int, ...]]:
    """`project:a.b[0]` as the key `project:a` and the path below it."""
    namespace, _, name = full.partition(":")
    path = parse_path(name)
    return f"{namespace}:{path[0]}", path[1:]


def _get(values: Mapping[str, Any], root: str, path: tuple[str | int, ...]) -> tuple[bool, Any]:
    at: Any = values
    for step in (root, *path):
        try:
            at = at[step]
        except (KeyError, IndexError, TypeError):
            return False, None
    return True, at


def _set(values: dict[str, Any], root: str, path: tuple[str | int, ...], value: Any) -> None:
    at: dict[Any, Any] = values
    steps = (root, *path)
    for step in steps[:-1]:
        below = at.setdefault(step, {})
        if not isinstance(below, dict):
            raise ProjectError(f"configuration key {root!r} has to be an object, to hold {'.'.join(map(str, path))!r}")
        at = below
    at[steps[-1]] = value


def _revealed(raw: Any, reveal: Callable[[str], str]) -> Any:
    if isinstance(raw, dict):
        if set(raw) == {"secure"} and isinstance(raw["secure"], str):
            return reveal(raw["secure"])
        return {str(key): _revealed(value, reveal) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_revealed(value, reveal) for value in raw]
    return raw


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "" if value is None else str(value)


def _is_of_type(value: Any, type_: str, items: Any) -> bool:
    if type_ == "string":
        # What the engine compares is the text of a scalar.
        return not isinstance(value, (dict, list))
    if type_ == "integer":
        if isinstance(value, str):
            return value.lstrip("+-").isdecimal()
        return not isinstance(value, bool) and isinstance(value, (int, float)) and value == int(value)
    if type_ == "boolean":
        return isinstance(value, bool) or value in ("true", "false")
    if type_ == "object":
        return isinstance(value, dict)
    if type_ == "array" and isinstance(value, list) and isinstance(items, dict):
        return all(_is_of_type(item, str(items.get("type")), items.get("items")) for item in value)
    return False


def _type_name(schema: Mapping[str, Any]) -> str:
    items = schema.get("items")
    return f"array<{_type_name(items)}>" if isinstance(items, dict) else str(schema.get("type"))


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
        document = yaml.load(text, Loader=loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ProjectError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise ProjectError(f"{path}: should be a mapping, with `name:` or `config:`")
    return document
