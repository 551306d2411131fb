"""What user data of the caller's may hold beside the cluster's own. tests/lab has both run by the real cloud-init."""

from __future__ import annotations

import email

import pytest
import yaml

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.machines.cloud_init import cloud_config
from etcd_cluster.machines.user_data import MOST_BYTES, OWN_KEYS, joined, require_user_data

OWN = "#cloud-config\nusers: []\n"


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nusers: []\n",
        "#!/usr/bin/env python3\n",
        "#cloud-config\nruncmd: [date]\n",
        "#cloud-config\nwrite_files: []\nmounts: []\n",
        "#cloud-config  \npackages: [a]\n",
    ],
)
def test_scripts_and_cloud_configs_are_taken(text: str) -> None:
    require_user_data("aws.userData", text)
    own, theirs = (part for part in email.message_from_string(joined(OWN, text)).walk() if not part.is_multipart())
    assert own.get_payload(decode=True) == OWN.encode()
    assert theirs.get_payload(decode=True) == text.encode()
    assert ("Merge-Type" in theirs) == text.startswith("#cloud-config")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "neither a script nor a cloud-config"),
        ("echo hello", "neither a script nor a cloud-config"),
        ("#include\nhttps://a.example/b", "neither a script nor a cloud-config"),
        ("#cloud-config-archive\n- a", "neither a script nor a cloud-config"),
        ("#cloud-boothook\n", "neither a script nor a cloud-config"),
        ("## template: jinja\n#cloud-config\n", "neither a script nor a cloud-config"),
        ("Content-Type: multipart/mixed\n", "neither a script nor a cloud-config"),
        ("#cloud-config\n", "not a block of keys in YAML"),
        ("#cloud-config\na: [", "not a block of keys in YAML"),
        ("#cloud-config\n- a\n", "not a block of keys in YAML"),
        ("#cloud-config\nusers: []\n", "the cluster sets this key itself"),
        ("#cloud-config\n{ssh_keys: {}}\n", "the cluster sets this key itself"),
        ("#cloud-config\nfs_setup: []\n", "format the data volume"),
        ("#cloud-config\ndisk_setup: {}\n", "format the data volume"),
        ("#cloud-config\npower_state: {mode: reboot}\n", "ends the machine"),
        ("#cloud-config\ncloud_init_modules: []\n", "whether the login"),
        ("#cloud-config\nmerge_how: dict(replace)\n", "how this is merged"),
        ("#!/bin/sh\n" + "é" * (MOST_BYTES // 2), "longer than"),
    ],
)
def test_what_could_disturb_the_cluster_s_own_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        require_user_data("aws.userData", text)


def test_each_key_of_the_cluster_s_own_part_is_refused_but_the_one_that_is_joined() -> None:
    own = yaml.safe_load(cloud_config(authorized_key="a", host_private_key="b", host_public_key="c"))
    assert own.keys() == OWN_KEYS | {"write_files"}


def test_without_any_the_text_is_the_cluster_s_own_as_before() -> None:
    assert joined(OWN, None) == OWN
