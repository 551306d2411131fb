"""Defines the desired state of a cluster, as the Rollout resource keeps it, and its files. Every value is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd import options
from etcd_cluster.etcd.versions import Version
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.lines import OWN_SNAPSHOT
from etcd_cluster.member.render import CertificatePair, Member, MemberSpec, Security, Transport
from etcd_cluster.pki import x509
from etcd_cluster.users import Permission, Users

UNIT_PATH = "/etc/systemd/system/etcd-cluster.service"
PROFILE_PATH = "/etc/profile.d/etcd.sh"


@dataclass(frozen=True)
class File:
    """One file of a member.

    Args:
        path: Absolute path.
        mode: Octal.
        owner: "root", or "member" for the user that etcd runs as on that machine.
        content: Its text.
    """

    path: str
    mode: str
    owner: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class DesiredMember:
    """The desired state of one member.

    Args:
        name: Its name.
        address: IP address or DNS name.
        ports: Ports that it listens on.
        layout: Where its files are.
        device: Block device of its data; "" for none.
        founder: Id of the machine that formed the cluster as this member; "" if it joined later.
        prepare_line: The line that prepares its machine.
        prepare_variables: Shell variables of the script that prepares its machine.
        server: Certificate and key for clients; None without TLS.
        peer: Certificate and key for other members; None without TLS.
        outlives_destroy: Its machine outlives `destroy`, so the member is stopped there.
    """

    name: str
    address: str
    ports: Ports
    layout: Layout
    device: str
    founder: str
    prepare_line: str
    prepare_variables: Mapping[str, str]
    server: CertificatePair | None
    peer: CertificatePair | None
    outlives_destroy: bool

    @property
    def tls(self) -> bool:
        """True if the member serves clients in TLS."""
        return self.server is not None

    @property
    def member(self) -> Member:
        """The member as `render` takes it."""
        return Member(self.name, self.address, self.ports)

    def pair(self, transport: Transport) -> CertificatePair | None:
        """Returns certificate and key for one transport; None without TLS."""
        return self.server if transport is Transport.CLIENT else self.peer


@dataclass(frozen=True)
class RestoredFile:
    """A file on the machine where Pulumi runs that is restored.

    Args:
        path: Its path there.
        sha256: Its sum.
        bare: It is a copy of a database, without etcd's own sum at its end.
    """

    path: str
    sha256: str
    bare: bool

    def place(self, volume: str) -> str:
        """Returns where it is on the machine that restores it: below the root of the data's file system."""
        return f"{volume}/incoming/{self.sha256}.db"


@dataclass(frozen=True)
class RestoredBackup:
    """The backup that a new cluster starts with.

    Args:
        backup: TOKEN/NAME; "" for a file.
        member: The member that it is restored to; the others join.
        variables: Shell variables of restore.sh.
        file: The file that is restored.
    """

    backup: str
    member: str
    variables: Mapping[str, str] = field(repr=False)
    file: RestoredFile | None = None

    @property
    def label(self) -> str:
        """What a machine notes of it: TOKEN/NAME, or the sum of a file."""
        return self.file.sha256 if self.file else self.backup


@dataclass(frozen=True)
class Restoration:
    """A restore that takes the place of the data of a cluster.

    Args:
        cluster: Id of that cluster.
        quorum_lost: It is the way out of a lost quorum; False for a cluster that runs.
        member: The member whose own data it goes on with; "" for a backup or file, or for the member with most.
        lost: Members whose machines are gone for good.
        backup: TOKEN/NAME; "" for none.
        file: The file that is restored; None for none.
        variables: Member name -> shell variables of restore.sh, of the members that it can be restored to.
        schedule: What backup.sh needs to know to back up before, as BackupSchedule has it; None without a store.
    """

    cluster: str
    quorum_lost: bool
    member: str = ""
    lost: Sequence[str] = ()
    backup: str = ""
    file: RestoredFile | None = None
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]], repr=False)
    schedule: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def has_store(self) -> bool:
        """True if the stack has a store of backups."""
        return self.schedule is not None

    @property
    def of_a_member(self) -> bool:
        """True if it goes on with the data of a member."""
        return not self.backup and self.file is None

    @property
    def label(self) -> str:
        """What a machine notes of it: TOKEN/NAME, the sum of a file, or that it is the member's own snapshot."""
        return self.file.sha256 if self.file else self.backup or OWN_SNAPSHOT


@dataclass(frozen=True)
class DesiredDefragmentation:
    """From which free space on a database is defragmented.

    Args:
        free: The least share of the database.
        at_least_bytes: The least free space.
    """

    free: float
    at_least_bytes: int


