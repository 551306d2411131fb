"""Repairs what needs no restart: machines, files, certificates. Lists how a member differs from the desired state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from etcd_cluster.member.lines import Apply, ApplyAction, PrepareAgain
from etcd_cluster.member.render import Transport
from etcd_cluster.rollout.desired import File
from etcd_cluster.rollout.observed import Missing, MissingKind
from etcd_cluster.rollout.planner import ca_trust
from etcd_cluster.rollout.planner.actions import Action, ActionKind, Drift, DriftKind, HostStep, Refusal
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.planner.refusals import RefusedError

UNGROWN_BYTES = 64 * 1024**2
"""A file system that is smaller than its device by more than this can grow."""
MOST_MISSING = 3
"""If more files are missing, only their number is shown: the machine was emptied."""


def prepare(view: ClusterView) -> Action | None:
    """Prepares machines again that lack something, all at once: preparing starts and restarts nothing.

    Raises:
        RefusedError: The machine still lacks something after this run has prepared it again.
    """
    missing = {name: found for name in view.hosts if (found := _missing(view, name))}
    again = sorted(missing.keys() & view.context.prepared)
    if again:
        raise RefusedError(Refusal.STILL_MISSING, {"member": again[0], "missing": missing[again[0]]})
    if not missing:
        return None
    every = dict.fromkeys(each for found in missing.values() for each in found)
    members = view.desired.members
    steps = [HostStep(name, PrepareAgain(members[name].prepare_line)) for name in missing]
    return Action(ActionKind.PREPARE_AGAIN, steps, {"missing": [*every]})


def _missing(view: ClusterView, name: str) -> list[Missing]:
    host, missing = view.hosts[name], list(view.hosts[name].missing)
    if view.desired.version not in host.versions:
        missing.append(Missing(MissingKind.PROGRAMS, view.desired.version))
    if host.filesystem_bytes and host.device_bytes > host.filesystem_bytes + UNGROWN_BYTES:
        missing.append(Missing(MissingKind.DISK_SPACE))
    if host.token != view.desired.token or host.owner not in ("", name):
        missing.append(Missing(MissingKind.MARKER))
    return missing


def repair_certificates(view: ClusterView) -> Action | None:
    """Replaces certificates, keys and CA files that etcd or etcdctl cannot use, before any observation is relied on.

    etcd reads certificates and keys for every handshake: nothing restarts, and the member is not healthy before. CA
    files come first, because etcdctl verifies members by them. A valid certificate that is due for renewal is not
    replaced here: see security.py.
    """
    return _restore_cas(view) or _repair_certificates(view)


def _repair_certificates(view: ClusterView) -> Action | None:
    steps = [
        HostStep(name, Apply(ApplyAction.FILES), files)
        for name, host in view.hosts.items()
        if host.data and _may_speak_tls(view, name) and (files := _broken_certificates(view, name))
    ]
    return Action(ActionKind.REPAIR_CERTIFICATES, steps) if steps else None


def _restore_cas(view: ClusterView) -> Action | None:
    """Writes CA files that are missing, and marks the members as pending.

    etcd reads these files only at its start, so the mark makes each member restart in its turn.
    """
    steps = [
        HostStep(name, Apply(ApplyAction.FILES, pending=True), files)
        for name, host in view.hosts.items()
        if host.data and _may_speak_tls(view, name) and (files := _lost_files(view, name))
    ]
    return Action(ActionKind.RESTORE_CAS, steps) if steps else None


def _may_speak_tls(view: ClusterView, name: str) -> bool:
    """Returns whether a member may use TLS. That is unknown of a running member without a configuration file."""
    host = view.hosts[name]
    return ca_trust.speaks_tls(view, name) or (view.desired.tls and bool(host.pid) and host.security is None)


def _lost_files(view: ClusterView, name: str) -> list[File]:
    found = {file.path: file for file in _lost_trust(view, name)}
    cas = _lost_cas(view, name) if view.hosts[name].pid else None
    return list({**found, **({cas.path: cas} if cas else {})}.values())


def _lost_trust(view: ClusterView, name: str) -> list[File]:
    """Returns the missing files of trusted CAs.

    etcd reads them only at its start, so its process may trust other CAs. Without the files nobody can ask the member,
    and a leader could not hand over.
    """
    found: dict[str, File] = {}
    for transport in Transport:
        path = (
            view.hosts[name].trusted_path(transport)
            or f"{view.desired.members[name].layout.pki}/{transport.trusted_file}"
        )
        cas = ca_trust.trust_now(view, name)[transport]
        if cas and view.hosts[name].trusted_file(transport) is None:
            found.setdefault(path, File(path, "444", "member", "".join(cas)))
    return list(found.values())


def _lost_cas(view: ClusterView, name: str) -> File | None:
    """Returns the CA file that clients verify a member by, if the one on the machine is unusable; None if it is usable.

    It is unusable if it holds no CA, or other CAs than the ones that signed the member's certificates. The new file
    holds the desired CAs, and the CAs that signed certificates in use.
    """
    path = f"{view.desired.members[name].layout.pki}/{Transport.CLIENT.trusted_file}"
    bundle, desired = view.hosts[name].files.get(path), view.desired.trusted
    found = ca_trust.cas_in(bundle.content) if bundle else []
    transports = _verified_by(view, name, path)
    known = [each for transport in transports for each in ca_trust.joint_trust(view, transport)]
    own = [each for each in _shown(view, name, transports) if ca_trust.is_by_one_of(each, known)]
    if not desired or (found and all(ca_trust.is_by_one_of(each, found) for each in own)):
        return None
    shown = [certificate for each in view.hosts for certificate in _shown(view, each, transports)]
    in_use = [each for each in known if any(ca_trust.is_by_one_of(certificate, [each]) for certificate in shown)]
    return File(path, "444", "member", "".join(dict.fromkeys([*desired, *in_use])))


def _verified_by(view: ClusterView, name: str, path: str) -> list[Transport]:
    """Returns the transports whose certificates a CA file verifies.

    In a cluster of an earlier release one file verifies both: members had no CA of their own.
    """
    section = view.hosts[name].configuration.get("peer-transport-security")
    is_shared = isinstance(section, dict) and cast("dict[str, Any]", section).get("trusted-ca-file") == path
    return [Transport.CLIENT, Transport.PEER] if is_shared else [Transport.CLIENT]


def _shown(view: ClusterView, name: str, transports: Sequence[Transport]) -> list[str]:
    files = [file for transport in transports for file in view.desired.pair_files(name, transport)]
    return [view.content(view.hosts[name], file) or "" for file in files if file.path.endswith(".crt")]


def _broken_certificates(view: ClusterView, name: str) -> list[File]:
    """Returns replacements for certificates and keys that etcd cannot use.

    They are signed by a CA that all members trust by now, or all other members: see `ca_trust.pair_that_all_trust`.
    """
    broken: list[File] = []
    for transport in Transport:
        desired = view.desired.pair_files(name, transport)
        usable = _has_another_pair(view, name, transport) and not any(_wrong_mode(view, name, file) for file in desired)
        if not usable:
            found = ca_trust.pair_that_all_trust(view, transport) or ca_trust.pair_that_all_trust(
                view, transport, but=name
            )
            pair = found or transport
            broken += [file for file in view.desired.pair_files(name, transport, pair) if _differs(view, name, file)]
    return broken


def _has_another_pair(view: ClusterView, name: str, transport: Transport) -> bool:
    """Returns whether the machine has a complete, valid and trusted pair that is not the desired one.

    Any CA counts as trusted while none is known.
    """
    host, trusted = view.hosts[name], ca_trust.active_trust(view, name, transport)
    if not trusted:  # its own trust file is lost, and maybe those of the others
        trusted = [ca for each in Transport for ca in ca_trust.joint_trust(view, each)]
    pairs = [view.desired.pair_files(name, transport, pair) for pair in (transport, Transport.CLIENT)]
    matches = [[view.content(host, file) == ca_trust.as_observed(file) for file in pair] for pair in pairs]
    is_half = any(any(each) and not all(each) for each in matches)  # a run was killed between the two files
    if is_half or all(matches[0]):
        return False
    key, certificate = (view.content(host, file) for file in pairs[0])
    is_trusted = not trusted or ca_trust.is_by_one_of(certificate or "", trusted)
    return key is not None and is_trusted and ca_trust.is_valid_there(view, name, certificate or "")


def _differs(view: ClusterView, name: str, file: File) -> bool:
    is_there = view.content(view.hosts[name], file) == ca_trust.as_observed(file)
    return not is_there or bool(_wrong_mode(view, name, file))


def write_pending_files(view: ClusterView) -> Action | None:
    """Writes files and the history, and enables the start on boot, where they differ. Restarts nothing.

    Files are written if mode, owner or content differ: certificates, for example.
    """
    steps: list[HostStep] = []
    for name, host in view.hosts.items():
        files = [file for file, _ in _pending(view, name)]
        history = view.recorded(name)
        if files or history != host.history or _bootstrap_is_left(view, name):
            changed = None if history == host.history else history
            steps.append(HostStep(name, Apply(ApplyAction.FILES), files, changed))
    return Action(ActionKind.WRITE_PENDING_FILES, steps) if steps else None


def _bootstrap_is_left(view: ClusterView, name: str) -> bool:
    return f"{view.desired.members[name].layout.configuration}/bootstrap.yaml" in view.hosts[name].files


def _all_files(view: ClusterView, name: str) -> list[File]:
    spec = view.spec(name, view.desired.version, view.desired.security)
    return [
        *view.desired.certificate_files(name),
        *view.desired.other_files(name, spec),
        *view.desired.start_files(name, spec, view.desired.trust),
    ]


def _pending(view: ClusterView, name: str) -> list[tuple[File, Drift]]:
    """Returns the files that are not in the desired state, and how they differ."""
    host = view.hosts[name]
    found: list[tuple[File, Drift]] = []
    for file in _all_files(view, name):
        current, path = host.files.get(file.path), {"path": file.path}
        if current is None:
            found.append((file, Drift(DriftKind.FILE_MISSING, path)))
        elif current.content != ca_trust.as_observed(file):
            expired = _has_expired(view, name, file)
            found.append((file, Drift(DriftKind.FILE_EXPIRED if expired else DriftKind.FILE_DIFFERS, path)))
        elif wrong := _wrong_mode(view, name, file):
            found.append((file, wrong))
        elif file.path.startswith("/etc/systemd/") and not host.on_boot:
            found.append((file, Drift(DriftKind.NOT_ON_BOOT)))
        elif file.path.startswith("/etc/systemd/") and not host.masked:
            found.append((file, Drift(DriftKind.NOT_MASKED)))
    return found


def _has_expired(view: ClusterView, name: str, file: File) -> bool:
    current = view.content(view.hosts[name], file) or ""
    return "BEGIN CERTIFICATE" in current and not ca_trust.is_valid_there(view, name, current)


def _wrong_mode(view: ClusterView, name: str, file: File) -> Drift | None:
    """Returns how mode and owner of a file differ; None if they do not, or if the file is missing."""
    current = view.hosts[name].files.get(file.path)
    if current is None:
        return None
    is_systemd = view.desired.members[name].layout.supervisor == "systemd"
    owner = {"member": "etcd"}.get(file.owner, file.owner) if is_systemd else current.owner
    if (current.mode, current.owner) == (file.mode, owner):
        return None
    mode, expected = f"{current.mode} {current.owner}", f"{file.mode} {owner}"
    return Drift(DriftKind.FILE_MODE, {"path": file.path, "mode": mode, "expected": expected})


def differences(view: ClusterView, name: str) -> list[Drift]:
    """Returns how one member differs from the desired state."""
    if name not in view.hosts:
        return [Drift(DriftKind.UNREACHABLE, {"why": view.observation.unreachable.get(name, "not asked")})]
    host, listed, version = view.hosts[name], view.observation.of(name), view.desired.version
    found = [Drift(DriftKind.MISSING, {"missing": each}) for each in _missing(view, name)]
    if host.mounted_over:
        found.append(Drift(DriftKind.MOUNTED_OVER, {"mounted_over": host.mounted_over}))
    if host.other_service:
        found.append(Drift(DriftKind.OTHER_SERVICE, {"service": host.other_service}))
    if host.foreign_unit_files:
        found.append(Drift(DriftKind.UNIT_CHANGED, {"paths": host.foreign_unit_files}))
    if not host.data:
        found.append(Drift(DriftKind.DATA_HIDDEN if host.pid else DriftKind.NO_DATA))
    elif not host.pid:
        found.append(Drift(DriftKind.DOWN))
    elif listed is None and view.observation.status_source:
        found.append(Drift(DriftKind.NOT_LISTED))
    elif listed is not None and listed.learner:
        found.append(Drift(DriftKind.LEARNER))
    elif view.observation.status_source and not view.observation.is_healthy(name):
        found.append(Drift(DriftKind.UNHEALTHY))
    unreached = [pair.peer for pair in view.observation.broken_pairs if pair.member == name]
    if unreached:
        found.append(Drift(DriftKind.BROKEN_PAIR, {"peers": unreached}))
    if host.running and host.running != version:
        found.append(Drift(DriftKind.OTHER_VERSION, {"running": host.running, "version": version}))
    if host.pending:
        found.append(Drift(DriftKind.PENDING))
    return [*found, *_in_short([drift for _, drift in _pending(view, name)])]


def _in_short(found: Sequence[Drift]) -> list[Drift]:
    missing = [drift for drift in found if drift.kind is DriftKind.FILE_MISSING]
    if len(missing) <= MOST_MISSING:
        return list(found)
    return [Drift(DriftKind.FILES_MISSING, {"count": len(missing)}), *(each for each in found if each not in missing)]
