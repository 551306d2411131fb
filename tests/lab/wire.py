"""Of etcd's gRPC interface, the few messages that tests send and read, by hand: no generated code, no new dependency.

Pure. Field numbers are those of etcd's rpc.proto and kv.proto, the same in every minor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Header:
    """What every answer begins with: who answered, and at which revision."""

    cluster_id: int
    member_id: int
    revision: int


@dataclass(frozen=True)
class Page:
    """One answer to a range request. more: there are further keys after the last one."""

    header: Header
    values: dict[str, str]
    more: bool


def put_request(key: str, value: str) -> bytes:
    return encode({1: key.encode(), 2: value.encode()})


def put_answer(message: bytes) -> Header:
    return _header(dict(decode(message)).get(1, b""))


def range_request(first: str, end: str, *, limit: int, revision: int = 0) -> bytes:
    """Linearizable. Keys from `first` up to and without `end`; revision 0 is the newest."""
    return encode({1: first.encode(), 2: end.encode(), 3: limit, 4: revision})


def range_answer(message: bytes) -> Page:
    header, values, more = Header(0, 0, 0), {}, False
    for number, content in decode(message):
        if number == 1:
            header = _header(content)
        elif number == 2 and isinstance(content, bytes):
            pair = dict(decode(content))
            values[_text(pair.get(1, b""))] = _text(pair.get(5, b""))
        elif number == 3:
            more = bool(content)
    return Page(header, values, more)


def prefix_end(prefix: str) -> str:
    """The first key after all that begin with an ASCII prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def encode(fields: Mapping[int, int | bytes]) -> bytes:
    """A message of numbers (not negative ones) and byte strings. What is 0 or empty is left out: it means the same."""
    message = bytearray()
    for number, content in fields.items():
        if not content:
            continue
        if isinstance(content, int):
            message += _varint(number << 3 | _VARINT) + _varint(content)
        else:
            message += _varint(number << 3 | _BYTES) + _varint(len(content)) + content
    return bytes(message)


def decode(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, content) in order; ValueError for what is no message."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _read_varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _read_varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {number} is of kind {kind}, which no message of etcd has")
        if position + length > len(message):
            raise ValueError(f"field {number} is cut short")
        yield number, message[position : position + length]
        position += length


def _header(content: int | bytes) -> Header:
    fields = dict(decode(content)) if isinstance(content, bytes) else {}
    cluster, member, revision = (int(fields.get(number, 0)) for number in (1, 2, 3))
    return Header(cluster, member, revision)


def _text(content: int | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else str(content)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(message):
            raise ValueError("a number is cut short")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
