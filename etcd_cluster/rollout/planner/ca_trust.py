"""Decides how members speak to one another and to clients, and which CAs they trust: now, and next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from hashlib import sha256

from etcd_cluster.member.render import PeerSecurity, Security, Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.desired import File
from etcd_cluster.rollout.planner.cluster_view import ClusterView


def _securities(view: ClusterView) -> list[Security]:
    """Returns how members speak now, including members that are to leave."""
    return [
        host.security
        for name, host in view.observation.hosts.items()
        if host.security is not None and host.data and not view.was_removed(name)
    ]


def least_security(view: ClusterView) -> Security:
    """Returns how the least advanced member speaks, on the way to the desired security."""
    found = _securities(view)
    if not found:
        return view.desired.security
    order = list(PeerSecurity) if view.desired.tls else list(reversed(PeerSecurity))
    peers = min((each.peers for each in found), key=order.index)
    clients = (all if view.desired.tls else any)(each.clients_tls for each in found)
    return Security(clients, peers)


def next_security(view: ClusterView, name: str) -> Security:
    """Returns how a member is to speak after its next restart.

    On the way to TLS: first certificates on every member, then TLS between members, then TLS for clients. The way back
    is the reverse.
    """
    speaks = view.hosts[name].security or least_security(view)
    found = _securities(view)
    peers = {each.peers for each in found}
    if view.desired.tls:
        if PeerSecurity.PLAINTEXT in peers:
            ready = PeerSecurity.READY if speaks.peers is PeerSecurity.PLAINTEXT else speaks.peers
            return Security(speaks.clients_tls, ready)
        if PeerSecurity.READY in peers:
            return Security(speaks.clients_tls, PeerSecurity.TLS)
        return view.desired.security
    if any(each.clients_tls for each in found):
        return Security(False, speaks.peers)
    if PeerSecurity.TLS in peers:
        return Security(False, PeerSecurity.READY)
    return view.desired.security


def active_trust(view: ClusterView, name: str, transport: Transport) -> list[str]:
    """Returns the CAs in the trust file of a member, PEM; none if the file is missing or unreadable."""
    bundle = view.observation.hosts[name].trusted_file(transport)
    return cas_in(bundle.content) if bundle else []


def cas_in(bundle: str) -> list[str]:
    """Returns the CAs in a bundle, PEM; none if the bundle is unreadable."""
    try:
        return x509.split_bundle(bundle)
    except x509.PkiError:
        return []  # edited by hand


def speaks_tls(view: ClusterView, name: str) -> bool:
    """Returns whether a member of this cluster uses certificates, for clients or for other members."""
    host = view.observation.hosts[name]
    is_ours = host.data and not view.was_removed(name)
    return is_ours and host.security is not None and host.security != Security.of(False)


def _partners(view: ClusterView) -> list[str]:
    """Returns the members that have to trust one another: members of the stack, and running members that are to leave.

    Until a member has left, a majority may need it.
    """
    return [
        name
        for name, host in view.observation.hosts.items()
        if speaks_tls(view, name) and (name in view.hosts or bool(host.pid and host.live))
    ]


def _all_trust(view: ClusterView, cas: Sequence[str], transport: Transport, but: str = "") -> bool:
    """Returns whether every member trusts the given CAs.

    The process of a member may be older than its files. Then its trust is unknown, unless the certificates of all
    members are already signed by the given CAs.

    Args:
        view: The cluster.
        cas: The CAs, PEM.
        transport: Where they are trusted.
        but: A member that does not count; "" if all count.
    """
    return all(
        set(cas) <= set(active_trust(view, name, transport))
        and (not view.observation.hosts[name].pending or set(cas_in_use(view, transport)) <= set(cas))
        for name in _partners(view)
        if name != but
    )


def all_trust_new_certificates(view: ClusterView, transport: Transport) -> bool:
    """Returns whether every member trusts the desired CA. Only then may a member use a certificate signed by it."""
    return _all_trust(view, view.desired.issuers[transport], transport)


def is_in_use(view: ClusterView) -> bool:
    """Returns whether all certificates in use are already signed by the desired CAs."""
    return all(set(cas_in_use(view, each)) <= set(view.desired.issuers[each]) for each in Transport)


def pair_that_all_trust(
    view: ClusterView, transport: Transport, others: Sequence[str] = (), but: str = ""
) -> Transport | None:
    """Returns the transport whose certificate and key a member may use now; None if the others trust neither.

    That is the transport's own pair. Between members, until all of them trust the peer CA, it is the pair for clients,
    which has the same names.

    Args:
        view: The cluster.
        transport: Where the pair is used.
        others: Members that are to leave and count as well.
        but: A member that does not count; "" if all count.
    """
    for pair in (transport, Transport.CLIENT):
        issuers = view.desired.issuers[pair]
        trusted_by_others = (set(issuers) <= set(active_trust(view, other, transport)) for other in others)
        if _all_trust(view, issuers, transport, but) and all(trusted_by_others):
            return pair
    return None


def certificates_now(view: ClusterView, name: str, others: Sequence[str] = ()) -> list[File]:
    """Returns the certificates and keys that a member may use from now on.

    All members trust them, or the CA that signed them also signed the certificates in use. For a transport without such
    a pair there are none: the member keeps the pair that it has.

    Args:
        view: The cluster.
        name: Name of the member.
        others: Members that are to leave and count as well.
    """
    files: list[File] = []
    for transport in Transport:
        pair = pair_that_all_trust(view, transport, others)
        if pair is None and (not speaks_tls(view, name) or _is_by_the_same(view, name, transport)):
            pair = transport
        if pair is not None:
            files += view.desired.pair_files(name, transport, pair)
    return files


def _is_by_the_same(view: ClusterView, name: str, transport: Transport) -> bool:
    """Returns whether the desired certificate is signed by the same CA as the one in use."""
    certificates = [file for file in view.desired.pair_files(name, transport) if file.path.endswith(".crt")]
    found = [(view.content(view.hosts[name], file) or "", file.content) for file in certificates]
    return all(
        any(
            is_by_one_of(before, [issuer]) and is_by_one_of(after, [issuer])
            for issuer in view.desired.issuers[transport]
        )
        for before, after in found
    )


def all_have_new_certificates(view: ClusterView, transport: Transport) -> bool:
    """Returns whether every member that uses TLS has the desired certificates and keys."""
    return all(not differing_certificates(view, name, transport) for name in view.hosts if speaks_tls(view, name))


def differing_certificates(view: ClusterView, name: str, transport: Transport) -> list[File]:
    """Returns the desired certificates and keys of one transport that are not on the machine of a member."""
    host = view.hosts[name]
    return [file for file in view.desired.pair_files(name, transport) if view.content(host, file) != as_observed(file)]


def trust_now(view: ClusterView, name: str) -> Mapping[Transport, Sequence[str]]:
    """Returns the CAs that a member is to trust until the next step: old and new CA while both are in use."""
    return {transport: _trust_now(view, name, transport) for transport in Transport}


def _trust_now(view: ClusterView, name: str, transport: Transport) -> Sequence[str]:
    desired, active = view.desired.trust[transport], active_trust(view, name, transport)
    if not desired:
        return (active or joint_trust(view, transport)) if speaks_tls(view, name) else ()
    if all_trust_new_certificates(view, transport) and all_have_new_certificates(view, transport):
        return desired
    in_use = {*view.desired.issuers[transport], *cas_in_use(view, transport)}
    is_enough = speaks_tls(view, name) and in_use <= set(active)
    return active if is_enough else joint_trust(view, transport)


def changing_trust(view: ClusterView, name: str, trust: Mapping[Transport, Sequence[str]]) -> list[Transport]:
    """Returns the transports for which a restart into `trust` would change the CAs that a member trusts."""
    if not speaks_tls(view, name):
        return []
    return [each for each in Transport if active_trust(view, name, each) != list(trust[each])]


def cas_in_use(view: ClusterView, transport: Transport) -> list[str]:
    """Returns the CAs that signed the certificates which members use now."""
    shown = [
        file.content
        for name in _partners(view)
        for path, file in view.observation.hosts[name].files.items()
        if view.desired.tls and path.endswith(f"/{transport.certificate}.crt")
    ]
    return [
        each for each in joint_trust(view, transport) if any(is_by_one_of(certificate, [each]) for certificate in shown)
    ]


def joint_trust(view: ClusterView, transport: Transport) -> list[str]:
    """Returns the desired CAs, and all CAs that any member trusts now, including members that are to leave."""
    joint = list(view.desired.trust[transport])
    for name in view.observation.hosts:
        joint += [ca for ca in active_trust(view, name, transport) if ca not in joint]
    return joint


def joint_trusts(view: ClusterView) -> Mapping[Transport, Sequence[str]]:
    """Returns, for each transport, the desired CAs and all CAs that any member trusts now."""
    return {transport: joint_trust(view, transport) for transport in Transport}


def is_by_one_of(certificate: str, cas: Iterable[str]) -> bool:
    """Returns whether one of the CAs signed a certificate; False if any of them is unreadable."""
    try:
        return any(x509.signed_by(certificate, ca) for ca in cas)
    except x509.PkiError:
        return False


def is_valid_there(view: ClusterView, name: str, certificate: str) -> bool:
    """Returns whether a certificate is readable, and valid by the clock of the member's machine, which etcd uses."""
    try:
        validity = x509.validity_of(certificate)
    except x509.PkiError:
        return False
    moment = datetime.fromtimestamp(view.hosts[name].clock, timezone.utc)
    return validity.not_before <= moment < validity.not_after


def as_observed(file: File) -> str:
    """Returns what an observation shows of a file in the desired state: for a private key, its SHA-256 sum."""
    return sha256(file.content.encode()).hexdigest() if file.path.endswith(".key") else file.content
