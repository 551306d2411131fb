"""Keeps secret in Pulumi's state and previews what was a secret in the stack's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import pulumi

from etcd_cluster.errors import SecretText

T = TypeVar("T")


def as_input(value: T) -> T:
    """Returns `value` as a resource takes it: every `SecretText` in it is a secret Output, all else is unchanged.

    The declared type is the same, because every place that takes this type takes an Output as well.
    """
    return cast(T, _as_input(value))


def checked_input(value: pulumi.Input[str], check: Callable[[str], str]) -> pulumi.Input[str]:
    """Returns a text as a resource takes it, after a check.

    Args:
        value: The text. One that is known later is checked then, as a `SecretText`, and is a secret from then on.
        check: Returns the text to use; raises for one that cannot be used.
    """
    if isinstance(value, str):
        checked = check(value)
        return pulumi.Output.secret(str(checked)) if isinstance(value, SecretText) else checked
    later = cast("pulumi.Output[str]", pulumi.Output.from_input(cast(Any, value)))
    return pulumi.Output.secret(later.apply(lambda known: check(SecretText(known))))


def _as_input(value: object) -> Any:
    if isinstance(value, SecretText):
        return pulumi.Output.secret(str(value))
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        return {key: _as_input(item) for key, item in items.items()}
    if isinstance(value, list | tuple):
        return [_as_input(item) for item in cast("list[object]", value)]
    return value
