"""Checks arguments by what their classes declare: the type, and rules in `Annotated[TYPE, RULE]`.

Python checks neither: "false" for a bool would be true. A rule is a function of key and value that raises
`ConfigurationError`. It runs for values that are known.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import pulumi

from etcd_cluster.errors import HIDDEN, ConfigurationError, is_private_key

NAMES: Mapping[type, str] = {bool: "true or false", int: "a whole number", str: "text", float: "a number"}


@dataclass(frozen=True)
class Between:
    """The rule of a number: its smallest and its largest value."""

    least: int
    most: int

    def __call__(self, key: str, value: int) -> None:
        """Raises `ConfigurationError` for a number outside."""
        if not self.least <= value <= self.most:
            raise ConfigurationError(key, value, "out of range", f"write a whole number from {self}")

    def __str__(self) -> str:
        return f"{self.least} to {self.most}"


Port = Annotated[int, Between(1, 65_535)]


def require_types(
    arguments: Any, prefix: str = "", keys: Mapping[str, str] | None = None, *, inside: bool = True
) -> None:
    """Checks every field of a dataclass, and of those inside of it, by the type and the rules that it declares.

    Args:
        arguments: The dataclass.
        prefix: Before the fields' names in errors, with its dot.
        keys: Field -> name in errors; default the field in camelCase.
        inside: False leaves dataclasses in fields to the caller.

    Raises:
        ConfigurationError: A value is of another type or against a rule, or a private key is where none belongs.
    """
    for name, hint in hints(_class(arguments)).items():
        key = (keys or {}).get(name) or f"{prefix}{camel_case(name)}"
        value = getattr(arguments, name)
        if "private_key" not in name and name != "secret_key":  # Google's is a JSON text with a private key in it
            _refuse_private_keys(key, value)
        require_type(key, value, hint)
        for inner_key, inner in _inner(key, value) if inside else ():
            require_types(inner, f"{inner_key}.")


def _class(value: object) -> type:
    return type(value)


@cache
def hints(kind: Any) -> Mapping[str, Any]:
    """Returns field -> its declared type, rules included."""
    found = get_type_hints(kind, localns={"Output": pulumi.Output, "T": Any}, include_extras=True)  # of Pulumi's Input
    return {each.name: found[each.name] for each in fields(kind) if each.init}


def plain_type(hint: Any) -> Any:
    """Returns what a declared type is in stack config: str, int, bool, list, dict, or object for one of several."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return plain_type(arguments[0])
    if origin in (Union, types.UnionType):
        known = [each for each in arguments if not _is_later(each) and each is not type(None)]
        kinds = {plain_type(each) for each in known}
        if kinds == {list, dict}:
            return list  # names are for values that only a program has
        return kinds.pop() if len(kinds) == 1 else object
    if origin is Literal:
        return str
    if origin is not None:
        return dict if _is_a(origin, Mapping) else list
    return hint


@cache
def argument_texts(kind: Any) -> Mapping[str, str]:
    """Returns field -> the string below it, which editors show, in one line."""
    (declared,) = ast.parse(inspect.getsource(kind)).body
    body = cast(ast.ClassDef, declared).body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


Misfit = tuple[str, object, Any]
"""Key, value, and the declared type."""


def require_type(key: str, value: object, hint: Any) -> None:
    """Raises `ConfigurationError` for a value of another type, or against the rules in it."""
    for misfit in _misfits(value, hint, key):
        raise _error(*misfit)


def _misfits(value: object, hint: Any, key: str) -> Iterator[Misfit]:
    """Yields where a value is not of the declared type; nothing if it is. Then it runs the rules, which raise."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        misfit = next(_misfits(value, arguments[0], key), None)
        if misfit is not None:
            yield misfit
            return
        for rule in arguments[1:]:
            rule(key, value)
    elif origin in (Union, types.UnionType):
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
            yield from _misfits(name, arguments[0], f"{key}.{name}")
            yield from _misfits(item, arguments[1], f"{key}.{name}")
    elif _is_a(origin, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            yield key, value, hint
            return
        for number, item in enumerate(cast("Sequence[object]", value)):
            yield from _misfits(item, arguments[0], f"{key}[{number}]")
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
    if isinstance(value, type):  # a class has its objects' attributes: to a protocol it would be one of them
        return False
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
    if origin is Annotated:
        return _in_words(arguments[0])
    if origin in (Union, types.UnionType):
        words = dict.fromkeys(_in_words(each) for each in arguments if each is not type(None) and not _is_later(each))
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


def _is_later(hint: Any) -> bool:
    """Returns whether a type is of values that are known later."""
    origin = get_origin(hint)
    return origin is pulumi.Output or getattr(origin, "__name__", "") == "Awaitable"


def camel_case(name: str) -> str:
    """Returns a field's name as stack config writes it."""
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
