"""Host keys and log-in keys for tests: well-formed, and nobody's."""

from __future__ import annotations

import base64
import struct


def host_key(number: int = 0, kind: str = "ssh-ed25519") -> str:
    """Returns a public host key as a line of OpenSSH's; another number is another key."""
    return f"{kind} {base64.b64encode(_blob(kind, number)).decode()}"


def _blob(kind: str, number: int) -> bytes:
    point = bytes([4]) + bytes([number]) * 64
    parts = {
        "ssh-ed25519": [bytes([number]) * 32],
        "ecdsa-sha2-nistp256": [b"nistp256", point],
        "ssh-rsa": [b"\1\0\1", b"\0" + bytes([255]) * 256],
    }[kind]
    return b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), *parts))


def private_key(cipher: bytes = b"none") -> str:
    """Returns the text of a private key in OpenSSH's form; it opens nothing."""
    parts = [cipher, b"none" if cipher == b"none" else b"bcrypt", b""]
    inner = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    public, secret = _blob("ssh-ed25519", 7), bytes(152)
    body = b"openssh-key-v1\0" + inner + struct.pack(">I", 1)
    body += b"".join(struct.pack(">I", len(part)) + part for part in (public, secret))
    text = base64.b64encode(body).decode()
    lines = "\n".join(text[start : start + 70] for start in range(0, len(text), 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}\n-----END OPENSSH PRIVATE KEY-----\n"
