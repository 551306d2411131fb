"""Defines how machines are reached over SSH: user, key, pinned host keys, bastion."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Annotated

import pulumi
from pulumi_command.remote import ConnectionArgs, ProxyConnectionArgs

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.names import HostAddress, UserName
from etcd_cluster.ssh.key_texts import HostKey, PrivateKey
from etcd_cluster.ssh.proxy_command import LEAST_DIAL_SECONDS, ProxiedConnectionArgs, ProxyCommand
from etcd_cluster.typed import Between, Port


@dataclass(frozen=True)
class Bastion:
    """A host to jump through."""

    address: pulumi.Input[HostAddress]
    """Its IP address or DNS name. It runs no member."""
    host_key: pulumi.Input[HostKey]
    """Its public SSH host key (ed25519 or ECDSA), pinned like every other."""
    port: Port = 22
    """Its SSH port, default 22."""
    user: UserName | None = None
    """User to log in as, default the target's."""
    private_key: pulumi.Input[PrivateKey] | None = None
    """Text of an unencrypted private key; default the target's."""


@dataclass(frozen=True)
class Ssh:
    """How to log in."""

    user: UserName = "root"
    """User to log in as, default root; any other needs sudo without a password."""
    port: Port = 22
    """SSH port, default 22."""
    private_key: pulumi.Input[PrivateKey] | None = None
    """Text of an unencrypted private key; default the keys of the SSH agent at SSH_AUTH_SOCK."""
    bastion: Bastion | None = None
    """Host to jump through; default None connects straight."""
    proxy_command: ProxyCommand | None = None
    """Command to connect through, in place of a bastion; default None connects straight."""
    dial_attempts: Annotated[int, Between(1, 100)] = 3
    """How often to try to connect, default 3, so that an unreachable host shows within seconds."""
    dial_timeout_seconds: Annotated[int, Between(1, 300)] = 5
    """Seconds for each attempt, default 5; at least 30 through a proxy command."""

    def connection(self, address: pulumi.Input[str], host_key: pulumi.Input[str], number: int = 0) -> ConnectionArgs:
        """Returns the connection to one machine, with its host key pinned.

        Args:
            address: Address of the machine.
            host_key: Its public host key.
            number: Which of the machines it is, from 0: each has a local port of its own behind a `proxy_command`.
        """
        if self.proxy_command is not None:
            return ProxiedConnectionArgs(
                proxy_command=self.proxy_command.command,
                local_port=self.proxy_command.local_port + number,
                host=address,
                port=self.port,
                user=self.user,
                private_key=self.private_key,
                host_key=host_key,
                dial_error_limit=self.dial_attempts,
                per_dial_timeout=max(self.dial_timeout_seconds, LEAST_DIAL_SECONDS),
            )
        return ConnectionArgs(
            host=address,
            port=self.port,
            user=self.user,
            private_key=self.private_key,
            host_key=host_key,
            dial_error_limit=self.dial_attempts,
            per_dial_timeout=self.dial_timeout_seconds,
            proxy=self._proxy(self.bastion) if self.bastion else None,
        )

    def _proxy(self, bastion: Bastion) -> ProxyConnectionArgs:
        return ProxyConnectionArgs(
            host=bastion.address,
            port=bastion.port,
            user=bastion.user or self.user,
            private_key=bastion.private_key or self.private_key,
            host_key=bastion.host_key,
            dial_error_limit=self.dial_attempts,
            per_dial_timeout=self.dial_timeout_seconds,
        )


BOOTING_ATTEMPTS = 60
"""From five minutes, if connections are refused, to ten, if nothing answers at all."""


def with_boot_retries(connection: ConnectionArgs) -> ConnectionArgs:
    """Returns the same connection, for a machine that may be booting. For a booted machine, seconds are enough."""
    changed = copy(connection)
    changed.dial_error_limit = BOOTING_ATTEMPTS
    return changed


def require_one_way(bastion: Bastion | None, proxy_command: ProxyCommand | None) -> None:
    """Refuses a bastion and a command at once."""
    if bastion is not None and proxy_command is not None:
        raise ConfigurationError(
            "ssh.proxyCommand",
            "(a command)",
            "ssh.bastion is given as well, and a connection goes one way",
            "take one of the two out; a command can go through a bastion by itself (ssh -W %h:%p)",
        )


def require_bastion_login(bastion: Bastion | None, private_key: pulumi.Input[str] | None) -> None:
    """Refuses a bastion to which only the key pair made for the cluster could log in.

    The bastion does not know that pair.
    """
    if bastion is not None and bastion.private_key is None and private_key is None:
        raise ConfigurationError(
            "ssh.bastion.privateKey",
            None,
            "missing, and the key pair that is made for the machines cannot log in to the bastion",
            "give the bastion's key, or as ssh.privateKey one for bastion and machines",
        )
