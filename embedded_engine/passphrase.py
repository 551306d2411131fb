"""Secrets at rest, in the format of Pulumi's own passphrase provider: PBKDF2-SHA256, AES-256-GCM, version v1."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded_engine.files import write_beside
from etcd_cluster.errors import EtcdClusterError

_ITERATIONS = 1_000_000
_KEY_BYTES = 32
_SALT_BYTES = 8
_NONCE_BYTES = 12
_KNOWN_TEXT = "pulumi"


class PassphraseError(EtcdClusterError):
    """Secrets cannot be read: the passphrase is not the one they were written with, or they are damaged."""


class Crypter:
    """Encrypts and decrypts. The key is derived when it is first needed, once, because that takes a while."""

    def __init__(self, passphrase: Callable[[], str], state: str, where: str) -> None:
        """Derives no key yet.

        Args:
            passphrase: Called when the key is needed.
            state: The `encryptionsalt` that secrets were written with, or "" to begin a new one.
            where: What holds the secrets, for errors.
        """
        self._passphrase = passphrase
        self._state = state
        self._where = where
        self._key: bytes | None = None
        self._deriving = threading.Lock()
        self._ciphertexts: dict[str, str] = {}

    @property
    def state(self) -> str:
        """The salt and a known text, which reveal a wrong passphrase; "" while nothing was encrypted."""
        return self._state

    def derive(self) -> bytes:
        """The key. Raises PassphraseError if the passphrase is not the right one."""
        with self._deriving:
            if self._key is not None:
                return self._key
            if not self._state:
                salt = os.urandom(_SALT_BYTES)
                key = _derive(self._passphrase(), salt)
                self._state = f"v1:{base64.b64encode(salt).decode()}:{_seal(key, _KNOWN_TEXT)}"
            else:
                version, _, rest = self._state.partition(":")
                salt_text, _, known = rest.partition(":")
                if version != "v1" or not known:
                    raise PassphraseError(f"{self._where}: its encryptionsalt is not of version v1, or is damaged")
                key = _derive(self._passphrase(), base64.b64decode(salt_text))
                if _open(key, known) != _KNOWN_TEXT:
                    raise PassphraseError(
                        f"{self._where}: incorrect passphrase. Set PULUMI_CONFIG_PASSPHRASE or "
                        "PULUMI_CONFIG_PASSPHRASE_FILE to the one that its secrets were written with"
                    )
            self._key = key
            return key

    def derive_ahead(self) -> None:
        """Begins to derive the key in the background. An error comes again when the key is used."""

        def attempt() -> None:
            with contextlib.suppress(PassphraseError):
                self.derive()

        threading.Thread(target=attempt, daemon=True).start()

    def encrypt(self, text: str) -> str:
        """The ciphertext of a text. An unchanged secret keeps its ciphertext, and an unchanged state its file."""
        key = self.derive()
        if text not in self._ciphertexts:
            self._ciphertexts[text] = _seal(key, text)
        return self._ciphertexts[text]

    def decrypt(self, ciphertext: str) -> str:
        """The text of a ciphertext. Raises PassphraseError if it is damaged, or the passphrase is not the right one."""
        text = _open(self.derive(), ciphertext)
        if text is None:
            raise PassphraseError(f"{self._where}: a secret in it is damaged")
        self._ciphertexts[text] = ciphertext
        return text


def _derive(passphrase: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, _ITERATIONS, _KEY_BYTES)


def _seal(key: bytes, text: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), None)
    return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def _open(key: bytes, ciphertext: str) -> str | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        version, nonce, sealed = ciphertext.split(":")
        if version != "v1":
            return None
        return AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(sealed), None).decode()
    except (ValueError, binascii.Error, InvalidTag):
        return None


def passphrase(
    environment: Mapping[str, str], generated: Path, log: Callable[[str], None], *, make: bool = True
) -> str:
    """The passphrase of the environment, or else one of our own.

    Args:
        environment: Holds PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE.
        generated: The 0600 file that keeps our own passphrase.
        log: Shows where a new passphrase is kept.
        make: Whether a new passphrase may be made.

    Raises:
        PassphraseError: There is no passphrase, or its file cannot be read.
    """
    if "PULUMI_CONFIG_PASSPHRASE" in environment:
        return environment["PULUMI_CONFIG_PASSPHRASE"]
    if file := environment.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise PassphraseError(f"PULUMI_CONFIG_PASSPHRASE_FILE: cannot read {file}: {error.strerror}") from None
    if not generated.exists():
        if not make:
            raise PassphraseError(
                "no passphrase: set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE to the one that the "
                "secrets of this stack were written with"
            )
        generated.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = write_beside(generated, secrets.token_urlsafe(32) + "\n")
        try:
            # Another run may have been first: its passphrase stays.
            os.link(fresh, generated)
            log(f"No PULUMI_CONFIG_PASSPHRASE is set: made a passphrase of our own, kept in {generated}")
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return generated.read_text().strip()
