"""Makes the user data of a cloud machine. Pure.

It makes the machine reachable, and nothing more: disks, packages and etcd are the member scripts' business.

The private host key has to pass through user data, where processes of the machine could read it again: both clouds keep
user data readable for the machine's life. So the metadata service needs a token and answers one hop only, etcd's own
service may not reach it, and the key proves nothing but this one machine's identity to `pulumi up`.
"""

from __future__ import annotations

import yaml

from etcd_cluster.machines.user_data import joined

OPERATOR = "etcd-operator"
"""The user that `pulumi up` logs in as. Not the image's own, so that every image has the same."""

GUEST_AGENT = """\
[InstanceSetup]
# cloud-init has put the host key in place that `pulumi up` expects.
set_host_keys = false
"""
"""Settings that stop Google's agent from making host keys of its own at first boot. Nothing else reads this file.

https://cloud.google.com/compute/docs/images/manage-guest-agent
"""


def cloud_config(
    *,
    authorized_key: str,
    host_private_key: str,
    host_public_key: str,
    request: str = "",
    additional: str | None = None,
) -> str:
    """Returns user data for cloud-init: one user with sudo, and a host key that is known before the machine boots.

    Args:
        authorized_key: The public key to log in with, one line.
        host_private_key: OpenSSH PEM.
        host_public_key: One line.
        request: Id of the request that the machine is made for, as a comment: with it the user data differs from that
            of the machine before. Default "" for the first machine.
        additional: User data of the caller's, which runs after it; default None, and "" for none as well.
    """
    settings = {
        "users": [
            {
                "name": OPERATOR,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [authorized_key],
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        # Keys that came with the image are shared by all who use it.
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_private_key, "ed25519_public": host_public_key},
        "write_files": [{"path": "/etc/default/instance_configs.cfg", "content": GUEST_AGENT}],
        "package_update": False,
        "locale": "C.UTF-8",
    }
    text: str = yaml.dump(settings, Dumper=_ReadableDumper, sort_keys=False, width=1000)
    return joined(f"#cloud-config\n{text}" + (f"# replacement {request}\n" if request else ""), additional or None)


class _ReadableDumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _represent(_dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_ReadableDumper.add_representer(str, _represent)
