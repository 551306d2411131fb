"""What a cluster should be, with every value known, as the Rollout resource keeps it; and the files that follow."""

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
from etcd_cluster.member.render import Leaf, Member, MemberSpec, Security, Transport
from etcd_cluster.pki import x509

UNIT_PATH = "/etc/systemd/system/etcd.service"
PROFILE_PATH = "/etc/profile.d/etcd.sh"


@dataclass(frozen=True)
class File:
    """One file of a member. owner: "root", or "member" for whoever etcd runs as there."""

    path: str
    mode: str
    owner: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class DesiredMember:
    """One member.

    founder: id of the machine that formed the cluster as this member; "" if it came later.
    prepare: the line and the shell variables that make its machine ready.
    outlives_destroy: its machine outlives `destroy`, so that the member is stopped there.
    """

    name: str
    address: str
    ports: Ports
    layout: Layout
    device: str
    founder: str
    prepare_line: str
    prepare_variables: Mapping[str, str]
    server: Leaf | None
    peer: Leaf | None
    outlives_destroy: bool

    @property
    def tls(self) -> bool:
        return self.server is not None

    @property
    def member(self) -> Member:
        return Member(self.name, self.address, self.ports)

    def leaf(self, transport: Transport) -> Leaf | None:
        return self.server if transport is Transport.CLIENT else self.peer


@dataclass(frozen=True)
class DesiredCluster:
    """The whole cluster. `members` is in the order in which they are rolled, all else being equal.

    options: of the server, complete, for `version`. user_options, quota_bytes: what they are made of for another one.
    trusted, peer_trusted: PEM of every authority to trust, of clients and of the other members, newest first.
    client: what the stack exports for clients.
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
    client: Leaf | None = None

    @staticmethod
    def parse(text: str) -> DesiredCluster:
        """Reads the JSON text that is the resource's input.

        Keys that a release before this one did not write have defaults: TLS, no options of the user's, the options and
        the quota that follow from the version, members in the order of their names on machines that outlive the
        cluster, in the system's places and at etcd's usual ports. Keys that are unknown are ignored.
        """
        properties: Mapping[str, Any] = json.loads(text)
        version, quota = properties["version"], int(properties.get("quota_bytes") or 0)
        user_options: Mapping[str, object] = properties.get("user_options") or {}
        usual = {**options.defaults(version), **({"quota-backend-bytes": quota} if quota else {}), **user_options}
        trusted = properties.get("trusted")
        # Stacks of earlier releases: members trusted one another by the authority of clients.
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
            client=_leaf(properties.get("client")),
        )

    @cached_property
    def security(self) -> Security:
        return Security.of(self.tls)

    @cached_property
    def trust(self) -> Mapping[Transport, Sequence[str]]:
        """The authorities that members trust in the end."""
        return {Transport.CLIENT: self.trusted, Transport.PEER: self.peer_trusted}

    @cached_property
    def issuers(self) -> Mapping[Transport, Sequence[str]]:
        """Those of the trusted authorities that signed the members' certificates."""
        return {transport: self._issuers(transport) for transport in Transport}

    def _issuers(self, transport: Transport) -> Sequence[str]:
        leaves = [leaf.certificate for member in self.members.values() if (leaf := member.leaf(transport))]
        trusted = self.trust[transport]
        return [authority for authority in trusted if any(x509.signed_by(leaf, authority) for leaf in leaves)]

    @property
    def quota(self) -> int:
        """Of the database, in bytes."""
        asked = self.options.get("quota-backend-bytes")
        return asked if isinstance(asked, int) else self.quota_bytes

    def server_options(self, version: str) -> Mapping[str, object]:
        """etcd's own settings for a member that (still) runs `version`: of the user's, those that it knows."""
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
        """What a member's configuration is made of. overrides: server options for this once."""
        member = self.members[name]
        return MemberSpec(
            token=self.token,
            member=member.member,
            layout=member.layout,
            options={**self.server_options(version), **{key.replace("_", "-"): it for key, it in overrides.items()}},
            security=security,
            dedicated_disk=bool(member.device),
        )

    def leaf_files(self, name: str) -> list[File]:
        """Certificates and keys, which etcd reads again for every handshake."""
        return [file for transport in Transport for file in self.pair_files(name, transport)]

    def pair_files(self, name: str, transport: Transport, certificate_of: Transport | None = None) -> list[File]:
        """Key and certificate of one transport. certificate_of: the transport whose pair is used there; default its
        own."""
        member = self.members[name]
        leaf, path = member.leaf(certificate_of or transport), f"{member.layout.pki}/{transport.certificate}"
        if leaf is None:
            return []
        return [File(f"{path}.key", "400", "member", leaf.key), File(f"{path}.crt", "444", "member", leaf.certificate)]

    def start_files(self, name: str, spec: MemberSpec, trust: Mapping[Transport, Sequence[str]]) -> list[File]:
        """What etcd, or systemd, reads at a start only. No file names another that comes after it."""
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
        """What serves people only."""
        if self.members[name].layout.supervisor != "systemd":
            return []
        return [File(PROFILE_PATH, "644", "root", render.administrator_profile(spec))]

    def bootstrap_file(self, name: str, spec: MemberSpec, state: str, peer_urls: Mapping[str, str]) -> File:
        """What a member without data starts from. state: "new" or "existing". peer_urls: member name -> URL."""
        cluster = ",".join(f"{member}={url}" for member, url in peer_urls.items())
        content = render.etcd_configuration(spec, {"initial-cluster": cluster, "initial-cluster-state": state})
        return File(f"{self.members[name].layout.configuration}/bootstrap.yaml", "640", "member", content)


def series(version: str) -> str:
    """The minor version: "3.6" for "3.6.16"; "" for ""."""
    return Version.parse(version).series if version else ""


def _order(properties: Mapping[str, Any]) -> Sequence[str]:
    """Of all members, also of those that are not named in it."""
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
        server=_leaf(properties.get("server")),
        peer=_leaf(properties.get("peer")),
        # It was called "stays" before the first release.
        outlives_destroy=bool(properties.get("outlives_destroy", properties.get("stays", True))),
    )


def _leaf(properties: Mapping[str, str] | None) -> Leaf | None:
    return Leaf(properties["certificate"], properties["key"]) if properties else None
