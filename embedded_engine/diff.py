"""Compares a resource with its goal, and decides the step between them. No process, no file, no SDK."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from embedded_engine.state import Resource
from embedded_engine.values import UNKNOWN, Secret, Value, Values, holds_unknown, plain, secret


class Operation(enum.Enum):
    """What is done with a resource. FORGET: it leaves the state and is not deleted."""

    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    FORGET = "forget"


@dataclass(frozen=True)
class Difference:
    """What a provider says of an update: the inputs that differ, if it names them, and those that replace."""

    changed: bool
    inputs: tuple[str, ...] = ()
    replacing: tuple[str, ...] = ()
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Decision:
    """The step for a resource. reasons: names of the properties that changed, or of the option that replaces."""

    operation: Operation
    reasons: tuple[str, ...] = ()
    delete_first: bool = False


def decide(
    old: Resource | None,
    goal: Resource,
    difference: Difference,
    replaced_urns: Collection[str],
) -> Decision:
    """The step for one registered resource.

    Args:
        old: The resource as the last run left it, if there was one.
        goal: The desired resource, its inputs checked.
        difference: What its provider says of an update.
        replaced_urns: What this run has replaced so far.
    """
    if old is None:
        return Decision(Operation.CREATE)
    option = _option_that_replaces(old, goal, replaced_urns)
    if option is not None:
        return Decision(Operation.REPLACE, (option,), bool(goal.delete_before_replace))
    if not difference.changed and not old.pending_replacement:
        return Decision(Operation.SAME)
    replacing = replacing_inputs(difference, goal.replace_on_changes)
    if replacing or old.pending_replacement:
        delete_first = goal.delete_before_replace
        if delete_first is None:
            delete_first = difference.delete_before_replace
        return Decision(Operation.REPLACE, replacing, delete_first)
    # A provider need not say what differs.
    return Decision(Operation.UPDATE, difference.inputs or difference_of_inputs(old.inputs, goal.inputs).inputs)


def _option_that_replaces(old: Resource, goal: Resource, replaced_urns: Collection[str]) -> str | None:
    if _trigger_fires(old.replacement_trigger, goal.replacement_trigger):
        return "replacementTrigger"
    return "deletedWith" if goal.deleted_with in replaced_urns else None


def _trigger_fires(old: Value, new: Value) -> bool:
    old, new = plain(old), plain(new)
    if holds_unknown(old) or holds_unknown(new):
        return True
    return old is not None and new is not None and old != new


def replacing_inputs(difference: Difference, replace_on_changes: Iterable[str]) -> tuple[str, ...]:
    """The inputs that force a replacement: the provider's, and those of the option `replace_on_changes`.

    The option names an input, or, as `triggers[*]`, the items of one: any change within it counts.
    """
    names = {path.removesuffix("[*]") for path in replace_on_changes}
    forced = [name for name in difference.inputs if name in names]
    return tuple(dict.fromkeys([*difference.replacing, *forced]))


def difference_of_inputs(old: Values, new: Values, *, secrecy_counts: bool = False) -> Difference:
    """Compares inputs. A value that is unknown differs from any other.

    Args:
        old: The inputs of the last run.
        new: The desired inputs.
        secrecy_counts: Whether becoming a secret, or ceasing to be one, is a change.
    """
    names = [key for key in dict.fromkeys([*old, *new]) if _differ(old.get(key), new.get(key), secrecy_counts)]
    return Difference(bool(names), tuple(names))


def _differ(old: Value, new: Value, secrecy_counts: bool) -> bool:
    if isinstance(old, Secret) or isinstance(new, Secret):
        if secrecy_counts:
            return old != new or holds_unknown(new)
        old, new = plain(old), plain(new)
    if isinstance(old, dict) and isinstance(new, dict):
        # A key without a value counts as absent.
        return any(_differ(old.get(key), new.get(key), secrecy_counts) for key in old.keys() | new.keys())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) != len(new) or any(map(_differ, old, new, repeat(secrecy_counts)))
    return old == UNKNOWN or new == UNKNOWN or type(old) is not type(new) or old != new


def keep_ignored(old: Values, new: Values, ignore_changes: Iterable[str]) -> Values:
    """The new inputs, with the old value at every path of the option `ignore_changes`: `a`, `a.b` or `a.*.b`."""
    for path in ignore_changes:
        new = _with_old(old, new, path.split("."))
    return new


def _with_old(old: Values, new: Values, path: Sequence[str]) -> Values:
    name, *below = path
    if name == "*":
        for each in old.keys() & new.keys():
            new = _with_old(old, new, [each, *below])
        return new
    before, after = old.get(name), new.get(name)
    if below:
        within_old, within_new = plain(before), plain(after)
        if not isinstance(within_old, dict) or not isinstance(within_new, dict):
            return new
        kept = _with_old(within_old, within_new, below)
        is_secret = isinstance(before, Secret) or isinstance(after, Secret)
        return {**new, name: secret(kept) if is_secret else kept}
    others = {key: value for key, value in new.items() if key != name}
    return {**others, name: before} if name in old else others


def mark_secret_outputs(resource: Resource) -> Resource:
    """The resource with every output marked secret that must be: by option, or as its input of the same name is."""
    outputs = dict(resource.outputs)
    for key, value in outputs.items():
        by_option = key in resource.additional_secret_outputs
        given = resource.inputs.get(key)
        if (by_option or isinstance(given, Secret)) and not isinstance(value, Secret):
            outputs[key] = Secret(plain(value))
    return replace(resource, outputs=outputs)


def dependents(root: Resource, resources: Iterable[Resource]) -> list[Resource]:
    """All that need the root, directly or not (parents do not count), in an order that starts near it."""
    found: list[Resource] = []
    urns = {root.urn}
    rest = [resource for resource in resources if resource is not root]
    while True:
        more = [each for each in rest if each.needs(parent=False) & urns]
        if not more:
            return found
        found += more
        urns |= {each.urn for each in more}
        rest = [each for each in rest if each not in more]


def deletion_order(resources: Sequence[Resource]) -> list[list[Resource]]:
    """Groups to be deleted one after the other; what is in one group can be deleted at the same time."""
    groups: list[list[Resource]] = []
    left = list(resources)
    while left:
        needed: set[str] = set()
        for resource in left:
            needed |= resource.needs()
        # Old and new generations may need each other by name: then there is no better order than all at once.
        group = [resource for resource in left if resource.urn not in needed] or left
        groups.append(group)
        chosen = {id(resource) for resource in group}
        left = [resource for resource in left if id(resource) not in chosen]
    return groups


def why_not_deleted(resource: Resource, deleted_urns: Collection[str]) -> str | None:
    """Why the deletion of a resource needs no call of its provider, or None."""
    if resource.retain_on_delete:
        return "retained"
    if resource.deleted_with and resource.deleted_with in deleted_urns:
        return "goes with " + resource.deleted_with.split("::", 3)[3]
    return None
