"""Makes the Rollout's inputs and the stack's exports from a program's machines, settings and certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from etcd_cluster.certificates import ClusterCertificates
from etcd_cluster.dns import ClusterNames
from etcd_cluster.etcd.sizes import SIZES
from etcd_cluster.formation import Formation
from etcd_cluster.machines.machine import Machine
from etcd_cluster.machines.size_change import smallest_size
from etcd_cluster.member.commands import Prepared, certificate_pair, layout
from etcd_cluster.member.render import CertificatePair, Member, url
from etcd_cluster.settings import Settings
from etcd_cluster.users import Users


def size_in_force(machines: Sequence[Machine], settings: Settings) -> pulumi.Output[str]:
    """Returns the name of the row whose quota holds: the smallest that a machine is large enough for.

    While `size` grows, machines are replaced one after the other, and the quota follows with the last of them.
    """
    if settings.allow_undersized:
        return pulumi.Output.from_input(settings.size.name)
    return pulumi.Output.all(*[machine.size for machine in machines if machine.size is not None]).apply(
        lambda names: smallest_size(names, settings.size).name
    )


def desired_json(
    cluster: str,
    machines: Sequence[Machine],
    settings: Settings,
    size: pulumi.Output[str],
    formation: Formation,
    certificates: ClusterCertificates | None,
    prepared: Mapping[str, Prepared],
    restored: pulumi.Input[Mapping[str, Any]] | None,
    restoration: pulumi.Input[Mapping[str, Any]] | None,
) -> pulumi.Output[str]:
    """Returns the JSON text that `DesiredCluster.parse` reads, once every value is known."""
    everything: dict[str, Any] = {
        "cluster": cluster,
        "token": formation.token,
        "version": _installed(machines, prepared),
        "tls": settings.tls,
        "options": size.apply(lambda name: dict(settings.options_on(SIZES[name]))),
        "user_options": size.apply(lambda name: dict(settings.user_options_on(SIZES[name]))),
        "quota_bytes": size.apply(lambda name: SIZES[name].quota_bytes),
        "trusted": certificates.trusted_pem if certificates else "",
        **({"peer_trusted": certificates.peer_ca.trusted_pem} if certificates else {}),
        "order": [machine.name for machine in machines],
        "members": {
            machine.name: _member(machine, formation, certificates, prepared[machine.name]) for machine in machines
        },
        "delete_data": settings.delete_data,
        **({} if restored is None else {"restored": restored}),
        **({} if restoration is None else {"restoration": restoration}),
        **_users(settings.users, certificates),
        **({} if settings.defragment is None else {"defragment": dict(vars(settings.defragment))}),
        "client": certificate_pair(certificates.client).apply(_pems) if certificates else None,
    }
    return pulumi.Output.json_dumps(everything, sort_keys=True)


def _users(users: Users | None, certificates: ClusterCertificates | None) -> dict[str, Any]:
    if users is None or certificates is None or certificates.root is None:
        return {}
    return {
        "users": vars(users) | {"roles": shown_roles(users)},
        "root": certificate_pair(certificates.root).apply(_pems),
    }


def shown_roles(users: Users | None) -> dict[str, list[dict[str, str]]]:
    """Returns role -> its permissions, each as stack config has it."""
    if users is None:
        return {}
    return {
        name: [{key: value for key, value in vars(each).items() if value is not None} for each in permissions]
        for name, permissions in users.roles.items()
    }


def _installed(machines: Sequence[Machine], prepared: Mapping[str, Prepared]) -> pulumi.Output[str]:
    """Returns the installed version. A demo on this machine may have fallen back to another than the desired one."""
    return prepared[machines[0].name].variables.apply(lambda variables: variables["version"])


def _member(
    machine: Machine, formation: Formation, certificates: ClusterCertificates | None, prepared: Prepared
) -> dict[str, Any]:
    name = machine.name
    return {
        "address": machine.address,
        "ports": vars(machine.ports),
        "layout": vars(layout(machine)),
        "device": machine.device,
        "founder": formation.founders.apply(lambda founders: (founders or {}).get(name, "")),
        "prepare_line": prepared.command.create,
        "prepare_variables": prepared.variables,
        "server": certificate_pair(certificates.servers[name]).apply(_pems) if certificates else None,
        "peer": certificate_pair(certificates.peers[name]).apply(_pems) if certificates else None,
        "outlives_destroy": machine.deleted_with is None,
    }


def places(machine: Machine) -> dict[str, Any]:
    """Returns where a member's data are and what it listens on, for reviewers: a change of either has consequences."""
    ports = machine.ports
    return {
        **({"device": machine.device} if machine.device else {}),
        **({"directory": machine.directory} if machine.directory else {}),
        "ports": f"{ports.client},{ports.peer},{ports.metrics}",
    }


def _pems(of: CertificatePair) -> dict[str, str]:
    return {"certificate": of.certificate, "key": of.key}


def ca_fingerprints(trusted_pem: str | None) -> list[str]:
    """Returns the first 16 digits of each CA's fingerprint: enough to distinguish them."""
    if not trusted_pem:
        return []
    from etcd_cluster.pki import x509  # lazily: cryptography, once there is a certificate to read

    return [x509.fingerprint(ca)[:16] for ca in x509.split_bundle(trusted_pem)]


def describe(
    machines: Sequence[Machine], tls: bool, names: ClusterNames | None
) -> pulumi.Output[dict[str, dict[str, str]]]:
    """Returns member name -> address and URLs, as the stack exports it: for clients by address, or by name."""

    def described(addresses: Sequence[str]) -> dict[str, dict[str, str]]:
        members = [
            Member(machine.name, address, machine.ports) for machine, address in zip(machines, addresses, strict=True)
        ]
        return {
            member.name: {
                "address": member.address,
                "clientUrl": url((names and names.endpoint(member.name)) or member.address, member.ports.client, tls),
                "peerUrl": member.peer_url(tls),
            }
            for member in members
        }

    return pulumi.Output.all(*[machine.address for machine in machines]).apply(described)
