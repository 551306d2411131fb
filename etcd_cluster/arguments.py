"""Defines the typed arguments of a cluster. settings.py validates them; stack config is read in stack_config.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pulumi

from etcd_cluster.backup.arguments import Backup
from etcd_cluster.backup.restore_arguments import Recover, RestoreInPlace
from etcd_cluster.dns import Dns
from etcd_cluster.errors import ConfigurationError
from etcd_cluster.etcd import versions
from etcd_cluster.etcd.releases import DEFAULT_MIRROR
from etcd_cluster.etcd.sizes import SizeName
from etcd_cluster.load_check.load import LoadCheckMode
from etcd_cluster.load_generator import LoadGenerator
from etcd_cluster.machines.machine import Machines
from etcd_cluster.monitoring.arguments import Monitoring
from etcd_cluster.names import FilePath, Line, require_identity
from etcd_cluster.pki.limits import CA_OVERLAP_HOURS, MAX_OVERLAP_HOURS, MAX_ROTATION
from etcd_cluster.pki.resources import CA
from etcd_cluster.releases import InstallSource, require_go_proxy, require_no_proxy, require_proxy
from etcd_cluster.typed import Between
from etcd_cluster.users import Name, Permission, User


@dataclass(frozen=True)
class Install:
    """Where etcd's programs come from."""

    source: InstallSource | None = None
    """`release` downloads on every host (default there); `archive` sends a tarball of yours, for hosts without internet
    access; `build` compiles Go modules where Pulumi runs, and sends the result; `auto` (default on this machine, and
    only there) takes the first that works of PATH, release, build, and for a demo a Python package.
    """
    mirror: pulumi.Input[str] = DEFAULT_MIRROR
    """Base URL of releases, default GitHub; files are at MIRROR/vVERSION/FILE. Over http it needs `sha256`. As a secret
    it stays out of previews and state, and may contain a password or a query; a program may give an output.
    """
    sha256: str | Mapping[str, str] | None = None
    """Pins the tarball's sum, or the sums of several by their names, for more than one version or architecture;
    default: the mirror's SHA256SUMS.
    """
    archive: FilePath | None = None
    """Path of the tarball, laid out like an official release."""
    go_proxy: pulumi.Input[Annotated[str, require_go_proxy]] | None = None
    """GOPROXY for `build`; default: the value of `go env`. A secret stays one."""
    proxy: pulumi.Input[Annotated[str, require_proxy]] | None = None
    """URL of the http(s) proxy that hosts download etcd and packages through; default none. Where Pulumi runs,
    downloads go by the environment. With a user or a password it has to be a secret; a program may give an output.
    """
    no_proxy: Sequence[Annotated[str, require_no_proxy]] = ()
    """Names, or domains with a dot before them, that hosts reach past the proxy, such as a mirror of yours; default
    none.
    """


def _require_share(key: str, value: float) -> None:
    if not 0.1 <= value <= 0.9:
        raise ConfigurationError(key, value, "out of range", "write a number from 0.1 to 0.9, such as 0.5")


@dataclass(frozen=True)
class Defragment:
    """When an `up` restarts members to defragment their databases."""

    free: Annotated[float, _require_share] = 0.5
    """Each `up` defragments databases of which at least this share (0.1 to 0.9, default 0.5) and this many MiB
    (default 256) are free. Default without `defragment`: only when etcd's alarm NOSPACE stands.
    """
    at_least_mib: Annotated[int, Between(1, 8192)] = 256
    """Each `up` defragments databases of which at least this share (0.1 to 0.9, default 0.5) and this many MiB
    (default 256) are free. Default without `defragment`: only when etcd's alarm NOSPACE stands.
    """


