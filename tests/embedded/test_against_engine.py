"""The same programs through the real Pulumi engine and through the embedded one: same steps, same effects, same state.

Runs where the Pulumi CLI and its command plugin are installed, and is skipped elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.embedded import sshd
from tests.embedded.conftest import Project
from tests.embedded.test_dynamic import RECORDER
from tests.embedded.test_run import LOCAL, journal
from tests.embedded.test_secrets import VAULT

CLI = shutil.which("pulumi")
pytestmark = pytest.mark.skipif(CLI is None, reason="the Pulumi CLI is not installed")

# Programs that follow each other on one stack. None stands for `destroy`.
STORIES: dict[str, list[str | None]] = {
    "create, keep, update, destroy": [
        'a = command("a"); command("b", opts=Options(depends_on=[a])); pulumi.export("out", a.stdout)',
        'a = command("a"); command("b", opts=Options(depends_on=[a])); pulumi.export("out", a.stdout)',
        'a = command("a", "two"); command("b", opts=Options(depends_on=[a])); pulumi.export("out", a.stdout)',
        'command("b"); pulumi.export("other", {"n": [1, 2.5, True, None, "x"]})',
        None,
    ],
    "triggers": [
        'command("a", triggers=["1", {"x": 1}])',
        'command("a", triggers=["1", {"x": 2}])',
        'command("a", triggers=["1", {"x": 2}, 3])',
        'command("a")',
        'command("a", triggers=["1"])',
        'command("a", triggers=["1"], stdin="x")',
        'command("a", triggers=["1"], stdin=pulumi.Output.secret("x"))',
        None,
    ],
    "delete before replace": [
        """
        first = command("first", "one", triggers=[1], opts=Options(delete_before_replace=True))
        falls = command("falls", triggers=[first.stdout])
        stays = command("stays", opts=Options(depends_on=[first]))
        reads = local.Command("reads", create=pulumi.Output.concat("echo ", first.stdout))
        """,
        """
        first = command("first", "two", triggers=[2], opts=Options(delete_before_replace=True))
        falls = command("falls", triggers=[first.stdout])
        stays = command("stays", opts=Options(depends_on=[first]))
        reads = local.Command("reads", create=pulumi.Output.concat("echo ", first.stdout))
        """,
        None,
    ],
    "a failure in a delete before replace": [
        'command("a", "one", triggers=[1], opts=Options(delete_before_replace=True))',
        'command("a", "two; exit 3;", triggers=[2], opts=Options(delete_before_replace=True))',
        'command("a", "two", triggers=[2], opts=Options(delete_before_replace=True))',
        None,
    ],
    "a failure in a create before delete": [
        'command("a", "one", triggers=[1])',
        'command("a", "two; exit 3;", triggers=[2])',
        'command("a", "two", triggers=[2])',
        None,
    ],
    "deleted with": [
        'm = command("m", "one", triggers=[1]); command("on", opts=Options(deleted_with=m))',
        'm = command("m", "two", triggers=[2]); command("on", opts=Options(deleted_with=m))',
        'm = command("m", "three", triggers=[3], opts=Options(delete_before_replace=True)); '
        'command("on", opts=Options(deleted_with=m))',
        'm = command("m", "three", triggers=[3])',
        'm = command("m", "three", triggers=[3]); command("on", opts=Options(deleted_with=m))',
        None,
    ],
    "options of replacement": [
        'command("m"); command("w", opts=Options(replacement_trigger="1"))',
        'command("m"); command("w", opts=Options(replacement_trigger="2"))',
        'command("m", "x", opts=Options(replace_on_changes=["create"])); command("w")',
        None,
    ],
    "protection and retention": [
        'command("p", opts=Options(protect=True)); command("r", opts=Options(retain_on_delete=True))',
        'command("p", triggers=[1], opts=Options(protect=True))',
        'command("p")',
        None,
    ],
    "ignored changes": [
        'command("a", "one", environment={"A": "1", "B": "1"}, opts=IGNORING)',
        'command("a", "two", environment={"A": "2", "B": "1"}, opts=IGNORING)',
        'command("a", "two", environment={"A": "3", "B": "2"}, opts=IGNORING)',
        None,
    ],
    "components": [
        """
        class Pair(pulumi.ComponentResource):
            def __init__(self, name, size, opts=None):
                super().__init__("pkg:index:Pair", name, {"size": size}, opts)
                self.inner = command(f"{name}-inner", opts=Options(parent=self))
                self.register_outputs({"out": self.inner.stdout, "size": size})
        pair = Pair("pair", 1)
        command("after", opts=Options(depends_on=[pair]))
        pulumi.export("out", pair.inner.stdout)
        """,
        """
        class Pair(pulumi.ComponentResource):
            def __init__(self, name, size, opts=None):
                super().__init__("pkg:index:Pair", name, {"size": size}, opts)
                self.inner = command(f"{name}-inner", opts=Options(parent=self))
                self.register_outputs({"size": size})
        pair = Pair("pair", 2)
        command("after", opts=Options(depends_on=[pair]))
        """,
        "",
        None,
    ],
    "dynamic resources": [
        'from things import Thing; t = Thing("t", 1); pulumi.export("d", t.double); Thing("u", t.double)',
        'from things import Thing; t = Thing("t", 1); pulumi.export("d", t.double); Thing("u", t.double)',
        'from things import Thing; t = Thing("t", 3); pulumi.export("d", t.double); Thing("u", t.double)',
        'from things import Thing; t = Thing("t", 13)',
        'from things import Thing; t = Thing("t", 3, pulumi.ResourceOptions(replace_on_changes=["size"]))',
        'from things import Thing; t = Thing("t", 4, pulumi.ResourceOptions(replace_on_changes=["size"]))',
        None,
    ],
    "secrets": [
        """
        from vault import Vault
        vault = Vault("vault", {"password": pulumi.Output.secret("hunter2"), "deep": {"a": pulumi.Output.secret(1)}})
        a = local.Command("a", create="true", stdin=vault.generated)
        pulumi.export("generated", vault.generated)
        pulumi.export("deep", vault.deep)
        pulumi.export("stdin", a.stdin)
        """,
        "",
    ],
    "a failure, and what follows it": [
        'command("old"); pulumi.export("kept", "1")',
        """
        good = command("good")
        bad = local.Command("bad", create="exit 1", opts=Options(depends_on=[good]))
        command("never", opts=Options(depends_on=[bad]))
        pulumi.export("new", "2")
        """,
        'command("good"); pulumi.export("new", "3")',
        'raise ValueError("x")',
        None,
    ],
    "earlier output": [
        'a = local.Command("a", create="echo one; echo e >&2"); pulumi.export("o", a.stdout)',
        'a = local.Command("a", create="echo $PULUMI_COMMAND_STDOUT$PULUMI_COMMAND_STDERR"); '
        'pulumi.export("o", a.stdout)',
        'a = local.Command("a"); pulumi.export("o", a.stdout)',
        'a = local.Command("a", create="echo x$PULUMI_COMMAND_STDOUT", add_previous_output_in_env=False); '
        'pulumi.export("o", a.stdout)',
        None,
    ],
}


PREPARED = """
    IGNORING = Options(ignore_changes=["create", "environment.A"])
