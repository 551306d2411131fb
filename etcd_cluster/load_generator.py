"""Describes `benchmark`, etcd's own load generator: its version, and the arguments that say where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pulumi

from etcd_cluster.errors import HIDDEN, ConfigurationError
from etcd_cluster.names import FilePath, HostAddress, UserName
from etcd_cluster.releases import Project, require_go_proxy
from etcd_cluster.secrecy import as_input
from etcd_cluster.ssh.key_texts import HostKey, PrivateKey
from etcd_cluster.typed import Port

BENCHMARK = Project("benchmark", "loadGenerator", "", "", "program", other_sources="archive")
"""It is in no release of etcd's: only in its source, and in its Go module."""
MODULE = "go.etcd.io/etcd/v3"
PACKAGE = f"{MODULE}/tools/benchmark"
VERSION = "3.6.8"
"""The release of etcd that it is from. It loads every version of etcd: what it asks for is in all of them."""


@dataclass(frozen=True)
class ClientMachine:
    """A machine that runs no member, and from which the cluster is loaded. It is reached as the members' machines."""

    address: pulumi.Input[HostAddress]
    """Its IP address or DNS name, for SSH."""
    host_key: pulumi.Input[HostKey]
    """Its public SSH host key (ed25519 or ECDSA), pinned like every other."""
    port: Port = 22
    """Its SSH port, default 22."""
    user: UserName | None = None
    """User to log in as, default that of the members' machines; any but root needs sudo without a password."""
    private_key: pulumi.Input[PrivateKey] | None = None
    """Text of an unencrypted private key; default that of the members' machines."""


@dataclass(frozen=True)
class LoadGenerator:
    """Where `benchmark` comes from, etcd's own load generator. The machine where Pulumi runs sends it to a host."""

    source: Literal["build", "archive"] = "build"
    """`build` compiles etcd's Go module where Pulumi runs (default; no release has the program); `archive` takes a file
    of yours.
    """
    archive: FilePath | None = None
    """Path of the program: static, for Linux, of the architecture of the hosts."""
    go_proxy: pulumi.Input[Annotated[str, require_go_proxy]] | None = None
    """GOPROXY for `build`; default: the value of `go env`. A secret stays one."""
    client: ClientMachine | None = None
    """Machine that runs no member and loads the cluster, as its clients will; default the machine of a follower."""


def validate_load_generator(given: LoadGenerator) -> LoadGenerator:
    """Checks what holds between the arguments; returns them with a proxy that is a secret Output if it is secret.

    Raises:
        ConfigurationError: A value cannot be used, or nothing would use it.
    """
    if given.source not in ("build", "archive"):
        raise ConfigurationError(_key("from"), given.source, "unknown", "choose build or archive")
    if given.source == "archive" and given.archive is None:
        raise ConfigurationError(_key("archive"), None, "missing", "give the path of the program `benchmark`")
    unused: Mapping[str, object] = {
        "archive": given.archive if given.source != "archive" else None,
        "goProxy": given.go_proxy if given.source != "build" else None,
    }
    for name, value in unused.items():
        if value is not None:
            raise ConfigurationError(
                _key(name),
                HIDDEN,
                f"nothing uses it, since benchmark comes from {given.source}",
                f"take it out, or change {_key('from')}",
            )
    client = given.client
    if client is not None:
        client = replace(client, address=as_input(client.address), private_key=as_input(client.private_key))
    return replace(given, go_proxy=as_input(given.go_proxy), client=client)


def _key(name: str) -> str:
    return f"{BENCHMARK.block}.{name}"
