"""Declares the Commands that run a member's scripts, over SSH or on this machine.

The line of a Command is short: its KEY=VALUE words show a reviewer what changes. Script, files and keys are passed by
stdin, which is secret.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.runtime import is_dry_run
from pulumi_command import local, remote

from etcd_cluster.machines.machine import LATER, Machine
from etcd_cluster.member import render
from etcd_cluster.member.layout import Layout
from etcd_cluster.member.line import Check, Line, Prepare
from etcd_cluster.pki.resources import Certificate
from etcd_cluster.settings import Settings
from etcd_cluster.ssh.login import with_boot_retries
from etcd_cluster.ssh.proxy_command import for_provider

STEP_TIMEOUT = "20m"
"""Limit for a Command: longer than any script waits by itself. It includes the time to connect."""

Command = local.Command | remote.Command
Spec = Mapping[str, pulumi.Input[str]]


@dataclass(frozen=True)
class Prepared:
    """A prepare Command.

    Args:
        command: The Command.
        variables: The variables of its script, with which the machine can be prepared again.
    """

    command: Command
    variables: pulumi.Output[dict[str, str]]


class MemberCommands:
    """The Commands of all members of one cluster: check, which only reads, and prepare, which restarts nothing.

    Each of them runs on all machines at once.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        machines: Sequence[Machine],
        settings: Settings,
        parent: pulumi.Resource,
    ) -> None:
        self._name = name
        self._identity = identity
        self._machines = machines
        self._settings = settings
        self._parent = parent

    def check(self) -> dict[str, Command]:
        """Returns the preflight of each member, which only reads. It prints the report that forming needs.

        Members on this machine share it with its user, so its hardware is not measured.
        """
        return {machine.name: self._check(machine) for machine in self._machines}

    def _check(self, machine: Machine) -> Command:
        size = self._settings.size
        hardware: dict[str, Any] = {
            "size": size.name,
            "vcpus": size.minimum_vcpus,
            "memory_mib": size.minimum_memory_mib,
            "disk_gib": size.minimum_disk_gib,
            "undersized": self._undersized(machine),
        }
        line = Check(
            address=machine.address,
            ports=f"{machine.ports.client},{machine.ports.peer},{machine.ports.metrics}",
            install=_install_from(machine, self._settings),
            **_route(machine, self._machines, self._settings),
            device=machine.device,
            boot="first" if machine.first_boot else "",
            **(hardware if machine.connection else {}),
        )
        connection = machine.connection
        if connection and machine.first_boot:
            connection = with_boot_retries(connection)
        script = render.script("check", layout(machine))
        return self._run(replace(machine, connection=connection), line, script)

    def _undersized(self, machine: Machine) -> pulumi.Input[str]:
        """Returns what becomes of a machine below the size: one that waits for its replacement bore the size before."""
        if self._settings.allow_undersized:
            return "allow"
        if machine.size is None:
            return "refuse"
        size = self._settings.size.name
        return pulumi.Output.from_input(machine.size).apply(lambda fitting: "refuse" if fitting == size else "allow")

    def prepare(
        self, token: pulumi.Output[str], binaries: Mapping[str, Mapping[str, pulumi.Input[str]]]
    ) -> dict[str, Prepared]:
        """Installs packages, user, disk, and programs beside those that run. No member is started or restarted."""
        prepared: dict[str, Prepared] = {}
        mirror, proxy = self._settings.install.mirror, self._settings.install.proxy
        for machine in self._machines:
            install = _install_from(machine, self._settings)
            line = Prepare(
                version=self._settings.version,
                device=machine.device,
                install=install,
                mirror=mirror if install == "release" and isinstance(mirror, str) else "",
                proxy=proxy if machine.connection and isinstance(proxy, str) else "",
                no_proxy=",".join(self._settings.install.no_proxy) if machine.connection else "",
            )
            variables = self._prepare_variables(machine, token, binaries[machine.name])
            stdin = variables.apply(partial(render.script, "prepare", layout(machine)))
            command = self._run(machine, line, stdin)
            prepared[machine.name] = Prepared(command, variables)
        return prepared

    def _prepare_variables(
        self, machine: Machine, token: pulumi.Output[str], binaries: Mapping[str, pulumi.Input[str]]
    ) -> pulumi.Output[dict[str, str]]:
        secret = {"mirror": self._settings.install.mirror, "proxy": self._settings.install.proxy}
        # A secret one is not on the line, which previews and state show.
        hidden = {name: url for name, url in secret.items() if url is not None and not isinstance(url, str)}
        binaries = {**binaries, **hidden}
        return pulumi.Output.all(token=token, binaries=binaries).apply(
            lambda known: {
                **render.prepare_variables(self._identity, machine.name, known["token"], layout(machine)),
                **known["binaries"],
            }
        )

    def _run(self, machine: Machine, line: Line, stdin: pulumi.Input[str]) -> Command:
        """Returns a Command named CLUSTER-MEMBER-STEP. Nothing runs on a machine that is itself deleted."""
        arguments: dict[str, Any] = {
            "create": command_line(line.step, line.words(machine.name)),
            "stdin": pulumi.Output.secret(stdin),
            "add_previous_output_in_env": False,
        }
        opts = pulumi.ResourceOptions(
            parent=self._parent,
            depends_on=[*machine.depends_on],
            deleted_with=machine.deleted_with,
            hide_diffs=["stdin"],
            custom_timeouts=pulumi.CustomTimeouts(create=STEP_TIMEOUT, update=STEP_TIMEOUT),
        )
        name = f"{self._name}-{machine.name}-{line.step}"
        if machine.connection is None:
            return local.Command(name, local.CommandArgs(**arguments, logging=local.Logging.STDERR), opts)
        return remote.Command(
            name,
            remote.CommandArgs(**arguments, connection=for_provider(machine.connection), logging=remote.Logging.STDERR),
            opts,
        )


