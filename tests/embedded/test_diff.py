"""The decisions, as tables: no process and no file is touched."""

from __future__ import annotations

from typing import Any

import pytest

from embedded_engine.diff import (
    Decision,
    Difference,
    Operation,
    decide,
    deletion_order,
    dependents,
    difference_of_inputs,
    keep_ignored,
    mark_secret_outputs,
    replacing_inputs,
    why_not_deleted,
)
from embedded_engine.state import Resource
from embedded_engine.values import UNKNOWN, Secret, Values

PREFIX = "urn:pulumi:dev::project::t::"


def resource(name: str = "r", *, needs: str = "", **fields: Any) -> Resource:
    return Resource(
        urn=PREFIX + name, type="t", custom=True, dependencies=[PREFIX + each for each in needs.split()], **fields
    )


NOTHING = Difference(False)
CHANGE = Difference(True, ("a",))
REPLACING = Difference(True, ("a",), ("a",))
DELETING_FIRST = Difference(True, ("a",), ("a",), delete_before_replace=True)
OTHER = PREFIX + "other"


@pytest.mark.parametrize(
    ("old", "goal", "difference", "replaced", "expected"),
    [
        (None, {}, NOTHING, (), Decision(Operation.CREATE)),
        ({}, {}, NOTHING, (), Decision(Operation.SAME)),
        ({}, {}, CHANGE, (), Decision(Operation.UPDATE, ("a",))),
        ({}, {}, REPLACING, (), Decision(Operation.REPLACE, ("a",))),
        ({}, {}, DELETING_FIRST, (), Decision(Operation.REPLACE, ("a",), True)),
        ({}, {"delete_before_replace": False}, DELETING_FIRST, (), Decision(Operation.REPLACE, ("a",))),
        ({}, {"delete_before_replace": True}, REPLACING, (), Decision(Operation.REPLACE, ("a",), True)),
        ({}, {"replace_on_changes": ["a"]}, CHANGE, (), Decision(Operation.REPLACE, ("a",))),
        ({}, {"replace_on_changes": ["b"]}, CHANGE, (), Decision(Operation.UPDATE, ("a",))),
        ({}, {"replace_on_changes": ["a[*]"]}, CHANGE, (), Decision(Operation.REPLACE, ("a",))),
        ({}, {"replace_on_changes": ["a"]}, NOTHING, (), Decision(Operation.SAME)),
        ({}, {"replace_on_changes": ["a"]}, Difference(True), (), Decision(Operation.UPDATE)),
        ({}, {"deleted_with": OTHER}, NOTHING, (), Decision(Operation.SAME)),
        ({}, {"deleted_with": OTHER}, NOTHING, (OTHER,), Decision(Operation.REPLACE, ("deletedWith",))),
        ({"replacement_trigger": "1"}, {"replacement_trigger": "1"}, CHANGE, (), Decision(Operation.UPDATE, ("a",))),
        (
            {"replacement_trigger": "1"},
            {"replacement_trigger": Secret("2")},
            NOTHING,
            (),
            Decision(Operation.REPLACE, ("replacementTrigger",)),
        ),
        ({"replacement_trigger": "1"}, {}, NOTHING, (), Decision(Operation.SAME)),
        ({}, {"replacement_trigger": "1"}, NOTHING, (), Decision(Operation.SAME)),
        (
            {"replacement_trigger": "1"},
            {"replacement_trigger": UNKNOWN},
            NOTHING,
            (),
            Decision(Operation.REPLACE, ("replacementTrigger",)),
        ),
        ({"pending_replacement": True}, {}, NOTHING, (), Decision(Operation.REPLACE)),
    ],
)
def test_the_step_for_a_resource(
    old: dict[str, Any] | None,
    goal: dict[str, Any],
    difference: Difference,
    replaced: tuple[str, ...],
    expected: Decision,
) -> None:
    before = resource(**old) if old is not None else None
    assert decide(before, resource(**goal), difference, replaced) == expected


def test_an_update_whose_provider_does_not_say_why_is_explained_by_its_inputs() -> None:
    old, goal = resource(inputs={"a": 1.0, "b": 2.0}), resource(inputs={"a": 1.0, "b": 3.0})
    assert decide(old, goal, Difference(True), ()) == Decision(Operation.UPDATE, ("b",))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": "x"}, {"a": "x"}, []),
        ({"a": "x"}, {"a": "y"}, ["a"]),
        ({}, {"a": "y"}, ["a"]),
        ({"a": "x"}, {}, ["a"]),
        ({"a": None}, {}, []),
        ({"a": 1.0}, {"a": True}, ["a"]),
        ({"a": {"b": "x", "c": None}, "d": "x"}, {"a": {"b": "x"}, "d": "y"}, ["d"]),
        ({"a": {"b": "x", "c": "y"}}, {"a": {"b": "x"}}, ["a"]),
        ({"a": ["x", "y"], "b": ["z"]}, {"a": ["x"], "b": ["z"]}, ["a"]),
        ({"a": ["x", "y"]}, {"a": ["x", "z"]}, ["a"]),
        ({"a": ["x"]}, {"a": "x"}, ["a"]),
        ({"a": "x"}, {"a": UNKNOWN}, ["a"]),
        ({"a": UNKNOWN}, {"a": UNKNOWN}, ["a"]),
        ({"a": Secret("x")}, {"a": Secret("x")}, []),
        ({"a": Secret("x")}, {"a": Secret("y")}, ["a"]),
    ],
)
def test_which_inputs_differ(old: Any, new: Any, expected: list[str]) -> None:
    for secrecy_counts in (False, True):
        found = difference_of_inputs(old, new, secrecy_counts=secrecy_counts)
        assert found == Difference(bool(expected), tuple(expected))


