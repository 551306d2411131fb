"""Brings MetricsEndpoints about: installs nginx where it is missing, writes its files and the timer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from pulumi.dynamic import CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema, same
from etcd_cluster.member.lines import SetUpMonitoring
from etcd_cluster.member.machines import MemberMachines, RecordedPlace, say
from etcd_cluster.monitoring.files import Exposure, MonitoringFiles, set_up_variables

COMPARED = (
    "cluster",
    "token",
    "port",
    "textfile_folder",
    "on_failure",
    "backup_seconds",
    "test_seconds",
    "ca",
    "certificates",
    "client_ends",
    "members",
    "connections",
)
INPUTS = (*COMPARED, "proxy", "no_proxy", "drift")
SET_UP_SECONDS = 1200
"""More than the script waits for packages."""
LOOK_SECONDS = 60


class MetricsEndpointsLifecycle(Lifecycle):
    """Exposes the metrics of every member. An `up` without changes looks whether they still are."""

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

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Looks for drift in an `up` without changes."""
        news = dict(news)
        looks = news.pop("looks")
        news["drift"] = drift(news) if olds and looks and not _changed(olds, news) else []
        return CheckResult(news, [])

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if an input differs, or if there is drift."""
        return DiffResult(changes=_changed(olds, news) or bool(news["drift"]), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Exposes the metrics of all machines."""
        _on_all(props, SetUpMonitoring(no_proxy=props["no_proxy"]), SET_UP_SECONDS)
        return CreateResult(f"{props['token']}/metrics", _inputs(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Sets up anew what differs."""
        for line in news["drift"] or ():
            say(line)
        _on_all(news, SetUpMonitoring(no_proxy=news["no_proxy"]), SET_UP_SECONDS)
        return UpdateResult(_inputs(news))

    def delete(self, id_: str, props: Properties) -> None:
        """Ends it on machines that can be reached."""
        for name, answer in _answers(props, SetUpMonitoring(remove=True), LOOK_SECONDS, passing=True).items():
            if isinstance(answer, EtcdClusterError):
                say(f"{name}: its metrics are still exposed: {answer}")

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


def drift(props: Properties) -> list[str]:
    """Returns what differs on the machines, one line each; nothing of a machine that gives no answer."""
    return [
        f"{name}: metrics: {line}"
        for name, answer in _answers(props, SetUpMonitoring(look=True), LOOK_SECONDS).items()
        if isinstance(answer, str)
        for line in answer.splitlines()
    ]


def _on_all(props: Properties, line: SetUpMonitoring, seconds: int) -> None:
    """Raises the first error once all machines were tried."""
    for answer in _answers(props, line, seconds).values():
        if isinstance(answer, EtcdClusterError):
            raise answer


def _answers(props: Properties, line: SetUpMonitoring, seconds: int, *, passing: bool = False) -> dict[str, Any]:
    places = {name: RecordedPlace.parse(host) for name, host in props["members"].items()}
    with MemberMachines(places, props["connections"] or {}, passing=passing) as machines:

        def run(name: str) -> str:
            return machines.run(name, line, variables_of(props, name), timeout_seconds=seconds, say=say)

        return machines.on_all(list(props["members"]), run)


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


def _changed(olds: Properties, news: Properties) -> bool:
    return any(not same(olds.get(name), news.get(name)) for name in COMPARED)


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
