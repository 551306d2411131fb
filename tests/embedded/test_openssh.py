"""What `etcd_cluster.ssh` promises, against real SSH servers on loopback."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from etcd_cluster.ssh import client
from etcd_cluster.ssh.client import OpenSsh, is_silence
from etcd_cluster.ssh.connection import (
    Connection,
    SshAuthenticationError,
    SshConfigurationError,
    SshConnectionLostError,
    SshHostKeyError,
    SshUnreachableError,
)
from etcd_cluster.ssh.processes import ChildProcesses, CommandTimeoutError, InterruptedRunError
from tests.embedded import sshd

pytestmark = pytest.mark.skipif(sshd.missing is not None, reason=sshd.missing or "")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return sshd.make_key(tmp_path_factory.mktemp("key") / "id")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str]) -> Iterator[sshd.Server]:
    with sshd.server(tmp_path_factory.mktemp("sshd") / "node", key[1]) as running:
        yield running


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str]) -> Iterator[sshd.Server]:
    with sshd.server(tmp_path_factory.mktemp("sshd") / "bastion", key[1]) as running:
        yield running


@pytest.fixture
def node(server: sshd.Server, key: tuple[str, str]) -> Connection:
    return Connection(
        "127.0.0.1",
        port=server.port,
        user=sshd.user(),
        private_key=key[0],
        host_key=server.host_key,
        dial_error_limit=2,
    )


@pytest.fixture
def ssh() -> Iterator[OpenSsh]:
    with OpenSsh() as opened:
        yield opened


def test_a_command_runs_and_its_streams_come_back(ssh: OpenSsh, node: Connection) -> None:
    lines: list[str] = []
    completed = ssh.run(node, "cat; echo problem >&2; exit 3", stdin="given\n", on_stderr_line=lines.append)
    assert (completed.returncode, completed.stdout, completed.stderr) == (3, "given\n", "problem\n")
    assert lines == ["problem"]
    assert sorted(completed.combined.split()) == ["given", "problem"]


def test_a_command_that_looks_like_an_option_is_a_command(ssh: OpenSsh, node: Connection) -> None:
    # The local ssh would print its version; the shell over there complains instead.
    assert "OpenSSH" not in ssh.run(node, "-V").combined


def test_return_code_255_of_a_command_is_its_own(ssh: OpenSsh, node: Connection) -> None:
    assert ssh.run(node, "exit 255").returncode == 255


def test_one_connection_serves_all_commands_of_a_machine(ssh: OpenSsh, node: Connection, server: sshd.Server) -> None:
    before = server.log.read_text().count("Accepted publickey")
    for _ in range(3):
        ssh.run(node, "true")
    assert server.log.read_text().count("Accepted publickey") == before + 1


def test_commands_of_one_machine_run_at_the_same_time(ssh: OpenSsh, node: Connection, tmp_path: Path) -> None:
    """Each ends once all have begun."""
    count = 6
    waiting = f"until [ $(ls | wc -l) = {count} ]; do sleep 0.05; done"
    with ThreadPoolExecutor(count) as threads:
        commands = [
            f"cd {tmp_path} && touch begun-{number} && timeout 100 sh -c '{waiting}'" for number in range(count)
        ]
        ended = list(threads.map(lambda command: ssh.run(node, command).returncode, commands))
    assert ended == [0] * count


def test_a_large_output_is_neither_lost_nor_in_the_way(ssh: OpenSsh, node: Connection) -> None:
    lines: list[str] = []
    completed = ssh.run(node, "head -c 300000 /dev/zero | tr '\\0' x | tee /dev/stderr", on_stderr_line=lines.append)
    assert len(completed.stdout) == 300_000
    assert max(map(len, lines)) <= 2048


def test_a_connection_without_a_host_key_is_refused(ssh: OpenSsh, node: Connection) -> None:
    with pytest.raises(SshConfigurationError, match=r"no host key is pinned for 127\.0\.0\.1"):
        ssh.run(replace(node, host_key=None), "true")


@pytest.mark.parametrize(
    "change",
    [
        {"host": "a b"},
        {"host": "-oProxyCommand=touch"},
        {"user": "a\nProxyCommand touch"},
        {"host_key": "ssh-ed25519 !!"},
        {"host_key": "not a key"},
    ],
)
def test_what_could_change_the_meaning_of_the_configuration_is_refused(
    ssh: OpenSsh, node: Connection, change: dict[str, str]
) -> None:
    with pytest.raises(SshConfigurationError):
        ssh.run(replace(node, **change), "true")


def test_a_wrong_host_key_ends_at_once(ssh: OpenSsh, node: Connection, tmp_path: Path) -> None:
    _, other = sshd.make_key(tmp_path / "other")
    began = time.monotonic()
    with pytest.raises(SshHostKeyError, match=r"host key of 127\.0\.0\.1 is not the pinned one"):
        ssh.run(replace(node, host_key=other, dial_error_limit=-1), "true")
    assert time.monotonic() - began < 3


def test_a_host_key_of_another_type_ends_at_once(ssh: OpenSsh, node: Connection, tmp_path: Path) -> None:
    _, other = sshd.make_key(tmp_path / "other", "ecdsa")
    with pytest.raises(SshHostKeyError, match="no host key of the pinned type ecdsa"):
        ssh.run(replace(node, host_key=other, dial_error_limit=-1), "true")


def test_a_refused_key_ends_at_once(ssh: OpenSsh, node: Connection, tmp_path: Path) -> None:
    private, _ = sshd.make_key(tmp_path / "foreign")
    began = time.monotonic()
    refused = rf"127\.0\.0\.1 refused the key for user {sshd.user()}.*ssh said: .*Permission denied"
    with pytest.raises(SshAuthenticationError, match=refused):
        ssh.run(replace(node, private_key=private, dial_error_limit=-1), "true")
    assert time.monotonic() - began < 3


def test_a_broken_key_is_named_as_such(ssh: OpenSsh, node: Connection) -> None:
    with pytest.raises(SshAuthenticationError, match="cannot be read"):
        ssh.run(replace(node, private_key="-----BEGIN OPENSSH PRIVATE KEY-----\nnot\n-----END-----"), "true")


@pytest.mark.parametrize(
    "mangle", [str.strip, lambda text: text.replace("\n", "\r\n")], ids=["no last newline", "CRLF"]
)
def test_a_key_may_come_with_other_line_ends(ssh: OpenSsh, node: Connection, mangle) -> None:  # type: ignore[no-untyped-def]
    assert ssh.run(replace(node, private_key=mangle(node.private_key)), "true").returncode == 0


def test_a_closed_port_is_tried_as_often_as_allowed_and_then_named(ssh: OpenSsh, node: Connection) -> None:
    port = sshd.free_port()
    with pytest.raises(SshUnreachableError, match=rf"cannot reach 127\.0\.0\.1:{port} after 3 attempt"):
        ssh.run(replace(node, port=port, dial_error_limit=3), "true")


def test_a_server_that_says_nothing_is_given_up(ssh: OpenSsh, node: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(SshUnreachableError, match=f"127.0.0.1:{port}"):
            ssh.run(replace(node, port=port, per_dial_timeout_seconds=1, dial_error_limit=1), "true")
        assert time.monotonic() - began < 4


def test_a_server_that_hangs_after_its_greeting_is_given_up(
    ssh: OpenSsh, node: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh's own limit is for connecting only."""
    monkeypatch.setattr(client, "_LOG_IN_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        accepted: list[socket.socket] = []

        def greet() -> None:
            for _ in range(2):
                accepted.append(hanging.accept()[0])
                accepted[-1].sendall(b"SSH-2.0-hangs\r\n")

        threading.Thread(target=greet, daemon=True).start()
        hung = replace(node, port=hanging.getsockname()[1], per_dial_timeout_seconds=1)
        with pytest.raises(SshUnreachableError, match=r"after 2 attempt\(s\): no log-in within 2 s"):
            ssh.run(hung, "true")
        for connection in accepted:
            connection.close()


def test_a_machine_that_comes_up_late_is_waited_for(
    ssh: OpenSsh, node: Connection, tmp_path: Path, key: tuple[str, str]
) -> None:
    with sshd.server(tmp_path / "first", key[1]) as early:
        pass
    failed: list[BaseException] = []

    def dial() -> None:
        try:
            ssh.run(
                replace(node, port=early.port, host_key=early.host_key, dial_error_limit=-1), "true", timeout_seconds=1
            )
        except SshUnreachableError as error:
            failed.append(error)

    dial()
    assert "attempt" in str(failed[0])


def test_a_bastion_is_gone_through_with_both_keys_pinned(
    ssh: OpenSsh, node: Connection, bastion: sshd.Server, server: sshd.Server
) -> None:
    proxy = replace(node, port=bastion.port, host_key=bastion.host_key)
    before = bastion.log.read_text().count("Accepted publickey")
    assert ssh.run(replace(node, proxy=proxy), "echo $SSH_CONNECTION").stdout.split()[-1] == str(server.port)
    assert ssh.run(replace(node, proxy=proxy), "true").returncode == 0
    assert bastion.log.read_text().count("Accepted publickey") == before + 1


def test_a_wrong_key_of_the_bastion_or_of_the_node_names_that_one(
    ssh: OpenSsh, node: Connection, bastion: sshd.Server, tmp_path: Path
) -> None:
    _, other = sshd.make_key(tmp_path / "other")
    proxy = replace(node, host="127.0.0.2", port=bastion.port, host_key=bastion.host_key)
    good = replace(node, proxy=replace(proxy, host="localhost"))
    with pytest.raises(SshHostKeyError, match="host key of localhost"):
        ssh.run(replace(node, proxy=replace(proxy, host="localhost", host_key=other)), "true")
    with pytest.raises(SshHostKeyError, match=r"host key of 127\.0\.0\.1"):
        ssh.run(replace(good, host_key=other), "true")


def test_an_absent_node_behind_a_bastion_is_named_with_it(ssh: OpenSsh, node: Connection, bastion: sshd.Server) -> None:
    proxy = replace(node, port=bastion.port, host_key=bastion.host_key)
    port = sshd.free_port()
    with pytest.raises(SshUnreachableError, match=rf"127\.0\.0\.1:{port} through 127\.0\.0\.1:{bastion.port}"):
        ssh.run(replace(node, port=port, proxy=proxy), "true")


def test_a_time_limit_ends_the_command(ssh: OpenSsh, node: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=r"timed out after .* s"):
        ssh.run(node, "echo begun; sleep 60", timeout_seconds=1.5)
    assert time.monotonic() - began < 8


def test_a_lost_connection_is_told_from_a_failed_command(
    node: Connection, tmp_path: Path, key: tuple[str, str]
) -> None:
    with OpenSsh() as ssh, sshd.server(tmp_path / "node", key[1]) as running:
        there = replace(node, port=running.port, host_key=running.host_key)
        with pytest.raises(SshConnectionLostError, match="lost while a command ran"):
            # The shell's parent is the server's process for this connection.
            ssh.run(there, "kill -9 $PPID; sleep 5")
        assert ssh.run(there, "echo again").stdout == "again\n"


def test_no_key_is_in_any_command_line_or_environment(ssh: OpenSsh, node: Connection) -> None:
    assert node.private_key is not None
    # The first lines are the same in every key without a passphrase.
    body = node.private_key.splitlines()[3].encode()
    thread = threading.Thread(target=ssh.run, args=(node, "sleep 1"), kwargs={"stdin": "x"})
    thread.start()
    seen = 0
    while thread.is_alive():
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    content = (process / name).read_bytes()
                except OSError:
                    continue
                seen += 1
                assert body not in content
    assert seen > 0


def test_keys_are_private_files_in_memory_and_gone_at_the_end(node: Connection) -> None:
    with OpenSsh() as ssh:
        ssh.run(node, "true")
        assert ssh._directory is not None
        folder = ssh._directory.path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        keys = [file for file in folder.iterdir() if file.is_file() and "PRIVATE KEY" in file.read_text()]
        assert [stat.S_IMODE(file.stat().st_mode) for file in keys] == [0o600]
        if os.path.isdir("/dev/shm") or os.environ.get("XDG_RUNTIME_DIR"):
            assert not str(folder).startswith("/tmp")
    assert not folder.exists()


def test_nothing_of_a_connection_outlives_it(node: Connection, server: sshd.Server) -> None:
    with OpenSsh() as ssh:
        ssh.run(node, "true")
        target = ssh._target(node)
        assert target.is_up()
    limit = time.monotonic() + 5
    while time.monotonic() < limit and server.log.read_text().rstrip().rpartition("\n")[2].find("Disconnected") < 0:
        time.sleep(0.05)
    assert not target.is_up()


def test_the_keys_of_a_killed_run_are_removed_by_the_next_but_not_those_of_a_living_one(node: Connection) -> None:
    with OpenSsh() as living:
        living.run(node, "true")
        assert living._directory is not None
        kept = living._directory.path
        left = kept.with_name("etcd-ssh-1-left")
        left.mkdir()
        (left / "k0").write_text("key")
        OpenSsh().close()
        assert not left.exists()
        assert kept.exists()
        assert living.run(node, "true").returncode == 0


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of an agent without keys, at SSH_AUTH_SOCK."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield socket
    finally:
        process.terminate()
        process.wait()


def test_without_a_key_the_agents_are_used(
    node: Connection, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node.private_key is not None
    key = tmp_path / "id"
    key.write_text(node.private_key)
    key.chmod(0o600)
    with OpenSsh() as ssh, pytest.raises(SshAuthenticationError, match="refused every key of the ssh-agent"):
        ssh.run(replace(node, private_key=None), "true")
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    with OpenSsh() as ssh:
        assert ssh.run(replace(node, private_key=None), "true").returncode == 0
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with OpenSsh() as ssh:
        there = replace(node, private_key=None, agent_socket=str(agent))
        assert ssh.run(there, "true").returncode == 0


@pytest.mark.usefixtures("agent")
def test_a_certificate_in_the_agent_lets_in_where_the_key_alone_does_not(node: Connection, tmp_path: Path) -> None:
    ca, key = tmp_path / "ca", tmp_path / "id"
    text, _ = sshd.make_key(key)
    _, trusted = sshd.make_key(ca)
    user = sshd.user()
    with sshd.server(tmp_path / "node", f'cert-authority,principals="{user}" {trusted}') as there:
        to = replace(node, port=there.port, host_key=there.host_key, private_key=text)
        with OpenSsh() as ssh, pytest.raises(SshAuthenticationError, match="refused the key"):
            ssh.run(to, "true")
        sign = ["ssh-keygen", "-q", "-s", ca, "-I", "operator", "-n", user, tmp_path / "id.pub"]
        subprocess.run(sign, check=True)
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        with OpenSsh() as ssh:
            assert ssh.run(replace(to, private_key=None), "true").returncode == 0


def test_the_users_own_ssh_configuration_is_not_read(
    ssh: OpenSsh, node: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ssh.run(node, "true").returncode == 0


def test_tasks_share_connections_that_are_kept_and_leave_them_open(node: Connection) -> None:
    with OpenSsh().keep() as kept:
        with OpenSsh.for_one_task() as ssh:
            assert ssh is kept
            ssh.run(node, "true")
        assert kept._target(node).is_up()
    with OpenSsh.for_one_task() as ssh:
        assert ssh is not kept
        target = ssh._target(node)
        ssh.run(node, "true")
        assert target.is_up()
    assert not target.is_up()


def test_after_a_stop_what_runs_ends_and_nothing_starts(node: Connection) -> None:
    processes = ChildProcesses()
    with OpenSsh(processes) as ssh:
        ssh.run(node, "true")
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(ssh.run(node, "sleep 60").returncode))
        thread.start()
        while not processes._running:
            time.sleep(0.01)
        processes.stop()
        thread.join(timeout=50)
        assert codes != [0]
        assert len(codes) == 1
        with pytest.raises(InterruptedRunError):
            ssh.run(node, "true")


SILENCE = {
    "ssh: connect to host 10.0.0.1 port 22: Connection timed out": True,
    "ssh: connect to host 10.0.0.1 port 22: No route to host": True,
    "ssh: Could not resolve hostname etcd-1: Name or service not known": True,
    "channel 0: open failed: connect failed: No route to host\nstdio forwarding failed": True,
    "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed": False,
    "ssh: connect to host 10.0.0.1 port 22: Connection refused": False,
    "ssh: connect to host 10.0.0.1 port 22: Network is unreachable": False,
    "Connection timed out during banner exchange": False,
    "Connection closed by 10.0.0.1 port 22": False,
    "Unable to negotiate with 10.0.0.1 port 22: no matching key exchange method found": False,
    "no log-in within 30 s": False,
}


@pytest.mark.parametrize("said", SILENCE)
def test_only_where_nothing_answers_a_machine_may_be_gone(said: str) -> None:
    assert is_silence(said) == SILENCE[said]


def test_keys_are_written_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that systemd makes for a user's session is small, and others fill it."""
    full, free = tmp_path / "a", tmp_path / "b"
    full.mkdir()
    free.mkdir()
    found = os.statvfs(tmp_path)
    rooms = {full: SimpleNamespace(f_files=9999, f_favail=9999, f_bavail=3, f_frsize=4096)}
    monkeypatch.setattr(client, "_short_directories", lambda: iter([full, free]))
    monkeypatch.setattr(client.os, "statvfs", lambda path: rooms.get(path, found))
    directory = client._PrivateDirectory()
    assert directory.path.parent == free
    directory.remove()
    rooms[free] = rooms[full]
    with pytest.raises(SshConfigurationError, match="room"):
        client._PrivateDirectory()
