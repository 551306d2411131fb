"""What a person wants to know when `scripts/up` has ended: endpoints, the next step, where data and logs are."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etcd_cluster import EtcdClusterError
from etcd_cluster.cli import clusters, env, stacks
from scripts.stack_file import StackFile


def summary(file: StackFile, outputs: Mapping[str, Any], stack: str, scripts: str) -> str:
    """The text.

    Args:
        file: The stack's file.
        outputs: Of the cluster.
        stack: The stack's name.
        scripts: The folder of the scripts, as it was typed.
    """
    of_stack = "" if stack == stacks.DEFAULT_STACK else f" {stack}"
    setup, down, status = (shlex.quote(f"{scripts}/{name}") + of_stack for name in ("env", "down", "status"))
    back_up = shlex.quote(f"{scripts}/backup") + " now" + (f" --stack {stack}" if of_stack else "")
    if file.platform == "local":
        members = file.local_folder / "MEMBER"
        data, logs = f"{members}/volume", f"{members}/logs/etcd.log"
    else:
        data, logs = "/data/etcd on every host", "journalctl --unit etcd-cluster, on every host"
    rows = {
        "endpoints": " ".join(outputs["endpoints"]),
        "use it": f'eval "$({setup})" && etcdctl endpoint health --cluster',
        "look at it": status,
        "back it up": back_up,
        "stop it": f"{down}   (the data stays; --delete-data deletes it)",
        "data": data,
        "logs": logs,
    }
    lines = [f"  {label:<10} {text}" for label, text in rows.items()]
    return "\n".join([f"etcd {outputs['version']} is up, all {len(outputs['members'])} members healthy", *lines])


def main() -> int:
    """Prints the summary of one stack."""
    parser = argparse.ArgumentParser(prog="scripts.summary", description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("--scripts", default="scripts")
    options = parser.parse_args()
    try:
        for cluster in clusters.every(stacks.read_stack(options.stack, Path.cwd(), secrets=True)):
            # Shells that were set up before find the new certificate.
            env.write_credentials(cluster.outputs, env.credentials_folder(cluster))
            print(summary(StackFile(options.stack, Path.cwd()), cluster.outputs, options.stack, options.scripts))
    except EtcdClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
