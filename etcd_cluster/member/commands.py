"""The Commands that run a member's scripts: over SSH, or on this machine.

The line of a Command is short and says, as KEY=VALUE, what a reviewer wants to see change. Script, files and keys go in
by stdin, which is secret.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.runtime import is_dry_run
from pulumi_command import local, remote

from etcd_cluster.certificates import ClusterCertificates
from etcd_cluster.machines import Machine
from etcd_cluster.machines.ssh import patient
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.pki import Certificate
from etcd_cluster.settings import Settings

HEALTH_TIMEOUT_SECONDS = 120
"""How long a member, or the cluster, may take to become healthy."""

STEP_TIMEOUT = "20m"
"""Longer than any script waits by itself; it bounds connecting as well."""

Command = local.Command | remote.Command
Spec = Mapping[str, pulumi.Input[str]]


class MemberCommands:
    """The steps of all members of one cluster, in the order in which the methods are called:

    check (all at once, reads only), prepare (all at once), roll (one after the other), await_health (once).
    """

    def __init__(
        self,
        name: str,
        identity: str,
        machines: Sequence[Machine],
        settings: Settings,
        certificates: ClusterCertificates | None,
        parent: pulumi.Resource,
    ) -> None:
        self._name = name
        self._identity = identity
        self._machines = machines
        self._settings = settings
        self._certificates = certificates
        self._parent = parent
        self._members = pulumi.Output.all(*[_member(machine) for machine in machines])
        self._variables: dict[str, pulumi.Output[dict[str, str]]] = {}
        self._prepared: list[Command] = []
        self._rolled: list[Command] = []

    @property
    def peer_urls(self) -> dict[str, pulumi.Output[str]]:
        """Member name -> peer URL."""
        tls = self._settings.tls
        return {machine.name: _member(machine).apply(lambda member: member.peer_url(tls)) for machine in self._machines}

    @property
    def client_urls(self) -> pulumi.Output[dict[str, str]]:
        """Member name -> client URL."""
        tls = self._settings.tls
        return self._members.apply(lambda members: {member.name: member.client_url(tls) for member in members})

    @property
    def described(self) -> pulumi.Output[dict[str, dict[str, str]]]:
        """Member name -> address and URLs, as the stack exports it."""
        tls = self._settings.tls
        return self._members.apply(
            lambda members: {
                member.name: {
                    "address": member.address,
                    "clientUrl": member.client_url(tls),
                    "peerUrl": member.peer_url(tls),
                }
                for member in members
            }
        )

    def check(self) -> dict[str, Command]:
        """Preflight: reads only. Prints the report that forming needs. Local members share a machine that is not
        theirs, so its hardware is not measured."""
        return {machine.name: self._check(machine) for machine in self._machines}

    def _check(self, machine: Machine) -> Command:
        size = self._settings.size
        hardware = {
            "size": size.name,
            "vcpus": str(size.minimum_vcpus),
            "memory-mib": str(size.minimum_memory_mib),
            "disk-gib": str(size.minimum_disk_gib),
            "undersized": "allow" if self._settings.allow_undersized else "refuse",
        }
        spec = {
            "address": machine.address,
            "ports": f"{machine.ports.client},{machine.ports.peer},{machine.ports.metrics}",
            "install": _install_from(machine, self._settings),
            **_device(machine),
            **({"boot": "first"} if machine.first_boot else {}),
            **(hardware if machine.connection else {}),
        }
        connection = patient(machine.connection) if machine.connection and machine.first_boot else machine.connection
        script = render.script("check", _layout(machine), {"cluster": self._identity})
        return self._run(replace(machine, connection=connection), "check", spec, script)

    def prepare(
        self,
        token: pulumi.Output[str],
        founders: pulumi.Output[dict[str, str]],
        binaries: Mapping[str, Mapping[str, pulumi.Input[str]]],
    ) -> None:
        """Programs, disk, keys, configuration. Starts members that do not run; never restarts one that does."""
        for machine in self._machines:
            variables = self._member_variables(machine, token, founders, binaries[machine.name])
            self._variables[machine.name] = variables
            install = _install_from(machine, self._settings)
            spec = {
                **self._member_spec(machine),
                "install": install,
                **({"mirror": self._settings.install.mirror} if install == "release" else {}),
            }
            on_delete = {"data": "delete" if self._settings.delete_data else "keep"}
            stdin = _script("prepare", machine, variables)
            self._prepared.append(self._run(machine, "prepare", spec, stdin, on_delete=on_delete))

    def roll(self) -> None:
        """What has changed is taken up by a restart, one member at a time; then the member has to be healthy."""
        for number, machine in enumerate(self._machines, start=1):
            spec = {
                **self._member_spec(machine),
                "turn": f"{number}of{len(self._machines)}",
                "timeout": str(HEALTH_TIMEOUT_SECONDS),
            }
            stdin = _script("roll", machine, self._variables[machine.name])
            after = [*self._prepared, *self._rolled[-1:]]
            self._rolled.append(self._run(machine, "roll", spec, stdin, depends_on=after))

    def await_health(self) -> Command:
        """All endpoints at once with the exported client certificate, asked from the first member's machine."""
        machine, certificates = self._machines[0], self._certificates
        spec = {
            "members": str(len(self._machines)),
            "tls": _on(self._settings.tls),
            "timeout": str(HEALTH_TIMEOUT_SECONDS),
        }
        stdin = pulumi.Output.all(
            urls=self.client_urls,
            authority=certificates.authority.certificate_pem if certificates else None,
            client=_leaf(certificates.client) if certificates else None,
        ).apply(
            lambda known: render.script(
                "health",
                _layout(machine),
                render.client_variables(list(known["urls"].values()), known["authority"], known["client"]),
            )
        )
        return self._run(machine, "health", spec, stdin, depends_on=self._rolled)

    def _member_spec(self, machine: Machine) -> dict[str, pulumi.Input[str]]:
        """What a reviewer sees of a member, and whose change takes it through prepare and roll again."""
        return {
            "version": self._settings.version,
            "size": self._settings.size.name,
            "tls": _on(self._settings.tls),
            "peer-port": str(machine.ports.peer),
            **_device(machine),
            **({"boot": machine.boot} if machine.boot else {}),
            **{f"etcd.{key}": str(value) for key, value in self._settings.user_options.items()},
        }

    def _member_variables(
        self,
        machine: Machine,
        token: pulumi.Output[str],
        founders: pulumi.Output[dict[str, str]],
        binaries: Mapping[str, pulumi.Input[str]],
    ) -> pulumi.Output[dict[str, str]]:
        """The variables of a member's scripts, its files and keys among them, once all of it is known."""
        certificates = self._certificates

        def rendered(known: Mapping[str, Any]) -> dict[str, str]:
            spec = render.MemberSpec(
                cluster=self._identity,
                token=known["token"],
                member=known["member"],
                members=tuple(known["members"]),
                layout=_layout(machine),
                options=self._settings.options,
                dedicated_disk=machine.device is not None,
                authority=known["authority"],
                server=known["server"],
                peer=known["peer"],
            )
            founding_machine = known["founders"][machine.name]
            return {**render.member_variables(spec), "founding_machine": founding_machine, **known["binaries"]}

        return pulumi.Output.all(
            token=token,
            founders=founders,
            member=_member(machine),
            members=self._members,
            authority=certificates.authority.certificate_pem if certificates else None,
            server=_leaf(certificates.servers[machine.name]) if certificates else None,
            peer=_leaf(certificates.peers[machine.name]) if certificates else None,
            binaries=binaries,
        ).apply(rendered)

    def _run(
        self,
        machine: Machine,
        step: str,
        spec: Spec,
        stdin: pulumi.Input[str],
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        on_delete: Spec | None = None,
    ) -> Command:
        """A Command named CLUSTER-MEMBER-STEP. Nothing is run on a machine that is itself going away."""
        member: Spec = {"member": machine.name}
        arguments: dict[str, Any] = {
            "create": command_line(step, {**member, **spec}),
            "delete": command_line("remove", {**member, **on_delete}) if on_delete else None,
            "stdin": pulumi.Output.secret(stdin),
            "add_previous_output_in_env": False,
        }
        opts = pulumi.ResourceOptions(
            parent=self._parent,
            depends_on=[*machine.depends_on, *depends_on],
            deleted_with=machine.deleted_with,
            hide_diffs=["stdin"],
            custom_timeouts=pulumi.CustomTimeouts(create=STEP_TIMEOUT, update=STEP_TIMEOUT, delete=STEP_TIMEOUT),
        )
        name = f"{self._name}-{machine.name}-{step}"
        if machine.connection is None:
            return local.Command(name, local.CommandArgs(**arguments, logging=local.Logging.STDERR), opts)
        return remote.Command(
            name,
            remote.CommandArgs(**arguments, connection=machine.connection, logging=remote.Logging.STDERR),
            opts,
        )


