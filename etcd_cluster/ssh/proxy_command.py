"""Reaches machines that no port of theirs is open for, by a command such as `aws ssm start-session`.

The command's standard input and output are the connection, as with OpenSSH's own ProxyCommand. Our client hands it to
OpenSSH. Pulumi's command provider knows TCP and bastions alone: for it, the process of the program listens on loopback,
and runs the command for each connection. It lives until the provider has answered. The pinned host key proves to both
who answers, whatever lies between.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, cast

import pulumi
from pulumi_command.remote import ConnectionArgs

from etcd_cluster.errors import ConfigurationError, SecretText
from etcd_cluster.names import is_one_line
from etcd_cluster.typed import Between

LOOPBACK = "127.0.0.1"
LEAST_DIAL_SECONDS = 30
"""A cloud's command asks its API first, which takes some seconds."""
SHOWN_BYTES = 500
WORD = re.compile(r"%(.?)")


def require_command(key: str, command: str) -> None:
    """Raises `ConfigurationError` for what cannot be OpenSSH's ProxyCommand, with the words that we know, too."""
    if not command.strip() or not is_one_line(command) or command.strip().lower() == "none":
        raise ConfigurationError(key, command, "not a command in one line", "write a command, or leave it out")
    unknown = [word for word in WORD.findall(command) if word not in ("h", "p", "%")]
    if unknown:
        raise ConfigurationError(
            key,
            command,
            f"%{unknown[0]} is unknown",
            "write %h for the address, %p for the port, %% for a percent sign",
        )


@dataclass(frozen=True)
class ProxyCommand:
    """A command whose standard input and output are a connection to a machine, in place of a bastion."""

    command: pulumi.Input[Annotated[str, require_command]]
    """The command, in one line; %h is the machine's address, %p its SSH port. A shell runs it, with the environment of
    `pulumi up`.
    """
    local_port: Annotated[int, Between(1024, 65_500)] = 61_790
    """First of the ports on loopback, one a member, that `up` listens on for Pulumi's command provider; default 61790.
    Clusters that are changed at the same time on one machine need ports of their own.
    """


class ProxiedConnectionArgs(ConnectionArgs):
    """A connection as our own client takes it, through a command. `for_provider` makes the provider's of it.

    Pulumi makes such an object anew from its properties, so these are all that it has.
    """

    def __init__(self, *, proxy_command: pulumi.Input[str], local_port: int, **given: Any) -> None:
        """Takes what ConnectionArgs takes, the command, and the port on loopback."""
        super().__init__(**given)
        self.__dict__ |= {"proxy_command": proxy_command, "local_port": local_port}  # as pulumi.set

    @property
    @pulumi.getter(name="localPort")
    def local_port(self) -> int:
        """The port on loopback."""
        return cast(int, self.__dict__["local_port"])

    @property
    @pulumi.getter(name="proxyCommand")
    def proxy_command(self) -> pulumi.Input[str]:
        """The command."""
        return cast("pulumi.Input[str]", self.__dict__["proxy_command"])

    def for_provider(self) -> ConnectionArgs:
        """Returns the same connection for Pulumi's command provider: to loopback, where an `up` listens."""
        values = pulumi.Output.all(host=self.host, port=self.port, command=self.proxy_command)
        return ConnectionArgs(
            host=values.apply(self._listen),
            port=self.local_port,
            user=self.user,
            private_key=self.private_key,
            host_key=self.host_key,
            dial_error_limit=self.dial_error_limit,
            per_dial_timeout=self.per_dial_timeout,
        )

    def _listen(self, values: dict[str, Any]) -> str:
        """Listens, but not in a preview, which opens no connection."""
        if not pulumi.runtime.is_dry_run():
            # It may be a secret, which an output no longer says.
            require_command("ssh.proxyCommand.command", SecretText(values["command"]))
            Listener.on(self.local_port, expand(values["command"], values["host"], int(values["port"])))
        return LOOPBACK


def for_provider(connection: ConnectionArgs) -> ConnectionArgs:
    """Returns a connection that Pulumi's command provider knows."""
    return connection.for_provider() if isinstance(connection, ProxiedConnectionArgs) else connection


def expand(command: str, host: str, port: int) -> str:
    """Returns the command for one machine."""
    words = {"h": host, "p": str(port), "%": "%"}
    return WORD.sub(lambda word: words[word[1]], command)


@dataclass
class Listener:
    """A port on loopback, each connection to which is a run of the command. It ends with this process."""

    command: str
    run: object
    server: socket.socket
    running: list[subprocess.Popen[bytes]] = field(default_factory=list[Any])
    _said: str = ""

    _open: ClassVar[dict[int, Listener]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def on(cls, port: int, command: str) -> None:
        """Listens on the port, unless this process does already.

        Raises:
            ConfigurationError: Another process listens there, or another cluster of the same run does.
        """
        run = pulumi.runtime.get_root_resource()
        with cls._lock:
            if port in cls._open:
                listener = cls._open[port]
                if run is not None and listener.run is run and listener.command != command:
                    raise ConfigurationError(
                        "ssh.proxyCommand.localPort",
                        port,
                        "another cluster of this program uses it",
                        "give each cluster ports of its own, as many in a row as it has members",
                    )
                listener.run, listener.command = run, command  # of a later run in this process
                return
            try:
                server = socket.create_server((LOOPBACK, port))
            except OSError as error:
                raise ConfigurationError(
                    "ssh.proxyCommand.localPort",
                    port,
                    f"this machine cannot listen there ({error.strerror})",
                    "give another port, with as many free ones behind it as there are members",
                ) from None
            listener = cls._open[port] = cls(command, run, server)
            atexit.register(listener.close)
        threading.Thread(target=listener._accept, daemon=True).start()

    def close(self) -> None:
        """Ends the commands that still run."""
        self.server.close()
        for process in self.running:
            with contextlib.suppress(OSError):
                process.terminate()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self.server.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {self.command}"],  # as OpenSSH runs it
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=subprocess.PIPE,
            )
            self.running.append(process)
        _, said = process.communicate()
        self.running.remove(process)
        text = said.decode(errors="replace").strip().rpartition("\n")[2][-SHOWN_BYTES:]
        if process.returncode != 0 and text and text != self._said:  # a machine that boots is dialled many times
            self._said = text
            print(f"ssh.proxyCommand: {text}", file=sys.stderr, flush=True)
