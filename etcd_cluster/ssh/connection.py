"""Defines how to reach one machine over SSH, and the errors of that. The client is in client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etcd_cluster.errors import ConfigurationError, EtcdClusterError


class SshError(EtcdClusterError):
    """Base of the errors between this machine and another one."""


class SshConfigurationError(SshError):
    """The connection cannot be used as it is written."""


class SshHostKeyError(SshError):
    """The machine that answered has another host key than the pinned one."""


class SshAuthenticationError(SshError):
    """The machine refused the user or the key."""


class SshUnreachableError(SshError):
    """Nothing answered as an SSH server, after all attempts. The machine may be up all the same."""


class SshNoAnswerError(SshUnreachableError):
    """Nothing at all answered at the machine's address: it may be gone."""


class SshConnectionLostError(SshError):
    """The connection ended while a command ran. Whether the command still runs is not known."""


@dataclass(frozen=True)
class Connection:
    """How to reach one machine.

    Args:
        host_key: The pinned key of the machine, as in its `ssh_host_ed25519_key.pub`: `ssh-ed25519 AAAA...`. Required.
        private_key: The text of the key to log in with. Without one, the keys of the ssh-agent at `agent_socket`, or
            else at `SSH_AUTH_SOCK`, are used.
        proxy: The machine to go through (a bastion).
        proxy_command: The command to go through, as OpenSSH's ProxyCommand; with %h and %p.
        dial_error_limit: Attempts before giving up, -1 for no limit. A refused log-in or a wrong host key is never
            retried.
    """

    host: str
    port: int = 22
    user: str = "root"
    private_key: str | None = field(default=None, repr=False)
    host_key: str | None = None
    proxy: Connection | None = None
    per_dial_timeout_seconds: int = 15
    dial_error_limit: int = 10
    agent_socket: str | None = None
    proxy_command: str | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_connection(properties: Mapping[str, Any]) -> Connection:
    """Reads a connection as pulumi-command describes it, its keys in camelCase or snake_case.

    Raises:
        ConfigurationError: A key that OpenSSH has no use for, such as a password. Never shows a value.
    """
    names = {"per_dial_timeout": "per_dial_timeout_seconds", "agent_socket_path": "agent_socket"}
    known = set(Connection.__dataclass_fields__)
    given: dict[str, Any] = {}
    for key, value in properties.items():
        name = re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key)
        name = names.get(name, name)
        if name == "local_port":  # for Pulumi's command provider, which takes no command
            continue
        if name not in known:
            raise ConfigurationError("ssh", key, "not supported here", "log in with a private key or the SSH agent")
        if value not in (None, ""):
            # Numbers come out of Pulumi as floats.
            given[name] = int(value) if isinstance(value, float) else value
    if given.get("proxy") is not None:
        given["proxy"] = parse_connection(given["proxy"])
    return Connection(**given)