"""
# What does not depend on each other has no order.
UNORDERED = {"delete before replace", "protection and retention", "options of replacement"}


class Engine:
    """The Pulumi CLI over a project, with a backend of its own."""

    def __init__(self, project: Project, home: Path) -> None:
        self._project = project
        home.mkdir()
        self._environment = {
            **os.environ,
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "PULUMI_BACKEND_URL": f"file://{home}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        self._run("stack", "init", "dev")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(CLI), *arguments, "--non-interactive"],
            cwd=self._project.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def preview(self) -> tuple[bool, list[str]]:
        return self._steps("preview", "--json")

    def up(self) -> tuple[bool, list[str]]:
        return self._steps("up", "--yes", "--skip-preview", "--json")

    def destroy(self) -> tuple[bool, list[str]]:
        return self._steps("destroy", "--yes", "--skip-preview", "--json")

    def _steps(self, *arguments: str) -> tuple[bool, list[str]]:
        ran = self._run(*arguments)
        found = []
        if arguments[0] == "preview":
            document = json.loads(ran.stdout) if ran.stdout.strip() else {}
            found = [(step["op"], step["urn"]) for step in document.get("steps", [])]
        else:
            for line in ran.stdout.splitlines():
                event = json.loads(line) if line.startswith("{") else {}
                if "resOutputsEvent" in event:
                    metadata = event["resOutputsEvent"]["metadata"]
                    found.append((metadata["op"], metadata["urn"]))
        return ran.returncode == 0, sorted({f"{op} {urn.split('::', 2)[2]}" for op, urn in found if _counts(op, urn)})

    def resources(self) -> dict[str, dict[str, Any]]:
        exported = json.loads(self._run("stack", "export", "--show-secrets").stdout)
        return {each["urn"]: each for each in exported["deployment"].get("resources") or []}

    def outputs(self) -> Any:
        ran = self._run("stack", "output", "--json", "--show-secrets")
        return json.loads(ran.stdout) if ran.stdout.strip() else {}


def _counts(operation: str, urn: str) -> bool:
    return operation in ("create", "update", "delete", "replace") and "pulumi:providers:" not in urn


def _embedded_steps(operations: list[tuple[str, str]]) -> list[str]:
    renamed = [("delete" if operation == "forget" else operation, urn) for operation, urn in operations]
    return sorted({f"{operation} {urn.split('::', 2)[2]}" for operation, urn in renamed if _counts(operation, urn)})


@pytest.mark.parametrize("story", STORIES)
def test_a_story_goes_the_same_way(project: Project, tmp_path: Path, story: str) -> None:
    follow(project, tmp_path, story, STORIES[story])


@pytest.mark.skipif(sshd.missing is not None, reason=sshd.missing or "")
def test_remote_commands_go_the_same_way(project: Project, tmp_path: Path) -> None:
    private, public = sshd.make_key(tmp_path / "id")
    with sshd.server(tmp_path / "sshd", public) as server:
        given = {
            "host": "127.0.0.1",
            "port": server.port,
            "user": sshd.user(),
            "private_key": private,
            "host_key": server.host_key,
        }
        begin = f"""
