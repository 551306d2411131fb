"""Finds the provider for a type of resource."""

from __future__ import annotations

from collections.abc import Mapping

from embedded_engine.commands import LocalCommand, RemoteCommand
from embedded_engine.contract import Provider, UnsupportedTypeError
from embedded_engine.dynamic import Dynamic
from etcd_cluster.openssh import ChildProcesses, OpenSsh

_DYNAMIC_TYPE = "pulumi-python:dynamic"


class Providers:
    """Finds the provider of a type, and owns what providers share: child processes and SSH connections."""

    def __init__(self, project: str, config: Mapping[str, str]) -> None:
        self.processes = ChildProcesses()
        self._ssh = OpenSsh(self.processes).keep()
        self._by_type: dict[str, Provider] = {
            "command:local:Command": LocalCommand(self.processes),
            "command:remote:Command": RemoteCommand(self._ssh),
        }
        self._dynamic = Dynamic(project, config)

    def of(self, type_: str) -> Provider:
        if type_.startswith(_DYNAMIC_TYPE):
            return self._dynamic
        if type_ in self._by_type:
            return self._by_type[type_]
        raise UnsupportedTypeError(
            f"resources of type {type_} need the Pulumi CLI, and this run works without it. Install the CLI "
            "(https://www.pulumi.com/docs/install/, or: curl -fsSL https://get.pulumi.com | sh) and run `pulumi up`"
        )

    def close(self) -> None:
        self._ssh.close()