def command_line(step: str, spec: Spec) -> pulumi.Input[str]:
    """`bash -s -- STEP KEY=VALUE...`, quoted where a value needs it. In a preview, a value that only `up` will know is
    `?`: otherwise the whole line would be hidden, version and all, wherever a machine is yet to be made."""
    words = {key: shlex.quote(value) for key, value in spec.items() if isinstance(value, str)}
    later = {key: _word(value) for key, value in spec.items() if not isinstance(value, str)}

    def line(known: Mapping[str, str]) -> str:
        return " ".join(["bash -s --", step, *(f"{key}={known[key]}" for key in spec)])

    return pulumi.Output.all(**later).apply(lambda known: line({**words, **known})) if later else line(words)


def _word(value: pulumi.Input[str]) -> pulumi.Output[str]:
    def word(known: str | Unknown) -> str:
        return "?" if isinstance(known, Unknown) else shlex.quote(known)

    return pulumi.Output.from_input(value).apply(word, run_with_unknowns=is_dry_run())


def _script(step: str, machine: Machine, variables: pulumi.Output[dict[str, str]]) -> pulumi.Output[str]:
    return variables.apply(lambda known: render.script(step, _layout(machine), known))


def _member(machine: Machine) -> pulumi.Output[render.Member]:
    return pulumi.Output.from_input(machine.address).apply(
        lambda address: render.Member(machine.name, address, machine.ports)
    )


def _leaf(certificate: Certificate) -> pulumi.Output[render.Leaf]:
    return pulumi.Output.all(certificate.certificate_pem, certificate.private_key_pem).apply(
        lambda pems: render.Leaf(certificate=pems[0], key=pems[1])
    )


def _layout(machine: Machine) -> Layout:
    return Layout.below(machine.directory) if machine.directory else Layout.system()


def _install_from(machine: Machine, settings: Settings) -> str:
    return settings.install_source if machine.connection else "local"


def _device(machine: Machine) -> dict[str, pulumi.Input[str]]:
    return {"device": machine.device} if machine.device else {}


def _on(flag: bool) -> str:
    return "on" if flag else "off"
