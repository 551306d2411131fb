"""Python dynamic resources: called as the engine calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.conftest import Project

# Every call is written down with what it was given.
RECORDER = """
    import json, os
    import pulumi
    from pulumi.dynamic import *

    CALLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls")

    def note(method, **given):
        for values in given.values():
            values.pop("__provider", None) if isinstance(values, dict) else None
        with open(CALLS, "a") as file:
            line = json.dumps({"method": method, **given}, sort_keys=True, default=lambda value: type(value).__name__)
            file.write(line + "\\n")

    class Provider(ResourceProvider):
        serialize_as_secret_always = False

        def check(self, olds, news):
            note("check", olds=dict(olds), news=dict(news))
            if news.get("size") == 13:
                return CheckResult(news, [CheckFailure("size", "is unlucky"), CheckFailure("name", "too")])
            return CheckResult({**news, "defaulted": True}, [])

        def diff(self, id_, olds, news):
            note("diff", id=id_, olds=dict(olds), news=dict(news))
            mode = os.environ.get("DIFF", "")
            if mode == "unsure":
                return DiffResult()
            return DiffResult(changes=olds.get("size") != news.get("size"),
                              replaces=["size"] if mode.startswith("replace") else [],
                              delete_before_replace=mode == "replace first")

        def create(self, props):
            note("create", props=dict(props))
            return CreateResult(f"id-{int(props['size'])}", {**props, "double": props["size"] * 2})

        def update(self, id_, olds, news):
            note("update", id=id_, olds=dict(olds), news=dict(news))
            return UpdateResult({**news, "double": news["size"] * 2})

        def delete(self, id_, props):
            note("delete", id=id_, props=dict(props))

    class Thing(Resource, module="test", name="Thing"):
        double: pulumi.Output[float]
        def __init__(self, name, size, opts=None, **more):
            super().__init__(Provider(), name, {"size": size, "double": None, **more}, opts)
