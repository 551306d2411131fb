"""Decides whether machines may form a cluster, and under which token."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from pulumi.dynamic import (
    CreateResult,
    ReadResult,
    UpdateResult,
)

from etcd_cluster.clocks import CLOCK_TOLERANCE_SECONDS, are_apart, describe, offset
from etcd_cluster.formation_refusals import FormationError, Obstacle
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema
from etcd_cluster.member.answers import NoAnswerError, framed_answer
from etcd_cluster.member.layout import FOUNDING
from etcd_cluster.member.runner import NoSshClientError, Runner
from etcd_cluster.ssh.connection import SshError
from etcd_cluster.ssh.processes import CommandTimeoutError

REPORT_SECONDS = 60
"""Limit for one machine's preflight, which takes a second or two: its first boot is over by then."""

INPUTS = ("cluster", "reports", "preflights", "connections")


class FormationLifecycle(Lifecycle):
    """Forms a cluster once. Later changes of members and machines are the rollout's, and do not change this record."""

    schema: ClassVar[Schema] = Schema(defaults={"founders": {}})

    def create(self, props: Properties) -> CreateResult:
        """Checks that the machines may form the cluster, and chooses its token. Changes nothing on them."""
        cluster, moved_from = props["cluster"], props.get("moved_from") or ""
        reports: dict[str, Mapping[str, Any]] = {
            name: json.loads(report) for name, report in props["reports"].items() if report
        }
        is_whole = reports.keys() == props["reports"].keys()
        if not is_whole or not just_made(reports, time.time()) or not can_form(cluster, reports, moved_from):
            current = current_reports(props.get("preflights") or {}, props["connections"])
            require_clocks_together({name: report["clock_offset"] for name, report in current.items()})
            reports |= current
        reports = own_reports(cluster, dict(sorted(reports.items())), moved_from)  # Pulumi keeps no order
        token = agree_on_token(reports)
        require_own_units(cluster, token, reports)
        return CreateResult(token, {**_inputs(props), "token": token, "founders": founders(reports)})

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Records the new inputs; token and founders stay."""
        return UpdateResult({**_inputs(news), "token": olds["token"], "founders": olds["founders"]})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


def own_reports(
    cluster: str, reports: Mapping[str, Mapping[str, Any]], moved_from: str = ""
) -> dict[str, Mapping[str, Any]]:
    """Returns the reports without the notes of another cluster that has left the machine.

    Args:
        cluster: PROJECT/STACK/NAME.
        reports: Member name -> report of its preflight.
        moved_from: The name that the cluster had in another stack; "" for none.

    Raises:
        FormationError: A machine holds data, or notes about them, of another cluster or member.
    """
    names = {cluster, moved_from} - {""}
    for name, report in reports.items():
        owner = (report.get("cluster", cluster), report.get("member", name))
        if _holds(report) and report["token"] and owner not in {(each, name) for each in names}:
            raise FormationError(
                Obstacle.OTHER_MEMBERS_DATA, member=name, owner=owner[1], other=owner[0], cluster=cluster
            )
    return {
        name: {**report, "formed": report.get("formed", "") if report.get("formedBy", cluster) in names else ""}
        for name, report in reports.items()
    }


def require_own_units(cluster: str, token: str, reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `FormationError` if etcd-cluster.service belongs to another cluster.

    Before the first release, the unit named its own cluster by the readable name.
    """
    for name, report in reports.items():
        if report.get("unit", "") not in ("", token, cluster):
            raise FormationError(Obstacle.OTHER_CLUSTERS_UNIT, member=name, token=report["unit"])


