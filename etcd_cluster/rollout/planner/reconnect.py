"""Reconnects running members that do not reach one another, if a change that is due anyway may do so."""

from __future__ import annotations

from etcd_cluster.member.render import Transport
from etcd_cluster.rollout.desired import UNIT_PATH
from etcd_cluster.rollout.observed import settings_in
from etcd_cluster.rollout.planner import ca_trust, membership, peers, rolling_restart, security
from etcd_cluster.rollout.planner.actions import Action, Blocked, WaitFor
from etcd_cluster.rollout.planner.cluster_view import ClusterView

SETTINGS = ("initial-advertise-peer-urls", "listen-peer-urls", "peer-transport-security", "feature-gates")
"""The settings of etcd that decide how a member reaches others, and is reached."""


def reconnect(view: ClusterView) -> Action | WaitFor | None:
    """Returns the next change that may reconnect members; None if all are connected, or if no due change may help.

    Certificates come first, which need no restart. Then a member that most others do not reach is restarted, if the
    restart changes how it reaches them; or the member list gets its peer URL, if a restart for which the list was
    changed was cut short; or it is removed, if it is to leave. Any other change waits: see `peers.await_every_pair`.

    Preconditions, checked below: every voter is healthy, so that a majority is connected with the leader; and for a
    removal, a majority is left. A leader hands over first.
    """
    if not view.observation.broken_pairs:
        return None
    certificates = security.put_certificates(view)
    if certificates:
        return certificates
    suspects = peers.suspects(view)
    targets = {name: rolling_restart.target_now(view, name) for name in view.voting() if name in suspects}
    moving = {name: target for name, target in targets.items() if _reaches_otherwise(view, name, target)}
    # Of two voters, neither restarts while another one is to join.
    if moving and not len(view.observation.voters) == 2 < len(view.desired.members):
        return rolling_restart.one_of(view, moving, Blocked.ANY_RESTART)
    for name, target in targets.items():
        change = rolling_restart.update_peer_url(view, name, target.version, target.security)
        if change and name not in moving:
            return change
    leaving = [member for member in view.unlisted_members() if member.name in suspects]
    if leaving:
        waiting = rolling_restart.await_voters(view, Blocked.MEMBERSHIP)
        return waiting or membership.remove_unlisted_member(view, leaving)
    return None


def _reaches_otherwise(view: ClusterView, name: str, target: rolling_restart.Target) -> bool:
    """Returns whether a restart may change how a member reaches others; not every change of its files does."""
    host, spec = view.hosts[name], view.spec(name, target.version, target.security)
    files = view.desired.start_files(name, spec, target.trust)
    differing = {file.path: file.content for file in files if view.content(host, file) != file.content}
    distrusted = {*ca_trust.cas_in_use(view, Transport.PEER)} - {*ca_trust.active_trust(view, name, Transport.PEER)}
    if host.pending or distrusted or UNIT_PATH in differing:
        return True
    asked = settings_in(differing.get(f"{spec.layout.configuration}/etcd.yaml", ""))
    return bool(asked) and any(host.configuration.get(setting) != asked.get(setting) for setting in SETTINGS)
