"""Lets another key in on machines that stand. The resource itself is in login_key."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import SshError, parse_connection
from etcd_cluster.ssh.processes import CommandTimeoutError

INPUTS = ("public_key", "connections", "replace_member")
STEP_SECONDS = 60
LET_IN = """\
set -eu
umask 077
mkdir -p ~/.ssh
touch ~/.ssh/authorized_keys
grep -qxF {key} ~/.ssh/authorized_keys || printf '%s\\n' {key} >> ~/.ssh/authorized_keys
"""
"""Adds a key to those of the user who runs it. It may run again after any interruption."""


class KeyNotLetInError(EtcdClusterError):
    """A machine lets neither the new key in, nor the one before."""


class LoginKeyLifecycle(Lifecycle):
    """Adds a key by way of the connections that worked until now, and proves that it opens each machine."""

    def create(self, props: Properties) -> CreateResult:
        """Remembers the key: machines that are made have it from their start."""
        return CreateResult("login-key", props)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if any input differs."""
        return DiffResult(changes=any(olds.get(key) != news.get(key) for key in INPUTS))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Lets another key in on every machine that stands. After an error the connections before are kept."""
        if olds.get("public_key") != news["public_key"]:
            before: Mapping[str, Any] = olds.get("connections") or {}
            # A member whose machine an earlier run replaced has the key of then.
            requested = news.get("replace_member")
            replaced_now = requested if requested != olds.get("replace_member") else None
            with OpenSsh() as ssh:
                for member, connection in news["connections"].items():
                    if member in before and member != replaced_now:
                        _let_in(ssh, member, news["public_key"], before[member], connection)
        return UpdateResult(news)


def _let_in(ssh: OpenSsh, member: str, key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    new = parse_connection(after)
    try:
        ssh.run(new, "true", stdin="", timeout_seconds=STEP_SECONDS)
    except (SshError, CommandTimeoutError):
        pass
    else:
        return
    try:
        script = LET_IN.format(key=shlex.quote(key.strip()))
        added = ssh.run(parse_connection(before), "sh -s", stdin=script, timeout_seconds=STEP_SECONDS)
        if added.returncode == 0:
            ssh.run(new, "true", stdin="", timeout_seconds=STEP_SECONDS)
            return
        problem = added.stderr.strip()[-500:]
    except (SshError, CommandTimeoutError) as error:
        problem = str(error).rstrip(".")
    raise KeyNotLetInError(
        f"{member}: the new login key was not let in: {problem}. Expected is a machine that the key before opens. Fix "
        "that, or replace a dead machine with `replaceDeadMember`, then run `pulumi up` again"
    )
