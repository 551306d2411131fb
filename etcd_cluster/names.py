"""Defines which names, addresses and paths are allowed. They are checked once, before anything is touched.

Every allowed text is quoted wherever it is used, so a rule here is only for texts that no quoting could make work.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence

from etcd_cluster.errors import ConfigurationError

MEMBER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
ADDRESS = re.compile(r"[0-9A-Za-z_:][0-9A-Za-z._:-]*")
DEVICE = re.compile(r"/dev/[0-9A-Za-z._/+:=@-]+")
LONGEST_CLUSTER_NAME = 100
LONGEST_FILE_NAME_BYTES = 255
LONGEST_PATH_BYTES = 3500
"""Linux allows 4,096; etcd's own files have names, too."""

BREAKS = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of Unicode that no line of text can hold: control characters, half characters, ends of lines."""


def is_one_line(text: str) -> bool:
    """Returns whether the text can stand in a line of a file, whatever reads the file."""
    return not any(unicodedata.category(character) in BREAKS for character in text)


def require_cluster_name(name: str, project: str, stack: str) -> str:
    """Returns the cluster's identity, PROJECT/STACK/NAME; raises `ConfigurationError` if the name cannot be in one."""
    for key, text in (("project", project), ("stack", stack), ("name", name)):
        if not text or text != text.strip() or not is_one_line(text) or len(text) > LONGEST_CLUSTER_NAME:
            raise ConfigurationError(
                key,
                text,
                "not usable as a name",
                f"use 1 to {LONGEST_CLUSTER_NAME} characters in one line, without a space at either end",
            )
    return f"{project}/{stack}/{name}"


def require_member_names(names: Sequence[str]) -> None:
    """Raises `ConfigurationError` for member names that are not unique, or not usable.

    They have to fit etcd's `initial-cluster`, certificates and file names.
    """
    for name in names:
        if not MEMBER_NAME.fullmatch(name):
            raise ConfigurationError(
                "machines",
                name,
                "not usable as a member's name",
                "use up to 63 letters (a to z), digits, dots, hyphens and underscores; at the ends letters or digits",
            )
    if len(set(names)) != len(names):
        raise ConfigurationError("machines", list(names), "two members have one name", "give each a name of its own")


def require_directory(key: str, directory: str) -> str:
    """Returns the path; raises `ConfigurationError` if no line can hold it, or if it is too long for a file system."""
    parts = directory.split("/")
    if not is_one_line(directory):
        raise ConfigurationError(
            key, directory, "it holds a control character or the end of a line", "choose a folder whose name has none"
        )
    if len(os.fsencode(directory)) > LONGEST_PATH_BYTES or any(
        len(os.fsencode(part)) > LONGEST_FILE_NAME_BYTES for part in parts
    ):
        raise ConfigurationError(key, directory, "longer than a path may be", "choose a shorter one")
    return directory


def require_address(key: str, address: str) -> str:
    """Returns an IP address or DNS name; raises `ConfigurationError` for anything else, such as one with a port."""
    if not ADDRESS.fullmatch(address):
        raise ConfigurationError(key, address, "neither an IP address nor a DNS name", "leave scheme and port out")
    return address


def require_devices(key: str, devices: str) -> str:
    """Returns paths of block devices, one or several with commas between; raises `ConfigurationError` for all else."""
    if not all(DEVICE.fullmatch(device) for device in devices.split(",")):
        raise ConfigurationError(key, devices, "not the path of a block device", "write it like /dev/nvme1n1")
    return devices
