"""The user data of cloud machines, against a golden copy. That cloud-init takes it is for tests/lab."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config

GOLDEN = Path(__file__).with_name("golden") / "user-data.yaml"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nline one\nline two\n-----END OPENSSH PRIVATE KEY-----\n"
TEXT = cloud_config(
    authorized_key="ssh-ed25519 AAAAoperator", host_private_key=PRIVATE_KEY, host_public_key="ssh-ed25519 AAAAhost"
)
AWS_LIMIT_BYTES = 16 * 1024


def test_user_data_is_as_reviewed() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(TEXT)
    assert GOLDEN.read_text() == TEXT


def test_the_host_key_arrives_as_it_was_made() -> None:
    keys = yaml.safe_load(TEXT)["ssh_keys"]
    assert keys == {"ed25519_private": PRIVATE_KEY, "ed25519_public": "ssh-ed25519 AAAAhost"}


def test_one_user_may_log_in_by_key_only() -> None:
    settings = yaml.safe_load(TEXT)
    (user,) = settings["users"]
    assert (user["name"], user["ssh_authorized_keys"], user["lock_passwd"]) == (
        OPERATOR,
        ["ssh-ed25519 AAAAoperator"],
        True,
    )
    assert settings["disable_root"] is True
    assert settings["ssh_pwauth"] is False


def test_disks_and_packages_are_left_alone() -> None:
    """A file system that cloud-init makes may be made over one that is there."""
    settings = yaml.safe_load(TEXT)
    assert not {"fs_setup", "disk_setup", "mounts", "packages", "runcmd"} & set(settings)
    assert settings["package_update"] is False


def test_it_fits_into_what_clouds_take() -> None:
    assert len(TEXT.encode()) < AWS_LIMIT_BYTES / 4
