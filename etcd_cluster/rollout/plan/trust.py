"""How members speak to one another and to clients, and whom they trust: now, and next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from hashlib import sha256

from etcd_cluster.member.render import PeerSecurity, Security, Transport
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


def active_trust(now: Situation, name: str, transport: Transport) -> list[str]:
    seen = now.seen.hosts[name].trusted_file(transport)
    return authorities_in(seen.content) if seen else []


def authorities_in(bundle: str) -> list[str]:
    try:
        return x509.split_bundle(bundle)
    except x509.PkiError:
        return []  # spoilt by hand


def speaks_tls(now: Situation, name: str) -> bool:
    host = now.seen.hosts[name]
    is_ours = host.data and not now.was_removed(name)
    return is_ours and host.security is not None and host.security != Security.of(False)


def _partners(now: Situation) -> list[str]:
    """Members that have to know one another: those of the stack, and those that are to leave and still run. Until they
    have left, they may be what a majority needs."""
    return [
        name
        for name, host in now.seen.hosts.items()
        if speaks_tls(now, name) and (name in now.hosts or bool(host.pid and host.live))
    ]


def _all_trust(now: Situation, authorities: Sequence[str], transport: Transport, but: str = "") -> bool:
    """Of a process that may be older than its files, it is not known, unless the certificates of all are by those
    authorities already."""
    return all(
        set(authorities) <= set(active_trust(now, name, transport))
        and (not now.seen.hosts[name].pending or set(_shown_authorities(now, transport)) <= set(authorities))
        for name in _partners(now)
        if name != but
    )


def all_trust_new_leaves(now: Situation, transport: Transport) -> bool:
    """Only then may any member show a certificate by the authority that is wanted."""
    return _all_trust(now, now.wanted.issuers[transport], transport)


def is_in_use(now: Situation) -> bool:
    """The authorities that are wanted are those by which members know one another now."""
    return all(set(_shown_authorities(now, each)) <= set(now.wanted.issuers[each]) for each in Transport)


def pair_that_all_trust(
    now: Situation, transport: Transport, others: Sequence[str] = (), but: str = ""
) -> Transport | None:
    """Whose pair a member may show now: that transport's own; or among members, until all trust the CA of that one, the
    pair that clients see, which has the same names. None where they trust neither. others: members to leave that count.
    but: one of the members that does not.
    """
    for pair in (transport, Transport.CLIENT):
        issuers = now.wanted.issuers[pair]
        trusted_by_others = (set(issuers) <= set(active_trust(now, other, transport)) for other in others)
        if _all_trust(now, issuers, transport, but) and all(trusted_by_others):
            return pair
    return None


def leaves_now(now: Situation, name: str, others: Sequence[str] = ()) -> list[File]:
    """Certificates and keys that it may show from now on: such as all trust; or such as it shows already. None of a
    transport where it has to go on with what it has. others: as of `pair_that_all_trust`."""
    files: list[File] = []
    for transport in Transport:
        pair = pair_that_all_trust(now, transport, others)
        if pair is None and (not speaks_tls(now, name) or _is_by_the_same(now, name, transport)):
            pair = transport
        if pair is not None:
            files += now.wanted.pair_files(name, transport, pair)
    return files


def _is_by_the_same(now: Situation, name: str, transport: Transport) -> bool:
    """The wanted certificate is signed as the one is that it shows now."""
    certificates = [file for file in now.wanted.pair_files(name, transport) if file.path.endswith(".crt")]
    found = [(now.content(now.hosts[name], file) or "", file.content) for file in certificates]
    return all(
        any(
            is_by_one_of(before, [issuer]) and is_by_one_of(after, [issuer]) for issuer in now.wanted.issuers[transport]
        )
        for before, after in found
    )


def all_have_new_leaves(now: Situation, transport: Transport) -> bool:
    return all(not differing_leaves(now, name, transport) for name in now.hosts if speaks_tls(now, name))


def differing_leaves(now: Situation, name: str, transport: Transport) -> list[File]:
    host = now.hosts[name]
    return [file for file in now.wanted.pair_files(name, transport) if now.content(host, file) != as_seen(file)]


def trust_now(now: Situation, name: str) -> Mapping[Transport, Sequence[str]]:
    """What it is to trust until the next step: the old authority beside the new one while both are in use."""
    return {transport: _trust_now(now, name, transport) for transport in Transport}


def _trust_now(now: Situation, name: str, transport: Transport) -> Sequence[str]:
    wanted, active = now.wanted.trust[transport], active_trust(now, name, transport)
    if not wanted:
        return (active or joint_trust(now, transport)) if speaks_tls(now, name) else ()
    if all_trust_new_leaves(now, transport) and all_have_new_leaves(now, transport):
        return wanted
    in_use = {*now.wanted.issuers[transport], *_shown_authorities(now, transport)}
    is_enough = speaks_tls(now, name) and in_use <= set(active)
    return active if is_enough else joint_trust(now, transport)


def changing_trust(now: Situation, name: str, trust: Mapping[Transport, Sequence[str]]) -> list[Transport]:
    """Where a restart into `trust` would change whom a member trusts."""
    if not speaks_tls(now, name):
        return []
    return [each for each in Transport if active_trust(now, name, each) != list(trust[each])]


def _shown_authorities(now: Situation, transport: Transport) -> list[str]:
    """Those that signed what members show to one another now."""
    shown = [
        file.content
        for name in _partners(now)
        for path, file in now.seen.hosts[name].files.items()
        if now.wanted.tls and path.endswith(f"/{transport.certificate}.crt")
    ]
    return [each for each in joint_trust(now, transport) if any(is_by_one_of(leaf, [each]) for leaf in shown)]


def joint_trust(now: Situation, transport: Transport) -> list[str]:
    """All that is wanted, and all that any member trusts now, one that is to leave as well."""
    joint = list(now.wanted.trust[transport])
    for name in now.seen.hosts:
        joint += [authority for authority in active_trust(now, name, transport) if authority not in joint]
    return joint


def joint_trusts(now: Situation) -> Mapping[Transport, Sequence[str]]:
    return {transport: joint_trust(now, transport) for transport in Transport}


def is_by_one_of(certificate: str, authorities: Iterable[str]) -> bool:
    try:
        return any(x509.signed_by(certificate, authority) for authority in authorities)
    except x509.PkiError:
        return False


def is_valid_there(now: Situation, name: str, certificate: str) -> bool:
    """Whether it can be read, and is valid by its machine's own clock: that is the one that etcd goes by."""
    try:
        validity = x509.validity_of(certificate)
    except x509.PkiError:
        return False
    moment = datetime.fromtimestamp(now.hosts[name].clock, timezone.utc)
    return validity.not_before <= moment < validity.not_after


def as_seen(file: File) -> str:
    """What observation shows of a file as it should be: of a private key, its sum."""
    return sha256(file.content.encode()).hexdigest() if file.path.endswith(".key") else file.content
