"""Validates the arguments of a cluster, and fills every default in."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, cast

from etcd_cluster.arguments import Defragment, EtcdClusterArgs, Install
from etcd_cluster.backup.arguments import Backup, validate_backup
from etcd_cluster.backup.bucket import require_bucket
from etcd_cluster.backup.restore_arguments import Recover, RestoreInPlace, SourceKind, parse_source, require_store
from etcd_cluster.dns import ClusterNames, validate_dns
from etcd_cluster.errors import HIDDEN, ConfigurationError, holds_secret
from etcd_cluster.etcd import options, versions
from etcd_cluster.etcd.releases import ETCD
from etcd_cluster.etcd.sizes import MIB, Size, size_named
from etcd_cluster.load_check.load import LoadCheckMode
from etcd_cluster.load_generator import LoadGenerator, validate_load_generator
from etcd_cluster.machines.machine import MEMBER_COUNTS, FirewalledMachines, ProvisionedMachines
from etcd_cluster.machines.records import RecordingMachines
from etcd_cluster.member.layout import Layout
from etcd_cluster.monitoring.arguments import Monitoring, validate_monitoring
from etcd_cluster.names import require_member_names
from etcd_cluster.releases import InstallSource, require_proxy
from etcd_cluster.secrecy import as_input, checked_input
from etcd_cluster.state_folder import backup_folder
from etcd_cluster.typed import require_type, require_types
from etcd_cluster.users import Users, validate_users

_LOGIN_KEYS = {"bastion": "ssh.bastion", "private_key": "ssh.privateKey", "proxy_command": "ssh.proxyCommand"}
"""Fields of the platforms -> their keys in stack config, which has them under `ssh`."""
_QUOTA = "quota-backend-bytes"
NO_BACKUP = (
    "this cluster has no backups: wherever the data is, it can be lost. Set backup.to, such as s3://BUCKET/PREFIX"
)
_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Settings:
    """Validated arguments, with every default filled in. All warnings have been shown."""

    names: Sequence[str]
    size: Size
    version: str
    tls: bool
    options: Mapping[str, object]
    user_options: Mapping[str, object]
    has_secret_options: bool
    install: Install
    install_source: InstallSource
    dns: ClusterNames | None
    backup: Backup | None
    restore_from: str
    restore_store: Backup | None
    restore_kind: SourceKind
    restoration: RestoreInPlace | Recover | None
    restoration_kind: SourceKind
    load_check: LoadCheckMode
    load_generator: LoadGenerator
    monitoring: Monitoring | None
    users: Users | None
    defragment: Defragment | None
    ca_rotation: int
    ca_overlap_hours: int
    allow_undersized: bool
    allow_plaintext: bool
    delete_data: bool
    warnings: Sequence[str]

    @property
    def quota_bytes(self) -> int:
        """Quota that members get once all machines are large enough for the size."""
        quota = self.options[_QUOTA]
        return quota if isinstance(quota, int) else self.size.quota_bytes

    def options_on(self, size: Size) -> Mapping[str, object]:
        """Returns etcd's settings while a machine is only large enough for that size: its memory holds the quota."""
        return self.options if size == self.size else {**self.options, _QUOTA: self._quota_on(size)}

    def user_options_on(self, size: Size) -> Mapping[str, object]:
        """Returns the user's settings, likewise."""
        if size == self.size or _QUOTA not in self.user_options:
            return self.user_options
        return {**self.user_options, _QUOTA: self._quota_on(size)}

    def _quota_on(self, size: Size) -> object:
        given = self.user_options.get(_QUOTA, size.quota_bytes)
        return min(given, size.minimum_memory_mib * MIB) if isinstance(given, int) else given