@dataclass(frozen=True)
class DesiredCluster:
    """The desired state of the whole cluster.

    Args:
        cluster: PROJECT/STACK/NAME.
        token: etcd's initial-cluster-token, by which the cluster is known on its machines.
        version: Version of etcd.
        tls: Whether clients and members speak TLS.
        options: etcd's settings, complete, for `version`.
        user_options: The user's settings, from which those for another version are made.
        quota_bytes: Quota of the size, for another version as well.
        trusted: Every CA to trust for clients, PEM, newest first.
        peer_trusted: Every CA to trust for other members, PEM, newest first.
        members: Member name -> member, in the order in which they are restarted, all else being equal.
        delete_data: `destroy` deletes etcd's data as well.
        client: Certificate and key that the stack exports for clients.
        users: etcd's users and roles; None without any.
        root: Certificate and key of etcd's user root; None without users.
        restored: The backup that a new cluster starts with; None for none.
        restoration: The restore that takes the place of a cluster's data; None for none.
        defragment: From which free space on databases are defragmented; None for never.
    """

    cluster: str
    token: str
    version: str
    tls: bool
    options: Mapping[str, object]
    user_options: Mapping[str, object]
    quota_bytes: int
    trusted: Sequence[str]
    peer_trusted: Sequence[str]
    members: Mapping[str, DesiredMember]
    delete_data: bool
    client: CertificatePair | None = None
    users: Users | None = None
    root: CertificatePair | None = None
    restored: RestoredBackup | None = None
    restoration: Restoration | None = None
    defragment: DesiredDefragmentation | None = None

    @staticmethod
    def parse(text: str) -> DesiredCluster:
        """Reads the JSON text that is the resource's input.

        Keys that an earlier release did not write have defaults: TLS, no options of the user's, the options and the
        quota that follow from the version, members in the order of their names on machines that outlive the cluster, in
        the system's places and at etcd's usual ports. Unknown keys are ignored.
        """
        properties: Mapping[str, Any] = json.loads(text)
        version, quota = properties["version"], int(properties.get("quota_bytes") or 0)
        user_options: Mapping[str, object] = properties.get("user_options") or {}
        usual = {**options.defaults(version), **({"quota-backend-bytes": quota} if quota else {}), **user_options}
        trusted = properties.get("trusted")
        # In stacks of earlier releases, members trusted one another by the CA of clients.
        peer_trusted = properties.get("peer_trusted") or trusted
        return DesiredCluster(
            cluster=properties["cluster"],
            token=properties["token"],
            version=version,
            tls=bool(properties.get("tls", True)),
            options=properties.get("options") or usual,
            user_options=user_options,
            quota_bytes=quota,
            trusted=x509.split_bundle(trusted) if trusted else (),
            peer_trusted=x509.split_bundle(peer_trusted) if peer_trusted else (),
            members={name: _member(name, properties["members"][name]) for name in _order(properties)},
            delete_data=properties.get("delete_data") is True,
            client=_pair(properties.get("client")),
            users=_users(properties.get("users")),
            root=_pair(properties.get("root")),
            restored=_restored(properties.get("restored")),
            restoration=_restoration(properties.get("restoration")),
            defragment=_defragmentation(properties.get("defragment")),
        )

    @cached_property
    def by_systemd(self) -> bool:
        """False where members are processes of the caller, on this machine."""
        return all(member.layout.supervisor == "systemd" for member in self.members.values())

    @cached_property
    def security(self) -> Security:
        """How members speak in the end."""
        return Security.of(self.tls)

    @cached_property
    def trust(self) -> Mapping[Transport, Sequence[str]]:
        """The CAs that members trust in the end."""
        return {Transport.CLIENT: self.trusted, Transport.PEER: self.peer_trusted}

    @cached_property
    def issuers(self) -> Mapping[Transport, Sequence[str]]:
        """The trusted CAs that signed the members' certificates."""
        return {transport: self._issuers(transport) for transport in Transport}

    def _issuers(self, transport: Transport) -> Sequence[str]:
        certificates = [pair.certificate for member in self.members.values() if (pair := member.pair(transport))]
        trusted = self.trust[transport]
        return [ca for ca in trusted if any(x509.signed_by(each, ca) for each in certificates)]

    @property
    def quota(self) -> int:
        """Quota of the database, in bytes."""
        asked = self.options.get("quota-backend-bytes")
        return asked if isinstance(asked, int) else self.quota_bytes

    def server_options(self, version: str) -> Mapping[str, object]:
        """Returns etcd's settings for a member that (still) runs `version`.

        Settings of the user that this version does not know are left out.
        """
        if version == self.version:
            return self.options
        known: dict[str, object] = {}
        for key, value in self.user_options.items():
            try:
                known |= {key: options.validate_options({key: value}, version)[key]}
            except ConfigurationError:
                continue
        return {**options.defaults(version), "quota-backend-bytes": self.quota_bytes, **known}

    def spec(self, name: str, security: Security, version: str, **overrides: object) -> MemberSpec:
        """Returns what a member's configuration is made of.

        Args:
            name: Name of the member.
            security: How it speaks.
            version: Version of etcd.
            **overrides: Server options for this time only.
        """
        member = self.members[name]
        return MemberSpec(
            token=self.token,
            member=member.member,
            layout=member.layout,
            options={**self.server_options(version), **{key.replace("_", "-"): it for key, it in overrides.items()}},
            security=security,
            dedicated_disk=bool(member.device),
        )

    def certificate_files(self, name: str) -> list[File]:
        """Returns certificates and keys, which etcd reads again for every handshake."""
        return [file for transport in Transport for file in self.pair_files(name, transport)]

    def pair_files(self, name: str, transport: Transport, certificate_of: Transport | None = None) -> list[File]:
        """Returns key and certificate of one transport.

        Args:
            name: Name of the member.
            transport: Where they are used.
            certificate_of: The transport whose pair is used there; default `transport`.
        """
        member = self.members[name]
        pair, path = member.pair(certificate_of or transport), f"{member.layout.pki}/{transport.certificate}"
        if pair is None:
            return []
        return [File(f"{path}.key", "400", "member", pair.key), File(f"{path}.crt", "444", "member", pair.certificate)]

    def start_files(self, name: str, spec: MemberSpec, trust: Mapping[Transport, Sequence[str]]) -> list[File]:
        """Returns the files that etcd or systemd reads at a start only. No file names another that comes after it."""
        layout = self.members[name].layout
        files = [
            File(f"{layout.pki}/{transport.trusted_file}", "444", "member", "".join(trust[transport]))
            for transport in Transport
            if trust[transport]
        ]
        files += [File(f"{layout.configuration}/etcd.yaml", "640", "member", render.etcd_configuration(spec))]
        if layout.supervisor == "systemd":
            files += [File(UNIT_PATH, "644", "root", render.systemd_unit(spec))]
        return files

    def other_files(self, name: str, spec: MemberSpec) -> list[File]:
        """Returns the files that only people use."""
        if self.members[name].layout.supervisor != "systemd":
            return []
        return [File(PROFILE_PATH, "644", "root", render.administrator_profile(spec))]

    def bootstrap_file(self, name: str, spec: MemberSpec, state: str, peer_urls: Mapping[str, str]) -> File:
        """Returns the configuration file that a member without data starts from.

        Args:
            name: Name of the member.
            spec: What its configuration is made of.
            state: "new" or "existing".
            peer_urls: Member name -> peer URL.
        """
        cluster = ",".join(f"{member}={url}" for member, url in peer_urls.items())
        content = render.etcd_configuration(spec, {"initial-cluster": cluster, "initial-cluster-state": state})
        return File(f"{self.members[name].layout.configuration}/bootstrap.yaml", "640", "member", content)


