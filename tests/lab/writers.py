"""The process of the writing clients that writes.py starts: commands come in as lines of JSON, answers go out as such.

Each client prefers one endpoint. Where an attempt fails, the same write goes to the next endpoint, as an ordinary
client's would, and the failed one is left alone for a second. Every other client also opens new
connections each second.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.lab import wire
from tests.lab.writes import Access, Failure, Result, Write, longest_stall, lost_writes, percentile

ATTEMPT_SECONDS = 3.0
AVOID_SECONDS = 1.0
RETRY_PAUSE_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
READ_BACK_SECONDS = 60.0
READ_EVERYWHERE_SECONDS = 5.0
PAGE = 1000
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else clients share connections
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # how long an attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Connections:
    """One client's way to the endpoints."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._channels: dict[str, grpc.Channel] = {}

    def call(self, endpoint: str, method: str, request: bytes, seconds: float) -> bytes:
        """The answer; raises grpc.RpcError."""
        try:
            ask: Callable[..., bytes] = self._channel(endpoint).unary_unary(method)
            return ask(request, timeout=seconds)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._drop(endpoint)  # the connection may lead to a machine that is no more
            raise

    def close(self) -> None:
        for endpoint in list(self._channels):
            self._drop(endpoint)

    def _channel(self, endpoint: str) -> grpc.Channel:
        if endpoint not in self._channels:
            scheme, _, address = endpoint.partition("://")
            self._channels[endpoint] = (
                grpc.secure_channel(address, self._credentials(), OPTIONS)
                if scheme == "https"
                else grpc.insecure_channel(address, OPTIONS)
            )
        return self._channels[endpoint]

    def _drop(self, endpoint: str) -> None:
        channel = self._channels.pop(endpoint, None)
        if channel is not None:
            channel.close()

    def _credentials(self) -> grpc.ChannelCredentials:
        ca, key, certificate = (
            text.encode() or None for text in (self.access.ca, self.access.key, self.access.certificate)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


class Over:
    """The end: clients write on until the last of them has had an answer to what it wrote before. One that still waits
    would else look like a stall of all."""

    def __init__(self, clients: int) -> None:
        self._asked = threading.Event()
        self._left = set(range(clients))

    def ask(self) -> None:
        self._asked.set()

    def reached(self, client: int) -> bool:
        """Whether this client, between two writes, may stop."""
        if self._asked.is_set():
            self._left.discard(client)
        return not self._left


@dataclass
class Client:
    """Writes numbered keys, one after the other. reconnects: opens new connections every RECONNECT_SECONDS."""

    number: int
    options: Mapping[str, Any]
    connections: Connections
    reconnects: bool
    writes: list[Write] = field(default_factory=list)
    headers: list[wire.Header] = field(default_factory=list)
    retry_errors: Counter[str] = field(default_factory=Counter)
    own_delay_seconds: float = 0.0
    _access: Access | None = None
    _avoided: dict[str, float] = field(default_factory=dict)
    _connected: float = field(default_factory=time.monotonic)

    def use(self, access: Access) -> None:
        """From the next attempt on."""
        self._access = access

    def write_until(self, over: Over) -> None:
        while not over.reached(self.number):
            self.write_one()
            self._pause()

    def write_one(self) -> None:
        key = f"{self.options['prefix']}{self.number}/{len(self.writes):08d}"
        value = f"{key}={random.getrandbits(64):016x}"
        request = wire.put_request(key, value)
        started = time.monotonic()
        tried: set[str] = set()
        attempts, error = 0, ""
        while attempts == 0 or time.monotonic() < started + self.options["give_up_seconds"]:
            attempts += 1
            endpoint = self._next_endpoint(tried)
            try:
                answer = self.connections.call(endpoint, wire.PUT, request, ATTEMPT_SECONDS)
            except grpc.RpcError as failure:
                error = _said(endpoint, failure)
                self.retry_errors[error] += 1
                self._avoided[endpoint] = time.monotonic() + AVOID_SECONDS
                tried.add(endpoint)
            else:
                self.headers.append(wire.put_answer(answer))
                self.writes.append(Write(key, value, started, time.monotonic(), attempts))
                return
        self.writes.append(Write(key, value, started, time.monotonic(), attempts, error))

    def _next_endpoint(self, tried: set[str]) -> str:
        """The preferred one, or the next that failed neither just now nor in this write. Where all did: all again."""
        access, self._access = self._access, None
        if access is not None or (self.reconnects and time.monotonic() > self._connected + RECONNECT_SECONDS):
            self.connections.close()
            self.connections = Connections(access or self.connections.access)
            self._connected = time.monotonic()
        endpoints = self.connections.access.endpoints
        if tried.issuperset(endpoints):
            tried.clear()
            time.sleep(RETRY_PAUSE_SECONDS)
        first = self.number % len(endpoints)
        left = [endpoint for endpoint in endpoints[first:] + endpoints[:first] if endpoint not in tried]
        now = time.monotonic()
        return next((endpoint for endpoint in left if self._avoided.get(endpoint, 0.0) <= now), left[0])

    def _pause(self) -> None:
        pause = self.options["pause_seconds"] * random.uniform(0.5, 1.5)
        start = time.monotonic()
        time.sleep(pause)
        self.own_delay_seconds = max(self.own_delay_seconds, time.monotonic() - start - pause)


class Clients:
    """All of them, each on a thread of its own."""

    def __init__(self, options: Mapping[str, Any], access: Access) -> None:
        self._options = options
        self._access = access
        self._over = Over(options["clients"])
        self._began = time.monotonic()
        self._clients = [
            Client(number, options, Connections(access), reconnects=number % 2 == 1)
            for number in range(options["clients"])
        ]
        self._threads = [
            threading.Thread(target=client.write_until, args=(self._over,), daemon=True) for client in self._clients
        ]
        for thread in self._threads:
            thread.start()

    def use(self, access: Access) -> None:
        self._access = access
        for client in self._clients:
            client.use(access)

    def acknowledged(self) -> int:
        return sum(len(client.headers) for client in self._clients)

    def await_first(self, seconds: float) -> None:
        """Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not all(client.headers for client in self._clients):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not every client has written anything in {seconds:.0f} s: {self._retry_errors()}")
            time.sleep(0.01)
        self._began = time.monotonic()

    def finish(self) -> Result:
        """Raises TimeoutError where nothing can be read back."""
        self._over.ask()
        for thread in self._threads:
            thread.join()
        writes = [write for client in self._clients for write in client.writes]
        headers = [header for client in self._clients for header in client.headers]
        began, ended = self._began, time.monotonic()
        acknowledged = [write for write in writes if write.error is None]
        stall_seconds, stall_began = longest_stall(writes, began)
        found, read_revision = self._read_back()
        return Result(
            acknowledged=len(acknowledged),
            lost=lost_writes(acknowledged, found, began),
            failed=tuple(Failure(write.key, write.started - began, write.error) for write in writes if write.error),
            retried=sum(write.attempts > 1 for write in writes),
            retry_errors=self._retry_errors(),
            seconds=ended - began,
            longest_stall_seconds=stall_seconds,
            stall_at_seconds=stall_began - began,
            longest_write_seconds=max(write.ended - write.started for write in writes),
            p99_write_seconds=percentile([write.ended - write.started for write in writes], 0.99),
            own_delay_seconds=max(client.own_delay_seconds for client in self._clients),
            first_revision=min((header.revision for header in headers), default=0),
            last_revision=max((header.revision for header in headers), default=0),
            read_revision=read_revision,
            read_through=tuple(found),
            cluster_ids=tuple({header.cluster_id for header in headers}),
        )

    def _retry_errors(self) -> dict[str, int]:
        errors: Counter[str] = Counter()
        for client in self._clients:
            errors.update(client.retry_errors.copy())
        return dict(errors)

    def _read_back(self) -> tuple[dict[str, dict[str, str]], int]:
        """Endpoint -> all that it has, for every endpoint that answers, which one has to; and the lowest revision."""
        found: dict[str, dict[str, str]] = {}
        revisions: list[int] = []
        start, error = time.monotonic(), ""
        while time.monotonic() < start + (READ_EVERYWHERE_SECONDS if found else READ_BACK_SECONDS):
            for endpoint in [each for each in self._access.endpoints if each not in found]:
                connections = Connections(self._access)
                try:
                    found[endpoint], revision = _read_all(connections, endpoint, self._options["prefix"])
                    revisions.append(revision)
                except grpc.RpcError as failure:
                    error = _said(endpoint, failure)
                finally:
                    connections.close()
            if len(found) == len(self._access.endpoints):
                break
            time.sleep(RETRY_PAUSE_SECONDS)
        if not found:
            raise TimeoutError(f"nothing could be read back in {READ_BACK_SECONDS:.0f} s: {error}")
        return found, min(revisions)


def _read_all(connections: Connections, endpoint: str, prefix: str) -> tuple[dict[str, str], int]:
    """All keys of the prefix as of one linearizable revision, and that revision."""
    values: dict[str, str] = {}
    first, revision = prefix, 0
    while True:
        request = wire.range_request(first, wire.prefix_end(prefix), limit=PAGE, revision=revision)
        page = wire.range_answer(connections.call(endpoint, wire.RANGE, request, ATTEMPT_SECONDS))
        values |= page.values
        revision = revision or page.header.revision
        if not page.more:
            return values, revision
        first = max(page.values) + "\0"


def _said(endpoint: str, failure: grpc.RpcError) -> str:
    return f"{endpoint}: {failure.code().name}: {(failure.details() or '')[:200]}"


def _access(document: Mapping[str, Any]) -> Access:
    return Access(**{**document, "endpoints": tuple(document["endpoints"])})


def main() -> None:
    options = json.loads(sys.stdin.readline())
    clients = Clients(options, _access(options["access"]))
    _answer(True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "use" in command:
                clients.use(_access(command["use"]))
            if "first" in command:
                clients.await_first(command["first"])
            _answer(dataclasses.asdict(clients.finish()) if "finish" in command else clients.acknowledged())
        except TimeoutError as error:
            print(json.dumps({"error": str(error)}), flush=True)
    os._exit(0)  # whoever asked is gone; a client may still be trying


def _answer(content: object) -> None:
    print(json.dumps({"answer": content}), flush=True)


if __name__ == "__main__":
    main()