def validate_arguments(args: EtcdClusterArgs) -> Settings:
    """Checks all plain values, without touching anything; raises `ConfigurationError` naming key, value and fix."""
    _require_types(args)
    size = size_named(args.size)
    if args.members is not None:
        _require_odd("members", args.members)
    names = args.machines.member_names(args.members)
    _require_names(names)
    _require_odd("hosts" if args.machines.platform == "hosts" else "members", len(names))
    version, warnings = versions.require_usable(args.version, allow_unsafe=args.allow_unsafe_version)
    user_options = _validate_options(args.etcd, version)
    server_options = {**options.defaults(version), _QUOTA: size.quota_bytes, **user_options}
    _require_quota_in_memory(server_options[_QUOTA], size)
    _require_writable_logs(server_options, args.machines.platform)
    if isinstance(args.machines, ProvisionedMachines):
        args.machines.require_usable(size, allow_undersized=args.allow_undersized, delete_data=args.delete_data)
    if args.backup is not None:
        require_bucket(args.backup, args.machines)
    backup = validate_backup(args.backup) if args.backup else None
    warnings = [*warnings, *_monitoring_warnings(args)]
    if backup is None and args.machines.platform != "local":
        warnings = [*warnings, NO_BACKUP]
    if not args.tls:
        warnings = [*warnings, "tls: false: anyone who reaches this cluster's ports can read and change everything"]
    restore_from, restore_kind = _restore_from(args)
    return Settings(
        names=names,
        size=size,
        version=version,
        tls=args.tls,
        options=server_options,
        user_options=user_options,
        has_secret_options=holds_secret(dict(args.etcd)),
        install=_validate_install(args.install, version, args.machines.platform),
        install_source=_install_source(args.install, args.machines.platform),
        dns=_validate_dns(args, names),
        backup=backup,
        restore_from=restore_from,
        restore_kind=restore_kind,
        restore_store=backup or _default_backup(args.machines.platform),
        restoration=args.restore_in_place or args.recover,
        restoration_kind=_restoration_kind(args, names),
        load_check=_load_check(args),
        load_generator=validate_load_generator(args.load_generator),
        monitoring=validate_monitoring(args.monitoring, args.machines.platform) if args.monitoring else None,
        users=validate_users(args.users, args.roles, members=names, version=version, tls=args.tls),
        defragment=args.defragment,
        ca_rotation=args.ca_rotation,
        ca_overlap_hours=args.ca_overlap_hours,
        allow_undersized=args.allow_undersized,
        allow_plaintext=args.allow_plaintext,
        delete_data=args.delete_data,
        warnings=warnings,
    )


def _default_backup(platform: str) -> Backup | None:
    """Returns where backups are that people make on demand, as of members on this machine; None elsewhere."""
    return Backup(to=str(backup_folder(os.environ))) if platform == "local" else None


def _monitoring_warnings(args: EtcdClusterArgs) -> Iterator[str]:
    """Yields that nobody can reach the metrics; refuses who may reach metrics that are not exposed."""
    if not isinstance(args.machines, FirewalledMachines):
        return
    sources = args.machines.monitoring_sources
    for key, count in sources.items():
        if count and args.monitoring is None:
            raise ConfigurationError(
                key,
                f"{count} listed",
                "nothing uses it, since no metrics are exposed",
                "write monitoring: {} as well, or leave it out",
            )
    if args.monitoring is not None and not any(sources.values()):
        keys = " or ".join(sources)
        yield f"monitoring: no rule of ours lets a Prometheus in. Unless one of yours does, name where it runs: {keys}"


def _validate_dns(args: EtcdClusterArgs, members: Sequence[str]) -> ClusterNames | None:
    """Returns the names for clients; None for none."""
    if args.dns is not None:
        return validate_dns(args.dns, members, args.machines.platform)
    if isinstance(args.machines, RecordingMachines) and (key := args.machines.zone_key) is not None:
        raise ConfigurationError(key, None, "there is no name to make records for", "give dns.name, or leave it out")
    return None


def _has_store(args: EtcdClusterArgs) -> bool:
    return args.backup is not None or _default_backup(args.machines.platform) is not None


def _restore_from(args: EtcdClusterArgs) -> tuple[str, SourceKind]:
    """Returns what a new cluster starts with, and what that names; "" for nothing."""
    if args.restore_from is None:
        return "", SourceKind.STORE
    kind = parse_source("restoreFrom", args.restore_from)
    require_store("restoreFrom", args.restore_from, kind, has_store=_has_store(args))
    return args.restore_from, kind


