"""Writes that go on all the time while a cluster is changed, and what became of them: lost, failed, stalled.

    with continuous_writes(cluster) as writes:
        cluster.up()
    writes.assert_nothing_lost(expect_downtime=False)

The clients themselves are a process of their own (writers.py), beside the hosts, so that a busy test does not look like
a stall. Several blocks may overlap, say with different certificates.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tests.lab.hosts import Lab, LabError

if TYPE_CHECKING:
    from tests.lab.clusters import Cluster

PROJECT = Path(__file__).parents[2]
CLIENTS = 4
PAUSE_SECONDS = 0.02
GIVE_UP_SECONDS = 30.0
FIRST_WRITES_SECONDS = 300.0
SHOWN = 10


@dataclass(frozen=True)
class Access:
    """How clients reach a cluster: URLs, and PEM texts where those are https. One address may be there as both."""

    endpoints: tuple[str, ...]
    ca: str = ""
    certificate: str = ""
    key: str = dataclasses.field(default="", repr=False)

    @staticmethod
    def of(outputs: Mapping[str, Any]) -> Access:
        """As a stack's outputs say."""
        certificates = (outputs[name] for name in ("caCertificate", "clientCertificate", "clientKey"))
        return Access(tuple(outputs["endpoints"]), *certificates)


@dataclass(frozen=True)
class Write:
    """One key's way, in seconds on one clock. error: the last one of a write that was given up; None: acknowledged."""

    key: str
    value: str
    started: float
    ended: float
    attempts: int
    error: str | None = None


@dataclass(frozen=True)
class Failure:
    """A write that was given up, or an acknowledged one that is lost. at_seconds: of its first attempt."""

    key: str
    at_seconds: float
    why: str

    def __str__(self) -> str:
        return f"{self.key}, {self.at_seconds:.2f} s after the start: {self.why}"


@dataclass(frozen=True)
class Result:
    """What became of the writes.

    seconds: how long writes went on, from when every client had written once.
    longest_stall_seconds: the longest time of these in which a write waited and none of any client was acknowledged; it
        began stall_at_seconds after the start. Down to a few milliseconds, which is what a write takes.
    longest_write_seconds: the longest that one client had to wait for one write, over all its attempts.
    p99_write_seconds: what 99 of 100 writes took at most.
    own_delay_seconds: how long the machine kept the clients from running; a stall of that size says nothing.
    retried: writes that took more than one attempt; retry_errors: what the attempts died of -> how many.
    first_revision, last_revision: of acknowledged writes. read_revision: at which they were read back, through every
        endpoint in read_through. cluster_ids: who acknowledged.
    """

    acknowledged: int
    lost: tuple[Failure, ...]
    failed: tuple[Failure, ...]
    retried: int
    retry_errors: Mapping[str, int]
    seconds: float
    longest_stall_seconds: float
    stall_at_seconds: float
    longest_write_seconds: float
    p99_write_seconds: float
    own_delay_seconds: float
    first_revision: int
    last_revision: int
    read_revision: int
    read_through: tuple[str, ...]
    cluster_ids: tuple[int, ...]

    @staticmethod
    def read(document: Mapping[str, Any]) -> Result:
        """From the JSON that the process of the clients prints."""
        values: dict[str, Any] = dict(document)
        for name in ("lost", "failed"):
            values[name] = tuple(Failure(**each) for each in document[name])
        for name in ("read_through", "cluster_ids"):
            values[name] = tuple(document[name])
        return Result(**values)

    def __str__(self) -> str:
        lines = [
            f"{self.acknowledged} writes acknowledged in {self.seconds:.1f} s, {len(self.lost)} lost,"
            f" {len(self.failed)} failed, {self.retried} retried; longest stall {self.longest_stall_seconds:.3f} s"
            f" at {self.stall_at_seconds:.2f} s, longest write {self.longest_write_seconds:.3f} s,"
            f" clients held up by the machine {self.own_delay_seconds:.3f} s"
        ]
        for what, failures in (("lost", self.lost), ("failed", self.failed)):
            lines += [f"  {what}: {failure}" for failure in failures[:SHOWN]]
        lines += [f"  {count} times: {error}" for error, count in self.retry_errors.items()]
        return "\n".join(lines)


