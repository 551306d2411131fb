"""The line that runs each step's script on a member's machine: one class a step, one field a KEY=VALUE word.

A script reads a word as `spec[KEY]`; KEY is the name of the field, with hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """Its script ends where another run has taken the machine over."""
    has_progress_text: ClassVar[bool] = False
    """Its script prints, as progress, a text that it is sent."""

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
    """Preflight. The hardware's words are those of the size; none where it is not measured."""

    step = "check"
    address: Any
    ports: str
    install: str
    device: Any = ""
    boot: str = ""
    size: str = ""
    vcpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    undersized: str = ""


@dataclass(frozen=True)
class Prepare(Line):
    """Packages, user, programs, disk."""

    step = "prepare"
    version: str
    device: Any = ""
    install: str = ""
    mirror: str = ""


@dataclass(frozen=True)
class PrepareAgain(Line):
    """The line by which a machine was prepared, once more."""

    step = "prepare"
    line: str

    def text(self, member: str, run: str = "", say: str = "") -> str:
        return self.line


@dataclass(frozen=True)
class Observe(Line):
    """What is there.

    Args:
        scheme: In which clients are expected to be served.
        device: Of the data.
        claim: Id of the run that takes the machine over; "" for none.
        token: Of the cluster: a machine with data of another one is not claimed.
        rights: Whether its certificate may change the cluster is asked as well.
        as_status_source: It reports of the cluster, though it may not lead.
        disk: The space on its disk is asked for as well.
    """

    step = "observe"
    scheme: str = ""
    device: str = ""
    rights: bool = False
    disk: bool = False
    as_status_source: bool = False
    claim: str = ""
    token: str = ""


@dataclass(frozen=True)
class Health(Line):
    """The health of members that cannot be asked on their own machines.

    Args:
        urls: Their client URLs, comma-separated.
        others: Ids, comma-separated, of those whose traffic is looked at.
    """

    step = "health"
    urls: str
    others: str = ""


class ApplyAction(Enum):
    """What becomes of the process once the files are in place."""

    FILES = "files"
    START = "start"
    RESTART = "restart"
    STOP = "stop"


class Until(Enum):
    """What a start or restart waits for."""

    LISTENING = "listening"
    SERVING = "serving"
    FLUSHED = "flushed"


@dataclass(frozen=True)
class Apply(Line):
    """Files in place; starts, restarts or stops the member.

    Args:
        action: What becomes of the process.
        version: Of etcd, that is started.
        until: What is waited for.
        timeout_seconds: For how long.
        index: Of raft's log, that the member has to reach.
        peer_port: On which it has to listen.
        archive_old_data: The data of an earlier membership are kept beside, out of etcd's way.
        pending: The process may be older than the files from now on.
    """

    step = "apply"
    needs_run = True
    has_progress_text = True
    action: ApplyAction
    version: str = ""
    until: Until | None = None
    timeout_seconds: int | None = None
    index: int | None = None
    peer_port: int | None = None
    archive_old_data: bool = False
    pending: bool = False


class MembershipChange(Enum):
    """One request to the cluster."""

    ADD = "add"
    PROMOTE = "promote"
    REMOVE = "remove"
    UPDATE = "update"
    MOVE_LEADER = "move-leader"
    DISARM = "disarm"


@dataclass(frozen=True)
class Membership(Line):
    """A change of the membership, the leader or the alarms.

    Args:
        change: Which.
        timeout_seconds: How long until it is accepted.
        id: Of the member that it is about; for MOVE_LEADER, of the next leader.
        name: Of the member that is added.
        url: Its peer URL.
    """

    step = "membership"
    needs_run = True
    has_progress_text = True
    change: MembershipChange
    timeout_seconds: int
    id: str = ""
    name: str = ""
    url: str = ""


@dataclass(frozen=True)
class Snapshot(Line):
    """A checked copy of the data.

    Args:
        file: Its name.
        version: Of etcd, whose tool checks it.
        database_mib: What it takes at most.
        timeout_seconds: For taking, and for checking.
    """

    step = "snapshot"
    needs_run = True
    file: str
    version: str
    database_mib: int
    timeout_seconds: int


@dataclass(frozen=True)
class V2Store(Line):
    """Looks for data of etcd's v2 API."""

    step = "v2store"
    timeout_seconds: int


@dataclass(frozen=True)
class Record(Line):
    """Writes down to which HostRecord the machine belongs."""

    step = "record"
    record: str


@dataclass(frozen=True)
class Remove(Line):
    """Takes a member off its machine.

    Args:
        members: How many the cluster has.
        delete_data: Its data go as well.
        record: Id of the HostRecord.
    """

    step = "remove"
    needs_run = True
    members: int
    delete_data: bool = False
    record: str = ""


@dataclass(frozen=True)
class Log(Line):
    """The end of the member's log."""

    step = "log"


@dataclass(frozen=True)
class Probe(Line):
    """A write as a client.

    Args:
        url: The client URL.
        timeout_seconds: How long until a write works.
        tls: The client's certificate is used.
    """

    step = "probe"
    needs_run = True
    url: str
    timeout_seconds: int
    tls: bool = False


LINES: Mapping[str, type[Line]] = {
    each.step: each
    for each in (
        Check,
        Prepare,
        Observe,
        Health,
        Apply,
        Membership,
        Snapshot,
        V2Store,
        Record,
        Remove,
        Log,
        Probe,
    )
}
"""Step -> its line."""
