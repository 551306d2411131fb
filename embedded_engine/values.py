"""Property values: plain JSON values, of which any part may be `Secret` or, in a preview, UNKNOWN.

Turns them into and out of the two forms in which they travel: the SDK's protobuf Struct, and JSON in the state file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

if TYPE_CHECKING:
    from google.protobuf import struct_pb2

# The SDK's own marks on the wire (pulumi.runtime.rpc); repeated here because importing the SDK takes half a second.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET_MARK = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


@dataclass(frozen=True)
class Secret:
    """A value that is never shown and never stored in plain. Holds no further Secret."""

    value: Value

    def __repr__(self) -> str:
        """Shows nothing of the value."""
        return "[secret]"


Value: TypeAlias = "bool | float | str | Secret | list[Value] | dict[str, Value] | None"
Values: TypeAlias = "dict[str, Value]"


def from_struct(struct: struct_pb2.Struct) -> Values:
    """The values of a message of the SDK."""
    # The order of a protobuf map is arbitrary: sorted, what is shown and kept does not depend on it.
    return {key: _from_protobuf(struct.fields[key]) for key in sorted(struct.fields)}


def _from_protobuf(value: struct_pb2.Value) -> Value:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return value.number_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_from_protobuf(item) for item in value.list_value.values]
    if kind == "struct_value":
        mapping = from_struct(value.struct_value)
        if mapping.get(_SIGNATURE) == _SECRET_MARK:
            return secret(mapping.get("value"))
        return mapping
    return None


def to_struct(values: Mapping[str, Value]) -> struct_pb2.Struct:
    """The values as a message for the SDK."""
    from google.protobuf import struct_pb2

    def marked(part: Value) -> Value:
        return {_SIGNATURE: _SECRET_MARK, "value": part.value} if isinstance(part, Secret) else part

    fields: dict[str, Any] = {key: _each(value, marked) for key, value in values.items()}
    struct = struct_pb2.Struct()
    struct.update(fields)
    return struct


def encode(value: Value, encrypt: Callable[[str], str]) -> object:
    """The JSON form of a value, every secret in it encrypted."""

    def encoded(part: Value) -> Any:
        if isinstance(part, Secret):
            return {_SIGNATURE: _SECRET_MARK, "ciphertext": encrypt(json.dumps(part.value))}
        return part

    return _each(value, encoded)


def decode(value: Any, decrypt: Callable[[str], str]) -> Value:
    """The value of what `encode` made, or of any JSON."""
    if is_map(value):
        if value.get(_SIGNATURE) == _SECRET_MARK:
            return Secret(json.loads(decrypt(value["ciphertext"])))
        return {key: decode(item, decrypt) for key, item in value.items()}
    if is_list(value):
        return [decode(item, decrypt) for item in value]
    return cast(Value, value)


def _each(value: Value, change: Callable[[Value], Value]) -> Value:
    """The value with every scalar and every secret in it changed."""
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    return change(value)


def is_map(value: object) -> TypeGuard[dict[str, Any]]:
    """For what was read from a file: isinstance alone leaves the types of its items unknown."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """As `is_map`."""
    return isinstance(value, list)


def secret(value: Value) -> Secret:
    """The value as a secret."""
    return value if isinstance(value, Secret) else Secret(plain(value))


def plain(value: Value) -> Value:
    """The value with every mark of secrecy removed."""
    return _each(value, lambda part: part.value if isinstance(part, Secret) else part)


def plain_values(values: Mapping[str, Value]) -> Values:
    """`plain` of each value."""
    return {key: plain(value) for key, value in values.items()}


def holds_secret(value: Value) -> bool:
    """Whether any part of the value is a secret."""
    return any(isinstance(part, Secret) for part in _parts(value))


def holds_unknown(value: Value) -> bool:
    """Whether any part of the value, secrets included, is unknown."""
    return any(part == UNKNOWN for part in _parts(value))


def strings(value: Value) -> Iterator[str]:
    """Every string in a value, at any depth."""
    return (part for part in _parts(value) if isinstance(part, str))


def _parts(value: Value) -> Iterator[Value]:
    yield value
    if isinstance(value, Secret):
        yield from _parts(value.value)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts(item)


def with_secrecy_of(outputs: Mapping[str, Value], inputs: Mapping[str, Value]) -> Values:
    """Outputs, each marked secret where the input of the same name is, map by map."""
    marked = dict(outputs)
    for key, given in inputs.items():
        if key not in marked:
            continue
        output = marked[key]
        if isinstance(output, dict) and isinstance(given, dict):
            marked[key] = with_secrecy_of(output, given)
        elif holds_secret(given):
            marked[key] = secret(output)
    return marked


def shown(value: Value) -> Value:
    """The value as it may be printed: secrets and unknowns replaced by a word, whole numbers without a point."""
    hidden = _each(value, lambda part: "[secret]" if isinstance(part, Secret) else part)
    return whole_numbers(_each(hidden, lambda part: "[unknown]" if part == UNKNOWN else part))


def whole_numbers(value: Value) -> Value:
    """The value with 3.0 written as 3, as Pulumi prints and hands on numbers."""

    def whole(part: Value) -> Value:
        return int(part) if isinstance(part, float) and part.is_integer() and abs(part) < 2**53 else part

    return _each(value, whole)
