"""Connections through a command: what Pulumi's provider and our own client get, and the port that `up` listens on."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from etcd_cluster import (
    Bastion,
    ConfigurationError,
    EtcdCluster,
    EtcdClusterArgs,
    Host,
    HostMachines,
    ProxyCommand,
    Ssh,
)
from etcd_cluster.ssh.client import _host_block
from etcd_cluster.ssh.connection import Connection, SshConfigurationError, parse_connection
from etcd_cluster.ssh.proxy_command import Listener, ProxiedConnectionArgs, expand
from tests.unit import test_cluster
from tests.unit.keys import host_key
from tests.unit.recording import Recording, record

COMMAND = "tunnel %h:%p --rate 5%%"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def build(command: str = COMMAND, *, preview: bool = False, local_port: int = 0, **changes: Any) -> Recording:
    hosts = {f"h{number}": Host(f"10.0.0.{number}", host_key(number)) for number in (1, 2, 3)}
    ssh = Ssh(proxy_command=ProxyCommand(command, local_port or free_port()), **changes)

    def program() -> None:
        EtcdCluster("etcd", EtcdClusterArgs(HostMachines(hosts, ssh)))

    return record(program, preview=preview, results=test_cluster.results)


def test_the_provider_dials_loopback_and_our_client_gets_the_command() -> None:
    port = free_port()
    recording = build(local_port=port)
    for number in (1, 2, 3):
        of_command = recording.resources[f"etcd-h{number}-check"].value("connection")
        assert (of_command["host"], of_command["port"]) == ("127.0.0.1", port + number - 1)
        assert of_command["hostKey"] == host_key(number)
        assert "proxyCommand" not in of_command
        ours = parse_connection(recording.resources["etcd-rollout"].value("connections")[f"h{number}"])
        assert (ours.host, ours.port, ours.proxy_command) == (f"10.0.0.{number}", 22, COMMAND)
        assert ours.per_dial_timeout_seconds == 30


def test_a_preview_shows_the_same_and_listens_nowhere() -> None:
    port = free_port()
    of_command = build(preview=True, local_port=port).resources["etcd-h1-check"].value("connection")
    assert (of_command["host"], of_command["port"]) == ("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("command", ["", " ", "none", "a\nb", "ssh -W %h:%p %r@bastion", "a %"])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ssh\.proxyCommand\.command: "):
        build(command)


def test_a_secret_command_that_is_refused_late_is_not_shown() -> None:
    command = "tunnel %r --token hunter2"
    connection = ProxiedConnectionArgs(proxy_command=command, local_port=0, host="10.0.0.1", port=22)
    with pytest.raises(ConfigurationError, match=r"^ssh\.proxyCommand\.command: .*%r is unknown") as refused:
        connection._listen({"command": command, "host": "10.0.0.1", "port": 22})
    assert "hunter2" not in str(refused.value)


def test_a_connection_goes_one_way() -> None:
    with pytest.raises(ConfigurationError, match=r"^ssh\.proxyCommand: .* a connection goes one way"):
        build(bastion=Bastion("10.0.0.9", host_key(9)))


def test_a_command_is_expanded_for_each_machine() -> None:
    assert expand(COMMAND, "10.0.0.1", 22) == "tunnel 10.0.0.1:22 --rate 5%"


def wait_for_runs() -> None:
    """Until each run of a command has ended, and is told."""
    for thread in threading.enumerate():
        if "(_serve)" in thread.name:
            thread.join(20)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, once for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(4096):
                        connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_each_connection_is_a_run_of_the_command(echo: int, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    code = (
        "import socket, sys, threading, os; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "t = threading.Thread(target=lambda: [s.sendall(d) for d in iter(lambda: os.read(0, 4096), b'')]"
        " and s.shutdown(1) or s.shutdown(1)); t.start();"
        "[os.write(1, d) for d in iter(lambda: s.recv(4096), b'')]"
    )
    Listener.on(port, f'{sys.executable} -c "{code}" {echo}')
    for message in (b"first", b"second"):
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
            client.sendall(message)
            assert client.recv(100) == message
    # The shell runs `exec COMMAND`: without `sh -c`, `false` would never be reached.
    Listener.on(port, "sh -c 'echo no tunnel today >&2; false'")
    for _ in range(2):
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
            assert client.recv(100) == b""
        wait_for_runs()
    assert capfd.readouterr().err.count("ssh.proxyCommand: no tunnel today") == 1


def test_a_port_that_another_program_has_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match=r"^ssh\.proxyCommand\.localPort: .* cannot listen there"),
    ):
        Listener.on(taken.getsockname()[1], "true")


def test_no_command_of_a_state_becomes_a_setting_of_ssh(tmp_path: Path) -> None:
    connection = Connection("10.0.0.1", host_key=host_key(1), proxy_command="true\n  LocalCommand touch ran")
    files = [tmp_path / name for name in ("c0", "k0", "h0", "p0")]
    with pytest.raises(SshConfigurationError, match="not one line"):
        _host_block(connection, "target0", *files)


def test_two_clusters_of_one_program_do_not_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([1, 1, 1, 2])
    monkeypatch.setattr("pulumi.runtime.get_root_resource", lambda: next(runs))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    Listener.on(port, "true")
    Listener.on(port, "true")
    with pytest.raises(ConfigurationError, match=r"localPort: .* another cluster of this program uses it"):
        Listener.on(port, "false")
    Listener.on(port, "false")