def _restored(properties: Mapping[str, Any] | None) -> RestoredBackup | None:
    if not properties:
        return None
    return RestoredBackup(
        properties.get("backup") or "", properties["member"], properties["variables"], _file(properties)
    )


def _restoration(properties: Mapping[str, Any] | None) -> Restoration | None:
    if not properties:
        return None
    found: Mapping[str, Any] = properties.get("found") or {}
    return Restoration(
        cluster=properties["cluster"],
        quorum_lost=properties["quorum_lost"] is True,
        member=properties.get("member") or "",
        lost=properties.get("lost") or (),
        backup=found.get("backup") or "",
        file=_file(found),
        variables=found.get("variables") or {},
        schedule=properties.get("schedule"),
    )


def _file(properties: Mapping[str, Any]) -> RestoredFile | None:
    if not properties.get("file"):
        return None
    return RestoredFile(properties["file"], properties["sha256"], properties["bare"] is True)


def _users(properties: Mapping[str, Any] | None) -> Users | None:
    if not properties:
        return None
    roles: Mapping[str, Sequence[Mapping[str, Any]]] = properties["roles"]
    return Users(
        properties["users"],
        {name: [Permission(**each) for each in permissions] for name, permissions in roles.items()},
    )


def _defragmentation(properties: Mapping[str, Any] | None) -> DesiredDefragmentation | None:
    if not properties:
        return None
    return DesiredDefragmentation(float(properties["free"]), int(properties["at_least_mib"]) * 1024**2)


def series(version: str) -> str:
    """Returns the minor version: "3.6" for "3.6.16"; "" for ""."""
    return Version.parse(version).series if version else ""


def _order(properties: Mapping[str, Any]) -> Sequence[str]:
    """Returns the names of all members in order. Members that the order does not name come last."""
    order = [name for name in properties.get("order") or () if name in properties["members"]]
    return [*order, *sorted(properties["members"].keys() - {*order})]


def _member(name: str, properties: Mapping[str, Any]) -> DesiredMember:
    return DesiredMember(
        name=name,
        address=properties["address"],
        ports=Ports.parse(properties.get("ports") or {}),
        layout=Layout.parse(properties.get("layout") or {}),
        device=properties.get("device") or "",
        founder=properties.get("founder") or "",
        prepare_line=properties.get("prepare_line") or "",
        prepare_variables=properties.get("prepare_variables") or {},
        server=_pair(properties.get("server")),
        peer=_pair(properties.get("peer")),
        outlives_destroy=bool(properties.get("outlives_destroy", True)),
    )


def _pair(properties: Mapping[str, str] | None) -> CertificatePair | None:
    return CertificatePair(properties["certificate"], properties["key"]) if properties else None
