"""Where a member's files live on its machine."""

from __future__ import annotations

from dataclasses import dataclass


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
