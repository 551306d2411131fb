"""Whole runs of small programs: what happens to their resources, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedded_engine.deployment import Deployment
from embedded_engine.state import StateError
from tests.embedded.conftest import Project

# Appends a line to the journal: what really ran, in order.
LOCAL = """
    import os
    import pulumi
    from pulumi import ResourceOptions as Options
    from pulumi_command import local

    JOURNAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "journal")

    def command(name, text="", opts=None, **more):
        return local.Command(
            name,
            create=f"echo create {name} {text} >> {JOURNAL}; echo out-{name}{text}",
            delete=f"echo delete {name} {text} >> {JOURNAL}",
            opts=opts,
            **more,
        )
"""


def journal(project: Project) -> list[str]:
    file = project.folder / "journal"
    lines = [line.strip() for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_up_creates_then_changes_nothing_then_destroy_deletes(project: Project) -> None:
    project.write(
        LOCAL,
        """
    a = command("a")
    b = command("b", a.stdout and "", opts=Options(depends_on=[a]))
    pulumi.export("out", a.stdout)
    pulumi.export("port", 2379)
    """,
    )
    first = project.up()
    assert first.ok
    assert first.steps() == ["create a", "create b"]
    assert first.outputs == {"out": "out-a", "port": 2379}
    assert journal(project) == ["create a", "create b"]
    state = project.state_file.read_bytes()

    second = project.up()
    assert second.ok
    assert second.steps() == []
    assert "nothing changed, 3 unchanged" in second.text
    assert second.outputs == first.outputs
    assert journal(project) == []
    assert project.state_file.read_bytes() == state, "a run without changes leaves the file as it is"

    gone = project.destroy()
    assert gone.ok
    assert gone.steps() == ["delete b", "delete a"]
    assert journal(project) == ["delete b", "delete a"]
    assert project.resources() == {}


def test_outputs_take_a_line_each_and_the_page_for_pulumi_cloud_none(project: Project) -> None:
    project.write(LOCAL, 'pulumi.export("readme", "# A page"); pulumi.export("pem", "line\\n" * 99)')
    ran = project.up()
    shown = ran.text[ran.text.index("Outputs:") :].splitlines()
    assert shown[1].startswith('    pem  "line\\nline')
    assert len(shown[1]) < 80
    assert "1 created" in shown[2]
    assert ran.outputs["readme"] == "# A page"


def test_names_follow_the_engine(project: Project) -> None:
    project.write(
        LOCAL,
        """
    class Outer(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("pkg:index:Outer", name, {}, opts)
            inner = Inner("i", Options(parent=self))
            command("deep", opts=Options(parent=inner))
            self.register_outputs({"answer": 42})
    class Inner(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("pkg:index:Inner", name, {}, opts)
    Outer("o")
    command("top")
    """,
    )
    assert project.up().ok
    assert {name: each["urn"] for name, each in project.resources().items()} == {
        "project-dev": "urn:pulumi:dev::project::pulumi:pulumi:Stack::project-dev",
        "o": "urn:pulumi:dev::project::pkg:index:Outer::o",
        "i": "urn:pulumi:dev::project::pkg:index:Outer$pkg:index:Inner::i",
        "deep": "urn:pulumi:dev::project::pkg:index:Outer$pkg:index:Inner$command:local:Command::deep",
        "top": "urn:pulumi:dev::project::command:local:Command::top",
    }
    assert project.resources()["o"]["outputs"] == {"answer": 42.0}


def test_two_resources_of_one_name_are_an_error(project: Project) -> None:
    project.write(LOCAL, 'command("a", opts=Options(protect=False)); command("a", "again")')
    ran = project.up()
    assert not ran.ok
    assert "two resources of the program have the URN urn:pulumi:dev::project::command:local:Command::a" in ran.text


@pytest.mark.parametrize(
    ("update", "expected"),
    [("", ["create a two"]), (", update=f'echo update a >> {JOURNAL}'", ["update a"])],
    ids=["create again", "update"],
)
def test_a_changed_input_updates_in_place(project: Project, update: str, expected: list[str]) -> None:
    project.write(LOCAL, f'command("a", "one"{update})')
    project.up()
    journal(project)
    project.write(LOCAL, f'command("a", "two"{update})')
    ran = project.up()
    assert ran.steps() == ["update a"]
    assert journal(project) == expected


def test_triggers_replace_and_the_new_one_is_there_before_the_old_one_goes(project: Project) -> None:
    program = 'a = command("a", "{0}", triggers=["{0}"]); command("b", opts=Options(depends_on=[a]))'
    project.write(LOCAL, program.format("one"))
    project.up()
    journal(project)
    project.write(LOCAL, program.format("two"))
    preview = project.preview()
    assert "+- command:local:Command a: replace [triggers]" in preview.text
    assert journal(project) == []
    ran = project.up()
    assert ran.steps() == ["replace a"]
    assert journal(project) == ["create a two", "delete a one"]
    assert project.up().steps() == []
    project.write(LOCAL, program.format("two").replace(', triggers=["two"]', ""))
    assert project.up().steps() == ["replace a"], "taking the triggers away is a change of them"


def test_delete_before_replace_deletes_dependents_that_must_be_replaced_too(project: Project) -> None:
    program = """
    first = command("first", "{0}", triggers=["{0}"], opts=Options(delete_before_replace=True))
    falls = command("falls", triggers=[first.stdout], opts=Options(depends_on=[first]))
    stays = command("stays", opts=Options(depends_on=[first]))
    """
    project.write(LOCAL, program.format("one"))
    project.up()
    journal(project)
    project.write(LOCAL, program.format("two"))
    ran = project.up()
    assert ran.ok
    assert sorted(ran.steps()) == ["replace falls", "replace first"]
    assert journal(project) == ["delete falls", "delete first one", "create first two", "create falls"]


def test_a_failed_delete_before_replace_is_completed_by_the_next_run(project: Project) -> None:
    program = 'command("a", "{0}", triggers=["{0}"], opts=Options(delete_before_replace=True))'
    project.write(LOCAL, program.format("one"))
    project.up()
    journal(project)
    project.write(LOCAL, program.format("two; exit 3; "))
    assert not project.up().ok
    assert project.resources()["a"]["pending_replacement"] is True
    assert journal(project) == ["delete a one"]
    project.write(LOCAL, program.format("two"))
    assert project.up().steps() == ["replace a"]
    assert journal(project) == ["create a two"], "what was deleted is not deleted again"


def test_what_is_no_longer_in_the_program_is_deleted_last_dependents_first(project: Project) -> None:
    project.write(
        LOCAL,
        """
    a = command("a")
    b = command("b", opts=Options(depends_on=[a]))
    c = command("c", opts=Options(depends_on=[b]))
    """,
    )
    project.up()
    journal(project)
    project.write(LOCAL, 'command("new")')
    assert project.up().ok
    assert journal(project) == ["create new", "delete c", "delete b", "delete a"]
    assert set(project.resources()) == {"project-dev", "new"}


def test_deleted_with_spares_the_call_and_replacement_of_the_target_replaces(project: Project) -> None:
    program = """
    machine = command("machine", "{0}", triggers=["{0}"])
    command("on-it", opts=Options(deleted_with=machine))
    """
    project.write(LOCAL, program.format("one"))
    project.up()
    journal(project)
    project.write(LOCAL, program.format("two"))
    ran = project.up()
    assert ran.steps() == ["replace machine", "replace on-it"]
    assert journal(project) == ["create machine two", "create on-it", "delete machine one"]
    project.destroy()
    assert journal(project) == ["delete machine two"]


def test_deleted_with_alone_still_deletes(project: Project) -> None:
    project.write(LOCAL, 'm = command("machine"); command("on-it", opts=Options(deleted_with=m))')
    project.up()
    journal(project)
    project.write(LOCAL, 'm = command("machine")')
    project.up()
    assert journal(project) == ["delete on-it"]


def test_a_protected_resource_stops_the_deletion_of_everything(project: Project) -> None:
    project.write(LOCAL, 'a = command("a", opts=Options(protect=True)); command("b", opts=Options(depends_on=[a]))')
    project.up()
    journal(project)
    for ran in (project.destroy(),):
        assert not ran.ok
        assert "urn:pulumi:dev::project::command:local:Command::a is protected: nothing is deleted" in ran.text
    project.write(LOCAL)
    assert not project.up().ok
    assert journal(project) == []
    project.write(LOCAL, 'command("a", triggers=[1], opts=Options(protect=True))')
    project.up()
    project.write(LOCAL, 'command("a", triggers=[2], opts=Options(protect=True))')
    replaced = project.up()
    assert not replaced.ok
    assert "has to be replaced, and is protected" in replaced.text
    journal(project)
    project.write(LOCAL, 'command("a", triggers=[1])')
    assert project.up().ok
    assert project.destroy().ok


def test_retained_resources_are_forgotten_without_a_call(project: Project) -> None:
    project.write(LOCAL, 'command("a", opts=Options(retain_on_delete=True))')
    project.up()
    journal(project)
    assert project.destroy().steps() == ["forget a"]
    assert journal(project) == []


def test_ignored_changes_are_no_changes(project: Project) -> None:
    project.write(LOCAL, 'command("a", "one", opts=Options(ignore_changes=["create", "delete"]))')
    project.up()
    journal(project)
    project.write(LOCAL, 'command("a", "two", opts=Options(ignore_changes=["create", "delete"]))')
    assert project.up().steps() == []
    assert journal(project) == []


def test_a_failed_step_ends_the_run_and_what_was_done_is_kept(project: Project) -> None:
    project.write(
        LOCAL,
        """
    good = command("good")
    wait = f"until [ -e {JOURNAL}.slow ]; do sleep 0.02; done"
    bad = local.Command("bad", create=f"{wait}; echo why >&2; exit 7", opts=Options(depends_on=[good]))
    never = command("never", opts=Options(depends_on=[bad]))
    slow = local.Command("slow", create=f"touch {JOURNAL}.slow; sleep 1", opts=Options(depends_on=[good]))
    pulumi.export("x", never.stdout)
    """,
    )
    ran = project.up()
    assert not ran.ok
    assert 'exit status 7: running "until' in ran.text
    assert 'echo why >&2; exit 7":' in ran.text
    assert "     why" in ran.text
    assert "Traceback" not in ran.text
    assert journal(project) == ["create good"]
    assert {"good", "slow"} <= set(project.resources()), "what was under way is waited for and kept"
    assert "never" not in project.resources()
    assert "bad" not in project.resources()


def test_after_a_failure_nothing_is_deleted(project: Project) -> None:
    project.write(LOCAL, 'command("old")')
    project.up()
    journal(project)
    project.write(LOCAL, 'local.Command("bad", create="exit 1")')
    assert not project.up().ok
    assert "old" in project.resources()
    project.write("raise ValueError('what went wrong')")
    ran = project.up()
    assert not ran.ok
    assert "ValueError: what went wrong" in ran.text
    assert "old" in project.resources()
    assert journal(project) == []


def test_what_a_program_says_of_its_input_is_shown_without_a_trace(project: Project) -> None:
    project.write("import pulumi\nraise pulumi.RunError('size: huge: unknown; choose a smaller one')")
    run = project.preview()
    assert not run.ok
    assert "error: size: huge: unknown; choose a smaller one\n" in run.text
    assert "__main__.py" not in run.text


def test_a_failed_deletion_stays_in_the_state(project: Project) -> None:
    project.write(
        LOCAL,
        """
    base = command("base")
    local.Command("stuck", create="true", delete="exit 4", opts=Options(depends_on=[base]))
    """,
    )
    project.up()
    journal(project)
    ran = project.destroy()
    assert not ran.ok
    assert "exit status 4" in ran.text
    assert {"base", "stuck"} <= set(project.resources())
    assert journal(project) == []


def test_a_failed_run_keeps_the_outputs_it_could_not_renew(project: Project) -> None:
    project.write(LOCAL, 'pulumi.export("kept", command("a").stdout); pulumi.export("new", "1")')
    project.up()
    project.write(LOCAL, 'pulumi.export("new", "2"); raise ValueError("after that")')
    assert project.up().outputs == {"kept": "out-a", "new": "2"}


def test_long_output_of_a_failure_is_cut_to_its_end(project: Project) -> None:
    project.write(LOCAL, 'local.Command("a", create="seq 1 500; exit 1")')
    lines = project.up().text.splitlines()
    assert "     500" in lines
    assert "     461" in lines
    assert "     460" not in lines


def test_independent_commands_run_at_the_same_time(project: Project) -> None:
    # Each waits until all the others have come: one after the other they would wait for ever.
    project.write(
        LOCAL,
        """
    folder = os.path.dirname(JOURNAL)
    for i in range(40):
        local.Command(f"c{i}", create=f"touch {folder}/come{i}; "
                                      f"until [ $(ls {folder}/come* | wc -l) = 40 ]; do sleep 0.05; done",
                      opts=Options(custom_timeouts=pulumi.CustomTimeouts(create="30s")))
    """,
    )
    ran = project.up()
    assert ran.ok, ran.text
    assert len(ran.steps()) == 40


def test_a_custom_timeout_ends_a_command(project: Project) -> None:
    project.write(
        LOCAL,
        """
    local.Command("a", create="echo begun; sleep 60",
                  opts=Options(custom_timeouts=pulumi.CustomTimeouts(create="1s")))
    """,
    )
    ran = project.up()
    assert not ran.ok
    assert "timed out after 1 s" in ran.text
    assert "begun" in ran.text


def test_a_command_gets_its_directory_environment_input_and_earlier_output(project: Project, tmp_path: Path) -> None:
    project.write(
        LOCAL,
        f"""
    a = local.Command("a", dir="{tmp_path}", environment={{"NAME": "v"}}, stdin="given",
                      interpreter=["/bin/bash", "-c"],
                      create='pwd; echo $NAME; cat; echo; echo ${{BASH_VERSION:+bash}}',
                      update='echo before: $PULUMI_COMMAND_STDOUT', triggers=[])
    pulumi.export("out", a.stdout)
    """,
    )
    assert project.up().outputs == {"out": f"{tmp_path}\nv\ngiven\nbash"}
    text = (project.folder / "__main__.py").read_text().replace('"v"', '"w"')
    (project.folder / "__main__.py").write_text(text)
    assert project.up().outputs == {"out": f"before: {tmp_path} v given bash"}


@pytest.mark.parametrize(
    ("logging", "shown"),
    [("None", True), ("local.Logging.NONE", False), ("local.Logging.STDOUT", False), ("local.Logging.STDERR", True)],
)
def test_lines_on_stderr_are_shown_with_the_name_unless_logging_says_no(
    project: Project, logging: str, shown: bool
) -> None:
    project.write(LOCAL, f'local.Command("a", create="echo progress >&2", logging={logging})')
    assert ("a: progress" in project.up().text) is shown


def test_the_operations_of_a_run_need_no_more_than_the_program(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens within this package while a step is carried out, the run fails and says where."""
    project.write(LOCAL, 'command("a")')

    def defect(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Deployment, "_apply", defect)
    ran = project.up()
    assert not ran.ok
    assert "unexpected: a defect" in ran.text


@pytest.mark.parametrize(
    ("program", "feature"),
    [
        (
            """
            class Thing(pulumi.CustomResource):
                def __init__(self): super().__init__("aws:s3/bucket:Bucket", "b", {})
            Thing()
            """,
            "resource type aws:s3/bucket:Bucket",
        ),
        ("pulumi.runtime.invoke('aws:index:ami', {})", "function aws:index:ami"),
        ('command("a", opts=Options(import_="x"))', "`import_` of a"),
        ('command("a", opts=Options(aliases=[pulumi.Alias(name="b")]))', "`aliases` of a"),
        ('command("a", archive_paths=["*"])', "archivePaths"),
        ("pulumi.runtime.register_resource_transform(lambda args: None)", "register_resource_transform"),
        ('command("a", opts=Options(transforms=[lambda args: None]))', "`transforms` of a"),
        ('a = command("a"); command("b", opts=Options(replace_with=[a]))', "`replace_with` of b"),
        ('command("a", opts=Options(ignore_changes=["x[0]"]))', "`ignore_changes` of a with the path x[0]"),
        ('command("a", opts=Options(replace_on_changes=["x.y"]))', "`replace_on_changes` of a with the path x.y"),
        (
            """
            hook = pulumi.ResourceHook("look", lambda args: None)
            command("a", opts=Options(hooks=pulumi.ResourceHookBinding(after_create=[hook])))
            """,
            "ResourceHook look",
        ),
        (
            """
            hook = pulumi.ErrorHook("again", lambda args: True)
            command("a", opts=Options(hooks=pulumi.ResourceHookBinding(on_error=[hook])))
            """,
            "ErrorHook again",
        ),
        (
            'pulumi.StackReference("organization/project/dev")',
            "reading organization/project/dev of type pulumi:pulumi:StackReference",
        ),
        (
            "class C(pulumi.ComponentResource): ...\nC('pkg:index:C', 'c', {}, None, remote=True)",
            "pkg:index:C, a component of another package",
        ),
    ],
)
def test_what_only_the_pulumi_cli_can_do_is_refused_by_name(project: Project, program: str, feature: str) -> None:
    project.write(LOCAL, program)
    for ran in (project.preview(), project.up()):
        assert not ran.ok
        assert f"{feature}: not supported without the Pulumi CLI. Install the CLI" in ran.text
        assert "Traceback" not in ran.text


def test_configuration_reaches_the_program(project: Project) -> None:
    (project.folder / "Pulumi.dev.yaml").write_text("config: {project:a: {b: [1]}, project:n: 5}")
    project.write(
        """
    import pulumi
    config = pulumi.Config()
    pulumi.export("a", config.require_object("a"))
    pulumi.export("n", config.require_int("n"))
    pulumi.export("names", [pulumi.get_project(), pulumi.get_stack()])
    """
    )
    assert project.up().outputs == {"a": {"b": [1]}, "n": 5, "names": ["project", "dev"]}


def test_a_resource_can_be_handed_to_another_one(project: Project) -> None:
    project.write(
        LOCAL,
        """
    a = command("a")
    pulumi.export("same", pulumi.Output.all(a.id, a.stdout).apply(lambda pair: pair[0].startswith("a") and pair[1]))
    """,
    )
    assert project.up().outputs == {"same": "out-a"}


def test_what_a_program_logs_is_shown(project: Project) -> None:
    project.write('import pulumi; pulumi.log.warn("take care"); pulumi.log.info("so it is")')
    text = project.up().text
    assert "warning: take care" in text
    assert "info: so it is" in text


@pytest.mark.parametrize("stack", ["../other", ".hidden", "a/b", ""])
def test_a_stack_has_a_plain_name(project: Project, stack: str) -> None:
    from embedded_engine.project import ProjectError

    project.write(LOCAL)
    project.stack = stack
    with pytest.raises(ProjectError, match="is not a name for a stack"):
        project.up()


def test_a_state_that_cannot_be_written_fails_the_step(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from embedded_engine import state

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    project.write(LOCAL, 'command("a")')
    monkeypatch.setattr(state, "write_atomically", full)
    ran = project.up()
    assert not ran.ok
    assert f"cannot write the state file {project.state_file}: No space left on device" in ran.text
    assert "Traceback" not in ran.text


def test_a_state_file_that_was_given_another_stacks_name_is_refused_before_anything_is_touched(
    project: Project,
) -> None:
    project.write("import pulumi", 'pulumi.export("answer", 42)')
    project.up()
    before = project.state_file
    project.stack = "production"
    before.rename(project.state_file)
    text = project.state_file.read_text()
    for run in (project.preview, project.up, project.destroy):
        with pytest.raises(StateError, match=r"is the state of stack dev of project project, .* name again: dev\.json"):
            run()
    assert project.state_file.read_text() == text
