"""Faults of a real store, as the functions that machines run meet them: rclone, and rclone's S3 server beside it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from etcd_cluster.backup.catalog import Problem, read_catalogs
from etcd_cluster.backup.files import MemberPlace, variables
from etcd_cluster.backup.store import StoreUrl, rclone_configuration
from etcd_cluster.backup.transport import StoreFolder
from etcd_cluster.backup.verification import Difference, verify
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from tests.unit.test_backup_script import NAME, SCHEDULE
from tests.unit.test_member_scripts import Folder

RCLONE = shutil.which("rclone")
pytestmark = pytest.mark.skipif(RCLONE is None, reason="rclone is not installed")
KEY, SECRET = "unit-access-key", "unit-secret-key"
PASSWORD = "a password for the unit tests"
START_SECONDS = 600


@dataclass
class Store:
    """A server, one bucket of which is a folder."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        # Almost without a cache: what changes on its disk is what it answers. With none (0), it empties the cache
        # in a loop without a pause: that takes a processor, and on a busy machine no answer comes within 12 seconds.
        command = [str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}"]
        command += ["--config", "", "--dir-cache-time", "1ms", "--vfs-cache-mode", "off", str(self.root)]
        with (self.root.parent / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def folder(self) -> Path:
        return self.root / "backups" / "etcd" / "TOKEN"

    def names(self) -> set[str]:
        return {path.name for path in self.folder.glob("*")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    root = tmp_path_factory.mktemp("store")
    (root / "backups").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    store = Store(root, port)
    store.start()
    yield store
    store.process.kill()
    store.process.wait()


@pytest.fixture
def store(server: Store) -> Store:
    """Empty."""
    shutil.rmtree(server.folder, ignore_errors=True)
    return server


class Member:
    """What a machine holds for its backups, and a backup that waits to be sent."""

    def __init__(self, folder: Folder, store: Store, to: str = "s3://backups/etcd", **given: str) -> None:
        self.folder, url = folder, StoreUrl.parse(to)
        known = {"endpoint": f"http://127.0.0.1:{store.port}", "access_key": KEY, "secret_key": SECRET, **given}
        self.variables = variables(
            "p/s/etcd", "TOKEN", MemberPlace("etcd-1", folder.layout, Ports(1, 2, 3)), url, to, SCHEDULE
        )
        self.waiting = folder.path / "volume" / "backups"
        configuration = folder.path / "configuration" / "backup"
        for path in (self.waiting, configuration, folder.path / "state"):
            path.mkdir(parents=True, exist_ok=True)
        (configuration / "rclone").unlink(missing_ok=True)
        (configuration / "rclone").symlink_to(str(RCLONE))
        (configuration / "rclone.conf").write_text(rclone_configuration(url, known, ""))

    def put(self, size: int = 3000) -> None:
        data = os.urandom(size)
        (self.waiting / f"{NAME}.db").write_bytes(data)
        manifest = {
            "name": NAME,
            "cluster": "p/s/etcd",
            "token": "TOKEN",
            "version": "3.6.16",
            "revision": 7,
            "bytes": size,
        }
        text = json.dumps({**manifest, "sha256": hashlib.sha256(data).hexdigest(), "hash": None})
        (self.waiting / f"{NAME}.json").write_text(f"{text}\n")

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        begin = f"backup_folder={shlex.quote(str(self.waiting))}; listed=''\n"
        functions, found, _ = render.script("backup", self.folder.layout, self.variables).rpartition('\nanswer "$@"')
        assert found
        script = f"{functions}\nspec[member]=etcd-1\n{begin}{code}\nexit\n"
        return subprocess.run(["bash"], input=script, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture
def member(store: Store, tmp_path: Path) -> Member:
    member = Member(Folder(tmp_path / "a member"), store)
    member.put()
    return member


def test_the_manifest_comes_last_and_both_arrive_as_they_are(member: Member, store: Store) -> None:
    sent = member.run(f"send {NAME}; names")
    assert (sent.returncode, sent.stderr) == (0, "")
    assert store.names() == {f"{NAME}.db", f"{NAME}.json"} == set(sent.stdout.split())
    assert (store.folder / f"{NAME}.db").read_bytes() == (member.waiting / f"{NAME}.db").read_bytes()


@pytest.mark.parametrize(
    ("to", "given", "sentence"),
    [
        ("s3://nothing-here/etcd", {}, "there is no such bucket"),
        ("s3://backups/etcd", {"secret_key": "wrong"}, "the store refuses the secret key"),
        ("s3://backups/etcd", {"endpoint": "http://127.0.0.1:1"}, "the store does not answer"),
    ],
)
def test_what_a_store_refuses_is_named(
    to: str, given: dict[str, str], sentence: str, store: Store, tmp_path: Path
) -> None:
    member = Member(Folder(tmp_path / "a member"), store, to, **given)
    member.put()
    done = member.run(f"send {NAME}")
    assert done.returncode == 70
    assert f"backup to {to}: {sentence}" in done.stderr
    assert "wrong" not in done.stderr
    assert (member.waiting / f"{NAME}.db").exists(), "the local copy stays"
    assert store.names() == set()


@pytest.mark.parametrize("fault", ["hangs", "hangs beyond the limit", "is killed"])
def test_a_store_that_fails_in_mid_upload_holds_no_backup_and_takes_the_next(
    fault: str, member: Member, store: Store
) -> None:
    member.put(30_000_000)
    # The upload is slow enough to be met in its middle.
    slow = "eval \"$(declare -f rclone | sed 's/--log-level/--bwlimit 5M --log-level/')\"; "
    if fault == "hangs":
        # The silence that ends an attempt is shorter here.
        slow += "eval \"$(declare -f rclone | sed 's/silence=60s/silence=3s/')\"; "
        done = member.run(f"{slow}(sleep 2; kill -STOP {store.process.pid}) & send {NAME}")
        os.kill(store.process.pid, signal.SIGCONT)
        assert "the store does not answer" in done.stderr
    elif fault == "hangs beyond the limit":
        done = member.run(f"{slow}STORE_SECONDS=6; (sleep 2; kill -STOP {store.process.pid}) & send {NAME}")
        os.kill(store.process.pid, signal.SIGCONT)
        assert "it did not end in time" in done.stderr
    else:
        done = member.run(f"{slow}(sleep 2; kill -KILL {store.process.pid}) & send {NAME}")
        store.process.wait()
        store.start()
        assert "the store does not answer" in done.stderr
    assert done.returncode == 70
    assert f"{NAME}.json" not in store.names()
    assert member.run(f"send {NAME}").returncode == 0
    assert f"{NAME}.json" in store.names()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param("cut", "its SHA-256 is ", marks=pytest.mark.exhaustive),
        ("changed", "its SHA-256 is "),
        pytest.param("manifest", "its manifest is damaged", marks=pytest.mark.exhaustive),
        pytest.param("gone", "its data is gone from the store", marks=pytest.mark.exhaustive),
    ],
)
def test_what_changed_on_the_stores_disk_does_not_pass_and_says_so(
    damage: str, sentence: str, encrypted: bool, store: Store, tmp_path: Path
) -> None:
    given = {"encryption_password": PASSWORD} if encrypted else {}
    member = Member(Folder(tmp_path / "a member"), store, **given)
    member.put()
    assert member.run(f"send {NAME}").returncode == 0
    data, manifest = store.folder / f"{NAME}.db", store.folder / f"{NAME}.json"
    if damage == "cut":
        os.truncate(data, 1500)
    elif damage == "changed":
        content = bytearray(data.read_bytes())
        content[1000] ^= 1
        data.write_bytes(content)
    elif damage == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:60])
    else:
        data.unlink()
    done = member.run(f"prove {NAME}")
    assert done.returncode == 70
    if encrypted and damage == "manifest":  # nothing tells it from a wrong password
        assert "could not be tested: backup to s3://backups/etcd: its content is not encrypted with that" in done.stderr
        return
    assert f"backup {NAME} does not restore: " in done.stderr
    assert ("its data does not decrypt" if encrypted and damage != "gone" else sentence) in done.stderr
    assert f"{NAME}.failed" in store.names()
    expected = {"cut": Difference.BYTES, "changed": Difference.SHA256, "manifest": Difference.MANIFEST}
    undecrypted = encrypted and damage in ("cut", "changed")
    difference = Difference.ENCRYPTION if undecrypted else expected.get(damage, Difference.NO_DATA)
    assert difference in verified(store, given)


