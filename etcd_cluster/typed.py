"""Checks arguments by the types that their classes declare. Python does not: "false" for a bool would be true."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import pulumi

from etcd_cluster.errors import HIDDEN, ConfigurationError, is_private_key

NAMES: Mapping[type, str] = {bool: "true or false", int: "a whole number", str: "text", float: "a number"}


def require_types(
    arguments: Any, prefix: str = "", keys: Mapping[str, str] | None = None, *, inside: bool = True
) -> None:
    """Checks every field of a dataclass, and of those inside of it, by the type that it declares.

    Args:
        arguments: The dataclass.
        prefix: Before the fields' names in errors, with its dot.
        keys: Field -> name in errors; default the field in camelCase.
        inside: False leaves dataclasses in fields to the caller.

    Raises:
        ConfigurationError: A value is of another type, or a private key is where none belongs.
    """
    for name, hint in _hints(_class(arguments)).items():
        key = (keys or {}).get(name) or f"{prefix}{camel_case(name)}"
        value = getattr(arguments, name)
        found = next(_misfits(value, hint, key), None)
        if found is not None:
            raise _error(*found)
        if "private_key" not in name:
            _refuse_private_keys(key, value)
        for inner_key, inner in _inner(key, value) if inside else ():
            require_types(inner, f"{inner_key}.")


def _class(value: object) -> type:
    return type(value)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    hints = get_type_hints(kind, localns={"Output": pulumi.Output, "T": Any})  # of Pulumi's own Input
    return {each.name: hints[each.name] for each in fields(kind) if each.init}


Misfit = tuple[str, object, Any]
"""Key, value, and the declared type."""


def _misfits(value: object, hint: Any, key: str) -> Iterator[Misfit]:
    """Yields what is wrong with a value; nothing if it is of the declared type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if not any(next(_misfits(value, each, key), None) is None for each in arguments):
            yield _closest(value, arguments, key) or (key, value, hint)
    elif origin is Literal:
        if not isinstance(value, str):
            yield key, value, str
    elif _is_a(origin, Mapping):
        if not isinstance(value, Mapping):
            yield key, value, hint
            return
        for name, item in cast("Mapping[object, object]", value).items():
            yield from _misfits(name, arguments[0], f"{key} (a name in it)")
            yield from _misfits(item, arguments[1], f"{key}.{name}")
    elif _is_a(origin, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            yield key, value, hint
            return
        for item in cast("Sequence[object]", value):
            yield from _misfits(item, arguments[0], f"{key} (an item of it)")
    elif not _is_instance(value, origin or hint):
        yield key, value, hint


def _closest(value: object, hints: Sequence[Any], key: str) -> Misfit | None:
    """Returns the misfit inside of a list or mapping; None if there is none inside."""
    for hint in hints:
        found = next(_misfits(value, hint, key), None)
        if found is not None and found[1] is not value:
            return found
    return None


def _is_a(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


def _is_instance(value: object, kind: Any) -> bool:
    if kind in (Any, object):
        return True
    if isinstance(value, pulumi.Output) or kind is pulumi.Output:  # an Output claims to have every attribute
        return isinstance(value, pulumi.Output) and kind is pulumi.Output
    if kind in NAMES:
        return type(value) is kind if kind is not str else isinstance(value, str)
    if kind is type(None):
        return value is None
    if not isinstance(kind, type):
        return True
    if kind.__module__ in ("typing", "collections.abc"):
        return inspect.isawaitable(value)
    return isinstance(value, kind)


def _inner(key: str, value: object) -> Iterator[tuple[str, Any]]:
    """Yields dataclasses of this package in a value, each with its key."""
    if isinstance(value, Mapping):
        for name, item in cast("Mapping[str, object]", value).items():
            yield from _inner(f"{key}.{name}", item)
    elif is_dataclass(value) and type(value).__module__.startswith("etcd_cluster."):
        yield key, value


def _refuse_private_keys(key: str, value: object) -> None:
    if isinstance(value, str) and is_private_key(value):
        raise ConfigurationError(
            key,
            value,
            "a private key, which previews and state would show here",
            "take it out here, give it as ssh.privateKey (`pulumi config set --secret`), and make a new one if this "
            "one was shown to others",
        )
    if isinstance(value, Mapping):
        for name, item in cast("Mapping[object, object]", value).items():
            _refuse_private_keys(key, name)
            _refuse_private_keys(key, item)
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[object]", value):
            _refuse_private_keys(key, item)


def _error(key: str, value: object, hint: Any) -> ConfigurationError:
    expected = _in_words(hint)
    if isinstance(value, pulumi.Output):
        return ConfigurationError(
            key, "(an Output)", "an Output, whose value is known only later", f"give {expected} that is known at once"
        )
    shown = None if value is None else value if isinstance(value, str | int | float) else type(value).__name__
    kind = "nothing" if value is None else f"of type {type(value).__name__}"
    if re.search(r"key|mirror|proxy", key, re.IGNORECASE):
        shown = HIDDEN
    return ConfigurationError(key, shown, f"{kind}, not {expected}", f"give {expected}{_hint_for(value, hint)}")


def _hint_for(value: object, hint: Any) -> str:
    if isinstance(value, str) and bool in (hint, *get_args(hint)):
        return " (True or False, without quotes)"
    return ""


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = dict.fromkeys(
            _in_words(each)
            for each in arguments
            if each is not type(None) and get_origin(each) is not pulumi.Output and not _is_awaitable(each)
        )
        return " or ".join(words)
    if origin is Literal:
        return NAMES[str]
    if _is_a(origin, Mapping):
        return f"a mapping of names to {_plural(_in_words(arguments[1]))}"
    if _is_a(origin, Sequence):
        return f"a list of {_plural(_in_words(arguments[0]))}"
    if hint in NAMES:
        return NAMES[hint]
    if getattr(hint, "_is_protocol", False):
        return "a description of machines, such as HostMachines(...)"
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def _plural(words: str) -> str:
    return {"text": "texts", "a whole number": "whole numbers", "an Any": "values"}.get(words, words.partition(" ")[2])


def _is_awaitable(hint: Any) -> bool:
    return getattr(get_origin(hint), "__name__", "") == "Awaitable"


def camel_case(name: str) -> str:
    """Returns a field's name as stack config writes it."""
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
