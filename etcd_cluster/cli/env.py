"""`etcd-cluster env`: prints what etcdctl needs to reach a cluster, with certificate and key as files."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etcd_cluster.cli.clusters import Cluster, selected_cluster
from etcd_cluster.cli.command import Command, CommandError, ExitCode, Option
from etcd_cluster.state_folder import state_folder

# Variable of etcdctl -> the output that it names a file of, and that file's name.
CREDENTIALS = {
    "ETCDCTL_CACERT": ("caCertificate", "ca.crt"),
    "ETCDCTL_CERT": ("clientCertificate", "client.crt"),
    "ETCDCTL_KEY": ("clientKey", "client.key"),
}
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
FAILURE = "false"
"""Printed in the place of exports, so that an `eval` of the output fails as well."""

DESCRIPTION = """\
Prints lines for sh, bash and zsh after which plain etcdctl reaches the cluster. Certificate and key are
written to files that only you can read, below ${XDG_STATE_HOME:-~/.local/state}/etcd-cluster; the variables
hold their paths. The etcdctl of a member on this machine, or one that was built or downloaded here for the
cluster, goes on PATH where there is none.

When it fails it prints `false`, so that the eval fails as well.

With --user NAME it is the certificate of that user of etcd, which the stack names in `users`."""


def run(options: argparse.Namespace) -> ExitCode:
    """Writes the files and prints the lines.

    Args:
        options: The global ones, and `user`.
    """
    try:
        cluster = selected_cluster(options, secrets=True)
        folder = credentials_folder(cluster, options.user)
        credentials = write_credentials(outputs_for(cluster.outputs, options.user), folder)
        print(exports(cluster.outputs, credentials, find_programs(cluster)))
    except BaseException:
        print(FAILURE)
        raise
    return ExitCode.SUCCESS


def outputs_for(outputs: Mapping[str, Any], user: str | None) -> Mapping[str, Any]:
    """Returns the outputs with the certificate and key of a user of etcd as those of the client.

    Args:
        outputs: Outputs of the component, decrypted.
        user: Name of the user; None for the client certificate.

    Raises:
        CommandError: The stack names no such user.
    """
    if user is None:
        return outputs
    users: Mapping[str, Mapping[str, str]] = outputs.get("users") or {}
    if user not in users:
        known = f"It has: {', '.join(sorted(users))}" if users else "It has none: name them in `users`"
        raise CommandError(f"--user {user}: this cluster has no user of that name. {known}")
    return {**outputs, "clientCertificate": users[user]["certificate"], "clientKey": users[user]["key"]}


def credentials_folder(cluster: Cluster, user: str | None = None) -> Path:
    """Returns the folder of a certificate and key: of the client's, or of a user's."""
    # A stack's name has slashes with an organization, and a program may give a cluster any name.
    names = [urllib.parse.quote(name, safe="") for name in (cluster.stack.name, cluster.name)]
    kind = ["client"] if user is None else ["users", user]
    return state_folder(os.environ, cluster.stack.project.name).joinpath(kind[0], *names, *kind[1:])


def write_credentials(outputs: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Writes certificate and key.

    Args:
        outputs: Outputs of the component, decrypted.
        folder: Created if missing, for the caller alone.

    Returns:
        Variable -> path of a file that only the caller can read; empty for a cluster without TLS.
    """
    if not outputs["clientKey"]:
        return {}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for output, name in CREDENTIALS.values():
        write_private(folder / name, outputs[output])
    return {variable: str(folder / name) for variable, (_, name) in CREDENTIALS.items()}


def write_private(path: Path, text: str) -> None:
    """Replaces a file by a 0600 one: whoever reads it meanwhile has the old one or the new one."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def exports(outputs: Mapping[str, Any], credentials: Mapping[str, str], programs: Path | None) -> str:
    """Returns lines for sh, bash and zsh.

    Args:
        outputs: Outputs of the component.
        credentials: Variable -> path, from `write_credentials`.
        programs: The folder of an etcdctl that goes first on PATH; None to leave PATH as it is.
    """
    variables = {"ETCDCTL_ENDPOINTS": ",".join(outputs["endpoints"]), **credentials}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [f"unset {name}" for name in CREDENTIALS if name not in credentials]
    if programs:
        folder = shlex.quote(str(programs))
        lines.append(f'case ":$PATH:" in *:{folder}:*) ;; *) export PATH={folder}:"$PATH" ;; esac')
    if any(name.lower() in PROXIES for name in os.environ):
        from etcd_cluster.member.render import without_proxy  # lazily: few need it

        endpoints: list[str] = outputs["endpoints"]
        addresses = [urllib.parse.urlsplit(each).hostname or "" for each in endpoints]
        lines.append(without_proxy(list(dict.fromkeys(addresses))))
    return "\n".join(lines)


def find_programs(cluster: Cluster) -> Path | None:
    """Returns the folder of an etcdctl for this cluster: of a member on this machine, else of the cache.

    None if the etcdctl on PATH is suitable, or if there is none at all; the latter is reported on standard error.
    """
    from etcd_cluster.install.cache import cache_directory

    for name, member in cluster.desired().members.items():
        programs = Path(member.layout.binaries)
        # PATH cannot name a folder with a colon.
        if name not in cluster.connections and (programs / "etcdctl").exists() and ":" not in str(programs):
            return programs
    if shutil.which("etcdctl"):
        return None
    version = cluster.outputs["version"]
    for etcdctl in sorted((cache_directory() / "binaries").glob(f"{version}-*/etcdctl")):
        return etcdctl.parent
    print(
        f"There is no etcdctl on this machine: put that of etcd {version} on PATH, from "
        f"https://github.com/etcd-io/etcd/releases/tag/v{version}",
        file=sys.stderr,
    )
    return None


COMMAND = Command(
    name="env",
    summary="shell variables for etcdctl",
    description=DESCRIPTION,
    examples=(
        ('eval "$(etcd-cluster env --stack prod)"', "in sh, bash or zsh"),
        ("etcdctl endpoint health --cluster", "works from then on"),
        ('eval "$(etcd-cluster env --stack prod --user app)"', "as that user of etcd"),
    ),
    options=(
        Option(
            "--user",
            "a user of etcd that the stack names (default: the client certificate)",
            {"metavar": "NAME", "default": None},
        ),
    ),
    run=run,
)
