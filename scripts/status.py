"""How a stack's cluster stands: what the stack's state says, against what its machines say. Reads only."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, cast

from embedded_engine import program
from embedded_engine.values import plain_values
from etcd_cluster import EtcdClusterError
from etcd_cluster.member.render import Transport
from etcd_cluster.openssh import ChildProcesses
from etcd_cluster.rollout.machines import MemberMachines
from etcd_cluster.rollout.status import AuthoritySchedule, Schedules, as_json, as_text, cluster_status
from etcd_cluster.rollout.wanted import Wanted
from scripts.client import NotUpError

ROLLOUT = "pulumi-python:dynamic/cluster:Rollout"
AUTHORITY = "pulumi-python:dynamic/pki:CertificateAuthority"
# How the Pulumi CLI marks a secret in what it exports.
SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105
DIAL_ATTEMPTS = 2
"""Fewer than an `up` makes: whoever asks for the status waits for the answer."""

Inputs = Mapping[str, Any]

ALL_WELL, NOT_WELL, CANNOT_TELL = 0, 1, 2


@dataclass(frozen=True)
class Recorded:
    """What the last `up` that ended well brought the cluster to. connections: member name -> SSH connection."""

    wanted: Wanted
    connections: Mapping[str, Mapping[str, Any]]
    schedules: Schedules


@dataclass(frozen=True)
class Resource:
    """One of the stack's state. name: that by which the program registered it."""

    type: str
    name: str
    inputs: Inputs


def recorded(stack: str, engine: str, config_folder: str) -> Recorded:
    """From the stack's state. Raises `NotUpError` where it holds no cluster.

    config_folder: where the Pulumi CLI finds, and may change, Pulumi.STACK.yaml.
    """
    read = _by_embedded_engine(stack) if engine == "embedded" else _by_pulumi(stack, config_folder)
    resources = list(read)
    rollout = next((each for each in resources if each.type == ROLLOUT and each.inputs.get("wanted")), None)
    if rollout is None:
        raise NotUpError(f"stack {stack} has no cluster that is up: run scripts/up {stack} first")
    return Recorded(
        Wanted.parse(rollout.inputs["wanted"]),
        {name: {**each, "dialErrorLimit": DIAL_ATTEMPTS} for name, each in rollout.inputs["connections"].items()},
        _schedules(rollout.name.removesuffix("-rollout"), resources),
    )


def _schedules(cluster: str, resources: Sequence[Resource]) -> Schedules:
    """Those of the authorities that were made for the cluster; for clients, else of the first that the program made."""
    nothing = AuthoritySchedule()
    made = {each.name: _schedule(each.inputs) for each in resources if each.type == AUTHORITY}
    of_clients = {name: schedule for name, schedule in made.items() if not name.endswith("-peer-authority")}
    first = next(iter(of_clients.values()), nothing)
    return {
        Transport.CLIENT: of_clients.get(f"{cluster}-authority", first),
        Transport.PEER: made.get(f"{cluster}-peer-authority", nothing),
    }


def _schedule(authority: Inputs) -> AuthoritySchedule:
    return AuthoritySchedule(authority.get("rotate_after") or "", authority.get("drop_after") or "")


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _by_embedded_engine(stack: str) -> Iterator[Resource]:
    for resource in program.resources(stack):
        yield Resource(resource.type, _name(resource.urn), plain_values(resource.inputs))


def _by_pulumi(stack: str, config_folder: str) -> Iterator[Resource]:
    command = ["pulumi", "stack", "export", "--show-secrets", "--non-interactive"]
    command += ["--stack", stack, "--cwd", config_folder]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise NotUpError(f"stack {stack}: the Pulumi CLI cannot read its state (above)")
    for resource in json.loads(done.stdout)["deployment"].get("resources") or ():
        if resource["type"] in (ROLLOUT, AUTHORITY) and not resource.get("delete"):
            yield Resource(resource["type"], _name(resource["urn"]), in_the_clear(resource.get("inputs") or {}))


def in_the_clear(value: Any) -> Any:
    """A value of an export with --show-secrets, where a secret is JSON text inside of an object."""
    if isinstance(value, dict):
        values = cast("dict[str, Any]", value)
        if SECRET in values:
            return in_the_clear(json.loads(values["plaintext"]))
        return {key: in_the_clear(item) for key, item in values.items()}
    return [in_the_clear(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


def look(of: Recorded) -> tuple[str, dict[str, Any], bool]:
    """The status as text and as JSON, and whether all is well."""
    with MemberMachines(of.wanted.members, of.connections) as machines:
        seen = machines.observe(disk="yes")
    status = cluster_status(of.wanted, seen, of.schedules, datetime.now(timezone.utc))
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return as_text(status, colours=colours), as_json(status), status.ok


def _stop(_number: int, _frame: object) -> None:
    """Whatever looks at a machine ends, and says that it was interrupted."""
    ChildProcesses.stop_all()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts.status", description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("engine", choices=["embedded", "pulumi"])
    parser.add_argument("--config-folder", default=".")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        text, document, ok = look(recorded(options.stack, options.engine, options.config_folder))
    except EtcdClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_TELL
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else text)
    return ALL_WELL if ok else NOT_WELL


if __name__ == "__main__":
    sys.exit(main())
