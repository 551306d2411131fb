"""Faults of the store and of machines in the middle of backups: real hosts, a real S3 server, and clients that write.

Each makes one run fail. It says why, in the run's result and in `etcd-cluster status`; nothing that is half made counts
as a backup, nothing that was in the store goes, and the next run succeeds by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.changes import assert_converged, configure, steps
from tests.lab.clusters import Cluster, eventually
from tests.lab.faults import VOLUME, change_data, clock_ahead, followers
from tests.lab.hosts import OPERATOR_ADDRESS, Host, Lab
from tests.lab.object_store import PORT, ObjectStore
from tests.lab.observed import on_all
from tests.lab.stack import STACK, Stack, host_config
from tests.lab.test_backup import SERVICE, TIMER, result
from tests.lab.test_backup_stores import command
from tests.lab.test_status import status
from tests.lab.writes import Access, Writes, writing

KEY, SECRET = "lab-backup-key", "lab-backup-secret-8d20"
READ = ("s3:GetObject", "s3:ListBucket")
ALL = (*READ, "s3:PutObject", "s3:DeleteObject")
STORE_MIB, DATA_MIB = 2000, 24
DROP_IN = f"/run/systemd/system/{SERVICE}.d/lab.conf"
PROGRAM, SLOW_PROGRAM = "/etc/etcd/backup/program", "/run/slow-backup"
SLOWED = (
    f"sed 's/--log-level ERROR/--bwlimit 2M &/' {PROGRAM} > {SLOW_PROGRAM} && grep -qF -- '--bwlimit 2M' {SLOW_PROGRAM}"
)
"""Two megabytes a second: an upload takes long enough to be met in its middle."""
LEFT_BEHIND = (
    "find /data/etcd /var/lib/etcd-cluster -name '.new-*' -o -name '*.part' -o -name 'scratch-*'; pgrep -cx etcd"
)
# Answers every request with one error of S3, as some stores do that the one here cannot.
REFUSING = """
import http.server, sys
class Refusing(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = f"<?xml version='1.0'?><Error><Code>{sys.argv[3]}</Code><Message>no</Message></Error>".encode()
        self.send_response(int(sys.argv[4]))
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_PUT = do_POST = do_DELETE = answer
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Refusing).serve_forever()
"""
NOTE, NOTE_BEFORE = "/var/lib/etcd-cluster/backup", "/run/backup-before"
FILLING, FREE = f"{VOLUME}/filling", f"df --output=avail --block-size=1 {VOLUME} | tail -n 1"
CURSOR = "/run/journal-cursor"
OTHERS = "b" * 32
OTHERS_NAME = "20250102T030000Z-5-other-1"


@pytest.fixture(scope="module")
def store(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """On a small file system of its own. What another cluster has there is old, and partly cut off."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "objects").mkdir()
    with (folder / "disk").open("wb") as disk:
        disk.truncate(STORE_MIB * 1024**2)
    lab.run(["mkfs.ext4", "-q", "-m", "0", folder / "disk"])
    lab.run(["mount", "-o", "loop", folder / "disk", folder / "objects"])
    try:
        store = ObjectStore(lab, folder / "objects")
        store.start()
        store.admin("create-user", "--access", KEY, "--secret", SECRET, "--role", "user")
        store.allow(KEY, *ALL)
        others = store.folder / store.bucket / "etcd" / OTHERS
        others.mkdir(parents=True)
        for name in (f"{OTHERS_NAME}.db", f"{OTHERS_NAME}.json", "20250102T040000Z-6-other-1.db"):
            (others / name).write_text("of another cluster\n")
        yield store
        store.stop()
    finally:
        lab.run(["umount", "--lazy", folder / "objects"])


def backup_config(store: ObjectStore, **changes: Any) -> dict[str, Any]:
    to = {"to": f"s3://{store.bucket}/etcd", "endpoint": store.url, "accessKey": KEY, "secretKey": SECRET}
    return {**to, "every": "24h", "test": "never", "keep": {"last": 100}, **changes}


