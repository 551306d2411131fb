"""Defines what the line of a step is, and the two that a program registers: it does without the others, in lines.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, ClassVar

from etcd_cluster.member import render


@dataclass(frozen=True)
class Line:
    """The words of one step.

    A field that is None, False or "" is not sent; True is sent as `yes`.
    """

    step: ClassVar[str]
    needs_run: ClassVar[bool] = False
    """The script ends if another run has taken the machine over."""
    has_progress_text: ClassVar[bool] = False
    """The script prints, as progress, a text that is passed to it."""

    def words(self, member: str, run: str = "", say: str = "") -> dict[str, Any]:
        """Returns KEY -> value; a value that is not known yet (an Output) stays as it is."""
        own = {field.name.replace("_", "-"): _word(getattr(self, field.name)) for field in fields(self)}
        shared = {"run": run if self.needs_run else None, "say": say if self.has_progress_text else None}
        return {"member": member, **{key: word for key, word in {**shared, **own}.items() if word is not None}}

    def text(self, member: str, run: str = "", say: str = "") -> str:
        """Returns the line.

        Args:
            member: Name of the member.
            run: Id of the run.
            say: Progress text that the script prints.
        """
        return render.command_line(self.step, self.words(member, run, say))


def _word(value: Any) -> Any:
    if value is None or value is False or (isinstance(value, str) and not value):
        return None
    if value is True:
        return "yes"
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Check(Line):
    """Preflight.

    Args:
        address: Address of the member.
        ports: Its client, peer and metrics port, comma-separated.
        install: How etcd is installed.
        source: Address that connections to `peers` have to come from, as the certificate names no other; "" if etcd
            chooses it itself.
        peers: Addresses of the other members, comma-separated; "" if `source` is.
        device: Block device of the data; "" for none.
        boot: "first" if the machine boots for the first time; else "".
        size: Name of the size; "" if the hardware is not measured, as for the fields below.
        vcpus: Least number of vCPUs of that size; None if not measured.
        memory_mib: Least memory of that size; None if not measured.
        disk_gib: Least disk of that size; None if not measured.
        undersized: What to do with a smaller machine: "allow" or "refuse"; "" if not measured.
    """

    step = "check"
    address: Any
    ports: str
    install: str
    source: str = ""
    peers: str = ""
    device: Any = ""
    boot: str = ""
    size: str = ""
    vcpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    undersized: str = ""


@dataclass(frozen=True)
class Prepare(Line):
    """Installs packages, user, programs and disk.

    Args:
        version: Version of etcd.
        device: Block device of the data; "" for none.
        install: How etcd is installed.
        mirror: Where releases are downloaded from; "" if that is secret, or if no release is downloaded.
        proxy: Proxy for downloads; "" for none, and if it is secret.
        no_proxy: Hosts and domains that are reached past it, comma-separated; "" for none.
    """

    step = "prepare"
    version: str
    device: Any = ""
    install: str = ""
    mirror: str = ""
    proxy: str = ""
    no_proxy: str = ""
