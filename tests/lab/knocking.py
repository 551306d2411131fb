"""Asks a port over TLS with each of several certificates, and tells of each whether it was let in. A program by itself,
so that it can be run with a host's network: JSON by standard input and output.

In: {"address", "port", "pairs": {name: [certificate, key], or [] for none}, "requests": [[method, path], ...]}
Out: [[name, protocol, method, path, outcome], ...]. An outcome begins with "let in: " or "refused: ". With TLS 1.2, the
handshake tells, so that only the first request is made; with TLS 1.3, a client learns of a refusal later.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SECONDS = 20.0
AT_ONCE = 8
PROTOCOLS = ("TLS 1.2, HTTP/1.1", "TLS 1.2, HTTP/2", "TLS 1.3, HTTP/1.1", "TLS 1.3, HTTP/2")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, END_OF_STREAM_AND_HEADERS = 4, 1, 5


def context(pair: Sequence[str], protocol: str) -> ssl.SSLContext:
    """Whom this end trusts does not matter here."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if "HTTP/2" in protocol:
        made.set_alpn_protocols(["h2"])
    if "TLS 1.2" in protocol:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if pair:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("".join(pair))
            file.flush()
            made.load_cert_chain(file.name)
    return made


def request(method: str, path: str, host: str, protocol: str) -> bytes:
    if "HTTP/2" not in protocol:
        return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    # Literal fields without indexing; names by their number in the static table: :method, :scheme https, :path, host.
    fields = [(2, method), (4, path), (1, host)]
    block = b"\x87" + b"".join(bytes([number, len(text)]) + text.encode() for number, text in fields)
    return PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(HEADERS, END_OF_STREAM_AND_HEADERS, 1, block)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def knock(address: str, port: int, made: ssl.SSLContext, protocol: str, method: str, path: str) -> str:
    is_let_in, answer = False, b""
    try:
        with socket.create_connection((address, port), SECONDS) as plain, made.wrap_socket(plain) as connection:
            is_let_in = "TLS 1.2" in protocol
            connection.sendall(request(method, path, f"{address}:{port}", protocol))
            answer = b"".join(_received(connection, protocol))
            outcome = "closed"
    except ssl.SSLError as error:
        outcome = error.reason
    except (ConnectionResetError, BrokenPipeError) as error:
        outcome = type(error).__name__
    return f"let in: {answer.decode(errors='replace')}" if is_let_in or answer else f"refused: {outcome}"


def _received(connection: ssl.SSLSocket, protocol: str) -> Iterator[bytes]:
    """All of an answer; in HTTP/2 the connection stays, and its first frames will do."""
    while piece := connection.recv(65536):
        yield piece
        if "HTTP/2" in protocol:
            return


def main() -> None:
    asked = json.load(sys.stdin)
    methods: list[tuple[str, ssl.SSLContext, str, str, str]] = []
    for name, pair in asked["pairs"].items():
        for protocol in PROTOCOLS:
            made, requests = context(pair, protocol), asked["requests"]
            asks = requests[:1] if "TLS 1.2" in protocol else requests
            methods += [(name, made, protocol, method, path) for method, path in asks]

    def attempt(each: tuple[str, ssl.SSLContext, str, str, str]) -> Any:
        name, made, protocol, method, path = each
        return name, protocol, method, path, knock(asked["address"], asked["port"], made, protocol, method, path)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        json.dump(list(threads.map(attempt, methods)), sys.stdout)


if __name__ == "__main__":
    main()
