"""From plaintext to TLS and back, and from one authority to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from etcd_cluster.member.render import PeerSecurity, Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.plan import trust, turns
from etcd_cluster.rollout.plan.acts import Act, Call, Wait
from etcd_cluster.rollout.plan.situation import Situation


def change(now: Situation) -> Act | Wait | None:
    """From plaintext to TLS, from one authority to the next: pass after pass, each through all members. While one
    waits to join, only what it waits for is done: see `membership.may_join`."""
    targets = {name: turns.target_now(now, name) for name in now.voting()}
    if len(targets) == len(now.wanted.members):
        targets = {name: replace(target, security=trust.next_security(now, name)) for name, target in targets.items()}
    moving = {
        name: target
        for name, target in targets.items()
        if now.hosts[name].security != target.security
        or trust.changing_trust(now, name, target.trust)
        or (now.hosts[name].pending and not trust.is_in_use(now))
    }
    if moving:
        moving |= {name: target for name, target in targets.items() if now.hosts[name].pending}
        return turns.one_of(now, moving, "the security of members is not changed while", _why_secured(now, moving))
    return _put_leaves(now)


def _why_secured(now: Situation, moving: Mapping[str, turns.Target]) -> str:
    """What this pass through the members is for; the same for all of them."""
    name, target = next(iter(moving.items()))
    speaks = now.hosts[name].security
    if speaks is None or speaks.peers != target.security.peers:
        return {
            PeerSecurity.READY: "restarting with certificates at hand",
            PeerSecurity.TLS: "restarting with TLS among members",
            PeerSecurity.PLAINTEXT: "restarting without certificates",
        }[target.security.peers]
    if speaks.clients_tls != target.security.clients_tls:
        return f"restarting with{'' if target.security.clients_tls else 'out'} TLS for clients"
    changing = trust.changing_trust(now, name, target.trust)
    if not changing:
        return "restarting"
    most = max(len(target.trust[transport]) for transport in changing)
    trusted = "the new authority alone" if most == 1 else f"{most} authorities"
    where = {Transport.CLIENT: " for clients", Transport.PEER: " among members"}[changing[0]]
    return f"restarting to trust {trusted}{where if len(changing) == 1 else ''}"


def _put_leaves(now: Situation) -> Act | None:
    """All at once, without a restart: etcd reads them for every handshake. Not where the address changes as well:
    there, the new one comes with the restart."""
    why, calls = "renewing certificates, without a restart", list[Call]()
    trusted = [transport for transport in Transport if trust.all_trust_new_leaves(now, transport)]
    for name in now.hosts:
        due = [transport for transport in trusted if trust.differing_leaves(now, name, transport)]
        if due and trust.speaks_tls(now, name) and _covers_its_address(now, name):
            files = [file for transport in due for file in now.wanted.pair_files(name, transport)]
            calls.append(Call(name, "apply", {"action": "files", "why": why}, files))
    return Act(why, calls) if calls else None


def _covers_its_address(now: Situation, name: str) -> bool:
    listed, server = now.seen.of(name), now.wanted.members[name].server
    if listed is None or server is None:
        return True
    host = listed.client_url.partition("://")[2].rpartition(":")[0].strip("[]")
    return not host or x509.covers_host(server.certificate, host)