def _restoration_kind(args: EtcdClusterArgs, names: Sequence[str]) -> SourceKind:
    """Returns what a restore in the place of a cluster's data goes on with."""
    if args.restore_in_place is not None and args.recover is not None:
        raise ConfigurationError("recover", None, "restoreInPlace is given as well", "take one of the two out")
    for name in args.recover.lost if args.recover else ():
        if name not in names:
            raise ConfigurationError("recover.lost", name, "no member of this name", f"write one of {', '.join(names)}")
    asked = args.restore_in_place or args.recover
    if asked is None or asked.source is None:
        return SourceKind.MEMBER
    key = "recover.from" if args.recover else "restoreInPlace.from"
    kind = parse_source(key, asked.source, names if args.recover else ())
    require_store(key, asked.source, kind, has_store=_has_store(args))
    if args.recover and kind is SourceKind.MEMBER and asked.source in args.recover.lost:
        raise ConfigurationError(key, asked.source, "it is in recover.lost as well", "name a member that is left")
    return kind


def _load_check(args: EtcdClusterArgs) -> LoadCheckMode:
    if args.load_check not in ("off", "report", "require"):
        raise ConfigurationError("loadCheck", args.load_check, "unknown", "choose off, report or require")
    if args.load_check == "require" and args.restore_from is not None:
        raise ConfigurationError(
            "loadCheck",
            args.load_check,
            "a cluster that starts with the keys of a backup is not loaded by an `up`: somebody may use it already",
            "take loadCheck out, and run `etcd-cluster load-check --yes` once the cluster is up",
        )
    if args.load_generator != LoadGenerator() and args.load_check == "off":
        raise ConfigurationError(
            "loadGenerator",
            HIDDEN,
            "nothing uses it without loadCheck",
            "write loadCheck: report as well, or take it out",
        )
    return args.load_check


def _require_types(args: EtcdClusterArgs) -> None:
    """Checks the types of everything that is declared here. A platform of another package has types of its own."""
    require_type("args", args, EtcdClusterArgs)
    require_types(args, inside=False)
    require_types(args.install, "install.", {"source": "install.from"})
    if args.dns is not None:
        require_types(args.dns, "dns.")
    for key, given in (("restoreInPlace", args.restore_in_place), ("recover", args.recover)):
        if given is not None:
            require_types(given, f"{key}.", {"source": f"{key}.from"})
    require_types(args.load_generator, "loadGenerator.", {"source": "loadGenerator.from"})
    if args.backup is not None:
        require_types(args.backup, "backup.", inside=False)
        require_types(args.backup.keep, "backup.keep.")
        require_types(args.backup.rclone, "backup.rclone.", {"source": "backup.rclone.from"})
    if args.monitoring is not None:
        require_types(args.monitoring, "monitoring.")
    for name, user in args.users.items():
        require_types(user, f"users.{name}.")
    for name, permissions in args.roles.items():
        for number, permission in enumerate(permissions):
            require_types(permission, f"roles.{name}[{number}].")
    if args.defragment is not None:
        require_types(args.defragment, "defragment.")
    machines = args.machines
    if any(kind.__module__.startswith(f"{_PACKAGE}.machines.") for kind in type(machines).__mro__):
        prefix = "" if machines.platform == "hosts" else f"{machines.platform}."
        require_types(machines, prefix, _LOGIN_KEYS)


def _require_names(names: object) -> None:
    """Checks the member names, also of a platform of another package."""
    kind = type(names).__name__
    listed = list(cast("Sequence[object]", names)) if isinstance(names, Sequence) else []
    if isinstance(names, str) or not listed or not all(isinstance(each, str) for each in listed):
        raise ConfigurationError("machines", kind, "no list of member names", "answer a list of texts")
    require_member_names(cast("list[str]", listed))