from pulumi_command import remote
def there(name, create, connection={given!r}, **more):
    return remote.Command(name, create=create, connection=remote.ConnectionArgs(**connection), **more)
"""
        programs = [
            'a = there("a", "echo one", delete="echo gone"); pulumi.export("out", a.stdout)',
            'a = there("a", "echo two >&2", delete="echo gone"); pulumi.export("out", a.stderr)',
            'a = there("a", "cat", stdin=pulumi.Output.secret("given"), update="cat; echo updated")',
            'a = there("a", "cat", stdin=pulumi.Output.secret("given"), triggers=[a_trigger])'.replace(
                "a_trigger", "1"
            ),
            'there("a", "exit 3", triggers=[1])',
            'there("a", "true", triggers=[1], add_previous_output_in_env=False)',
            None,
        ]
        follow(project, tmp_path, "remote", [each and begin + each for each in programs])


def follow(project: Project, tmp_path: Path, story: str, programs: list[str | None]) -> None:
    # Two copies of the project, that neither sees the other's files.
    other = Project(tmp_path / "engine")
    shutil.copytree(project.folder, other.folder)
    engine = Engine(other, tmp_path / "home")
    for number, text in enumerate(programs):
        where = f"{story}, step {number}"
        for each in (project, other):
            each.write(LOCAL, PREPARED, text or "", things=RECORDER, vault=VAULT)
        if text is not None:
            expected = engine.preview()
            preview = project.preview()
            assert (preview.ok, _embedded_steps(preview.operations)) == expected, f"{where}: preview\n{preview.text}"
            for each in (project, other):
                journal(each)
        expected = engine.up() if text is not None else engine.destroy()
        ran = project.up() if text is not None else project.destroy()
        assert ran.ok == expected[0], f"{where}\n{ran.text}"
        # The engine counts a step that failed too.
        assert _embedded_steps(ran.operations) == expected[1] or not ran.ok, f"{where}\n{ran.text}"
        order = sorted if story in UNORDERED or text is None else list
        assert order(_places(journal(project))) == order(_places(journal(other))), where
        assert _calls(project) == _calls(other), where
        assert ran.outputs == engine.outputs(), where
        _compare(project, engine, where)


def _places(lines: list[str]) -> list[str]:
    return [line.replace("/engine/", "/project/") for line in lines]


def _calls(project: Project) -> list[str]:
    file = project.folder / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def _compare(project: Project, engine: Engine, where: str) -> None:
    from embedded_engine.passphrase import Crypter
    from embedded_engine.state import State, read_document

    document = read_document(project.state_file)
    state = State(project.state_file, Crypter(lambda: "correct horse", document["encryptionsalt"], "here"), False)
    state.load(document)
    theirs = {urn: each for urn, each in engine.resources().items() if "pulumi:providers:" not in urn}
    assert set(state.current) == set(theirs), where
    for urn, resource in state.current.items():
        record = theirs[urn]
        ours = {
            "inputs": resource.inputs,
            "outputs": resource.outputs,
            "custom": resource.custom,
            "parent": resource.parent,
            "dependencies": sorted(resource.dependencies),
            "propertyDependencies": {key: sorted(urns) for key, urns in resource.property_dependencies.items()},
            "protect": resource.protect,
            "pendingReplacement": resource.pending_replacement,
            "retainOnDelete": resource.retain_on_delete,
            "deletedWith": resource.deleted_with,
            "has id": bool(resource.id),
        }
        expected = {
            "inputs": _decoded(record.get("inputs") or {}),
            "outputs": _decoded(record.get("outputs") or {}),
            "custom": record["custom"],
            "parent": record.get("parent", ""),
            "dependencies": sorted(record.get("dependencies") or []),
            "propertyDependencies": {
                key: sorted(urns) for key, urns in (record.get("propertyDependencies") or {}).items() if urns
            },
            "protect": record.get("protect", False),
            "pendingReplacement": record.get("pendingReplacement", False),
            "retainOnDelete": record.get("retainOnDelete", False),
            "deletedWith": record.get("deletedWith", ""),
            "has id": bool(record.get("id")),
        }
        for key, value in expected.items():
            assert _normal(ours[key]) == _normal(value), f"{where}: {key} of {urn}"


def _decoded(values: dict[str, Any]) -> Any:
    from embedded_engine.values import secret

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("4dabf18193072939515e22adb298388d") == "1b47061264138c4ac30d75fd1eb44270":
                # The engine keeps secrets within secrets apart; here a secret is one as a whole.
                return secret(walk(json.loads(value["plaintext"])))
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return value

    return walk(values)


def _normal(value: Any) -> Any:
    from embedded_engine.values import Secret

    if isinstance(value, Secret):
        return ("secret", _normal(value.value))
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, str):
        return value.replace("/engine/", "/project/")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
