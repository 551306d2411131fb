"""Fetches official releases from a mirror, and keeps each file whose checksum is right."""

from __future__ import annotations

import base64
import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from etcd_cluster.etcd.releases import DEFAULT_MIRROR, ETCD, release_name
from etcd_cluster.install.archives import require_sha256
from etcd_cluster.install.cache import Say, cache_directory, discard, make_once
from etcd_cluster.install.errors import InstallError
from etcd_cluster.releases import Architecture, Project, file_url, is_sha256

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30


def download_release(
    version: str,
    architecture: Architecture,
    mirror: str = DEFAULT_MIRROR,
    sha256: str | None = None,
    say: Say = discard,
) -> Path:
    """Returns the tarball of a release of etcd; see `download_file`."""
    return download_file(ETCD, version, release_name(version, architecture), mirror, sha256, say)


def download_file(
    project: Project, version: str, name: str, mirror: str, sha256: str | None = None, say: Say = discard
) -> Path:
    """Returns a file of a release, kept in the cache once its sum is right.

    Args:
        project: Whose release.
        version: Version of the release.
        name: Name of the file.
        mirror: Base URL that holds vVERSION/FILE and vVERSION/SHA256SUMS.
        sha256: Pins the file's sum, instead of SHA256SUMS; None to use SHA256SUMS.
        say: Called with each line of progress.

    Raises:
        InstallError: The mirror cannot be reached or lacks the file.
        ChecksumMismatch: The file has another sum.
    """
    sums_shown = project.shown_url(mirror, version, "SHA256SUMS")
    # A file is identified by its pinned sum, else by the mirror that it comes from.
    key = sha256.lower() if sha256 else hashlib.sha256(mirror.encode()).hexdigest()

    def make(partial: Path) -> None:
        expected = sha256 or _published_sum(file_url(mirror, version, "SHA256SUMS"), sums_shown, name)
        label = project.shown_url(mirror, version, name)
        say(f"{project.name} {version}: downloading {label}")
        with open(partial, "wb") as file:
            _fetch(file_url(mirror, version, name), label, file.write)
        require_sha256(partial, expected, f"{project.block}.sha256" if sha256 else sums_shown)

    return make_once(cache_directory() / "downloads" / key[:16] / name, make, say)


def _published_sum(url: str, label: str, name: str) -> str:
    content = bytearray()
    _fetch(url, label, content.extend)
    for line in content.decode(errors="replace").splitlines():
        digest, _, file = line.partition(" ")
        if file.lstrip(" *") == name and is_sha256(digest):
            return digest
    raise InstallError(f"{label} does not list {name}")


def _fetch(url: str, label: str, write: Callable[[bytes], object]) -> None:
    """Downloads a file.

    Args:
        url: Where it is.
        label: What errors call it.
        write: Called with each piece of it.
    """
    try:
        with _opener().open(_request(url)) as response:
            left = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(1 << 18):
                left -= len(chunk)
                write(chunk)
        # A broken connection is no reason to distrust the mirror, as a wrong sum would be.
        if left > 0:
            raise InstallError(f"{label}: the connection ended {left} bytes early")
    except urllib.error.HTTPError as error:
        raise InstallError(f"{label}: HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise InstallError(f"{label}: {reason}") from None


def _request(url: str) -> urllib.request.Request:
    parts = urllib.parse.urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    if parts.scheme not in ("http", "https"):
        raise ValueError("not an http or https URL")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))  # noqa: S310 (checked)
    if credentials:
        token = base64.b64encode(urllib.parse.unquote(credentials).encode()).decode()
        # Unredirected: the place that a mirror redirects to must not see the password.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_HttpHandler, _HttpsHandler, _RedirectHandler)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Refuses redirects from https to anything else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("https", "http") or (req.type == "https" and scheme == "http"):
            raise urllib.error.URLError(f"it redirects to {scheme or 'something else'}, away from {req.type}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# A machine without internet must find that out within seconds, and a slow mirror must not be mistaken for that:
# urllib has one timeout for both, so the connections below distinguish connecting from reading.
class _HttpConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.timeout = CONNECT_TIMEOUT_SECONDS
        super().connect()
        self.sock.settimeout(READ_TIMEOUT_SECONDS)


class _HttpsConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        self.timeout = CONNECT_TIMEOUT_SECONDS
        super().connect()
        self.sock.settimeout(READ_TIMEOUT_SECONDS)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req)