def _validate_options(given: Mapping[str, Any], version: str) -> dict[str, object]:
    try:
        return options.validate_options(given, version)
    except ConfigurationError as error:
        if not holds_secret(dict(given)):
            raise
        # A reason may repeat a part of the value.
        key = error.key if error.key.removeprefix("etcd.") in options.KNOWN else "etcd"
        raise ConfigurationError(key, HIDDEN, f"etcd {version} does not take this", error.fix) from None


def _require_odd(key: str, count: int) -> None:
    if count not in MEMBER_COUNTS:
        if count < 1:
            problem = "a cluster has at least one member"
        elif count > MEMBER_COUNTS[-1]:
            problem = f"more than {MEMBER_COUNTS[-1]} members slow every write down"
        else:
            problem = "an even number tolerates no more failures than one member less"
        raise ConfigurationError(
            key,
            count,
            problem,
            f"choose {', '.join(map(str, MEMBER_COUNTS[:-1]))} or {MEMBER_COUNTS[-1]}",
        )


def _require_quota_in_memory(quota_bytes: object, size: Size) -> None:
    """Refuses a quota beyond the memory: etcd maps its whole database, and would swap."""
    if isinstance(quota_bytes, int) and quota_bytes > size.minimum_memory_mib * MIB:
        raise ConfigurationError(
            "etcd.quota-backend-bytes",
            quota_bytes,
            f"more than the memory of size {size.name} ({size.minimum_memory_mib} MiB)",
            f"leave it out for {size.quota_bytes}, or choose a larger size",
        )


def _require_writable_logs(server_options: Mapping[str, object], platform: str) -> None:
    """Refuses log files that etcd may not write: its unit lets it write to its data alone."""
    folder = Layout.system().data
    for file in sorted(options.log_files(server_options)):
        parents = PurePosixPath(posixpath.normpath(file)).parents
        if PurePosixPath(folder, "member") in parents:
            raise ConfigurationError(
                "etcd.log-outputs", file, "etcd keeps its data in that folder", f"write a file in {folder} itself"
            )
        if platform == "local" or PurePosixPath(folder) not in parents:
            raise ConfigurationError(
                "etcd.log-outputs",
                file,
                "members on this machine would write to one file"
                if platform == "local"
                else f"etcd's unit may write below {folder} alone",
                "write stderr, which systemd's journal or the member's log file gets, or a file below that folder",
            )


def _install_source(install: Install, platform: str) -> InstallSource:
    source = ("auto" if platform == "local" else "release") if install.source is None else install.source
    if source not in ("release", "archive", "build") and not (source == "auto" and platform == "local"):
        raise ConfigurationError("install.from", source, "unknown", "choose release, archive or build")
    return source


def _validate_install(install: Install, version: str, platform: str) -> Install:
    """Checks `install`. Returns it with a mirror and a proxy that are Outputs if they are secret."""
    source = _install_source(install, platform)
    if source == "archive" and install.archive is None:
        raise ConfigurationError("install.archive", None, "missing", "give the path of an etcd release tarball")
    if source != "archive" and install.archive is not None:
        raise ConfigurationError(
            "install.archive",
            install.archive,
            f"nothing uses it, since programs come from {source}",
            "write install.from: archive as well, or leave it out",
        )
    if source in ("release", "archive") and install.go_proxy is not None:
        raise ConfigurationError(
            "install.goProxy",
            HIDDEN,
            f"nothing uses it, since programs come from {source}",
            "write install.from: build as well, or leave it out",
        )
    if install.no_proxy and install.proxy is None:
        raise ConfigurationError(
            "install.noProxy", list(install.no_proxy), "there is no proxy to go past", "give install.proxy as well"
        )
    ETCD.require_pins(install.sha256, version)
    downloads = source in ("release", "auto")
    pins = install.sha256 if downloads else ""
    mirror = checked_input(install.mirror, lambda known: ETCD.require_mirror(known, pins))
    proxy = install.proxy
    if proxy is not None:
        proxy = checked_input(proxy, lambda known: require_proxy("install.proxy", known))
    return replace(install, mirror=mirror, proxy=proxy, go_proxy=as_input(install.go_proxy))