"""


def calls(project: Project) -> list[dict[str, Any]]:
    file = project.folder / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return [json.loads(line) for line in lines]


def methods(project: Project) -> list[str]:
    return [call["method"] for call in calls(project)]


@pytest.fixture
def thing(project: Project) -> Project:
    set_size(project, 1)
    return project


def set_size(project: Project, size: object, more: str = "") -> None:
    project.write(
        f"""
    import pulumi
    from things import Thing
    thing = Thing("thing", {size}{more})
    pulumi.export("double", thing.double)
    pulumi.export("id", thing.id)
    """,
        things=RECORDER,
    )


def test_the_life_of_a_resource(thing: Project) -> None:
    assert thing.up().outputs == {"double": 2, "id": "id-1"}
    checked = {"size": 1.0, "defaulted": True}
    assert calls(thing) == [
        {"method": "check", "olds": {}, "news": {"size": 1.0}},
        {"method": "create", "props": checked},
    ]
    assert thing.up().steps() == []
    assert calls(thing) == [
        {"method": "check", "olds": checked, "news": {"size": 1.0}},
        {"method": "diff", "id": "id-1", "olds": {**checked, "double": 2.0}, "news": checked},
    ]
    set_size(thing, 3)
    ran = thing.up()
    assert ran.steps() == ["update thing"]
    assert ran.outputs == {"double": 6, "id": "id-1"}
    assert calls(thing)[-1] == {
        "method": "update",
        "id": "id-1",
        "olds": {**checked, "double": 2.0},
        "news": {**checked, "size": 3.0},
    }
    thing.destroy()
    assert calls(thing) == [
        {"method": "delete", "id": "id-1", "props": {"size": 3.0, "defaulted": True, "double": 6.0}}
    ]


@pytest.mark.parametrize(
    ("mode", "steps", "made"),
    [
        ("", ["update thing"], ["update"]),
        ("unsure", ["update thing"], ["update"]),
        ("replace", ["replace thing"], ["create", "delete"]),
        ("replace first", ["replace thing"], ["delete", "create"]),
    ],
)
def test_what_diff_answers_is_done(
    thing: Project, monkeypatch: pytest.MonkeyPatch, mode: str, steps: list[str], made: list[str]
) -> None:
    thing.up()
    calls(thing)
    monkeypatch.setenv("DIFF", mode)
    assert thing.up().steps() == []
    set_size(thing, 3)
    calls(thing)
    assert thing.up().steps() == steps
    assert [each for each in methods(thing) if each not in ("check", "diff")] == made
    assert thing.resources()["thing"]["id"] == ("id-1" if made == ["update"] else "id-3")


def test_failures_of_check_are_shown_by_property(thing: Project) -> None:
    set_size(thing, 13)
    for run in (thing.preview, thing.up):
        ran = run()
        assert not ran.ok
        assert "size: is unlucky; name: too" in ran.text
        assert methods(thing) == ["check"]


def test_a_preview_checks_and_compares_with_unknowns_and_does_no_more(thing: Project) -> None:
    thing.write(
        """
    import pulumi
    from things import Thing
    first = Thing("first", 1)
    Thing("second", first.double, deep={"list": [first.double]})
    """,
        things=RECORDER,
    )
    assert thing.preview().steps() == ["create first", "create second"]
    assert calls(thing)[1] == {
        "method": "check",
        "olds": {},
        "news": {"size": "Unknown", "deep": {"list": ["Unknown"]}},
    }
    thing.up()
    calls(thing)
    text = (thing.folder / "__main__.py").read_text().replace('Thing("first", 1)', 'Thing("first", 5)')
    (thing.folder / "__main__.py").write_text(text)
    preview = thing.preview()
    assert preview.steps() == ["update first", "update second"]
    assert 'size: 2 -> "[unknown]"' in preview.text
    assert [call["method"] for call in calls(thing)] == ["check", "diff", "check", "diff"]


def test_an_exception_is_told_with_where_it_was_raised(thing: Project) -> None:
    broken = """
    from pulumi.dynamic import *
    class Broken(ResourceProvider):
        def create(self, props):
            raise KeyError("reason")
    class Thing(Resource):
        def __init__(self, name):
            super().__init__(Broken(), name, {})
    """
    thing.write("from broken import Thing", 'Thing("thing")', broken=broken)
    ran = thing.up()
    assert not ran.ok
    assert "its provider's create failed: KeyError: 'reason'" in ran.text
    assert 'broken.py", line' in ran.text


def test_a_provider_that_cannot_be_imported_any_more_is_named(thing: Project, tmp_path: Path) -> None:
    thing.up()
    (thing.folder / "things.py").rename(thing.folder / "moved.py")
    code, text = thing.command("destroy", "--yes")
    assert code == 1
    assert "its provider cannot be loaded: No module named 'things'" in text
    (thing.folder / "moved.py").rename(thing.folder / "things.py")
    code, _ = thing.command("destroy", "--yes")
    assert code == 0


def test_a_provider_gets_the_configuration_also_when_destroying(project: Project) -> None:
    (project.folder / "Pulumi.dev.yaml").write_text("config: {project:where: here}")
    project.write(
        """
    from things import Thing
    Thing("thing")
    """,
        things="""
    import os
    from pulumi.dynamic import *
    class Provider(ResourceProvider):
        def configure(self, request):
            self.where = request.config.require("where")
        def create(self, props):
            return CreateResult(self.where, {})
        def delete(self, id_, props):
            open(os.path.join(os.path.dirname(__file__), "deleted"), "w").write(self.where)
    class Thing(Resource):
        def __init__(self, name):
            super().__init__(Provider(), name, {})
    """,
    )
    assert project.up().ok
    assert project.resources()["thing"]["id"] == "here"
    code, text = project.command("destroy", "--yes")
    assert code == 0, text
    assert (project.folder / "deleted").read_text() == "here"


def test_a_pickled_provider_that_did_not_change_is_no_change(thing: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFF", "unsure")
    thing.up()
    code, text = thing.command("up")
    assert code == 0
    assert "nothing changed" in text