def test_one_damaged_manifest_hides_no_other_encrypted_backup(store: Store, tmp_path: Path) -> None:
    given = {"encryption_password": PASSWORD}
    member = Member(Folder(tmp_path / "a member"), store, **given)
    member.put()
    assert member.run(f"send {NAME}").returncode == 0
    damaged = NAME.replace("20201127", "20201126")
    (store.folder / f"{damaged}.json").write_bytes((store.folder / f"{NAME}.json").read_bytes()[:60])
    with opened(store, given) as folder:
        (catalog,) = read_catalogs(folder, "TOKEN")
    assert {each.name: each.problem for each in catalog.backups} == {NAME: None, damaged: Problem.MANIFEST}


def opened(store: Store, given: dict[str, str]) -> StoreFolder:
    to = "s3://backups/etcd"
    known = {"endpoint": f"http://127.0.0.1:{store.port}", "access_key": KEY, "secret_key": SECRET, **given}
    return StoreFolder(StoreUrl.parse(to), to, known, str(RCLONE))


def verified(store: Store, given: dict[str, str]) -> set[Difference]:
    """What `etcd-cluster backup verify` finds."""
    with opened(store, given) as folder:
        (catalog,) = read_catalogs(folder, "TOKEN")
        (backup,) = catalog.backups
        return set(verify(folder, backup, lambda _: None).differences)