class Writes:
    """Writes that are under way; `result` once they are over."""

    def __init__(self, process: subprocess.Popen[str], complaints: IO[str], access: Access) -> None:
        self._process = process
        self._complaints = complaints
        self._lock = threading.Lock()
        self._access = access
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """Raises AssertionError while the block lasts."""
        assert self._result is not None, "writes go on: they are counted once the block is over"
        return self._result

    def use(self, access: Access | None = None, **changes: Any) -> None:
        """From now on, every attempt goes another way: `access`, or the present one with some of its fields changed."""
        self._access = dataclasses.replace(access or self._access, **changes)
        self._ask({"use": dataclasses.asdict(self._access)})

    def acknowledged(self) -> int:
        """So far."""
        return int(self._ask({}))

    def await_more(self, count: int = 20, seconds: float = 60.0) -> None:
        """Returns once so many further writes were acknowledged; AssertionError if that takes too long."""
        wanted = self.acknowledged() + count
        deadline = time.monotonic() + seconds
        while (so_far := self.acknowledged()) < wanted:
            assert time.monotonic() < deadline, f"{wanted - so_far} of {count} writes not acknowledged in {seconds} s"
            time.sleep(0.02)

    def assert_nothing_lost(self, *, expect_downtime: bool = False) -> None:
        """No acknowledged write is lost. Without downtime, none failed either, and the clients did write."""
        result = self.result
        assert not result.lost, result
        assert len(result.cluster_ids) <= 1, f"more than one cluster acknowledged: {result.cluster_ids}\n{result}"
        assert result.read_revision >= result.last_revision, f"the revision went back\n{result}"
        if not expect_downtime:
            assert not result.failed, result
            assert result.acknowledged > 0, result

    def await_first(self, seconds: float) -> None:
        """Returns once every client has written something. Raises LabError."""
        self._ask({"first": seconds})

    def finish(self) -> None:
        """Stops writing, and has it all read back. Again is no error."""
        if self._result is None:
            self._result = Result.read(self._ask({"finish": True}))

    def kill(self) -> None:
        """The process ends, whatever it was doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _ask(self, command: object) -> Any:
        """One line to the process, one line of its answer."""
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(command) + "\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            self._process.wait(10)
            self._complaints.seek(0)
            raise LabError(f"the writing clients are gone: {self._complaints.read().strip()[-2000:]}")
        document = json.loads(answer)
        if "error" in document:
            raise LabError(document["error"])
        return document["answer"]


@contextmanager
def continuous_writes(cluster: Cluster, **options: Any) -> Iterator[Writes]:
    """Clients of a formed cluster, with what it exports, write for as long as the block lasts; `options` as of
    `writing`. Every client has written before the block begins."""
    with writing(cluster.lab, Access.of(cluster.outputs), **options) as writes:
        yield writes


@contextmanager
def writing(
    lab: Lab,
    access: Access,
    *,
    clients: int = CLIENTS,
    pause_seconds: float = PAUSE_SECONDS,
    give_up_seconds: float = GIVE_UP_SECONDS,
    first_seconds: float = FIRST_WRITES_SECONDS,
    prefix: str | None = None,
) -> Iterator[Writes]:
    """As continuous_writes, of any cluster beside the lab's hosts.

    pause_seconds: of a client after each write. give_up_seconds: after how long a write that is not acknowledged
    counts as failed. first_seconds: in which every client has to have written. prefix: of all keys; one that was never
    used, unless told.
    """
    options = {
        "clients": clients,
        "pause_seconds": pause_seconds,
        "give_up_seconds": give_up_seconds,
        "prefix": prefix or f"writes/{secrets.token_hex(4)}/",
        "access": dataclasses.asdict(access),
    }
    with tempfile.TemporaryFile("w+") as complaints:
        process = lab.popen(
            [sys.executable, "-m", "tests.lab.writers"],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "GRPC_VERBOSITY": "NONE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        writes = Writes(process, complaints, access)
        try:
            writes._ask(options)
            writes.await_first(first_seconds)
            yield writes
            writes.finish()
        finally:
            writes.kill()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not pass: the nearest rank."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


def longest_stall(writes: Iterable[Write], since: float) -> tuple[float, float]:
    """(seconds, when it began): the longest time from `since` on in which some write waited and none was
    acknowledged."""
    by_end = sorted((write for write in writes if write.ended > since), key=lambda write: write.ended)
    waiting_since = _earliest_start_from(by_end)
    longest, began, last, after_last = 0.0, since, since, 0
    for index, write in enumerate(by_end):
        if write.error is not None and index < len(by_end) - 1:
            continue
        stalled_since = max(last, waiting_since[after_last])
        if write.ended - stalled_since > longest:
            longest, began = write.ended - stalled_since, stalled_since
        last, after_last = write.ended, index + 1
    return longest, began


def _earliest_start_from(by_end: Sequence[Write]) -> list[float]:
    """Index -> when the first of the writes from there on began."""
    earliest: list[float] = []
    for write in reversed(by_end):
        earliest.append(min(write.started, earliest[-1]) if earliest else write.started)
    return earliest[::-1]


def lost_writes(
    acknowledged: Iterable[Write], found: Mapping[str, Mapping[str, str]], began: float
) -> tuple[Failure, ...]:
    """Of acknowledged writes, those that some endpoint does not have. found: endpoint -> key -> value."""
    lost: list[Failure] = []
    for write in acknowledged:
        for endpoint, values in found.items():
            value = values.get(write.key)
            if value != write.value:
                why = f"{endpoint} does not have it" if value is None else f"{endpoint} has {value}, not {write.value}"
                lost.append(Failure(write.key, write.started - began, why))
                break
    return tuple(lost)