def agree_on_token(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the token to form the cluster under.

    It is a new token if no machine holds anything of a member. If some machines hold data, as after `destroy`, it is
    theirs: their members start with the data, and the others join them. A marker without data does not count: a first
    `up` that failed may have left it.

    Raises:
        FormationError: The members with data are not a majority of the members that they know of, or belong to
            different clusters: a guess could make a second cluster. Or two members are on one machine, a member runs
            already, or the data have no readable marker.
    """
    machines: dict[str, str] = {}
    for name, report in reports.items():
        if report["machine"] in machines:
            raise FormationError(
                Obstacle.SAME_MACHINE,
                members=f"{name} and {machines[report['machine']]}",
                machine=report["machine"],
            )
        machines[report["machine"]] = name
    running = [name for name, report in reports.items() if report["running"]]
    if running:
        raise FormationError(Obstacle.RUNS_ALREADY, members=", ".join(running))
    if not any(map(_was_used, reports.values())):
        return secrets.token_hex(16)
    tokens = {report["token"] for report in reports.values() if _holds(report)} - {""}
    if len(tokens) > 1:
        found = "; ".join(f"{name}: {_held(report)}" for name, report in reports.items())
        raise FormationError(Obstacle.DIFFERENT_MARKERS, found=found)
    having = [name for name, report in reports.items() if _has_data(report)]
    logs = {name: reports[name]["of"] for name in having if reports[name].get("of")}
    if len(set(logs.values())) > 1:
        found = "; ".join(f"{name}: {of}" for name, of in logs.items())
        raise FormationError(Obstacle.DIFFERENT_LOGS, found=found)
    members = max((_noted_members(reports[name], len(reports)) for name in having), default=len(reports))
    if len(having) <= members // 2:
        lost = ", ".join(name for name in reports if name not in having)
        raise FormationError(
            Obstacle.NO_MAJORITY,
            lost=lost,
            having=", ".join(having) or "no machine",
            count=len(having),
            all=members,
        )
    if not tokens:
        raise FormationError(Obstacle.NO_MARKER, having=", ".join(having))
    return str(tokens.pop())


def founders(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns member name -> id of its machine, for all members; none if some machines hold data."""
    if any(map(_was_used, reports.values())):
        return {}
    return {name: report["machine"] for name, report in reports.items()}


def _was_used(report: Mapping[str, Any]) -> bool:
    """Returns whether a member ran there, or may have: it has data, or notes about them."""
    return _holds(report) or bool(report.get("formed"))


def _holds(report: Mapping[str, Any]) -> bool:
    """Returns whether there are data, or notes beside them.

    A note written before the first start does not count: the start may never have happened.
    """
    return _has_data(report) or report.get("history") not in (None, FOUNDING)


def _has_data(report: Mapping[str, Any]) -> bool:
    """Returns whether there are data. Reports of earlier releases show only the marker."""
    return bool(report.get("data", bool(report["token"])))


def _noted_members(report: Mapping[str, Any], founding: int) -> int:
    """Returns how many members the cluster had, by the note beside the data. Beside restored data there is none: 1."""
    history = report.get("history") or ""
    return founding if history == FOUNDING else len(history.split(","))


def _held(report: Mapping[str, Any]) -> str:
    if not _holds(report):
        return "nothing"
    return str(report["token"]) + ("" if _has_data(report) else " (its data are gone)")


def just_made(reports: Mapping[str, Mapping[str, Any]], now: float) -> bool:
    """Returns whether every report's clock showed about `now`: clocks agree, and no report is of an earlier run."""
    return not any(are_apart(report["clock"] - now) for report in reports.values())


def can_form(cluster: str, reports: Mapping[str, Mapping[str, Any]], moved_from: str = "") -> bool:
    """Returns whether these machines can form the cluster. If not, they may have been fixed since the report."""
    try:
        own = own_reports(cluster, reports, moved_from)
        require_own_units(cluster, agree_on_token(own), own)
    except FormationError:
        return False
    return True


def current_reports(
    preflights: Mapping[str, Mapping[str, str]], connections: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Returns the preflights' reports as of now, with `clock_offset`.

    The recorded reports may be from an earlier run, which was refused here and whose causes were fixed since.

    Raises:
        FormationError: A machine cannot be asked.
    """
    if not preflights:
        return {}
    try:
        asked = Runner(connections)
    except NoSshClientError as error:
        raise FormationError(Obstacle.NO_SSH_CLIENT, why=error) from None
    with asked as runner, ThreadPoolExecutor(len(preflights)) as threads:

        def report(name: str) -> Mapping[str, Any]:
            before = time.time()
            try:
                command, script = preflights[name]["command"], preflights[name]["script"]
                answer = runner.run(name, command, stdin=script, timeout_seconds=REPORT_SECONDS)
            except CommandTimeoutError:
                raise FormationError(Obstacle.HANGS, member=name, seconds=REPORT_SECONDS) from None
            except SshError as error:
                raise FormationError(Obstacle.UNREACHABLE, member=name, why=error) from None
            if answer.returncode != 0:
                raise FormationError(Obstacle.PREFLIGHT_FAILED, why=answer.stderr.strip().rstrip("."))
            try:
                found = json.loads(framed_answer(answer.stdout, f"{name}: check"))
            except NoAnswerError as error:
                raise FormationError(Obstacle.PREFLIGHT_FAILED, why=error) from None
            return {**found, "clock_offset": offset(found["clock"], before, time.time())}

        return dict(zip(preflights, threads.map(report, preflights), strict=True))


def require_clocks_together(offsets: Mapping[str, float]) -> None:
    """Raises `FormationError` if a clock is off by more than `CLOCK_TOLERANCE_SECONDS`."""
    apart = [describe(name, seconds) for name, seconds in offsets.items() if are_apart(seconds)]
    if apart:
        found = ", ".join(apart)
        raise FormationError(Obstacle.CLOCKS_APART, found=found, tolerance=CLOCK_TOLERANCE_SECONDS)


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
