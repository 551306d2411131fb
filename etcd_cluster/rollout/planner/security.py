"""From plaintext to TLS and back, and from one authority to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from etcd_cluster.member.render import PeerSecurity, Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.planner import ca_trust, rolling_restart
from etcd_cluster.rollout.planner.actions import Action, HostStep, WaitFor
from etcd_cluster.rollout.planner.cluster_view import ClusterView


def change(view: ClusterView) -> Action | WaitFor | None:
    """From plaintext to TLS, from one authority to the next: pass after pass, each through all members. While one
    waits to join, only what it waits for is done: see `membership.may_join`."""
    targets = {name: rolling_restart.target_now(view, name) for name in view.voting()}
    if len(targets) == len(view.wanted.members):
        targets = {
            name: replace(target, security=ca_trust.next_security(view, name)) for name, target in targets.items()
        }
    moving = {
        name: target
        for name, target in targets.items()
        if view.hosts[name].security != target.security
        or ca_trust.changing_trust(view, name, target.trust)
        or (view.hosts[name].pending and not ca_trust.is_in_use(view))
    }
    if moving:
        moving |= {name: target for name, target in targets.items() if view.hosts[name].pending}
        return rolling_restart.one_of(
            view, moving, "the security of members is not changed while", _why_secured(view, moving)
        )
    return _put_leaves(view)


def _why_secured(view: ClusterView, moving: Mapping[str, rolling_restart.Target]) -> str:
    """What this pass through the members is for; the same for all of them."""
    name, target = next(iter(moving.items()))
    speaks = view.hosts[name].security
    if speaks is None or speaks.peers != target.security.peers:
        return {
            PeerSecurity.READY: "restarting with certificates at hand",
            PeerSecurity.TLS: "restarting with TLS among members",
            PeerSecurity.PLAINTEXT: "restarting without certificates",
        }[target.security.peers]
    if speaks.clients_tls != target.security.clients_tls:
        return f"restarting with{'' if target.security.clients_tls else 'out'} TLS for clients"
    changing = ca_trust.changing_trust(view, name, target.trust)
    if not changing:
        return "restarting"
    most = max(len(target.trust[transport]) for transport in changing)
    trusted = "the new authority alone" if most == 1 else f"{most} authorities"
    where = {Transport.CLIENT: " for clients", Transport.PEER: " among members"}[changing[0]]
    return f"restarting to trust {trusted}{where if len(changing) == 1 else ''}"


def _put_leaves(view: ClusterView) -> Action | None:
    """All at once, without a restart: etcd reads them for every handshake. Not where the address changes as well:
    there, the new one comes with the restart."""
    why, calls = "renewing certificates, without a restart", list[HostStep]()
    trusted = [transport for transport in Transport if ca_trust.all_trust_new_leaves(view, transport)]
    for name in view.hosts:
        due = [transport for transport in trusted if ca_trust.differing_leaves(view, name, transport)]
        if due and ca_trust.speaks_tls(view, name) and _covers_its_address(view, name):
            files = [file for transport in due for file in view.wanted.pair_files(name, transport)]
            calls.append(HostStep(name, "apply", {"action": "files", "why": why}, files))
    return Action(why, calls) if calls else None


def _covers_its_address(view: ClusterView, name: str) -> bool:
    listed, server = view.seen.of(name), view.wanted.members[name].server
    if listed is None or server is None:
        return True
    host = listed.client_url.partition("://")[2].rpartition(":")[0].strip("[]")
    return not host or x509.covers_host(server.certificate, host)
