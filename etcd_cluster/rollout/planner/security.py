"""Moves members from plaintext to TLS and back, and from one CA to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from etcd_cluster.member.lines import Apply, ApplyAction
from etcd_cluster.member.render import PeerSecurity, Transport
from etcd_cluster.pki import x509
from etcd_cluster.rollout.planner import ca_trust, rolling_restart
from etcd_cluster.rollout.planner.actions import Action, ActionKind, Blocked, Details, HostStep, TrustScope, WaitFor
from etcd_cluster.rollout.planner.cluster_view import ClusterView


def change(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next step from plaintext to TLS, back, or from one CA to the next; None if there is none.

    It goes pass after pass, each through all members. While a member waits to join, only what that member waits for is
    done: see `membership._may_join`.
    """
    targets = {name: rolling_restart.target_now(view, name) for name in view.voting()}
    if len(targets) == len(view.desired.members):
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
        return rolling_restart.one_of(view, moving, Blocked.SECURITY, *_purpose(view, moving))
    return put_certificates(view)


def _purpose(view: ClusterView, moving: Mapping[str, rolling_restart.Target]) -> tuple[ActionKind, Details]:
    """Returns the kind of this pass through the members, with details. It is the same for all of them."""
    name, target = next(iter(moving.items()))
    speaks = view.hosts[name].security
    if speaks is None or speaks.peers != target.security.peers:
        return {
            PeerSecurity.READY: ActionKind.RESTART_WITH_CERTIFICATES,
            PeerSecurity.TLS: ActionKind.RESTART_WITH_PEER_TLS,
            PeerSecurity.PLAINTEXT: ActionKind.RESTART_WITHOUT_CERTIFICATES,
        }[target.security.peers], {}
    if speaks.clients_tls != target.security.clients_tls:
        is_tls = target.security.clients_tls
        return ActionKind.RESTART_WITH_CLIENT_TLS if is_tls else ActionKind.RESTART_WITHOUT_CLIENT_TLS, {}
    changing = ca_trust.changing_trust(view, name, target.trust)
    if not changing:
        return ActionKind.RESTART, {}
    count = max(len(target.trust[transport]) for transport in changing)
    scope = {Transport.CLIENT: TrustScope.CLIENTS, Transport.PEER: TrustScope.PEERS}[changing[0]]
    details = {"count": count, "scope": scope if len(changing) == 1 else TrustScope.ALL}
    return ActionKind.RESTART_TO_TRUST_ONE_CA if count == 1 else ActionKind.RESTART_TO_TRUST_CAS, details


def put_certificates(view: ClusterView) -> Action | None:
    """Renews certificates on all members at once, without a restart: etcd reads them for every handshake.

    A member whose address changes as well is left out: its new certificate comes with the restart.
    """
    steps: list[HostStep] = []
    trusted = [transport for transport in Transport if ca_trust.all_trust_new_certificates(view, transport)]
    for name in view.hosts:
        due = [transport for transport in trusted if ca_trust.differing_certificates(view, name, transport)]
        if due and ca_trust.speaks_tls(view, name) and _covers_its_address(view, name):
            files = [file for transport in due for file in view.desired.pair_files(name, transport)]
            steps.append(HostStep(name, Apply(ApplyAction.FILES), files))
    return Action(ActionKind.RENEW_CERTIFICATES, steps) if steps else None


def _covers_its_address(view: ClusterView, name: str) -> bool:
    listed, server = view.observation.of(name), view.desired.members[name].server
    if listed is None or server is None:
        return True
    host = listed.client_url.partition("://")[2].rpartition(":")[0].strip("[]")
    return not host or x509.covers_host(server.certificate, host)
