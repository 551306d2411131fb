"""Brings MetricsEndpoints about: installs nginx where it is missing, writes its files and the timer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from etcd_cluster.lifecycle import Properties, Schema
from etcd_cluster.member.line import Line
from etcd_cluster.member.lines import SetUpMonitoring
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
from etcd_cluster.member.set_up_lifecycle import SetUpLifecycle
from etcd_cluster.monitoring.files import Exposure, MonitoringFiles, set_up_variables

SET_UP_SECONDS = 1200
"""More than the script waits for packages."""


class MetricsEndpointsLifecycle(SetUpLifecycle):
    """Exposes the metrics of every member."""

    schema: ClassVar[Schema] = Schema(
        defaults={
            "textfile_folder": "",
            "on_failure": "",
            "backup_seconds": None,
            "test_seconds": None,
            "proxy": "",
            "no_proxy": "",
            "client_ends": {},
            "connections": {},
            "drift": [],
        }
    )
    subject: ClassVar[str] = "metrics"
    compared: ClassVar[Sequence[str]] = (
        *("cluster", "token", "port", "textfile_folder", "on_failure", "backup_seconds", "test_seconds"),
        *("ca", "certificates", "client_ends", "members", "connections"),
    )
    others: ClassVar[Sequence[str]] = ("proxy", "no_proxy")
    look: ClassVar[Line] = SetUpMonitoring(look=True)
    remove: ClassVar[Line] = SetUpMonitoring(remove=True)

    def variables(self, props: Properties, name: str) -> dict[str, str]:
        """Returns the shell variables of monitoring_setup.sh on the machine of a member."""
        return variables_of(props, name)

    def set_up(self, machines: MemberMachines, props: Properties, name: str) -> str:
        """Exposes the metrics of a member."""
        line = SetUpMonitoring(no_proxy=props["no_proxy"])
        return machines.run(name, line, variables_of(props, name), timeout_seconds=SET_UP_SECONDS, say=say)


def variables_of(props: Mapping[str, Any], name: str) -> dict[str, str]:
    """Returns the shell variables of monitoring_setup.sh on the machine of a member."""
    member, host = props["members"][name], RecordedPlace.parse(props["members"][name])
    certificate = props["certificates"][name]
    return set_up_variables(
        Exposure(name, member["address"], host.layout, host.ports, int(props["port"])),
        MonitoringFiles(
            cluster=props["cluster"],
            token=props["token"],
            certificate=certificate["certificate"],
            key=certificate["key"],
            ca=props["ca"],
            client_ends={each: _seconds(end) for each, end in props["client_ends"].items()},
            backup_seconds=_whole(props.get("backup_seconds")),
            test_seconds=_whole(props.get("test_seconds")),
            textfile_folder=props["textfile_folder"],
            on_failure=props["on_failure"],
            proxy=props["proxy"],
        ),
    )


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp())


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
