"""Checks the texts of SSH keys by their form alone, without the time that it takes to import cryptography."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Annotated

import pulumi

from etcd_cluster.errors import HIDDEN, ConfigurationError
from etcd_cluster.names import is_one_line

POINT_BYTES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
OPENSSH_MAGIC = b"openssh-key-v1\0"
PEM = re.compile(r"-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----\s(.*)\s-----END \1-----", re.DOTALL)
DER_SEQUENCE = 0x30


def require_host_key(key: str, host_key: str) -> str:
    """Returns a public host key that can be pinned; raises `ConfigurationError` for any other text."""
    if host_key_blob(host_key) is None:
        raise ConfigurationError(
            key,
            host_key,
            "not an ed25519 or ECDSA public host key",
            "give the line that `ssh-keyscan -t ed25519 HOST` prints, without its first word, after comparing it with "
            "/etc/ssh/ssh_host_ed25519_key.pub on the host",
        )
    return host_key


def host_key_blob(host_key: str) -> bytes | None:
    """Returns what is the same in every spelling of one public host key; None if the text is no key to pin."""
    kind, _, rest = host_key.partition(" ")
    try:
        blob = base64.b64decode(rest.split()[0], validate=True) if is_one_line(host_key) else b""
        parts = _strings(blob)
    except (ValueError, IndexError):
        return None
    curve = kind.removeprefix("ecdsa-sha2-")
    expected = {"ssh-ed25519": [32]}.get(kind) or [len(curve), POINT_BYTES.get(curve, -1)]
    matches = parts[:1] == [kind.encode()] and [len(part) for part in parts[1:]] == expected
    return blob if matches and (kind == "ssh-ed25519" or parts[1] == curve.encode()) else None


def require_private_key(key: str, text: str) -> str:
    """Returns the text of an unencrypted private key; raises `ConfigurationError`, which shows nothing of it.

    A preview may lack the file that the key is in: an empty text passes there.
    """
    if text or not pulumi.runtime.is_dry_run():
        problem = _problem_of_private_key(text.replace("\r\n", "\n").strip())
        if problem:
            raise ConfigurationError(
                key, HIDDEN, problem, "give the text of an unencrypted SSH private key, from its first line to its last"
            )
    return text


def _problem_of_private_key(text: str) -> str:
    if not text:
        return "empty"
    if text.startswith(("ssh-", "ecdsa-", "sk-", "-----BEGIN PUBLIC KEY", "---- BEGIN SSH2")):
        return "a public key, or the public half of one"
    if "ENCRYPTED" in text:
        return "encrypted, and nobody is there to enter its passphrase"
    found = PEM.fullmatch(text)
    try:
        body = base64.b64decode("".join(found[2].split()), validate=True) if found else b""
        if found and found[1] == "OPENSSH PRIVATE KEY":
            return _problem_of_openssh_key(body)
        return "" if _is_der(body) else "not an SSH private key"
    except (ValueError, IndexError, struct.error, binascii.Error):
        return "not an SSH private key, or only a part of one"


def _problem_of_openssh_key(body: bytes) -> str:
    if not body.startswith(OPENSSH_MAGIC):
        raise ValueError
    cipher, rest = _string(body.removeprefix(OPENSSH_MAGIC))
    _, rest = _string(rest)
    _, rest = _string(rest)
    if len(_strings(rest[4:])) != 2:
        raise ValueError
    return "" if cipher == b"none" else "encrypted, and nobody is there to enter its passphrase"


def _is_der(body: bytes) -> bool:
    """Returns whether it is one DER sequence, and all of it."""
    long_form = body[1] & 0x7F if body[1] & 0x80 else 0
    length = int.from_bytes(body[2 : 2 + long_form], "big") if long_form else body[1]
    return body[0] == DER_SEQUENCE and len(body) == 2 + long_form + length


def _strings(blob: bytes) -> list[bytes]:
    parts: list[bytes] = []
    while blob:
        part, blob = _string(blob)
        parts.append(part)
    return parts


def _string(blob: bytes) -> tuple[bytes, bytes]:
    """Returns the first string of SSH's wire format, and what follows it."""
    if len(blob) < 4 or len(blob) < 4 + int.from_bytes(blob[:4], "big"):
        raise ValueError
    end = 4 + int.from_bytes(blob[:4], "big")
    return blob[4:end], blob[end:]


HostKey = Annotated[str, require_host_key]
PrivateKey = Annotated[str, require_private_key]
