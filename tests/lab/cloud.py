"""A cloud made of lab hosts: what the program asks for by resources of the type Instance, the lab boots.

Two sides that share a folder. In the test's process, `Cloud` boots and ends hosts. In the program's process, `Instance`
is a resource with user data, and `CloudMachines` a platform of such instances, as AwsMachines is of EC2's.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider
from pulumi_command.remote import ConnectionArgs

from etcd_cluster import Bastion, Machine, Ssh
from etcd_cluster.etcd.sizes import Size
from etcd_cluster.machines.cloud_init import OPERATOR, cloud_config
from etcd_cluster.machines.machine import Guard
from etcd_cluster.ssh.keys import SshKeyPair
from tests.lab.hosts import Host, Lab

ANSWER_SECONDS = 300
"""The first one to boot has the root of all of them made, which takes a minute or two."""
DEVICES = "/dev/disk/by-id/nonexistent,/dev/xvdf"
"""As a cloud's device: one of several names, depending on the machine."""


# --- the test's side ---


class Cloud:
    """Instances by name. Their disks and addresses outlive them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self.instances: dict[str, Host] = {}
        self._lab = lab
        self._disks: dict[str, Path] = {}

    @contextmanager
    def open(self) -> Iterator[Cloud]:
        """Answers requests for as long as the block lasts."""
        over = threading.Event()
        started: list[Future[None]] = []
        with ThreadPoolExecutor() as pool:

            def watch() -> None:
                while not over.wait(0.05):
                    for request in self.folder.glob("*.request"):
                        taken = request.rename(request.with_suffix(".taken"))
                        started.append(pool.submit(self._serve, taken))

            watcher = pool.submit(watch)
            try:
                yield self
            finally:
                over.set()
                watcher.result()
        for future in started:
            future.result()

    def _serve(self, request: Path) -> None:
        asked = json.loads(request.read_text())
        name = asked["name"]
        try:
            if asked["do"] == "boot":
                disk = self._disks.get(name)
                host = self._lab.host(
                    name, address=asked["address"], disk=disk, user_data=asked["user_data"], wait=False
                )
                self.instances[name] = host
                assert host.disk is not None
                self._disks[name] = host.disk
            else:
                self.instances.pop(name).remove()
        except Exception as error:  # the program is told, and fails
            _write(request.with_suffix(".failed"), str(error))
            raise
        _write(request.with_suffix(".done"), "")


# --- the program's side ---


class InstanceProvider(ResourceProvider):
    """Boots as a cloud does: the answer comes when the machine is on, long before it can be reached."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        _ask(props, "boot")
        return CreateResult(props["name"], props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        replaces = [key for key in ("user_data", "image") if olds[key] != news[key]]
        return DiffResult(changes=bool(replaces), replaces=replaces, delete_before_replace=True)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        _ask(props, "end")


def _ask(props: dict[str, Any], what: str) -> None:
    request = Path(props["folder"]) / f"{props['name']}-{time.monotonic_ns()}.request"
    _write(request, json.dumps({**props, "do": what}))
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        if request.with_suffix(".done").exists():
            return
        if request.with_suffix(".failed").exists():
            raise RuntimeError(f"{props['name']}: {request.with_suffix('.failed').read_text()}")
        time.sleep(0.05)
    raise TimeoutError(f"{props['name']}: the lab does not answer")


def _write(path: Path, text: str) -> None:
    """All at once, and for nobody else to read."""
    partial = path.with_suffix(".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.rename(path)


class Instance(Resource, module="lab", name="Instance"):
    """A lab host with user data. Another image replaces it, the old one going first."""

    def __init__(
        self,
        resource_name: str,
        *,
        name: str,
        folder: str,
        address: str,
        image: str,
        user_data: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {"name": name, "folder": folder, "address": address, "image": image, "user_data": user_data}
        super().__init__(InstanceProvider(), resource_name, properties, opts)


@dataclass(frozen=True)
class CloudMachines:
    """A platform like those of machines/aws/ and gcp/: the same user data, user and keys.

    folder: where a `Cloud` listens. images: member -> image, default "first". pinned: host keys that take the place of
    the right ones. replace_member: the one whose machine may be replaced by another image; replace_dead_member:
    unasked, if need be.
    """

    folder: str
    bastion: Bastion | None = None
    replace_member: str | None = None
    images: dict[str, str] = field(default_factory=dict[str, str])
    pinned: dict[str, str] = field(default_factory=dict[str, str])
    replace_dead_member: str | None = None

    @property
    def platform(self) -> str:
        return "lab"

    @property
    def replaced_member(self) -> str | None:
        return self.replace_member or self.replace_dead_member

    def member_names(self, members: int | None) -> Sequence[str]:
        return tuple(f"etcd-{number}" for number in range(1, (members or 3) + 1))

    def provision(
        self, cluster: str, names: Sequence[str], size: Size, parent: pulumi.Resource, guard: Guard | None = None
    ) -> Sequence[Machine]:
        opts = pulumi.ResourceOptions(parent=parent)
        login = SshKeyPair(f"{cluster}-ssh", opts)
        host_keys = {name: SshKeyPair(f"{cluster}-{name}-host-key", opts) for name in names}
        ssh = Ssh(user=OPERATOR, private_key=login.private_key, bastion=self.bastion)
        addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 41)}
        connections = {
            name: ssh.connection(addresses[name], self.pinned.get(name) or host_keys[name].public_key) for name in names
        }
        assert guard is not None
        guarded = guard(self.replaced_member, connections, is_dead=self.replace_dead_member is not None)
        return [
            self._machine(cluster, name, addresses[name], login, host_keys[name], connections[name], guarded, parent)
            for name in names
        ]

    def _machine(
        self,
        cluster: str,
        name: str,
        address: str,
        login: SshKeyPair,
        host_key: SshKeyPair,
        connection: ConnectionArgs,
        guarded: pulumi.Input[pulumi.Resource],
        parent: pulumi.Resource,
    ) -> Machine:
        user_data = pulumi.Output.all(
            authorized_key=login.public_key,
            host_private_key=host_key.private_key,
            host_public_key=host_key.public_key,
        ).apply(lambda keys: cloud_config(**keys))
        instance = Instance(
            f"{cluster}-{name}",
            name=name,
            folder=self.folder,
            address=address,
            image=self.images.get(name, "first"),
            user_data=user_data,
            opts=pulumi.ResourceOptions(
                parent=parent,
                delete_before_replace=True,
                ignore_changes=[] if name == self.replaced_member else ["image"],
                depends_on=[guarded] if name == self.replaced_member else None,
            ),
        )
        return Machine(
            name=name,
            address=address,
            connection=connection,
            device=DEVICES,
            first_boot=True,
            deleted_with=instance,
            depends_on=[instance],
        )