@pytest.fixture(scope="module")
def cluster(lab: Lab, store: ObjectStore, mirror_url: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three members. Their timers stand still: each test makes the runs it needs."""
    hosts = lab.hosts(3, disk_gib=2)
    config = host_config(hosts, mirror_url, allowUndersized=True, backup=backup_config(store))
    cluster = Cluster(lab, hosts, Stack(lab, tmp_path_factory.mktemp("faults"), config))
    cluster.up()
    for number in range(DATA_MIB):
        value = os.urandom(500_000).hex()
        cluster.lab.run([*cluster.etcdctl_command(), "put", f"data/{number}"], input=value)
    on_all(hosts, lambda host: host.run(f"systemctl stop {TIMER}"))
    return cluster


def begin(host: Host, words: str = "now=yes", *, slow: bool = False) -> None:
    """Starts the service, for a backup at once; without words, for that of the day, as its timer does."""
    lines = ["[Service]", "ExecStart=", f"ExecStart=/usr/bin/env bash -s -- backup member={host.name} {words}"]
    if slow:
        host.run(SLOWED)
        lines.append(f"StandardInput=file:{SLOW_PROGRAM}")
    text = "\n".join(lines)
    host.run(f"mkdir -p {os.path.dirname(DROP_IN)}; cat > {DROP_IN}; systemctl daemon-reload", stdin=f"{text}\n")
    invocation = f"systemctl show -P InvocationID {SERVICE}"
    cursor = f"journalctl -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p' > {CURSOR}"
    before = host.run(f"{cursor}; cp {NOTE} {NOTE_BEFORE} || : > {NOTE_BEFORE}; {invocation}").stdout
    host.run(f"systemctl start --no-block {SERVICE}")
    eventually(lambda: host.run(invocation).stdout != before, f"the backup on {host.name} begins")


def await_end(host: Host) -> dict[str, str]:
    """What the run noted; nothing if it was killed."""
    eventually(lambda: not runs(host), f"the backup on {host.name} ends")
    print(host.run(f"journalctl -o cat -u {SERVICE} | tail -n 20").stdout)  # shown for a test that fails
    noted = host.run(f"test -f {NOTE} && ! cmp -s {NOTE} {NOTE_BEFORE}", check=False).returncode == 0
    return result(host) if noted else {}


def runs(host: Host) -> bool:
    return host.run(f"systemctl show -P ActiveState {SERVICE}").stdout.strip() in ("activating", "deactivating")


def await_upload(host: Host) -> None:
    """Until a part of the data is sent."""
    sent = 'p=$(pgrep -x rclone) && [ "$(sed -n "s/^wchar: //p" /proc/$p/io)" -gt 4000000 ]'
    eventually(lambda: host.run(sent, check=False).returncode == 0, "an upload is in its middle")


def await_line(host: Host, text: str) -> None:
    """Until the present run says so."""
    said = f'journalctl -o cat -u {SERVICE} --after-cursor "$(cat {CURSOR})" | grep -qF "{text}"'
    eventually(lambda: host.run(said, check=False).returncode == 0, f"{host.name} says: {text}")


def contents(store: ObjectStore) -> dict[str, str]:
    """Object -> its sum, without notes of runs to one another."""
    root = store.folder / store.bucket
    found = (path for path in store.objects() if path.suffix in (".db", ".json", ".tested", ".failed"))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def backups(cluster: Cluster) -> dict[str, Any]:
    """Name -> what `etcd-cluster backup list` says of each."""
    (listed,) = command(cluster, "list")["clusters"] or [{"backups": []}]
    return {each["name"]: each for each in listed["backups"]}


def assert_whole(cluster: Cluster, store: ObjectStore) -> None:
    """What is listed has all of its data, and no other manifest is there."""
    manifests = [path for path in store.objects(".json") if path.parent.name != OTHERS]
    for path in manifests:
        data = path.with_suffix(".db").read_bytes()
        assert hashlib.sha256(data).hexdigest() == json.loads(path.read_text())["sha256"]
    assert backups(cluster).keys() == {path.stem for path in manifests}


def assert_nothing_left(host: Host) -> None:
    left = host.run(LEFT_BEHIND, check=False).stdout.split()
    assert left == ["1"], "of etcd, its member alone runs"


def problems(cluster: Cluster) -> str:
    """What `etcd-cluster status` says of the backups."""
    return "\n".join(status(cluster, "--output", "json").document["backups"]["problems"])


@contextmanager
def one_failed_run(cluster: Cluster, store: ObjectStore, sentence: str, host: Host) -> Iterator[None]:
    """In the block, one run fails on that machine, and what made it fail ends."""
    kept = contents(store)
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        yield
        noted = await_end(host)
        if noted:
            assert noted["result"] == "failed"
            assert sentence in noted["failure"]
            await_line(host, sentence)
            assert_nothing_left(host)
        assert f"{host.name}: its last backup failed: " in problems(cluster)
        assert sentence in problems(cluster)
        assert_whole(cluster, store)
        assert kept.items() <= contents(store).items()
        assert_next_run(cluster, store, host)
        assert kept.items() <= contents(store).items()
    print(writes.result)
    writes.assert_nothing_lost(expect_downtime=False)
    assert_no_secret(host)


def assert_next_run(cluster: Cluster, store: ObjectStore, host: Host) -> None:
    """The next run makes a backup, and nothing is left of the one before."""
    before = backups(cluster).keys()
    begin(host)
    noted = await_end(host)
    assert noted["result"] == "success", noted
    assert backups(cluster).keys() - before == {noted["newest"]}
    assert (noted["local"], host.run(f"ls {VOLUME}/backups").stdout) == ("", "")
    assert_nothing_left(host)
    assert_whole(cluster, store)
    assert "its last backup failed" not in problems(cluster)


def assert_no_secret(host: Host) -> None:
    places = "/etc /opt /var/lib /run /var/log /tmp /proc/*/cmdline /proc/*/environ"
    found = host.run(f"grep -rlF -f - {places}", check=False, stdin=SECRET)
    assert found.stdout == "/etc/etcd/backup/rclone.conf\n"


def local_copies(host: Host) -> list[str]:
    return [Path(name).stem for name in host.run(f"ls {VOLUME}/backups").stdout.split() if name.endswith(".db")]


# --- a member ---


def test_a_member_that_holds_other_data_fails_the_run_and_the_next_one_is_good_once_it_has_joined_anew(
    cluster: Cluster, store: ObjectStore
) -> None:
    """Its database was changed, and no alarm stands. First here: after an hour, etcd compares what members hold."""
    *_, member = followers(cluster)
    host = next(each for each in cluster.hosts if each is not member)
    begin(host, "now=yes test=yes")
    proven = await_end(host)["tested"]
    with writing(cluster.lab, Access.of(cluster.outputs), give_up_seconds=600) as writes:
        differ(cluster, member, writes)
        kept = contents(store)
        begin(host, "now=yes test=yes")
        noted = await_end(host)
        assert (noted["result"], noted["tested"]) == ("failed", proven)
        name = noted["newest"]
        assert "members differ: at revision " in noted["failure"]
        await_line(host, "members differ: at revision ")
        assert f"{host.name}: its last backup failed: members differ: at revision " in problems(cluster)
        assert cluster.etcdctl("alarm", "list") == ""
        assert_is_no_proof(cluster, store, name)
        assert "tested" in backups(cluster)[proven]["keptFor"]
        assert_whole(cluster, store)
        assert_nothing_left(host)
        assert kept.items() <= contents(store).items()
        member.run("systemctl stop etcd-cluster")
        run = cluster.up()  # it ends at its start, as it holds other data than its peers
        assert "warning: backups: " in run.output
        assert "its last backup failed: members differ: at revision " in run.output
        assert any(f"removing {member.name}, whose data differ" in each for each in steps(run)), run.output
        on_all(cluster.hosts, lambda each: each.run(f"systemctl stop {TIMER}"))
        begin(host, "now=yes test=yes")
        noted = await_end(host)
        assert (noted["result"], noted["tested"]) == ("success", noted["newest"])
        listed = backups(cluster)[noted["tested"]]
        assert (listed["hashMissing"], listed["test"], listed["problem"]) == (None, "passed", None)
        (manifest,) = store.objects(f"{noted['tested']}.json")
        agreed = json.loads(manifest.read_text())["hash"]["members"].split(",")
        assert sorted(agreed) == sorted(each.name for each in cluster.hosts)
        assert "its last backup failed" not in problems(cluster)
        assert_is_no_proof(cluster, store, name)
        writes.await_more()
    writes.assert_nothing_lost()


def differ(cluster: Cluster, member: Host, writes: Writes) -> None:
    """One key has another value on that member than on the others."""
    url = cluster.outputs["members"][member.name]["clientUrl"]

    def differs() -> bool:
        change_data(member, "by-nobody", "by-a-hand")
        read = [*cluster.etcdctl_command([url]), "get", "changed", "--consistency", "s", "--print-value-only"]
        return cluster.lab.run(read, capture_output=True, text=True).stdout.strip() == "by-a-hand"

    cluster.etcdctl("put", "changed", "by-nobody")
    writes.await_more()
    eventually(differs, f"{member.name} holds other data")
    assert cluster.etcdctl("get", "changed", "--print-value-only").strip()


def assert_is_no_proof(cluster: Cluster, store: ObjectStore, name: str) -> None:
    """It is listed, can be restored, and no test is made of it."""
    (manifest,) = store.objects(f"{name}.json")
    assert {"hash": None, "hashMissing": "differed"}.items() <= json.loads(manifest.read_text()).items()
    listed = backups(cluster)[name]
    assert (listed["hashMissing"], listed["test"], listed["problem"]) == ("differed", "none", None)
    assert "tested" not in listed["keptFor"]
    run = cluster.lab.run(
        [sys.executable, "-m", "etcd_cluster.cli", "--stack", STACK, "backup", "test", name],
        cwd=cluster.stack.folder,
        env=cluster.stack.environment,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"backup {name} proves nothing: members differed when it was made" in run.stderr
    assert not store.objects(f"{name}.tested") + store.objects(f"{name}.failed")


# --- the store ---


@contextmanager
def killed(store: ObjectStore, _: Host) -> Iterator[None]:
    store.stop()
    yield
    store.start()


@contextmanager
def hung(store: ObjectStore, _: Host) -> Iterator[None]:
    store.pause()
    yield
    store.resume()


@contextmanager
def cut_off(_: ObjectStore, host: Host) -> Iterator[None]:
    """The network between the machine and the store loses every packet."""
    rules = [
        "add table bridge no_store",
        "add chain bridge no_store input { type filter hook input priority 0; }",
        f"add rule bridge no_store input iifname {host._port} tcp dport {PORT} drop",
    ]
    host.lab.run(["nft", "-f", "-"], input="\n".join(rules) + "\n")
    yield
    host.lab.run(["nft", "delete", "table", "bridge", "no_store"])


@contextmanager
def full(store: ObjectStore, _: Host) -> Iterator[None]:
    """Room for a part of a snapshot is left."""
    filling = store.folder / "filling"
    free = os.statvfs(store.folder)
    store.lab.run(["fallocate", "--length", str(free.f_bavail * free.f_frsize - 10 * 1024**2), filling])
    yield
    filling.unlink()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        pytest.param(killed, "the store does not answer", id="killed"),
        # Two minutes: two attempts, each given up after a minute without a byte.
        pytest.param(hung, "the store does not answer", id="hung", marks=pytest.mark.exhaustive),
        pytest.param(cut_off, "the store does not answer", id="cut off", marks=pytest.mark.exhaustive),
    ],
)
def test_a_store_that_fails_in_mid_upload(
    cluster: Cluster, store: ObjectStore, fault: Callable[..., Any], sentence: str
) -> None:
    host = cluster.hosts[0]
    with one_failed_run(cluster, store, sentence, host):
        begin(host, slow=True)
        await_upload(host)
        assert_no_secret(host)
        with fault(store, host):
            noted = await_end(host)
        assert f". The newest local copy is {noted['local']}, in {VOLUME}/backups" in noted["failure"]
        assert local_copies(host) == [noted["local"]]


def test_a_store_that_hangs_ends_an_up_which_tries_it_and_the_next_one_goes_on(
    cluster: Cluster, store: ObjectStore
) -> None:
    before = cluster.stack.config
    configure(cluster, backup=backup_config(store, keep={"last": 99}))
    with hung(store, cluster.hosts[0]):
        run = cluster.stack.up(check=False)
    assert run.returncode != 0, run.output
    assert "the store does not answer" in run.output, run.output
    cluster.up()
    cluster.stack.config = before
    cluster.up()
    assert_converged(cluster)


@pytest.mark.exhaustive
def test_a_store_that_is_full(cluster: Cluster, store: ObjectStore) -> None:
    host = cluster.hosts[0]
    with one_failed_run(cluster, store, "the store is full", host), full(store, host):
        begin(host)
        noted = await_end(host)
        assert local_copies(host) == [noted["local"]]


# --- the key ---


@contextmanager
def read_only(store: ObjectStore) -> Iterator[None]:
    store.allow(KEY, *READ)
    yield
    store.allow(KEY, *ALL)


@contextmanager
def deleted(store: ObjectStore) -> Iterator[None]:
    store.admin("delete-user", "--access", KEY)
    yield
    store.admin("create-user", "--access", KEY, "--secret", SECRET, "--role", "user")


@contextmanager
def renewed(store: ObjectStore) -> Iterator[None]:
    """With another secret."""
    store.admin("update-user", "--access", KEY, "--secret", "another-secret")
    yield
    store.admin("update-user", "--access", KEY, "--secret", SECRET)


@contextmanager
def no_bucket(store: ObjectStore) -> Iterator[None]:
    bucket = store.folder / store.bucket
    bucket.rename(store.folder / "renamed")
    yield
    (store.folder / "renamed").rename(bucket)


def refusing(code: str, status_code: int) -> Callable[[ObjectStore], Any]:
    """A store that answers with that error, in the place of the other."""

    @contextmanager
    def refuses(store: ObjectStore) -> Iterator[None]:
        store.stop()
        address = [OPERATOR_ADDRESS, str(PORT), code, str(status_code)]
        server = store.lab.popen([sys.executable, "-c", REFUSING, *address], stderr=subprocess.DEVNULL)
        eventually(store._answers, "that store answers")
        yield
        server.kill()
        server.wait()
        store.start()

    return refuses


KEYS = {
    "read-only": (read_only, "the credentials may not do that"),
    "deleted": (deleted, "the store does not know the access key"),
    "with another secret": (renewed, "the store refuses the secret key"),
    "without a bucket": (no_bucket, "there is no such bucket"),
    "expired": (refusing("ExpiredToken", 400), "the credentials have expired"),
    "of another time": (refusing("RequestTimeTooSkewed", 403), "this machine's clock is too far from the store's"),
}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        pytest.param(*row, id=name, marks=[pytest.mark.exhaustive] if name != "read-only" else [])
        for name, row in KEYS.items()
    ],
)
def test_a_key_that_no_longer_counts_costs_no_local_copy(
    cluster: Cluster, store: ObjectStore, fault: Callable[..., Any], sentence: str
) -> None:
    host = cluster.hosts[1]
    with one_failed_run(cluster, store, sentence, host), fault(store):
        begin(host)
        noted = await_end(host)
        assert local_copies(host) == [noted["local"]]


# --- the machine ---


@pytest.mark.exhaustive
def test_a_disk_that_is_full_before_the_snapshot(cluster: Cluster, store: ObjectStore) -> None:
    host = cluster.hosts[2]
    with one_failed_run(cluster, store, "MiB are needed there", host):
        host.run(f"fallocate --length $(($({FREE}) - 40 * 1048576)) {FILLING}")
        begin(host)
        await_end(host)
        host.run(f"rm {FILLING}")


@pytest.mark.exhaustive
def test_a_disk_that_fills_in_the_middle_of_a_snapshot(cluster: Cluster, store: ObjectStore) -> None:
    """etcdctl stands still once it has begun to write, until the disk is full."""
    host = cluster.hosts[2]
    fill = f"""
        until compgen -G '{VOLUME}/backups/.new-*.part' >/dev/null; do :; done
        pkill -STOP -x etcdctl
        fallocate --length $(($({FREE}) - 1048576)) {FILLING}
        pkill -CONT -x etcdctl
    """
    with one_failed_run(cluster, store, f"{VOLUME}/backups is full: the snapshot had no room", host):
        host.run('systemd-run --quiet --collect --unit fill bash -c "$(cat)"', stdin=fill)
        begin(host)
        await_end(host)
        host.run(f"test -s {FILLING} && rm {FILLING}")


STEPS = ("takes a snapshot", "sends it to", "is in the store", "to test it")


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[pytest.mark.exhaustive] if step != "sends it to" else []) for step in STEPS]
)
def test_a_run_that_is_killed_at_a_step(cluster: Cluster, store: ObjectStore, step: str) -> None:
    host = cluster.hosts[0]
    with one_failed_run(cluster, store, "its last run ended before it could say why", host):
        begin(host, "now=yes test=yes", slow=True)
        await_line(host, step)
        host.run(f"systemctl kill --signal KILL {SERVICE}")


@pytest.mark.exhaustive
def test_a_machine_that_crashes_in_mid_upload(cluster: Cluster, store: ObjectStore) -> None:
    """Another member makes the backup at once; the machine makes its own again once it is back."""
    host, other = cluster.hosts[:2]
    kept = contents(store)
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        begin(host, slow=True)
        await_upload(host)
        host.kill()
        assert_whole(cluster, store)
        assert_next_run(cluster, store, other)
        host.start()
        host.run(f"systemctl stop {TIMER}")
        eventually(cluster.healthy, "every member is healthy again")
        assert_next_run(cluster, store, host)
        assert kept.items() <= contents(store).items()
    writes.assert_nothing_lost(expect_downtime=False)


@pytest.mark.exhaustive
def test_all_timers_at_once_while_the_store_is_away_and_once_it_is_back(cluster: Cluster, store: ObjectStore) -> None:
    """Each machine has a copy of its own then; and one of them makes the backup of the slot. Turns are short here."""
    kept = contents(store)
    on_all(cluster.hosts, lambda host: host.run("sed -i s/TURN_SECONDS=60/TURN_SECONDS=10/ /etc/etcd/backup/program"))
    with writing(cluster.lab, Access.of(cluster.outputs)) as writes:
        store.stop()
        on_all(cluster.hosts, lambda host: begin(host, ""))
        for host in cluster.hosts:
            noted = await_end(host)
            assert "the store does not answer" in noted["failure"]
            assert local_copies(host) == [noted["local"]]
        store.start()
        assert problems(cluster).count("the store does not answer") == len(cluster.hosts)
        on_all(cluster.hosts, lambda host: begin(host, ""))
        assert [await_end(host)["result"] for host in cluster.hosts] == ["success"] * len(cluster.hosts)
        made = [name for name in contents(store).keys() - kept.keys() if name.endswith(".json")]
        assert len(made) == 1, "one a slot"
        assert "its last backup failed" not in problems(cluster)
        assert_whole(cluster, store)
    writes.assert_nothing_lost(expect_downtime=False)
    assert kept.items() <= contents(store).items()


# --- what is in the store ---


def cut(data: Path, _: Path) -> None:
    os.truncate(data, data.stat().st_size // 2)


def changed(data: Path, _: Path) -> None:
    with data.open("r+b") as file:
        file.seek(data.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def cut_manifest(_: Path, manifest: Path) -> None:
    os.truncate(manifest, 60)


def gone(data: Path, _: Path) -> None:
    data.unlink()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "its SHA-256 is"),
        (changed, "its SHA-256 is"),
        (cut_manifest, "its manifest is damaged"),
        (gone, "its data is gone from the store"),
    ],
)
def test_a_backup_that_is_damaged_in_the_store(
    cluster: Cluster, store: ObjectStore, damage: Callable[[Path, Path], None], sentence: str
) -> None:
    """A test finds it, `list` and `status` say so, and the backup before is still the newest that passed."""
    host = cluster.hosts[0]
    begin(host, "now=yes test=yes")
    proven = await_end(host)["tested"]
    begin(host)
    name = await_end(host)["newest"]
    (data,), (manifest,) = store.objects(f"{name}.db"), store.objects(f"{name}.json")
    saved = data.read_bytes(), manifest.read_bytes()
    damage(data, manifest)
    begin(host, f"prove={name}")
    noted = await_end(host)
    assert noted["result"] == "failed"
    assert f"backup {name} does not restore: " in noted["failure"]
    assert sentence in noted["failure"]
    assert sentence in problems(cluster)
    assert_nothing_left(host)
    listed = backups(cluster)
    assert listed[name]["test"] == "failed" or listed[name]["problem"]
    assert (listed[proven]["test"], listed[proven]["problem"]) == ("passed", None)
    for path, content in zip((data, manifest), saved, strict=True):
        path.write_bytes(content)
    (failed,) = store.objects(f"{name}.failed")
    failed.unlink()
    assert_next_run(cluster, store, host)


@pytest.mark.exhaustive
@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_off_by_a_day_deletes_nothing_and_hides_nothing(
    cluster: Cluster, store: ObjectStore, days: int
) -> None:
    host = cluster.hosts[0]
    before, kept = backups(cluster), contents(store)
    with clock_ahead(host, days * 24 * 60):
        begin(host)
        noted = await_end(host)
        assert noted["result"] == "success"
    assert kept.items() <= contents(store).items()
    assert set(backups(cluster)) > set(before)
    assert_next_run(cluster, store, host)
    assert status(cluster, "--output", "json").document["backups"]["newest"] == result(host)["newest"]
    assert kept.items() <= contents(store).items()


@pytest.mark.exhaustive
def test_two_clusters_below_one_prefix_do_not_touch_each_other(
    lab: Lab, cluster: Cluster, store: ObjectStore, mirror_url: str, tmp_path: Path
) -> None:
    """Both make backups at once, and one keeps a single one."""
    (host,) = lab.hosts(1, disk_gib=2)
    thin = backup_config(store, keep={"last": 1, "daily": 0, "weekly": 0})
    config = host_config([host], mirror_url, allowUndersized=True, backup=thin)
    other = Cluster(lab, [host], Stack(lab, tmp_path / "other", config))
    other.up()
    host.run(f"systemctl stop {TIMER}")
    kept, mine = contents(store), backups(cluster)
    for _ in range(2):
        machines = (cluster.hosts[0], host)
        on_all(machines, begin)
        assert [await_end(machine)["result"] for machine in machines] == ["success", "success"]
    assert kept.items() <= contents(store).items()
    assert len(backups(other)) == 1
    assert len(backups(cluster).keys() - mine.keys()) == 2
    assert not backups(other).keys() & backups(cluster).keys()
    host.remove()
