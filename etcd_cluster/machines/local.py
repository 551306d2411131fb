"""Provides this machine: members as processes of the caller, for development. No root, no systemd, loopback only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pulumi

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.machine import MEMBER_COUNTS, Machine, Ports, numbered_names
from etcd_cluster.names import FilePath
from etcd_cluster.typed import Between

PORTS_A_MEMBER = 10


@dataclass(frozen=True)
class LocalMachines:
    """Members on this machine, named etcd-1, etcd-2 and so on."""

    base_port: Annotated[int, Between(1024, 65_535 - PORTS_A_MEMBER * MEMBER_COUNTS[-1])] = 2379
    """Client port of the first member, default 2379; peers use the next one, metrics the one after, and every further
    member ten more.
    """
    directory: FilePath | None = None
    """Holds binaries, keys, data and logs; default `~/.local/share/etcd-cluster/PROJECT/STACK` (XDG_DATA_HOME is
    honoured).
    """

    @property
    def platform(self) -> str:
        """Platform of the same name in stack config."""
        return "local"

    def member_names(self, members: int | None) -> Sequence[str]:
        """Checks the arguments, and names the members; see `Machines.member_names`."""
        return numbered_names(members)

    def folder(self, cluster: str, project: str, stack: str) -> Path:
        """Returns the folder that holds one cluster, with a folder for each member."""
        base = Path(self.directory) if self.directory else _share() / "etcd-cluster" / project / stack
        try:
            return base.expanduser().absolute() / cluster
        except RuntimeError:
            raise ConfigurationError(
                "local.directory", str(base), "there is no such user", "write the folder without ~"
            ) from None

    def provision(self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource) -> Sequence[Machine]:
        """Registers nothing. See `Machines.provision`."""
        if "/" in cluster or cluster in (".", ".."):
            raise ConfigurationError("name", cluster, "not usable as the name of a folder", "leave out slashes")
        folder = self.folder(cluster, pulumi.get_project(), pulumi.get_stack())
        return [
            Machine(
                name,
                "127.0.0.1",
                connection=None,
                ports=self._ports(index),
                directory=str(folder / name),
            )
            for index, name in enumerate(names)
        ]

    def _ports(self, index: int) -> Ports:
        first = self.base_port + PORTS_A_MEMBER * index
        return Ports(client=first, peer=first + 1, metrics=first + 2)


def _share() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
