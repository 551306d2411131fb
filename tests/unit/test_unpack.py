"""What a host does with a tarball: programs of the exact names come out, and no link, owner or mode of its own."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from etcd_cluster.member import render
from etcd_cluster.releases import parse_architecture

SCRIPTS = Path(render.__file__).with_name("scripts")
VERSION = "3.6.16"
TOP = f"etcd-v{VERSION}-linux-{parse_architecture(platform.machine())}"
PRELUDE = """
pki_path=x supervisor=process state_path=$PWD/state logs_path=$PWD version=$VERSION
source "$1/common.sh"; source "$1/process.sh"; source "$1/prepare.sh"
"""


def entry(name: str, content: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = len(content), 0o6777, 12345, 12345
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=to)


PROGRAMS = [entry(f"{TOP}/{name}", name.encode()) for name in ("etcd", "etcdctl", "etcdutl")]


def pack(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path


def unpack(folder: Path, archive: Path, version: str = VERSION) -> subprocess.CompletedProcess[str]:
    (folder / "into").mkdir()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return subprocess.run(
        ["bash", "-c", f'{PRELUDE}unpack "$2" "$3" into', "bash", str(SCRIPTS), str(archive), digest],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "VERSION": version},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("prefix", ["", "./"])
def test_programs_are_files_of_our_own(prefix: str, tmp_path: Path) -> None:
    entries = [
        entry(f"{prefix}{TOP}", type=tarfile.DIRTYPE),
        *(entry(f"{prefix}{info.name}", content) for info, content in PROGRAMS),
        entry(f"{prefix}{TOP}/README.md", b"read me"),
        entry(f"{prefix}{TOP}/etcd-extra", b"not asked for"),
        link(f"{prefix}{TOP}/etcd-link", "/etc/shadow"),
        entry("../outside", b"outside"),
    ]
    done = unpack(tmp_path, pack(tmp_path / "a.tar.gz", entries))
    assert (done.returncode, done.stderr) == (0, "")
    files = {path.name: path for path in (tmp_path / "into").iterdir()}
    assert {name: path.read_text() for name, path in files.items()} == {n: n for n in ("etcd", "etcdctl", "etcdutl")}
    for path in files.values():
        status = path.lstat()
        assert (status.st_uid, oct(status.st_mode)) == (os.getuid(), "0o100644")


HOSTILE: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "a symbolic link": [link(f"{TOP}/etcd", "VICTIM"), *PROGRAMS[1:]],
    "a hard link": [link(f"{TOP}/etcd", "VICTIM", tarfile.LNKTYPE), *PROGRAMS[1:]],
    "a link, then a file": [link(f"{TOP}/etcd", "VICTIM"), *PROGRAMS],
    "a file, then a link": [*PROGRAMS, link(f"{TOP}/etcd", "VICTIM")],
    "a link, then a file by another spelling": [link(f"./{TOP}/etcd", "VICTIM"), *PROGRAMS],
    "a folder that is a link": [link(TOP, "VICTIM"), *PROGRAMS[1:]],
    "a device": [entry(f"{TOP}/etcd", type=tarfile.CHRTYPE, devmajor=1, devminor=5), *PROGRAMS[1:]],
    "a pipe": [entry(f"{TOP}/etcd", type=tarfile.FIFOTYPE), *PROGRAMS[1:]],
    "a name with more to it": [entry(f"{TOP}/etcd x", b"x"), *PROGRAMS[1:]],
    "no etcdctl": PROGRAMS[:1],
    "another version": [entry(info.name.replace(VERSION, "3.6.15"), content) for info, content in PROGRAMS],
    "nothing": [],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_anything_else_is_refused_and_touches_nothing(kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    for info, _ in HOSTILE[kind]:
        info.linkname = str(victim) if info.linkname else ""
    done = unpack(tmp_path, pack(tmp_path / "a.tar.gz", HOSTILE[kind]))
    assert done.returncode == 70
    assert "give a tarball packed like an official release" in done.stderr
    assert (victim.read_text(), oct(victim.stat().st_mode), victim.stat().st_nlink) == ("precious", "0o100600", 1)
    assert not [path for path in (tmp_path / "into").iterdir() if path.is_symlink()]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    assert "is not a whole .tar.gz file" in unpack(tmp_path, tmp_path / "a.tar.gz").stderr


def test_3_4_has_no_etcdutl(tmp_path: Path) -> None:
    entries = [entry(info.name.replace(VERSION, "3.4.9"), content) for info, content in PROGRAMS[:2]]
    assert unpack(tmp_path, pack(tmp_path / "a.tar.gz", entries), "3.4.9").returncode == 0


def test_a_program_below_any_folder_is_asked_for_its_version(tmp_path: Path) -> None:
    program = tmp_path / "a=b 'c' $(touch ran)" / "etcd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho etcd Version: $1\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f'{PRELUDE}first_line "$2"', "bash", str(SCRIPTS), str(program)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "VERSION": VERSION},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "etcd Version: --version\n"


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_program_is_asked_for_its_version_without_rights(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.write_text('#!/bin/sh\necho "etcd Version: $(id -u) $(grep NoNewPrivs /proc/self/status | tr -dc 0-9)"\n')
    program.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    command = f'{PRELUDE}supervisor=systemd; id() {{ echo 12345; }}; first_line "$2"'
    done = subprocess.run(
        ["bash", "-c", command, "bash", str(SCRIPTS), str(program)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "VERSION": VERSION},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "etcd Version: 12345 1\n", done.stderr


# What a host downloads


@pytest.fixture
def curl(tmp_path: Path) -> Callable[[str, str, str], subprocess.CompletedProcess[str]]:
    """Runs `fetch NAME` with a stand-in for curl, which writes down its arguments and its configuration."""
    program = tmp_path / "bin" / "curl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >arguments; cat >configuration; echo "curl: (22) hunter2" >&2; exit 22\n')
    program.chmod(0o755)

    def fetch(variable: str, line: str, name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "bash",
                "-c",
                f'{PRELUDE}mirror=$3; spec[mirror]=$4; fetch "$2" file',
                "bash",
                str(SCRIPTS),
                name,
                variable,
                line,
            ],
            cwd=tmp_path,
            env={"PATH": f"{program.parent}:{os.environ['PATH']}", "VERSION": VERSION},
            capture_output=True,
            text=True,
            check=False,
        )

    return fetch


def test_a_url_is_no_argument_and_https_stays_https(
    curl: Callable[[str, str, str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = curl("", "https://m.example/a", "SHA256SUMS")
    arguments = (tmp_path / "arguments").read_text()
    assert "m.example" not in arguments
    assert "--proto =https --proto-redir =https" in arguments
    url = f"https://m.example/a/v{VERSION}/SHA256SUMS"
    assert (tmp_path / "configuration").read_text() == f'url = "{url}"\nproxy = ""\nnoproxy = ""\n'
    assert f"cannot download https://m.example/a/v{VERSION}/SHA256SUMS (curl: (22) hunter2)" in done.stderr


def test_a_secret_mirror_is_not_shown(
    curl: Callable[[str, str, str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = curl("http://hunter2@m.example/a?token=hunter2", "", "f")
    url = f"http://hunter2@m.example/a/v{VERSION}/f?token=hunter2"
    assert (tmp_path / "configuration").read_text() == f'url = "{url}"\nproxy = ""\nnoproxy = ""\n'
    assert "--proto =http,https --proto-redir =http,https" in (tmp_path / "arguments").read_text()
    assert f"cannot download install.mirror/v{VERSION}/f; check install.mirror" in done.stderr
    assert "hunter2" not in done.stderr + (tmp_path / "arguments").read_text()
