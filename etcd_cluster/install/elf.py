"""Tells what a Linux program is from the bytes of its file, without running it."""

from __future__ import annotations

import platform
from pathlib import Path

from etcd_cluster.install.errors import InstallError
from etcd_cluster.releases import Architecture, parse_architecture

_MACHINES: dict[Architecture, int] = {"amd64": 62, "arm64": 183}
_PT_INTERP = 3
# Linkers write the headers of a program's segments right after its own.
_HEADER_BYTES = 1 << 16


def runs_here(architecture: Architecture) -> bool:
    """Returns whether this machine can run Linux programs of that architecture."""
    return platform.system() == "Linux" and parse_architecture(platform.machine()) == architecture


def require_linux_program(program: Path, architecture: Architecture) -> None:
    """Raises `InstallError` unless the file is a 64-bit Linux program for that architecture."""
    header = _header(program)
    if header[:5] != b"\x7fELF\x02" or _number(header, 18, 2) != _MACHINES[architecture]:
        raise InstallError(f"{program.name} is not a Linux program for {architecture}")


def require_static(program: Path) -> None:
    """Raises `InstallError` if the program needs libraries of the machine that it runs on."""
    header = _header(program)
    first, size, count = _number(header, 32, 8), _number(header, 54, 2), _number(header, 56, 2)
    # A dynamic program names its loader in a segment.
    if any(_number(header, first + index * size, 4) == _PT_INTERP for index in range(count)):
        raise InstallError(f"{program.name} is linked dynamically, to libraries that a host may lack")


def _header(program: Path) -> bytes:
    with open(program, "rb") as file:
        return file.read(_HEADER_BYTES)


def _number(content: bytes, offset: int, length: int) -> int:
    return int.from_bytes(content[offset : offset + length], "little")
