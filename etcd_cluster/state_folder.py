"""Finds folders on this machine: of a project's states and passphrases, and of backups of clusters that run here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_folder(environment: Mapping[str, str], project: str) -> Path:
    """Returns the folder of a project's backends, passphrase, client keys and embedded states.

    `find_state` in scripts/lib.sh is the same for the shell; a test compares them.

    Args:
        environment: ETCD_CLUSTER_STATE_DIR, XDG_STATE_HOME and HOME count.
        project: The project's name.
    """
    if own := environment.get("ETCD_CLUSTER_STATE_DIR"):
        return Path(own).expanduser().absolute() / project
    home = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "etcd-cluster" / project


def backup_folder(environment: Mapping[str, str]) -> Path:
    """Returns the folder for backups of clusters on this machine, if `backup.to` names none.

    It is not below the folder of their data, which people delete as a whole.

    Args:
        environment: XDG_DATA_HOME and HOME count.
    """
    return Path(environment.get("XDG_DATA_HOME") or "~/.local/share").expanduser().absolute() / "etcd-cluster-backups"
