"""Describes releases in general: their files on a mirror, the sums that are pinned, and the URLs that lead to them.

What one project's releases hold is elsewhere: etcd's in etcd/releases, rclone's in install/rclone. Nothing here uses
the network: fetching, unpacking and checking are in install.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from etcd_cluster.errors import HIDDEN, ConfigurationError, SecretText, holds_secret
from etcd_cluster.names import is_host

Architecture = Literal["amd64", "arm64"]
ARCHITECTURES: tuple[Architecture, ...] = ("amd64", "arm64")

InstallSource = Literal["auto", "release", "archive", "build"]
"""Where programs come from."""

Pins = str | Mapping[str, str]
"""SHA-256 sums: of the one file, or by the files' names, as in a mirror's SHA256SUMS."""

_URL = re.compile(r"https?://[^/?#\s]+[^?#\s]*(\?[^#\s]*)?")
_PROXY = re.compile(r"https?://([^/?#@\s]+@)?(\[[0-9a-fA-F:.]+\]|[^/?#@:\s]+)(:[0-9]{1,5})?/?")
_PLAIN = re.compile(r"[!-~]+")
_QUOTES = re.compile(r"[\"'<>\\^`{|}]")
_FILES = re.compile(r"file:///[!-~]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Project:
    """A project whose releases are files on mirrors, at MIRROR/vVERSION/FILE, with their sums in SHA256SUMS.

    Args:
        name: Name of the project, and what the names of its files begin with.
        block: The block of settings that says where its programs come from, such as `install`. Errors name its keys.
        default_mirror: Base URL of the official releases.
        suffix: What the names of its files end with.
        packed: What such a file is called.
        other_sources: What that block's `from` may be besides build, as errors list it.
    """

    name: str
    block: str
    default_mirror: str
    suffix: str
    packed: str
    other_sources: str = "release or archive"

    def folder(self, version: str, architecture: Architecture) -> str:
        """Returns the one directory at the top of a release's file, such as `etcd-v3.6.16-linux-amd64`."""
        return f"{self.name}-v{version}-linux-{architecture}"

    def file(self, version: str, architecture: Architecture) -> str:
        """Returns the name of a release's file."""
        return f"{self.folder(version, architecture)}{self.suffix}"

    def shown_url(self, mirror: str, version: str, file: str) -> str:
        """Returns a file's URL as errors show it: a mirror of the user's may be a secret."""
        is_official = mirror.rstrip("/") == self.default_mirror
        return f"{self.default_mirror if is_official else f'{self.block}.mirror'}/v{version}/{file}"

    def require_mirror(self, mirror: str, pins: Pins | None) -> str:
        """Returns the mirror without a slash at its end. Raises `ConfigurationError`, which never shows a secret.

        A mirror over http needs a pinned sum: anybody on the way could change the file and its SHA256SUMS together.
        """
        key = f"{self.block}.mirror"
        if not is_url(mirror):
            raise ConfigurationError(
                key,
                HIDDEN if re.search("[@?]", mirror) else mirror,
                "not an http(s) URL",
                f"write it in ASCII, with anything else percent-encoded; the default is {self.default_mirror}",
            )
        if not isinstance(mirror, SecretText) and ("@" in mirror or "?" in mirror):
            raise ConfigurationError(
                key,
                HIDDEN,
                "it carries a user, a password or a query, which every preview would show",
                f"make it a secret (`pulumi config set --secret --path etcd-cluster:{key}`), or use a mirror that "
                "needs none",
            )
        if mirror.startswith("http://") and pins is None:
            raise ConfigurationError(
                key,
                mirror,
                f"over http anyone on the way can change what hosts would run as {self.name}",
                f"pin the {self.packed} with {self.block}.sha256, or use https",
            )
        base, mark, query = mirror.partition("?")
        return f"{base.rstrip('/')}{mark}{query}"

    def require_pins(self, pins: Pins | None, version: str) -> None:
        """Raises `ConfigurationError` for a text that is no sum, and for a list of sums without this version's."""
        sums = self.require_sums(pins)
        if pins is not None and not any(self.pinned_sum(pins, version, each) for each in ARCHITECTURES):
            raise ConfigurationError(
                f"{self.block}.sha256",
                HIDDEN if holds_secret(dict(sums)) else sorted(sums),
                f"none of these is a {self.packed} of {self.name} {version}",
                f"add the sum of {self.file(version, 'amd64')}",
            )

    def require_sums(self, pins: Pins | None) -> Mapping[str, str]:
        """Returns the sums by their names, one alone as "". Raises `ConfigurationError` for a text that is no sum."""
        sums = {"": pins} if isinstance(pins, str) else pins or {}
        for name, digest in sums.items():
            if not is_sha256(digest):
                key = f"{self.block}.sha256.{name}" if name else f"{self.block}.sha256"
                raise ConfigurationError(key, digest, "not a SHA-256 sum", "give its 64 hexadecimal digits")
        return sums

    def pinned_sum(self, pins: Pins | None, version: str, architecture: Architecture) -> str | None:
        """Returns the sum that is pinned for one file."""
        if pins is None or isinstance(pins, str):
            return pins.lower() if pins else None
        digest = pins.get(self.file(version, architecture))
        return digest.lower() if digest else None


