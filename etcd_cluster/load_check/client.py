"""A machine that runs no member and loads a cluster, as its clients will: what that takes is placed there."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from etcd_cluster.clocks import current_time
from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.install.archives import sha256_of
from etcd_cluster.install.cache import cache_directory, make_once
from etcd_cluster.install.delivery import Destination, program_directory
from etcd_cluster.install.elf import require_linux_program
from etcd_cluster.install.errors import InstallError
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.machines import BUSY_SECONDS, MemberMachines, Place, RecordedPlace, say
from etcd_cluster.member.render import CertificatePair, client_variables
from etcd_cluster.pki import x509
from etcd_cluster.ssh.client import OpenSsh
from etcd_cluster.ssh.connection import Connection, parse_connection

ETCDCTL = "etcdctl"
FOLDER = "/run/etcd-cluster-client"
"""What a step has there is in memory, and gone with the step."""
CERTIFICATE_SPARE = timedelta(seconds=BUSY_SECONDS) + 2 * x509.BACKDATE
"""Lifetime of its certificate besides the step's own limit: as long as a step of another run is waited for there, and
clocks that are some minutes off. The certificate is dated back by one half of those, and ends later by the other."""


class NoLoadClientError(EtcdClusterError):
    """The machine cannot load the cluster."""


@dataclass(frozen=True)
class Issuer:
    """Who signs the certificate of a client that loads a cluster.

    Args:
        ca: The CA that signs clients.
        common_name: The client's name, which is its user of etcd.
        trusted: Every CA to trust, PEM.
    """

    ca: x509.KeyPair = field(repr=False)
    common_name: str
    trusted: str

    @staticmethod
    def parse(properties: Mapping[str, str]) -> Issuer:
        """Reads what resource.py declares."""
        ca = x509.KeyPair(properties["certificate_pem"], properties["private_key_pem"])
        return Issuer(ca, properties["common_name"], properties["trusted"])


@dataclass(frozen=True)
class ProgramOfMember:
    """The `etcdctl` of a member, which is sent to the client: it is of the cluster's own version.

    Args:
        connection: How to reach the member's machine, in the form of pulumi-command; None for this machine.
        binaries: Folder of its programs there.
        version: Version of etcd.
    """

    connection: Mapping[str, Any] | None = field(repr=False)
    binaries: str
    version: str

    @staticmethod
    def of_first(
        members: Mapping[str, Place], connections: Mapping[str, Mapping[str, Any]], version: str
    ) -> ProgramOfMember:
        """Returns that of the first member: all have the same."""
        name, member = next(iter(members.items()))
        return ProgramOfMember(connections.get(name), member.layout.binaries, version)

    def fetch(self, ssh: OpenSsh) -> Path:
        """Returns a copy of it, in the cache."""
        path = f"{self.binaries}/{ETCDCTL}"
        if self.connection is not None:
            return Destination(ssh, parse_connection(self.connection)).receive_program(path)
        file = Path(path)

        def copy(partial: Path) -> None:
            shutil.copyfile(file, partial)

        return make_once(cache_directory() / "received" / sha256_of(file)[:16] / ETCDCTL, copy)


@dataclass(frozen=True)
class LoadClient:
    """A machine that loads the cluster.

    Args:
        name: What it is called, where members have their names.
        machines: Runs steps on it.
        connection: How to reach it.
        program: The `etcdctl` that it gets.
        issuer: Who signs its certificate; None for a cluster without TLS.
    """

    name: str
    machines: MemberMachines
    connection: Mapping[str, Any] = field(repr=False)
    program: ProgramOfMember
    issuer: Issuer | None

    def place_etcdctl(self) -> None:
        """Sends it the `etcdctl` of a member, unless it holds that already.

        Raises:
            SshError: A machine cannot be reached.
            EtcdClusterError: It cannot run it, or does not take it.
        """
        with OpenSsh.for_one_task() as ssh:
            destination = Destination(ssh, parse_connection(self.connection))
            architecture, etcdctl = destination.architecture(), self.program.fetch(ssh)
            try:
                require_linux_program(etcdctl, architecture)
            except InstallError as error:
                expected = f"a machine of the members' architecture, as it runs their {ETCDCTL}"
                problem = Explanation(f"{self.name}: {error}", expected, "load from another machine")
                raise NoLoadClientError(str(problem)) from None
            destination.send_program(etcdctl, ETCDCTL, self.program.version, say)

    def variables(self, limit_seconds: int) -> dict[str, str]:
        """Returns the shell variables of the step that loads: a certificate, made now.

        Args:
            limit_seconds: The step's limit.
        """
        if self.issuer is None:
            return client_variables("", None)
        pair = x509.issue_certificate(
            self.issuer.ca,
            common_name=self.issuer.common_name,
            profile="client",
            now=current_time(),
            lifetime=timedelta(seconds=limit_seconds) + CERTIFICATE_SPARE,
        )
        return client_variables(self.issuer.trusted, CertificatePair(pair.certificate_pem, pair.private_key_pem))


@contextmanager
def load_client(
    connection: Mapping[str, Any], program: ProgramOfMember, issuer: Issuer | None
) -> Generator[LoadClient, None, None]:
    """Returns a machine that loads a cluster, for as long as the context lasts. Nothing is asked of it yet.

    Args:
        connection: How to reach it, in the form of pulumi-command.
        program: The `etcdctl` that it gets.
        issuer: Who signs its certificate; None for a cluster without TLS.
    """
    reached = parse_connection(connection)
    name = f"client {reached.host if reached.port == Connection.port else reached.address}"
    # The step has no data; of the file system of that path it tells how much is free.
    binaries = program_directory(ETCDCTL, program.version)
    layout = replace(Layout.system(), binaries=binaries, state=FOLDER, data="/run")
    with MemberMachines({name: RecordedPlace(layout, Ports())}, {name: connection}) as machines:
        yield LoadClient(name, machines, connection, program, issuer)
