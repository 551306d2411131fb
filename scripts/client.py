"""What clients need of a stack that is up: certificate and key as files, lines for a shell, a summary for people."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedded_engine import program
from embedded_engine.display import printable
from embedded_engine.state import state_folder, write_atomically
from etcd_cluster import EtcdClusterError
from etcd_cluster.install.cache import cache_directory
from scripts.stack_file import StackFile

# Variable of etcdctl -> the output that it names a file of, and that file's name.
CREDENTIALS = {
    "ETCDCTL_CACERT": ("caCertificate", "ca.crt"),
    "ETCDCTL_CERT": ("clientCertificate", "client.crt"),
    "ETCDCTL_KEY": ("clientKey", "client.key"),
}
PROJECT = "etcd-cluster"

Outputs = Mapping[str, Any]


class NotUpError(EtcdClusterError):
    """The stack has no cluster to connect to."""


def stack_outputs(stack: str, engine: str, config_folder: str) -> Outputs:
    """The stack's outputs, secrets in the clear. Raises `NotUpError` where there are none.

    config_folder: where the Pulumi CLI finds, and may change, Pulumi.STACK.yaml.
    """
    if engine == "embedded":
        outputs: Any = printable(program.outputs(stack), show_secrets=True)
    else:
        command = ["pulumi", "stack", "output", "--json", "--show-secrets", "--non-interactive"]
        command += ["--stack", stack, "--cwd", config_folder]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if done.returncode != 0:
            raise NotUpError(f"stack {stack}: the Pulumi CLI cannot read its outputs (above)")
        outputs = json.loads(done.stdout)
    if "endpoints" not in outputs:
        raise NotUpError(f"stack {stack} is not up: run scripts/up {stack} first")
    return dict(outputs)


def write_credentials(outputs: Outputs, folder: Path) -> dict[str, str]:
    """Variable -> path of a file that only the caller can read; empty for a cluster without TLS."""
    if not outputs["clientKey"]:
        return {}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for output, name in CREDENTIALS.values():
        write_atomically(folder / name, outputs[output])
    return {variable: str(folder / name) for variable, (_, name) in CREDENTIALS.items()}


def exports(outputs: Outputs, credentials: Mapping[str, str], programs: Path | None) -> str:
    """Lines for sh, bash and zsh. programs: the folder of an etcdctl that goes first on PATH."""
    variables = {"ETCDCTL_ENDPOINTS": ",".join(outputs["endpoints"]), **credentials}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [f"unset {name}" for name in CREDENTIALS if name not in credentials]
    if programs:
        folder = shlex.quote(str(programs))
        lines.append(f'case ":$PATH:" in *:{folder}:*) ;; *) export PATH={folder}:"$PATH" ;; esac')
    return "\n".join(lines)


def find_programs(file: StackFile, outputs: Outputs) -> Path | None:
    """The folder of an etcdctl for this cluster: a local member's own, else that of PATH (None) or of the cache."""
    if file.platform == "local":
        members: list[str] = sorted(outputs["members"])
        programs = file.local_folder / members[0] / "bin"
        if ":" not in str(programs):  # PATH cannot name such a folder
            return programs
    if shutil.which("etcdctl"):
        return None
    version = outputs["version"]
    for etcdctl in sorted((cache_directory() / "binaries").glob(f"{version}-*/etcdctl")):
        return etcdctl.parent
    print(
        f"There is no etcdctl on this machine: put that of etcd {version} on PATH, from "
        f"https://github.com/etcd-io/etcd/releases/tag/v{version}",
        file=sys.stderr,
    )
    return None


def summary(file: StackFile, outputs: Outputs, stack: str, scripts: str) -> str:
    """What a person wants to know when `up` has ended. scripts: the folder of the scripts, as it was typed."""
    of_stack = "" if stack == "dev" else f" {stack}"
    env, down = (shlex.quote(f"{scripts}/{name}") + of_stack for name in ("env", "down"))
    if file.platform == "local":
        members = file.local_folder / "MEMBER"
        data, logs = f"{members}/volume", f"{members}/logs/etcd.log"
    else:
        data, logs = "/data/etcd on every host", "journalctl --unit etcd, on every host"
    rows = {
        "endpoints": " ".join(outputs["endpoints"]),
        "use it": f'eval "$({env})" && etcdctl endpoint health --cluster',
        "stop it": f"{down}   (the data stays; --delete-data deletes it)",
        "data": data,
        "logs": logs,
    }
    lines = [f"  {label:<10} {text}" for label, text in rows.items()]
    return "\n".join([f"etcd {outputs['version']} is up, all {len(outputs['members'])} members healthy", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts.client", description=__doc__)
    parser.add_argument("action", choices=["exports", "summary"])
    parser.add_argument("stack")
    parser.add_argument("engine", choices=["embedded", "pulumi"])
    parser.add_argument("--config-folder", default=".")
    parser.add_argument("--scripts", default="scripts")
    options = parser.parse_args()
    try:
        file = StackFile(options.stack, Path.cwd())
        outputs = stack_outputs(options.stack, options.engine, options.config_folder)
        # Also after `up`: shells that were set up before find the new certificate.
        folder = state_folder(os.environ, PROJECT) / "client" / options.stack
        credentials = write_credentials(outputs, folder)
        if options.action == "exports":
            print(exports(outputs, credentials, find_programs(file, outputs)))
        else:
            print(summary(file, outputs, options.stack, options.scripts))
    except EtcdClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
