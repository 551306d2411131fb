"""What needs no restart: the machines below the members, files, certificates; and how a member differs, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from etcd_cluster.member.render import Transport
from etcd_cluster.rollout.plan import trust
from etcd_cluster.rollout.plan.acts import Act, Call, RefusedError
from etcd_cluster.rollout.plan.situation import Situation
from etcd_cluster.rollout.wanted import File

UNGROWN_BYTES = 64 * 1024**2
"""A file system that is this much smaller than its device can grow."""
MOST_MISSING = 3
"""More are not named: the machine was emptied."""


def prepare(now: Situation) -> Act | None:
    """Machines that lack what only preparing brings. That starts and restarts nothing, so all at once."""
    lacking = {name: lacks for name in now.hosts if (lacks := _lacks(now, name))}
    again = sorted(lacking.keys() & now.memory.prepared)
    if again:
        name = again[0]
        raise RefusedError(f"{name}: still lacks {', '.join(lacking[name])} after it was prepared; look at it")
    if not lacking:
        return None
    members = now.wanted.members
    return Act(
        "preparing again, for " + ", ".join(sorted({each for lacks in lacking.values() for each in lacks})),
        [Call(name, "prepare", {"line": members[name].prepare_line}) for name in lacking],
    )


def _lacks(now: Situation, name: str) -> list[str]:
    host, lacks = now.hosts[name], list(now.hosts[name].lacks)
    if now.wanted.version not in host.versions:
        lacks.append(f"etcd {now.wanted.version}")
    if host.filesystem_bytes and host.device_bytes > host.filesystem_bytes + UNGROWN_BYTES:
        lacks.append("the size that its disk has grown to")
    if host.token != now.wanted.token or host.owner not in ("", name):
        lacks.append("the marker beside its data")
    return lacks


def mend_leaves(now: Situation) -> Act | None:
    """What members are looked at by, before any look is relied on. Certificates and keys that etcd cannot use: it reads
    them for every handshake, so that nothing restarts and the member is not healthy before. A valid one that is due for
    another is not among them: see security.py. Before these, the CAs by which etcdctl knows the members."""
    return _restore_cas(now) or _mend_leaves(now)


def _mend_leaves(now: Situation) -> Act | None:
    why = "mending certificates, without a restart"
    calls = [
        Call(name, "apply", {"action": "files", "why": why}, files)
        for name, host in now.hosts.items()
        if host.data and _may_speak_tls(now, name) and (files := _broken_leaves(now, name))
    ]
    return Act(why, calls) if calls else None


def _restore_cas(now: Situation) -> Act | None:
    """etcd itself reads that file at its start only: with the mark that it is due for one, in its turn."""
    why = "restoring the CA file, without a restart"
    calls = [
        Call(name, "apply", {"action": "files", "why": why, "pending": "yes"}, files)
        for name, host in now.hosts.items()
        if host.data and _may_speak_tls(now, name) and (files := _lost_files(now, name))
    ]
    return Act(why, calls) if calls else None


def _may_speak_tls(now: Situation, name: str) -> bool:
    """Of one that runs and whose configuration is lost, it is not known before it can be asked."""
    host = now.hosts[name]
    return trust.speaks_tls(now, name) or (now.wanted.tls and bool(host.pid) and host.security is None)


def _lost_files(now: Situation, name: str) -> list[File]:
    found = {file.path: file for file in _lost_trust(now, name)}
    cas = _lost_cas(now, name) if now.hosts[name].pid else None
    return list({**found, **({cas.path: cas} if cas else {})}.values())


def _lost_trust(now: Situation, name: str) -> list[File]:
    """Files of trusted CAs that are missing. etcd reads them at its start only, so its process may trust others; but
    without them nobody can ask it, and one that leads could not hand over."""
    found: dict[str, File] = {}
    for transport in Transport:
        path = (
            now.hosts[name].trusted_path(transport) or f"{now.wanted.members[name].layout.pki}/{transport.trusted_file}"
        )
        authorities = trust.trust_now(now, name)[transport]
        if authorities and now.hosts[name].trusted_file(transport) is None:
            found.setdefault(path, File(path, "444", "member", "".join(authorities)))
    return list(found.values())


def _lost_cas(now: Situation, name: str) -> File | None:
    """The file with the CAs by which clients know a member, if it holds none, or others than signed what that member
    shows. Then it gets those that are wanted, and those that signed what members show."""
    path = f"{now.wanted.members[name].layout.pki}/{Transport.CLIENT.trusted_file}"
    seen, wanted = now.hosts[name].files.get(path), now.wanted.trusted
    found = trust.authorities_in(seen.content) if seen else []
    transports = _verified_by(now, name, path)
    known = [each for transport in transports for each in trust.joint_trust(now, transport)]
    own = [each for each in _shown(now, name, transports) if trust.is_by_one_of(each, known)]
    if not wanted or (found and all(trust.is_by_one_of(each, found) for each in own)):
        return None
    shown = [certificate for each in now.hosts for certificate in _shown(now, each, transports)]
    in_use = [each for each in known if any(trust.is_by_one_of(certificate, [each]) for certificate in shown)]
    return File(path, "444", "member", "".join(dict.fromkeys([*wanted, *in_use])))


def _verified_by(now: Situation, name: str, path: str) -> list[Transport]:
    """Whose certificates that file verifies: members had no CA of their own once."""
    section = now.hosts[name].configuration.get("peer-transport-security")
    is_shared = isinstance(section, dict) and cast("dict[str, Any]", section).get("trusted-ca-file") == path
    return [Transport.CLIENT, Transport.PEER] if is_shared else [Transport.CLIENT]


def _shown(now: Situation, name: str, transports: Sequence[Transport]) -> list[str]:
    files = [file for transport in transports for file in now.wanted.pair_files(name, transport)]
    return [now.content(now.hosts[name], file) or "" for file in files if file.path.endswith(".crt")]


def _broken_leaves(now: Situation, name: str) -> list[File]:
    """What is put there instead is what all trust by now, or all others: see `trust.pair_that_all_trust`."""
    broken: list[File] = []
    for transport in Transport:
        wanted = now.wanted.pair_files(name, transport)
        usable = _has_another_pair(now, name, transport) and not any(_wrong_mode(now, name, file) for file in wanted)
        if not usable:
            found = trust.pair_that_all_trust(now, transport) or trust.pair_that_all_trust(now, transport, but=name)
            pair = found or transport
            broken += [file for file in now.wanted.pair_files(name, transport, pair) if _differs(now, name, file)]
    return broken


def _has_another_pair(now: Situation, name: str, transport: Transport) -> bool:
    """A whole one that is valid, and of a trusted authority as far as those are known, and is not the wanted one."""
    host, trusted = now.hosts[name], trust.active_trust(now, name, transport)
    if not trusted:  # its own file is lost, and so may those of the others be
        trusted = [authority for each in Transport for authority in trust.joint_trust(now, each)]
    pairs = [now.wanted.pair_files(name, transport, pair) for pair in (transport, Transport.CLIENT)]
    matches = [[now.content(host, file) == trust.as_seen(file) for file in pair] for pair in pairs]
    is_half = any(any(each) and not all(each) for each in matches)  # a kill came between the two
    if is_half or all(matches[0]):
        return False
    key, certificate = (now.content(host, file) for file in pairs[0])
    is_trusted = not trusted or trust.is_by_one_of(certificate or "", trusted)
    return key is not None and is_trusted and trust.is_valid_there(now, name, certificate or "")


def _differs(now: Situation, name: str, file: File) -> bool:
    is_there = now.content(now.hosts[name], file) == trust.as_seen(file)
    return not is_there or bool(_wrong_mode(now, name, file))


def settle(now: Situation) -> Act | None:
    """Files of the wrong mode or owner, certificates, what starts on boot, and the history. Restarts nothing."""
    why, calls = "putting files in place, without a restart", list[Call]()
    for name, host in now.hosts.items():
        files = [file for file, _ in _unsettled(now, name)]
        history = now.recorded(name)
        if files or history != host.history or _bootstrap_is_left(now, name):
            changed = None if history == host.history else history
            line = {"action": "files", **({"why": why} if files else {})}
            calls.append(Call(name, "apply", line, files, changed))
    return Act(why, calls) if calls else None


def _bootstrap_is_left(now: Situation, name: str) -> bool:
    return f"{now.wanted.members[name].layout.configuration}/bootstrap.yaml" in now.hosts[name].files


def _all_files(now: Situation, name: str) -> list[File]:
    spec = now.spec(name, now.wanted.version, now.wanted.security)
    return [
        *now.wanted.leaf_files(name),
        *now.wanted.other_files(name, spec),
        *now.wanted.start_files(name, spec, now.wanted.trust),
    ]


def _unsettled(now: Situation, name: str) -> list[tuple[File, str]]:
    """Files that are not as they should be, and how."""
    host = now.hosts[name]
    found: list[tuple[File, str]] = []
    for file in _all_files(now, name):
        seen = host.files.get(file.path)
        if seen is None:
            found.append((file, f"{file.path} is missing"))
        elif seen.content != trust.as_seen(file):
            found.append((file, f"{file.path} {'has expired' if _has_expired(now, name, file) else 'differs'}"))
        elif wrong := _wrong_mode(now, name, file):
            found.append((file, f"{file.path} is {wrong}"))
        elif file.path.startswith("/etc/systemd/") and not host.on_boot:
            found.append((file, "it does not start on boot"))
    return found


def _has_expired(now: Situation, name: str, file: File) -> bool:
    seen = now.content(now.hosts[name], file) or ""
    return "BEGIN CERTIFICATE" in seen and not trust.is_valid_there(now, name, seen)


def _wrong_mode(now: Situation, name: str, file: File) -> str:
    """What mode and owner it has, and should have; "" where they are right, or the file is missing."""
    seen, systemd = (
        now.hosts[name].files.get(file.path),
        now.wanted.members[name].layout.supervisor == "systemd",
    )
    if seen is None:
        return ""
    owner = {"member": "etcd"}.get(file.owner, file.owner) if systemd else seen.owner
    is_, should = f"{seen.mode} {seen.owner}", f"{file.mode} {owner}"
    return "" if is_ == should else f"{is_}, not {should}"


def differences(now: Situation, name: str) -> list[str]:
    if name not in now.hosts:
        return [now.seen.silent.get(name, "not asked")]
    host, listed, version = now.hosts[name], now.seen.of(name), now.wanted.version
    found = [f"lacks {each}" for each in _lacks(now, name)]
    if host.mounted_over:
        found.append(f"{host.mounted_over} is mounted where its data belong")
    if not host.data:
        found.append("runs, but its data are not to be seen" if host.pid else "has no data")
    elif not host.pid:
        found.append("does not run")
    elif listed is None and now.seen.teller:
        found.append("is no member of the cluster")
    elif listed is not None and listed.learner:
        found.append("is a learner")
    elif now.seen.teller and not now.seen.is_healthy(name):
        found.append("is not healthy")
    if host.running and host.running != version:
        found.append(f"runs {host.running}, not {version}")
    if host.pending:
        found.append("its files may be newer than its process")
    return [*found, *_in_short([how for _, how in _unsettled(now, name)])]


def _in_short(found: Sequence[str]) -> list[str]:
    missing = [how for how in found if how.endswith(" is missing")]
    if len(missing) <= MOST_MISSING:
        return list(found)
    return [f"{len(missing)} of its files are missing", *(how for how in found if how not in missing)]
