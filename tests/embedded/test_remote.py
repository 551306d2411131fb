"""command:remote:Command against a real SSH server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded import sshd
from tests.embedded.conftest import Project

pytestmark = pytest.mark.skipif(sshd.missing is not None, reason=sshd.missing or "")

PROGRAM = """
    import json, os
    import pulumi
    from pulumi_command import remote

    def command(name, create, **more):
        opts = more.pop("opts", None)
        values = json.loads(os.environ["CONNECTION"]) | more.pop("connection", {})
        return remote.Command(name, create=create, connection=remote.ConnectionArgs(**values), opts=opts, **more)
"""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return sshd.make_key(tmp_path_factory.mktemp("key") / "id")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str]) -> Iterator[sshd.Server]:
    with sshd.server(tmp_path_factory.mktemp("sshd") / "node", key[1]) as running:
        yield running


@pytest.fixture
def there(project: Project, server: sshd.Server, key: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Project:
    import json

    connection = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": sshd.user(),
        "private_key": key[0],
        "host_key": server.host_key,
        "dial_error_limit": 2,
    }
    monkeypatch.setenv("CONNECTION", json.dumps(connection))
    return project


def test_the_life_of_a_remote_command(there: Project, tmp_path: Path, key: tuple[str, str]) -> None:
    journal = tmp_path / "journal"
    program = f"""
    a = command("a", "cat; echo progress >&2", update="echo updated {{0}}", delete="echo deleted >> {journal}",
                stdin=pulumi.Output.secret("given {{0}}"))
    pulumi.export("out", a.stdout)
    """
    there.write(PROGRAM, program.format("one"))
    ran = there.up()
    assert ran.ok, ran.text
    assert ran.outputs == {"out": "given one"}
    assert "a: progress" in ran.text
    assert there.up().steps() == []
    there.write(PROGRAM, program.format("two"))
    assert there.up().outputs == {"out": "updated two"}
    assert there.destroy().steps() == ["delete a"]
    assert journal.read_text() == "deleted\n"
    for text in (ran.text, there.state_file.read_text()):
        assert key[0].splitlines()[3] not in text


def test_a_failure_over_there_is_told_like_the_provider_tells_it(there: Project) -> None:
    there.write(PROGRAM, 'command("a", "echo why >&2; exit 3")')
    ran = there.up()
    assert not ran.ok
    assert 'Process exited with status 3: running "echo why >&2; exit 3":\n     why' in ran.text


def test_many_commands_of_one_machine_share_a_connection(there: Project, server: sshd.Server) -> None:
    there.write(PROGRAM, 'for i in range(8): command(f"c{i}", "true")')
    before = server.log.read_text().count("Accepted publickey")
    assert there.up().ok
    assert server.log.read_text().count("Accepted publickey") == before + 1


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ({"host_key": None}, "no host key is pinned for 127.0.0.1"),
        ({"host_key": "other"}, "host key of 127.0.0.1 is not the pinned one"),
        ({"password": "x"}, "connection.password: is not supported without the Pulumi CLI: use privateKey"),
        ({"port": 1}, "cannot reach 127.0.0.1:1 after 2 attempt(s)"),
        ({"host": ""}, "connection.host: missing"),
    ],
)
def test_what_is_wrong_with_a_connection_is_said(
    there: Project, tmp_path: Path, connection: dict[str, object], message: str
) -> None:
    if connection.get("host_key") == "other":
        connection = {"host_key": sshd.make_key(tmp_path / "other")[1]}
    there.write(PROGRAM, f'command("a", "true", connection={connection!r})')
    ran = there.up()
    assert not ran.ok
    assert message in ran.text


def test_a_bastion_can_be_given_as_proxy(there: Project, tmp_path: Path, key: tuple[str, str]) -> None:
    with sshd.server(tmp_path / "bastion", key[1]) as bastion:
        there.write(
            PROGRAM,
            f"""
    values = json.loads(os.environ["CONNECTION"])
    proxy = remote.ProxyConnectionArgs(host="127.0.0.1", port={bastion.port}, user=values["user"],
                                       private_key=values["private_key"], host_key={bastion.host_key!r})
    pulumi.export("out", command("a", "echo here", connection={{"proxy": proxy}}).stdout)
    """,
        )
        assert there.up().outputs == {"out": "here"}
        assert "Accepted publickey" in bastion.log.read_text()


def test_an_environment_is_refused_with_what_to_write_instead(there: Project) -> None:
    there.write(PROGRAM, 'command("a", "true", environment={"A": "b"})')
    ran = there.preview()
    assert not ran.ok
    assert "environment: is not supported without the Pulumi CLI: write `NAME=value command` instead" in ran.text
