"""Hooks of resources: functions of the program, called at the points of a resource's life they are bound to."""

from __future__ import annotations

from tests.embedded.conftest import Project
from tests.embedded.test_run import LOCAL, journal

HOOKS = """
    from pulumi import ResourceHook, ResourceHookBinding, ResourceHookOptions

    def write(text):
        with open(JOURNAL, "a") as file:
            file.write(text + "\\n")

    def recording(kind, **options):
        def run(args):
            def has(values): return "-" if values is None else "+"
            write(f"{kind} {args.name} {has(args.new_inputs)}{has(args.old_inputs)}"
                  f"{has(args.new_outputs)}{has(args.old_outputs)}")
        return ResourceHook(f"record-{kind}", run, ResourceHookOptions(**options))

    KINDS = ["before_create", "after_create", "before_update", "after_update", "before_delete", "after_delete"]
"""


def test_each_hook_gets_what_it_is_promised(project: Project) -> None:
    program = """
    hooks = ResourceHookBinding(**{kind: [recording(kind)] for kind in KINDS})
    if %r: command("a", %r, opts=Options(hooks=hooks))
    """
    project.write(LOCAL, HOOKS, program % (True, "one"))
    assert project.preview().ok
    assert journal(project) == [], "not in a preview, unless asked for"
    assert project.up().ok
    assert journal(project) == ["before_create a +---", "create a one", "after_create a +-+-"]
    project.write(LOCAL, HOOKS, program % (True, "two"))
    assert project.up().ok
    assert journal(project) == ["before_update a ++-+", "create a two", "after_update a ++++"]
    project.write(LOCAL, HOOKS, program % (False, ""))
    assert project.up().ok
    assert journal(project) == ["before_delete a -+-+", "delete a two", "after_delete a -+-+"]


def test_hooks_run_in_a_preview_where_asked_for(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    hook = recording("before_create", on_dry_run=True)
    command("a", opts=Options(hooks=ResourceHookBinding(before_create=[hook])))
    """,
    )
    project.preview()
    assert journal(project) == ["before_create a +---"]


def test_hooks_of_a_component_run_around_its_children(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    class Pair(pulumi.ComponentResource):
        def __init__(self, name, opts):
            super().__init__("pkg:index:Pair", name, {"size": 2}, opts)
            child = command("child", opts=Options(parent=self))
            self.register_outputs({"out": child.stdout})
    Pair("pair", Options(hooks=ResourceHookBinding(
        before_create=[recording("before_create")], after_create=[recording("after_create")])))
    """,
    )
    assert project.up().ok
    assert journal(project) == ["before_create pair +---", "create child", "after_create pair +-+-"]


def test_a_failing_hook_before_a_step_stops_the_step(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    def refuse(args): raise ValueError("not today")
    command("a", opts=Options(hooks=ResourceHookBinding(before_create=[ResourceHook("refuse", refuse)])))
    """,
    )
    ran = project.up()
    assert not ran.ok
    assert "before hook 'refuse' failed: not today" in ran.text
    assert journal(project) == []


def test_a_failing_hook_after_a_step_fails_the_run_but_the_step_is_done(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    async def check(args): raise ValueError("unhealthy")
    a = command("a", opts=Options(hooks=ResourceHookBinding(after_create=[ResourceHook("check", check)])))
    command("b", opts=Options(depends_on=[a]))
    """,
    )
    ran = project.up()
    assert not ran.ok
    assert "after hook 'check' failed: unhealthy" in ran.text
    assert "a" in project.resources()
    assert journal(project) == ["create a"], "what depends on it is not begun"


def test_a_failing_hook_that_may_fail_is_a_warning(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    def check(args): raise ValueError("meh")
    hook = ResourceHook("check", check, ResourceHookOptions(ignore_errors=True))
    command("a", opts=Options(hooks=ResourceHookBinding(after_create=[hook])))
    """,
    )
    ran = project.up()
    assert ran.ok
    assert "warning: a: after create hook 'check' failed: meh" in ran.text


def test_an_error_hook_has_a_failed_step_tried_again(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    def retry(args):
        write(f"{args.failed_operation} {args.name} failed {len(args.errors)}: {'exit status 3' in args.errors[0]}")
        return True
    local.Command("a", create=f"echo try >> {JOURNAL}; [ $(grep -c try {JOURNAL}) = 3 ] || exit 3",
                  opts=Options(hooks=ResourceHookBinding(on_error=[pulumi.ErrorHook("retry", retry)])))
    """,
    )
    ran = project.up()
    assert ran.ok
    assert journal(project) == ["try", "create a failed 1: True", "try", "create a failed 2: True", "try"]
    assert "warning: a: retrying create due to on-error hook request (2/100)" in ran.text


def test_tries_end_at_a_hundred(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    local.Command("a", create=f"echo try >> {JOURNAL}; exit 3",
                  opts=Options(hooks=ResourceHookBinding(on_error=[pulumi.ErrorHook("retry", lambda args: True)])))
    """,
    )
    ran = project.up()
    assert not ran.ok
    assert "maximum number of error hook retries (100) reached" in ran.text
    assert len(journal(project)) == 100


def test_secrets_reach_a_hook_as_outputs(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        """
    def look(args): write(type(args.new_inputs["stdin"]).__name__)
    hook = ResourceHook("look", look)
    local.Command("a", create="true", stdin=pulumi.Output.secret("hidden"),
                  opts=Options(hooks=ResourceHookBinding(before_create=[hook])))
    """,
    )
    assert project.up().ok
    assert journal(project) == ["Output"]


def test_destroy_without_the_program_names_the_hook_it_misses(project: Project) -> None:
    project.write(
        LOCAL,
        HOOKS,
        'command("a", opts=Options(hooks=ResourceHookBinding(before_delete=[recording("before_delete")])))',
    )
    project.up()
    journal(project)
    ran = project.destroy()
    assert not ran.ok
    assert "hook 'record-before_delete' was not registered" in ran.text
    assert journal(project) == []
