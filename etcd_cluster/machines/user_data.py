"""Joins the caller's own user data with the cluster's, so that neither changes the other. Pure.

cloud-init takes the parts of a multipart message in their order, and merges those of the kind #cloud-config: by default
a key of a later part takes the place of the same key before. So keys that the cluster relies on are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from typing import Annotated, Any, cast

import yaml

from etcd_cluster.errors import HIDDEN, ConfigurationError

CLOUD_CONFIG, SCRIPT = "#cloud-config", "#!"
MOST_BYTES = 9 * 1024
"""EC2 takes 16 KiB for both, and base64 takes a third more than the text.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
"""

BOUNDARY = "etcd-cluster-user-data"
APPEND = "list(append)+dict(no_replace,recurse_list)+str()"
"""How cloud-init merges: no value before is replaced, and lists such as write_files are continued.

https://cloudinit.readthedocs.io/en/latest/reference/merging.html
"""

OWN_KEYS = frozenset({"users", "disable_root", "ssh_pwauth", "ssh_deletekeys", "ssh_keys", "package_update", "locale"})
"""Keys of the cluster's own part. write_files is not among them: the lists of both parts are joined."""

HARMFUL_KEYS: Mapping[str, str] = {
    **dict.fromkeys(("disk_setup", "fs_setup"), "it can format the data volume, whatever is on it"),
    **dict.fromkeys(("power_state", "package_reboot_if_required"), "it ends the machine while `pulumi up` works on it"),
    **dict.fromkeys(
        ("cloud_init_modules", "cloud_config_modules", "cloud_final_modules", "system_info"),
        "it decides whether the login and the host key are made",
    ),
    **dict.fromkeys(("merge_how", "merge_type"), "it decides how this is merged with the cluster's own user data"),
}


def require_user_data(key: str, text: str) -> None:
    """Raises `ConfigurationError` for what is neither a script nor a cloud-config, or could break the machine."""
    if len(text.encode()) > MOST_BYTES:
        raise ConfigurationError(
            key, HIDDEN, f"longer than {MOST_BYTES} bytes", "have a short script download the rest"
        )
    if text.startswith(SCRIPT):
        return
    if text.partition("\n")[0].rstrip() != CLOUD_CONFIG:
        raise ConfigurationError(
            key,
            HIDDEN,
            "neither a script nor a cloud-config",
            f"begin its first line with {SCRIPT} or let that be {CLOUD_CONFIG}",
        )
    for name in _keys(key, text):
        if name in OWN_KEYS:
            raise ConfigurationError(
                key, name, "the cluster sets this key itself", "leave it out; a script may do more once it runs"
            )
        if name in HARMFUL_KEYS:
            raise ConfigurationError(key, name, HARMFUL_KEYS[name], "leave it out")


def _keys(key: str, text: str) -> list[str]:
    try:
        known: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        known = None
    if not isinstance(known, dict):
        raise ConfigurationError(key, HIDDEN, "not a block of keys in YAML", "write `key: value` lines below its first")
    return [str(name) for name in cast("dict[object, object]", known)]


UserData = Annotated[str, require_user_data]


def joined(own: str, additional: str | None) -> str:
    """Returns one text for cloud-init: the cluster's part first, byte for byte, then the caller's."""
    if additional is None:
        return own
    require_user_data("userData", additional)  # one that came as an Output is known only now
    message = MIMEMultipart(boundary=BOUNDARY)
    message.attach(_part("cloud-config", own))
    is_script = additional.startswith(SCRIPT)
    theirs = _part("x-shellscript" if is_script else "cloud-config", additional)
    if not is_script:
        theirs["Merge-Type"] = APPEND
    message.attach(theirs)
    return message.as_string()


def _part(kind: str, text: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", kind, charset="utf-8")
    part.set_payload(text, "utf-8")
    return part