def parse_architecture(uname_machine: str) -> Architecture | None:
    """Returns the releases' name for what `uname -m` prints; None for any other."""
    names: dict[str, Architecture] = {
        "x86_64": "amd64",
        "amd64": "amd64",
        "aarch64": "arm64",
        "arm64": "arm64",
    }
    return names.get(uname_machine)


def is_url(text: str) -> bool:
    """Returns whether a text is an http(s) URL in ASCII, of a host that can be."""
    if not _URL.fullmatch(text) or not _PLAIN.fullmatch(text) or _QUOTES.search(text):
        return False
    parts = urlsplit(text)
    try:
        return is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # a port that is no number, or too large
        return False


def require_go_proxy(key: str, go_proxy: str) -> str:
    """Returns GOPROXY's value; raises `ConfigurationError`, which never shows it: it may carry a password."""
    parts = re.split("[,|]", go_proxy)
    if not all(part in ("direct", "off") or is_url(part) or _FILES.fullmatch(part) for part in parts):
        raise ConfigurationError(
            key,
            HIDDEN,
            "not a list of http(s) or file URLs, direct and off",
            "write it like https://proxy.example,direct",
        )
    if not isinstance(go_proxy, SecretText) and re.search("[@?]", go_proxy):
        raise ConfigurationError(
            key,
            HIDDEN,
            "it carries a user, a password or a query, which every preview would show",
            "make it a secret, or use a proxy that needs none",
        )
    return go_proxy


def require_proxy(key: str, proxy: str) -> str:
    """Returns the proxy for downloads. Raises `ConfigurationError`, which never shows a password."""
    if not _PROXY.fullmatch(proxy) or not is_url(proxy):
        raise ConfigurationError(
            key,
            HIDDEN if "@" in proxy else proxy,
            "not the URL of an http(s) proxy",
            "write it like http://proxy.example.net:3128, with anything but ASCII percent-encoded",
        )
    if not isinstance(proxy, SecretText) and "@" in proxy:
        raise ConfigurationError(
            key,
            HIDDEN,
            "it carries a user or a password, which every preview would show",
            "make it a secret (`pulumi config set --secret --path etcd-cluster:install.proxy`)",
        )
    return proxy


def require_no_proxy(key: str, name: str) -> str:
    """Returns a name past the proxy; raises `ConfigurationError` for what curl and package managers do not all know."""
    if not is_host(name.removeprefix(".")):
        raise ConfigurationError(
            key, name, "neither a host nor a domain", "write it like mirror.example.net, .example.net or 10.0.0.5"
        )
    return name


def file_url(mirror: str, version: str, file: str) -> str:
    """Returns MIRROR/vVERSION/FILE; a query of the mirror's stays at the end."""
    base, mark, query = mirror.partition("?")
    return f"{base.rstrip('/')}/v{version}/{file}{mark}{query}"


def is_sha256(text: str) -> bool:
    """Returns whether a text is a SHA-256 sum in hexadecimal."""
    return _SHA256.fullmatch(text) is not None