def command_line(step: str, spec: Spec) -> pulumi.Input[str]:
    """Returns the line of a step.

    In a preview, a value that only `up` will know is shown as `?`. Otherwise the whole line, with the version, would be
    hidden as long as the machine does not exist.
    """
    plain = {key: value for key, value in spec.items() if isinstance(value, str)}
    later = {key: _word(value) for key, value in spec.items() if not isinstance(value, str)}

    def line(known: Mapping[str, str]) -> str:
        return render.command_line(step, {key: plain[key] if key in plain else known[key] for key in spec})

    return pulumi.Output.all(**later).apply(line) if later else line({})


def _word(value: pulumi.Input[str]) -> pulumi.Output[str]:
    def word(known: str | Unknown) -> str:
        return LATER if isinstance(known, Unknown) else known

    return pulumi.Output.from_input(value).apply(word, run_with_unknowns=is_dry_run())


def certificate_pair(certificate: Certificate) -> pulumi.Output[render.CertificatePair]:
    """Returns certificate and key of a Certificate resource."""
    return pulumi.Output.all(certificate.certificate_pem, certificate.private_key_pem).apply(
        lambda pems: render.CertificatePair(certificate=pems[0], key=pems[1])
    )


def layout(machine: Machine) -> Layout:
    """Returns where the files of a member on this machine or host are."""
    return Layout.below(machine.directory) if machine.directory else Layout.system()


def _route(machine: Machine, machines: Sequence[Machine], settings: Settings) -> dict[str, Any]:
    """Returns from which address a member has to reach which others, where etcd cannot be told to; {} where it can.

    Names are for the resolver, and a cloud's machines have one address.
    """
    addresses = {each.name: each.address for each in machines}
    known = {name: ip for name, address in addresses.items() if (ip := _ip_address(address))}
    source = known.pop(machine.name, None)
    if source is None or not settings.tls or not known or machine.connection is None:
        return {}
    if render.chooses_source(str(source), settings.version):
        return {}
    return {"source": str(source), "peers": ",".join(map(str, known.values()))}


def _ip_address(address: pulumi.Input[str]) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address) if isinstance(address, str) else None
    except ValueError:
        return None


def _install_from(machine: Machine, settings: Settings) -> str:
    return settings.install_source if machine.connection else "local"
