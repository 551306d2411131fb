"""What needs no restart: the machines below the members, files, certificates; and how a member differs, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from etcd_cluster.member.render import Transport
from etcd_cluster.rollout.planner import ca_trust
from etcd_cluster.rollout.planner.actions import Action, HostStep, RefusedError
from etcd_cluster.rollout.planner.cluster_view import ClusterView
from etcd_cluster.rollout.wanted import File

UNGROWN_BYTES = 64 * 1024**2
"""A file system that is this much smaller than its device can grow."""
MOST_MISSING = 3
"""More are not named: the machine was emptied."""


def prepare(view: ClusterView) -> Action | None:
    """Machines that lack what only preparing brings. That starts and restarts nothing, so all at once."""
    lacking = {name: lacks for name in view.hosts if (lacks := _lacks(view, name))}
    again = sorted(lacking.keys() & view.memory.prepared)
    if again:
        name = again[0]
        raise RefusedError(f"{name}: still lacks {', '.join(lacking[name])} after it was prepared; look at it")
    if not lacking:
        return None
    members = view.wanted.members
    return Action(
        "preparing again, for " + ", ".join(sorted({each for lacks in lacking.values() for each in lacks})),
        [HostStep(name, "prepare", {"line": members[name].prepare_line}) for name in lacking],
    )


def _lacks(view: ClusterView, name: str) -> list[str]:
    host, lacks = view.hosts[name], list(view.hosts[name].lacks)
    if view.wanted.version not in host.versions:
        lacks.append(f"etcd {view.wanted.version}")
    if host.filesystem_bytes and host.device_bytes > host.filesystem_bytes + UNGROWN_BYTES:
        lacks.append("the size that its disk has grown to")
    if host.token != view.wanted.token or host.owner not in ("", name):
        lacks.append("the marker beside its data")
    return lacks


def repair_certificates(view: ClusterView) -> Action | None:
    """What members are looked at by, before any look is relied on. Certificates and keys that etcd cannot use: it reads
    them for every handshake, so that nothing restarts and the member is not healthy before. A valid one that is due for
    another is not among them: see security.py. Before these, the CAs by which etcdctl knows the members."""
    return _restore_cas(view) or _repair_certificates(view)


def _repair_certificates(view: ClusterView) -> Action | None:
    why = "repairing certificates, without a restart"
    calls = [
        HostStep(name, "apply", {"action": "files", "why": why}, files)
        for name, host in view.hosts.items()
        if host.data and _may_speak_tls(view, name) and (files := _broken_leaves(view, name))
    ]
    return Action(why, calls) if calls else None


def _restore_cas(view: ClusterView) -> Action | None:
    """etcd itself reads that file at its start only: with the mark that it is due for one, in its turn."""
    why = "restoring the CA file, without a restart"
    calls = [
        HostStep(name, "apply", {"action": "files", "why": why, "pending": "yes"}, files)
        for name, host in view.hosts.items()
        if host.data and _may_speak_tls(view, name) and (files := _lost_files(view, name))
    ]
    return Action(why, calls) if calls else None


def _may_speak_tls(view: ClusterView, name: str) -> bool:
    """Of one that runs and whose configuration is lost, it is not known before it can be asked."""
    host = view.hosts[name]
    return ca_trust.speaks_tls(view, name) or (view.wanted.tls and bool(host.pid) and host.security is None)


def _lost_files(view: ClusterView, name: str) -> list[File]:
    found = {file.path: file for file in _lost_trust(view, name)}
    cas = _lost_cas(view, name) if view.hosts[name].pid else None
    return list({**found, **({cas.path: cas} if cas else {})}.values())


def _lost_trust(view: ClusterView, name: str) -> list[File]:
    """Files of trusted CAs that are missing. etcd reads them at its start only, so its process may trust others; but
    without them nobody can ask it, and one that leads could not hand over."""
    found: dict[str, File] = {}
    for transport in Transport:
        path = (
            view.hosts[name].trusted_path(transport)
            or f"{view.wanted.members[name].layout.pki}/{transport.trusted_file}"
        )
        authorities = ca_trust.trust_now(view, name)[transport]
        if authorities and view.hosts[name].trusted_file(transport) is None:
            found.setdefault(path, File(path, "444", "member", "".join(authorities)))
    return list(found.values())


def _lost_cas(view: ClusterView, name: str) -> File | None:
    """The file with the CAs by which clients know a member, if it holds none, or others than signed what that member
    shows. Then it gets those that are wanted, and those that signed what members show."""
    path = f"{view.wanted.members[name].layout.pki}/{Transport.CLIENT.trusted_file}"
    seen, wanted = view.hosts[name].files.get(path), view.wanted.trusted
    found = ca_trust.authorities_in(seen.content) if seen else []
    transports = _verified_by(view, name, path)
    known = [each for transport in transports for each in ca_trust.joint_trust(view, transport)]
    own = [each for each in _shown(view, name, transports) if ca_trust.is_by_one_of(each, known)]
    if not wanted or (found and all(ca_trust.is_by_one_of(each, found) for each in own)):
        return None
    shown = [certificate for each in view.hosts for certificate in _shown(view, each, transports)]
    in_use = [each for each in known if any(ca_trust.is_by_one_of(certificate, [each]) for certificate in shown)]
    return File(path, "444", "member", "".join(dict.fromkeys([*wanted, *in_use])))


def _verified_by(view: ClusterView, name: str, path: str) -> list[Transport]:
    """Whose certificates that file verifies: members had no CA of their own once."""
    section = view.hosts[name].configuration.get("peer-transport-security")
    is_shared = isinstance(section, dict) and cast("dict[str, Any]", section).get("trusted-ca-file") == path
    return [Transport.CLIENT, Transport.PEER] if is_shared else [Transport.CLIENT]


def _shown(view: ClusterView, name: str, transports: Sequence[Transport]) -> list[str]:
    files = [file for transport in transports for file in view.wanted.pair_files(name, transport)]
    return [view.content(view.hosts[name], file) or "" for file in files if file.path.endswith(".crt")]


def _broken_leaves(view: ClusterView, name: str) -> list[File]:
    """What is put there instead is what all trust by now, or all others: see `ca_trust.pair_that_all_trust`."""
    broken: list[File] = []
    for transport in Transport:
        wanted = view.wanted.pair_files(name, transport)
        usable = _has_another_pair(view, name, transport) and not any(_wrong_mode(view, name, file) for file in wanted)
        if not usable:
            found = ca_trust.pair_that_all_trust(view, transport) or ca_trust.pair_that_all_trust(
                view, transport, but=name
            )
            pair = found or transport
            broken += [file for file in view.wanted.pair_files(name, transport, pair) if _differs(view, name, file)]
    return broken


def _has_another_pair(view: ClusterView, name: str, transport: Transport) -> bool:
    """A whole one that is valid, and of a trusted authority as far as those are known, and is not the wanted one."""
    host, trusted = view.hosts[name], ca_trust.active_trust(view, name, transport)
    if not trusted:  # its own file is lost, and so may those of the others be
        trusted = [authority for each in Transport for authority in ca_trust.joint_trust(view, each)]
    pairs = [view.wanted.pair_files(name, transport, pair) for pair in (transport, Transport.CLIENT)]
    matches = [[view.content(host, file) == ca_trust.as_seen(file) for file in pair] for pair in pairs]
    is_half = any(any(each) and not all(each) for each in matches)  # a kill came between the two
    if is_half or all(matches[0]):
        return False
    key, certificate = (view.content(host, file) for file in pairs[0])
    is_trusted = not trusted or ca_trust.is_by_one_of(certificate or "", trusted)
    return key is not None and is_trusted and ca_trust.is_valid_there(view, name, certificate or "")


def _differs(view: ClusterView, name: str, file: File) -> bool:
    is_there = view.content(view.hosts[name], file) == ca_trust.as_seen(file)
    return not is_there or bool(_wrong_mode(view, name, file))


def write_pending_files(view: ClusterView) -> Action | None:
    """Files of the wrong mode or owner, certificates, what starts on boot, and the history. Restarts nothing."""
    why, calls = "putting files in place, without a restart", list[HostStep]()
    for name, host in view.hosts.items():
        files = [file for file, _ in _unsettled(view, name)]
        history = view.recorded(name)
        if files or history != host.history or _bootstrap_is_left(view, name):
            changed = None if history == host.history else history
            line = {"action": "files", **({"why": why} if files else {})}
            calls.append(HostStep(name, "apply", line, files, changed))
    return Action(why, calls) if calls else None


def _bootstrap_is_left(view: ClusterView, name: str) -> bool:
    return f"{view.wanted.members[name].layout.configuration}/bootstrap.yaml" in view.hosts[name].files


def _all_files(view: ClusterView, name: str) -> list[File]:
    spec = view.spec(name, view.wanted.version, view.wanted.security)
    return [
        *view.wanted.leaf_files(name),
        *view.wanted.other_files(name, spec),
        *view.wanted.start_files(name, spec, view.wanted.trust),
    ]


def _unsettled(view: ClusterView, name: str) -> list[tuple[File, str]]:
    """Files that are not as they should be, and how."""
    host = view.hosts[name]
    found: list[tuple[File, str]] = []
    for file in _all_files(view, name):
        seen = host.files.get(file.path)
        if seen is None:
            found.append((file, f"{file.path} is missing"))
        elif seen.content != ca_trust.as_seen(file):
            found.append((file, f"{file.path} {'has expired' if _has_expired(view, name, file) else 'differs'}"))
        elif wrong := _wrong_mode(view, name, file):
            found.append((file, f"{file.path} is {wrong}"))
        elif file.path.startswith("/etc/systemd/") and not host.on_boot:
            found.append((file, "it does not start on boot"))
    return found


def _has_expired(view: ClusterView, name: str, file: File) -> bool:
    seen = view.content(view.hosts[name], file) or ""
    return "BEGIN CERTIFICATE" in seen and not ca_trust.is_valid_there(view, name, seen)


def _wrong_mode(view: ClusterView, name: str, file: File) -> str:
    """What mode and owner it has, and should have; "" where they are right, or the file is missing."""
    seen, systemd = (
        view.hosts[name].files.get(file.path),
        view.wanted.members[name].layout.supervisor == "systemd",
    )
    if seen is None:
        return ""
    owner = {"member": "etcd"}.get(file.owner, file.owner) if systemd else seen.owner
    is_, should = f"{seen.mode} {seen.owner}", f"{file.mode} {owner}"
    return "" if is_ == should else f"{is_}, not {should}"


def differences(view: ClusterView, name: str) -> list[str]:
    if name not in view.hosts:
        return [view.seen.silent.get(name, "not asked")]
    host, listed, version = view.hosts[name], view.seen.of(name), view.wanted.version
    found = [f"lacks {each}" for each in _lacks(view, name)]
    if host.mounted_over:
        found.append(f"{host.mounted_over} is mounted where its data belong")
    if not host.data:
        found.append("runs, but its data are not to be seen" if host.pid else "has no data")
    elif not host.pid:
        found.append("does not run")
    elif listed is None and view.seen.status_source:
        found.append("is no member of the cluster")
    elif listed is not None and listed.learner:
        found.append("is a learner")
    elif view.seen.status_source and not view.seen.is_healthy(name):
        found.append("is not healthy")
    if host.running and host.running != version:
        found.append(f"runs {host.running}, not {version}")
    if host.pending:
        found.append("its files may be newer than its process")
    return [*found, *_in_short([how for _, how in _unsettled(view, name)])]


def _in_short(found: Sequence[str]) -> list[str]:
    missing = [how for how in found if how.endswith(" is missing")]
    if len(missing) <= MOST_MISSING:
        return list(found)
    return [f"{len(missing)} of its files are missing", *(how for how in found if how not in missing)]
