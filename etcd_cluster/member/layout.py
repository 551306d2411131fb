"""Defines where a member's files are on its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath

FOUNDING = "founding"
"""Stands in the history beside the data for the members that formed the cluster, before their ids were known."""


@dataclass(frozen=True)
class Layout:
    """Absolute paths of a member's files, and what supervises etcd.

    Args:
        supervisor: "systemd" or "process".
        binaries: Link to the folder of the version that runs.
        versions: Parent of these folders.
        configuration: Folder of etcd's configuration file.
        pki: Folder of certificates and keys.
        volume: Root of the data's file system, with the marker that says which member the data belong to.
        data: etcd's data-dir in it.
        state: What this package records about the member on its machine, apart from etcd's data.
        logs: Folder of etcd's log; "" where systemd keeps it.
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
        """Returns the layout of a dedicated machine: systemd, standard paths."""
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
        """Returns the layout with everything in one folder of the caller's, and etcd as the caller's process."""
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
        """Reads a layout from the stack's state. A missing path has its default; an unknown one is ignored."""
        usual = Layout.system()
        if stored.get("supervisor") == "process":
            usual = Layout.below(str(PurePosixPath(stored["binaries"]).parent))
        known = {field.name for field in fields(Layout)}
        return replace(usual, **{name: path for name, path in stored.items() if name in known})
