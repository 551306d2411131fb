"""A name server for the lab: answers what `dnsRecords` of a stack says, as its file has it at that time.

`NameServer` runs it beside the hosts, and has a command ask it in place of this machine's own.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tests.lab.hosts import OPERATOR_ADDRESS, Lab

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28, "SRV": 33}
AUTHORITATIVE, NO_SUCH_NAME = 0x8580, 0x8583


class NameServer:
    """Serves until the lab closes."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._records, self._resolv_conf = folder / "records.json", folder / "resolv.conf"
        self._resolv_conf.write_text(f"nameserver {OPERATOR_ADDRESS}\noptions timeout:1\n")
        self.serve([])
        lab.popen([sys.executable, "-m", "tests.lab.name_server", OPERATOR_ADDRESS, self._records])

    def serve(self, records: Sequence[Mapping[str, Any]]) -> None:
        """From now on, these."""
        fresh = self._records.with_suffix(".new")
        fresh.write_text(json.dumps(records))
        fresh.rename(self._records)

    def asked_by(self, command: Sequence[str | Path]) -> list[str]:
        """A command line that runs `command`, which looks names up here."""
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(self._resolv_conf), *map(str, command)]


def answer(query: bytes, records: Sequence[Mapping[str, Any]]) -> bytes:
    """RFC 1035, 4.1: one question; the answers name it by its place in the message."""
    end = query.index(b"\0", 12) + 5
    asked = _name(query[12:end])
    kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
    of_name = [each for each in records if each["name"] == asked.lower()]
    found = [(each, value) for each in of_name if TYPES[each["type"]] in (kind, 5) for value in each["values"]]
    flags = AUTHORITATIVE if of_name else NO_SUCH_NAME
    message = struct.pack("!2s5H", query[:2], flags, 1, len(found), 0, 0) + query[12:end]
    for record, value in found:
        data = _data(record["type"], value)
        message += struct.pack("!3HIH", 0xC00C, TYPES[record["type"]], 1, int(record["ttl"]), len(data)) + data
    return message


def _name(labels: bytes) -> str:
    found: list[str] = []
    while labels[0]:
        found.append(labels[1 : labels[0] + 1].decode())
        labels = labels[labels[0] + 1 :]
    return ".".join(found)


def _data(kind: str, value: str) -> bytes:
    if kind in ("A", "AAAA"):
        return ip_address(value).packed
    *numbers, name = value.split()
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack(f"!{len(numbers)}H", *map(int, numbers)) + labels + b"\0"


def main() -> None:
    address, file = sys.argv[1:]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, json.loads(Path(file).read_text())), client)


if __name__ == "__main__":
    main()
