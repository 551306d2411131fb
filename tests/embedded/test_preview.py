"""A preview shows what `up` would do, and does nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.embedded.conftest import Project
from tests.embedded.test_run import LOCAL, journal


def test_a_preview_of_nothing_yet_leaves_no_trace(project: Project, tmp_path: Path) -> None:
    project.write(
        LOCAL,
        """
    a = command("a")
    b = command("b", a.stdout.apply(lambda text: text.upper()), stdin=pulumi.Output.secret("hidden"))
    pulumi.export("out", b.stdout)
    pulumi.export("known", 1)
    """,
    )
    preview = project.preview()
    assert preview.ok
    assert preview.steps() == ["create a", "create b"]
    assert "  + command:local:Command a: create" in preview.text
    assert "+ 3 to create" in preview.text
    assert 'out    "[unknown]"' in preview.text
    assert journal(project) == []
    assert not (tmp_path / "state").exists()


def test_a_preview_of_changes_shows_them_with_their_values(project: Project) -> None:
    program = """
    a = command("a", "{0}")
    command("b", stdin=pulumi.Output.secret("{0}"), environment={{"x": "{0}"}},
            opts=Options(hide_diffs=["environment"]))
    command("c", triggers=["{0}"])
    if "{0}" == "one": command("d", opts=Options(depends_on=[a]))
    else: local.Command("e", create=pulumi.Output.concat("echo ", a.stdout))
    """
    project.write(LOCAL, program.format("one"))
    project.up()
    journal(project)
    state = project.state_file.read_bytes()
    project.write(LOCAL, program.format("two"))
    preview = project.preview()
    assert sorted(preview.steps()) == ["create e", "delete d", "replace c", "update a", "update b"]
    for line in (
        "  ~ command:local:Command a: update [create, delete]",
        "  ~ command:local:Command b: update [environment, stdin]",
        "       stdin: [secret]",
        "       environment: changed",
        " +- command:local:Command c: replace [triggers]",
        '       triggers: ["one"] -> ["two"]',
        "  + command:local:Command e: create",
        "  - command:local:Command d: delete",
        "+ 1 to create, ~ 2 to update, +- 1 to replace, - 1 to delete",
    ):
        assert line in preview.text
    assert journal(project) == []
    assert project.state_file.read_bytes() == state
    done = project.up()
    assert sorted(done.steps()) == sorted(preview.steps()), "up does what the preview said"


def test_a_long_list_or_mapping_shows_what_changes_an_item_a_line(project: Project) -> None:
    program = """
    command("a", triggers=["stays", "--{0} leaves", *["a sentence that takes its place"] * 3])
    command("b", environment={{"A": "stays", "B": "{0}", "C{0}": "1", "D": "of some length, of some length"}})
    command("c", environment={{"A": "{0}"}})
    """
    project.write(LOCAL, program.format("one"))
    project.up()
    project.write(LOCAL, program.format("two"))
    lines = project.preview().text.splitlines()
    triggers, environment = lines.index("       triggers:"), lines.index("       environment:")
    assert lines[triggers + 1 : triggers + 7] == [
        "           stays",
        "         - --one leaves",
        "         + --two leaves",
        *["           a sentence that takes its place"] * 3,
    ]
    assert lines[environment + 1 : environment + 5] == [
        '         - B: "one"',
        '         - Cone: "1"',
        '         + B: "two"',
        '         + Ctwo: "1"',
    ], "what stays of a mapping does not show"
    assert '       environment: {"A": "one"} -> {"A": "two"}' in lines, "what is short stays on its line"


def test_a_preview_without_changes_says_so(project: Project) -> None:
    project.write(LOCAL, 'pulumi.export("out", command("a").stdout)')
    project.up()
    preview = project.preview()
    assert "no changes, 2 unchanged" in preview.text
    assert preview.outputs == {"out": "out-a"}


def test_a_preview_touches_no_network(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    project.write(
        LOCAL,
        """
    from pulumi_command import remote
    a = command("a")
    for i, host in enumerate([a.stdout, "192.0.2.1"]):
        remote.Command(f"r{i}", create="true",
                       connection=remote.ConnectionArgs(host=host, private_key=a.stdout, host_key="ssh-ed25519 AAAA"))
    remote.Command("unknown", create="true", connection=a.stdout.apply(lambda text: {"host": text}))
    """,
    )
    monkeypatch.setattr(socket.socket, "connect", refuse)
    preview = project.preview()
    assert preview.ok, preview.text
    assert sorted(preview.steps()) == ["create a", "create r0", "create r1", "create unknown"]


def test_a_protected_resource_shows_in_the_preview_already(project: Project) -> None:
    project.write(LOCAL, 'command("a", opts=Options(protect=True))')
    project.up()
    project.write(LOCAL)
    preview = project.preview()
    assert not preview.ok
    assert "is protected: nothing is deleted" in preview.text