def test_becoming_a_secret_is_a_change_where_secrecy_counts() -> None:
    old: Values = {"a": "x", "b": Secret(["y"])}
    new: Values = {"a": Secret("x"), "b": Secret(["z"])}
    assert difference_of_inputs(old, new).inputs == ("b",)
    assert difference_of_inputs(old, new, secrecy_counts=True).inputs == ("a", "b")


def test_replace_on_changes_adds_to_what_the_provider_replaces() -> None:
    difference = Difference(True, ("a", "t"), ("b",))
    assert replacing_inputs(difference, ["t[*]", "absent"]) == ("b", "t")


@pytest.mark.parametrize(
    ("ignored", "old", "new", "expected"),
    [
        ([], {"a": "x"}, {"a": "y"}, {"a": "y"}),
        (["a"], {"a": "x", "b": "1"}, {"a": "y", "b": "2"}, {"a": "x", "b": "2"}),
        (["a"], {}, {"a": "y"}, {}),
        (["a"], {"a": "x"}, {}, {"a": "x"}),
        (["a.b"], {"a": {"b": "x"}}, {"a": {"b": "y", "c": "z"}}, {"a": {"b": "x", "c": "z"}}),
        (["a.b"], {"a": {"b": "x"}}, {}, {}),
        (["a"], {"a": Secret("x")}, {"a": "y"}, {"a": Secret("x")}),
        (["a.b"], {"a": Secret({"b": "x"})}, {"a": {"b": "y"}}, {"a": Secret({"b": "x"})}),
        (["a.b"], {"a": {"b": "x"}}, {"a": Secret({"b": "y"})}, {"a": Secret({"b": "x"})}),
        (
            ["a.*.b"],
            {"a": {"c": {"b": "x"}}},
            {"a": {"c": {"b": "y"}, "d": {"b": "z"}}},
            {"a": {"c": {"b": "x"}, "d": {"b": "z"}}},
        ),
    ],
)
def test_ignored_changes_keep_the_old_value(ignored: list[str], old: Any, new: Any, expected: Any) -> None:
    given = repr(new), repr(old)
    assert keep_ignored(old, new, ignored) == expected
    assert given == (repr(new), repr(old)), "the originals are left alone"


def test_outputs_are_secret_by_option_and_where_the_input_is() -> None:
    marked = mark_secret_outputs(
        resource(
            inputs={"a": Secret("x"), "b": {"c": Secret("y")}},
            outputs={"a": "x", "b": {"c": "y"}, "key": "k", "plain": "p"},
            additional_secret_outputs=["key", "absent"],
        )
    )
    assert marked.outputs == {"a": Secret("x"), "b": {"c": "y"}, "key": Secret("k"), "plain": "p"}


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ([("a", "")], ["a"]),
        ([("a", ""), ("b", "")], ["a b"]),
        ([("a", ""), ("b", "a"), ("c", "b")], ["c", "b", "a"]),
        ([("a", ""), ("b", "a"), ("c", "a"), ("d", "b c")], ["d", "b c", "a"]),
        ([("b", "gone"), ("a", "b")], ["a", "b"]),
        # Two generations that name each other have no order; they are not left behind for it.
        ([("a", "b"), ("b", "a")], ["a b"]),
    ],
)
def test_dependents_are_deleted_first(graph: list[tuple[str, str]], expected: list[str]) -> None:
    groups = deletion_order([resource(name, needs=needs) for name, needs in graph])
    assert [" ".join(each.name for each in group) for group in groups] == expected


def test_children_are_deleted_before_their_parent() -> None:
    parent, child = resource("parent"), resource("child", parent=PREFIX + "parent")
    assert deletion_order([parent, child]) == [[child], [parent]]


def test_dependents_are_found_at_any_distance_and_parents_do_not_count() -> None:
    a, b, c = resource("a"), resource("b", needs="a"), resource("c", needs="b")
    child = resource("child", parent=PREFIX + "a")
    with_a = resource("w", deleted_with=PREFIX + "a")
    assert {each.name for each in dependents(a, [c, b, a, child, with_a])} == {"b", "c", "w"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"retain_on_delete": True}, "retained"),
        ({"deleted_with": PREFIX + "machine"}, "goes with machine"),
        ({"deleted_with": PREFIX + "elsewhere"}, None),
    ],
)
def test_when_a_deletion_needs_no_call(fields: dict[str, Any], expected: str | None) -> None:
    assert why_not_deleted(resource(**fields), {PREFIX + "machine"}) == expected
