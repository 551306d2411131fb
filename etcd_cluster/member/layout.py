"""Where a member's files live on its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath

FOUNDING = "founding"
"""In the history beside the data: the members that formed the cluster, before their ids were known."""


@dataclass(frozen=True)
class Layout:
    """Absolute paths, and who supervises etcd there ("systemd" or "process").

    binaries: link to the folder of the version that runs. versions: parent of those folders.
    volume: root of the data's file system, with the marker that says whose data it is. data: etcd's data-dir in it.
    state: what this package records about the member on its machine, apart from etcd's data.
    """

    supervisor: str
    binaries: str
    versions: str
    configuration: str
    pki: str
    volume: str
    data: str
    state: str
    logs: str

    @staticmethod
    def system() -> Layout:
        """A dedicated machine: systemd, standard places."""
        return Layout(
            supervisor="systemd",
            binaries="/opt/etcd/bin",
            versions="/opt/etcd/versions",
            configuration="/etc/etcd",
            pki="/etc/etcd/pki",
            volume="/data/etcd",
            data="/data/etcd/data",
            state="/var/lib/etcd-cluster",
            logs="",
        )

    @staticmethod
    def below(directory: str) -> Layout:
        """Everything in one folder of the caller's, etcd as the caller's process."""
        return Layout(
            supervisor="process",
            binaries=f"{directory}/bin",
            versions=f"{directory}/versions",
            configuration=f"{directory}/configuration",
            pki=f"{directory}/pki",
            volume=f"{directory}/volume",
            data=f"{directory}/volume/data",
            state=f"{directory}/state",
            logs=f"{directory}/logs",
        )

    @staticmethod
    def parse(stored: Mapping[str, str]) -> Layout:
        """Reads a layout from state. A path that is missing is the usual one; what is unknown is ignored."""
        usual = Layout.system()
        if stored.get("supervisor") == "process":
            usual = Layout.below(str(PurePosixPath(stored["binaries"]).parent))
        known = {field.name for field in fields(Layout)}
        return replace(usual, **{name: path for name, path in stored.items() if name in known})
