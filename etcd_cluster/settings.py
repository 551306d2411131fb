"""What a user may ask for: the typed arguments, and their validation. Stack config is read in stack_config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from etcd_cluster import options, versions
from etcd_cluster.errors import ConfigurationError
from etcd_cluster.install.sources import DEFAULT_MIRROR
from etcd_cluster.machines import Machines
from etcd_cluster.machines.machine import ProvisionedMachines
from etcd_cluster.pki import Authority
from etcd_cluster.pki.x509 import AUTHORITY_OVERLAP_HOURS, MAX_OVERLAP_HOURS, MAX_ROTATION
from etcd_cluster.sizes import MIB, Size, SizeName, size_named

MEMBER_COUNTS = (1, 3, 5, 7)

InstallSource = Literal["auto", "release", "archive", "build"]


@dataclass(frozen=True)
class Install:
    """Where etcd's programs come from.

    source: `release` downloads on every host (default there); `archive` sends a tarball of yours, for hosts without a
        way out; `build` compiles by Go modules where Pulumi runs, and sends that; `auto` (default on this machine, and
        only there) takes the first that works of PATH, release, build, and for a demo a Python package.
    mirror: base URL of releases, default GitHub; files are at MIRROR/vVERSION/FILE.
    sha256: pins the tarball's sum; default: the mirror's SHA256SUMS.
    archive: path of the tarball, laid out like an official release.
    go_proxy: GOPROXY for `build`; default: what `go env` says.
    """

    source: InstallSource | None = None
    mirror: str = DEFAULT_MIRROR
    sha256: str | None = None
    archive: str | None = None
    go_proxy: str | None = None


@dataclass(frozen=True)
class EtcdClusterArgs:
    """Everything that describes a cluster. Only `machines` is required.

    machines: where members run.
    size: row of the hardware table, default small; sets the quota and what machines must have.
    members: 1, 3, 5 or 7; default 3, or as many as hosts are listed.
    version: of etcd, default the newest 3.6 patch known here; 3.4.9 to 3.7.
    tls: mutual TLS for clients and peers, default True.
    authority: signs the certificates of clients, and those that clients see; default one made for this cluster, valid
        10 years. Those that members show to one another are always signed by one of their own, made for this cluster.
    authority_rotation: raise it to rotate what was made in the next `up`; default 0. By age, it is rotated without.
    authority_overlap_hours: how long the old one stays trusted after a rotation; default 720, and 0 for not at all.
    install: where etcd's programs come from.
    etcd: settings of the server by their own names, such as {"heartbeat-interval": 200}.
    allow_undersized: accept machines below the size's row.
    allow_unsafe_version: accept a version that is known to corrupt data.
    allow_plaintext: let a cluster that speaks TLS give it up.
    delete_data: on destroy, delete etcd's data as well; disks that a cloud platform makes go by its own argument.
    """

    machines: Machines
    size: SizeName = "small"
    members: int | None = None
    version: str = versions.DEFAULT_VERSION
    tls: bool = True
    authority: Authority | None = None
    authority_rotation: int = 0
    authority_overlap_hours: int = AUTHORITY_OVERLAP_HOURS
    install: Install = field(default_factory=Install)
    etcd: Mapping[str, Any] = field(default_factory=dict[str, Any])
    allow_undersized: bool = False
    allow_unsafe_version: bool = False
    allow_plaintext: bool = False
    delete_data: bool = False


@dataclass(frozen=True)
class Settings:
    """Validated arguments, with every default filled in and every warning said."""

    names: Sequence[str]
    size: Size
    version: str
    tls: bool
    options: Mapping[str, object]
    user_options: Mapping[str, object]
    install: Install
    install_source: InstallSource
    authority_rotation: int
    authority_overlap_hours: int
    allow_undersized: bool
    allow_plaintext: bool
    delete_data: bool
    warnings: Sequence[str]


def validate(args: EtcdClusterArgs) -> Settings:
    """Checks all that is plain, without touching anything; raises `ConfigurationError` naming key, value and fix."""
    size = size_named(args.size)
    if args.members is not None:
        _require_odd("members", args.members)
    names = args.machines.member_names(args.members)
    _require_odd("hosts" if args.machines.platform == "hosts" else "members", len(names))
    version, warnings = versions.require_usable(args.version, allow_unsafe=args.allow_unsafe_version)
    user_options = options.validate(args.etcd, version)
    server_options = {**options.defaults(version), "quota-backend-bytes": size.quota_bytes, **user_options}
    _require_quota_in_memory(server_options["quota-backend-bytes"], size)
    if isinstance(args.machines, ProvisionedMachines):
        args.machines.require_usable(size, allow_undersized=args.allow_undersized, delete_data=args.delete_data)
    _validate_rotation(args)
    if not args.tls:
        warnings = [*warnings, "tls: false: anyone who reaches this cluster's ports can read and change everything"]
    return Settings(
        names=names,
        size=size,
        version=version,
        tls=args.tls,
        options=server_options,
        user_options=user_options,
        install=_validate_install(args.install),
        install_source=_install_source(args.install, args.machines.platform),
        authority_rotation=args.authority_rotation,
        authority_overlap_hours=args.authority_overlap_hours,
        allow_undersized=args.allow_undersized,
        allow_plaintext=args.allow_plaintext,
        delete_data=args.delete_data,
        warnings=warnings,
    )


def _require_odd(key: str, count: int) -> None:
    if count not in MEMBER_COUNTS:
        raise ConfigurationError(
            key,
            count,
            "an even number tolerates no more failures than one member less, and more than 7 slow every write down"
            if count > 0
            else "a cluster has at least one member",
            f"choose {', '.join(map(str, MEMBER_COUNTS[:-1]))} or {MEMBER_COUNTS[-1]}",
        )


def _require_quota_in_memory(quota_bytes: object, size: Size) -> None:
    """etcd maps its whole database: beyond the memory, it swaps."""
    if isinstance(quota_bytes, int) and quota_bytes > size.minimum_memory_mib * MIB:
        raise ConfigurationError(
            "etcd.quota-backend-bytes",
            quota_bytes,
            f"more than the memory of size {size.name} ({size.minimum_memory_mib} MiB)",
            f"leave it out for {size.quota_bytes}, or choose a larger size",
        )


def _validate_rotation(args: EtcdClusterArgs) -> None:
    for key, value, maximum in (
        ("authorityRotation", args.authority_rotation, MAX_ROTATION),
        ("authorityOverlapHours", args.authority_overlap_hours, MAX_OVERLAP_HOURS),
    ):
        if not 0 <= value <= maximum:
            raise ConfigurationError(key, value, "out of range", f"write a whole number from 0 to {maximum}")


def _install_source(install: Install, platform: str) -> InstallSource:
    source = install.source or ("auto" if platform == "local" else "release")
    if source not in ("release", "archive", "build") and not (source == "auto" and platform == "local"):
        raise ConfigurationError("install.from", source, "unknown", "choose release, archive or build")
    return source


def _validate_install(install: Install) -> Install:
    if install.source == "archive" and not install.archive:
        raise ConfigurationError(
            "install.archive", install.archive, "missing", "give the path of an etcd release tarball"
        )
    if not install.mirror.startswith(("https://", "http://")):
        raise ConfigurationError(
            "install.mirror", install.mirror, "not an http(s) URL", f"the default is {DEFAULT_MIRROR}"
        )
    if "@" in install.mirror:
        raise ConfigurationError(
            "install.mirror",
            "(not shown)",
            "it carries a user or password, which every preview would show",
            "use a mirror that needs none, or install.from: archive",
        )
    if install.sha256 is not None and not _is_sha256(install.sha256):
        raise ConfigurationError(
            "install.sha256", install.sha256, "not a SHA-256 sum", "give its 64 hexadecimal digits"
        )
    return replace(install, mirror=install.mirror.rstrip("/"))


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)
