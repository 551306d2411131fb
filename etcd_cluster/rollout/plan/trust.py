"""How members speak to one another and to clients, and whom they trust: now, and next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from etcd_cluster.member.render import PeerSecurity, Security
from etcd_cluster.pki import x509
from etcd_cluster.rollout.plan.situation import Situation
from etcd_cluster.rollout.wanted import File


def _securities(now: Situation) -> list[Security]:
    """How members speak now, those as well that are to leave."""
    return [
        host.security
        for name, host in now.seen.hosts.items()
        if host.security is not None and host.data and not now.was_removed(name)
    ]


def least_security(now: Situation) -> Security:
    """How the least advanced of the members speaks, on the way to what is wanted."""
    found = _securities(now)
    if not found:
        return now.wanted.security
    order = list(PeerSecurity) if now.wanted.tls else list(reversed(PeerSecurity))
    peers = min((each.peers for each in found), key=order.index)
    clients = (all if now.wanted.tls else any)(each.clients_tls for each in found)
    return Security(clients, peers)


def next_security(now: Situation, name: str) -> Security:
    """To TLS: certificates at hand everywhere, then members among themselves, then clients; and back in reverse."""
    speaks = now.hosts[name].security or least_security(now)
    found = _securities(now)
    peers = {each.peers for each in found}
    if now.wanted.tls:
        if PeerSecurity.PLAINTEXT in peers:
            ready = PeerSecurity.READY if speaks.peers is PeerSecurity.PLAINTEXT else speaks.peers
            return Security(speaks.clients_tls, ready)
        if PeerSecurity.READY in peers:
            return Security(speaks.clients_tls, PeerSecurity.TLS)
        return now.wanted.security
    if any(each.clients_tls for each in found):
        return Security(False, speaks.peers)
    if PeerSecurity.TLS in peers:
        return Security(False, PeerSecurity.READY)
    return now.wanted.security


def active_trust(now: Situation, name: str) -> list[str]:
    seen = next((file for path, file in now.seen.hosts[name].files.items() if path.endswith("/ca.crt")), None)
    try:
        return x509.split_bundle(seen.content) if seen else []
    except x509.PkiError:
        return []  # spoilt by hand


def speaks_tls(now: Situation, name: str) -> bool:
    host = now.hosts[name]
    is_ours = host.data and not now.was_removed(name)
    return is_ours and host.security is not None and host.security != Security.of(False)


def all_trust_new_leaves(now: Situation) -> bool:
    """Only then may any member show a certificate by the authority that is wanted. Of a process that may be older
    than its files, it is not known, unless the certificates of all are by that authority already."""
    return all(
        set(now.wanted.issuers) <= set(active_trust(now, name)) and (not now.hosts[name].pending or is_in_use(now))
        for name in now.hosts
        if speaks_tls(now, name)
    )


def is_in_use(now: Situation) -> bool:
    """The authority that is wanted is the one by which members know one another now."""
    return set(_shown_authorities(now)) <= set(now.wanted.issuers)


def may_show_new_leaves(now: Situation, name: str) -> bool:
    """All trust them; or nobody needs to yet; or they are signed as those are that it shows now."""
    if all_trust_new_leaves(now) or not speaks_tls(now, name):
        return True
    found = [
        (now.content(now.hosts[name], file) or "", file.content)
        for file in now.wanted.leaf_files(name)
        if file.path.endswith(".crt")
    ]
    return all(
        any(is_by_one_of(before, [issuer]) and is_by_one_of(after, [issuer]) for issuer in now.wanted.issuers)
        for before, after in found
    )


def all_have_new_leaves(now: Situation) -> bool:
    return all(not differing_leaves(now, name) for name in now.hosts if speaks_tls(now, name))


def differing_leaves(now: Situation, name: str) -> list[File]:
    host = now.hosts[name]
    return [file for file in now.wanted.leaf_files(name) if now.content(host, file) != as_seen(file)]


def trust_now(now: Situation, name: str) -> Sequence[str]:
    """What it is to trust until the next step: the old authority beside the new one while both are in use."""
    wanted, active = now.wanted.trusted, active_trust(now, name)
    if not wanted:
        return (active or joint_trust(now)) if speaks_tls(now, name) else ()
    if all_trust_new_leaves(now) and all_have_new_leaves(now):
        return wanted
    is_enough = speaks_tls(now, name) and {*now.wanted.issuers, *_shown_authorities(now)} <= set(active)
    return active if is_enough else joint_trust(now)


def _shown_authorities(now: Situation) -> list[str]:
    """Those that signed what members show to one another now."""
    shown = [
        now.content(now.hosts[name], file) or ""
        for name in now.hosts
        for file in now.wanted.leaf_files(name)
        if speaks_tls(now, name) and file.path.endswith(".crt")
    ]
    return [each for each in joint_trust(now) if any(is_by_one_of(leaf, [each]) for leaf in shown)]


def joint_trust(now: Situation) -> list[str]:
    """All that is wanted, and all that any member trusts now, one that is to leave as well."""
    joint = list(now.wanted.trusted)
    for name in now.seen.hosts:
        joint += [authority for authority in active_trust(now, name) if authority not in joint]
    return joint


def is_by_one_of(certificate: str, authorities: Iterable[str]) -> bool:
    try:
        return any(x509.signed_by(certificate, authority) for authority in authorities)
    except x509.PkiError:
        return False


def as_seen(file: File) -> str:
    """What observation shows of a file as it should be: of a private key, its sum."""
    return sha256(file.content.encode()).hexdigest() if file.path.endswith(".key") else file.content