@dataclass(frozen=True)
class EtcdClusterArgs:
    """The description of a cluster. Only `machines` is required.

    Here and in the machines, what may come from another resource is a `pulumi.Input`. Everything else has to be known
    at once: it decides which resources there are, or what a preview says.
    """

    machines: Machines
    """Where members run."""
    size: SizeName = "small"
    """Row of the hardware table: small, medium, large or xlarge, default small. It sets the quota and what machines
    must have.
    """
    members: int | None = None
    """1, 3, 5 or 7; default 3, or the number of hosts that are listed."""
    version: str = versions.DEFAULT_VERSION
    """Version of etcd, 3.4.9 to 3.7; default the newest 3.6 patch known here."""
    tls: bool = True
    """Mutual TLS for clients and peers, default True."""
    ca: CA | None = None
    """The CA that signs the certificates of clients and servers; default a CA made for this cluster, valid 10 years.
    Peer certificates are always signed by another CA, made for this cluster.
    """
    ca_rotation: Annotated[int, Between(0, MAX_ROTATION)] = 0
    """Raise it to rotate, in the next `up`, the CAs made for this cluster; default 0. A CA is also rotated when a third
    of its validity is left.
    """
    ca_overlap_hours: Annotated[int, Between(0, MAX_OVERLAP_HOURS)] = CA_OVERLAP_HOURS
    """How long the old CA stays trusted after a rotation, in hours; default 720. 0 drops it at once."""
    install: Install = field(default_factory=Install)
    """Where etcd's programs come from."""
    dns: Dns | None = None
    """DNS names for clients; default none: they use addresses."""
    backup: Backup | None = None
    """Where backups go, how often, and what is kept; default none, with a warning in every `up`. For members on
    this machine, people make them, by default into `~/.local/share/etcd-cluster-backups` (XDG_DATA_HOME is honoured).
    """
    restore_from: Line | None = None
    """What a new cluster starts with: a backup in `backup.to` (`latest`, its name, or TOKEN/NAME for one of several
    clusters), or the path of a file here, such as ./backup.db; default none. Once the cluster is formed, it has no
    effect.
    """
    restore_in_place: RestoreInPlace | None = None
    """A restore that takes the place of all data of the running cluster; default none. It is done once."""
    recover: Recover | None = None
    """The way out of a lost quorum; default none. It is done once."""
    load_check: LoadCheckMode = "off"
    """Load a new cluster as its size promises, for a minute, before clients are given its endpoints: `off` (default);
    `report` prints the verdict; `require` ends the `up` there unless it is passed, as does every later one.
    """
    load_generator: LoadGenerator = field(default_factory=LoadGenerator)
    """Where etcd's load generator comes from."""
    monitoring: Monitoring | None = None
    """Where metrics are exposed for a Prometheus on another machine; default none: they are on loopback alone."""
    users: Mapping[Name, User] = field(default_factory=dict[str, User])
    """Users of etcd: each is known by a certificate of its own, which the stack exports. Default none: a client with
    a certificate of the CA may do everything. With users, no other client may do anything, except with the exported
    client certificate, which may do everything unless `client` is one of the users.
    """
    roles: Mapping[Name, Sequence[Permission]] = field(default_factory=dict[str, Sequence[Permission]])
    """What users may do: role -> a list of {prefix or key, access}."""
    defragment: Defragment | None = None
    """When an `up` restarts members to defragment their databases; default never, unless etcd's alarm NOSPACE
    stands. The only member of a cluster is defragmented when it restarts for something else.
    """
    etcd: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings of the server by their own names, such as {"heartbeat-interval": 200}."""
    allow_undersized: bool = False
    """Accept machines below the size's row; default False."""
    allow_unsafe_version: bool = False
    """Accept a version that is known to corrupt data, or that is not known here yet; default False."""
    allow_plaintext: bool = False
    """Allow a cluster with TLS to change to plaintext; default False."""
    moved_from: Annotated[str, require_identity] | None = None
    """PROJECT/STACK/NAME of this cluster in another stack, which was destroyed: the machines hold its data, and the
    cluster goes on with them; default none. Take it out once the cluster runs.
    """
    delete_data: bool = False
    """On destroy, delete etcd's data as well; default False. Disks that a cloud platform makes have their own argument
    for that.
    """
