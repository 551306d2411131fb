"""Brings a LoadCheck about: loads the cluster, once, and keeps the verdict in the stack's state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from pulumi.dynamic import CreateResult, DiffResult, ReadResult, UpdateResult

from etcd_cluster.errors import EtcdClusterError
from etcd_cluster.etcd.sizes import size_named
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema
from etcd_cluster.load_check import text
from etcd_cluster.load_check.files import keep, kept_page, require_writable
from etcd_cluster.load_check.load import Load
from etcd_cluster.load_check.run import LoadSettings, check, summary
from etcd_cluster.member.machines import RecordedPlace, say
from etcd_cluster.rollout.machines import ClusterMachines

if TYPE_CHECKING:
    from etcd_cluster.load_check.client import LoadClient

INPUTS = ("cluster", "mode", "size", "members", "urls", "generator", "connections", "client")
REQUIRE = "require"
NOT_DONE = {"passed": False}


class LoadCheckFailedError(EtcdClusterError):
    """The cluster does not bear its load."""


class LoadCheckLifecycle(Lifecycle):
    """Loads the cluster when it is formed. A verdict is kept; one that is required is a passed one."""

    schema: ClassVar[Schema] = Schema(
        defaults={
            "mode": "report",
            "members": {},
            "urls": [],
            "generator": {},
            "connections": {},
            "client": None,
            "result": NOT_DONE,
        }
    )

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if a passed check is required now, and none was passed."""
        return DiffResult(changes=news["mode"] == REQUIRE and not _passed(olds), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Loads the cluster."""
        result = _check(props)
        return CreateResult(f"{props['cluster']}/load-check", {**_inputs(props), "result": result})

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Loads the cluster again."""
        return UpdateResult({**_inputs(news), "result": _check(news)})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


def _check(props: Properties) -> dict[str, Any]:
    """Returns the result. Raises an error if one is required that is not passed."""
    is_required = props["mode"] == REQUIRE
    try:
        return _load(props, is_required=is_required)
    except EtcdClusterError as error:
        if is_required:
            raise
        say(f"load check: {error}")
        return NOT_DONE


def _load(props: Properties, *, is_required: bool) -> dict[str, Any]:
    connections: Mapping[str, Mapping[str, Any]] = props["connections"] or {}
    places = {name: RecordedPlace.parse(host) for name, host in props["members"].items()}

    project, stack, name = props["cluster"].split("/", 2)
    file = kept_page(project, stack, name)
    require_writable(file)
    load = Load.of(size_named(props["size"]))
    settings = LoadSettings(
        load, props["urls"], props["generator"] or {}, _client(props, places), only_without_keys=True, compact=True
    )
    with ClusterMachines(places, connections) as machines:
        measured, verdict = check(machines, list(places), settings, say)
    page = keep(measured, verdict, props["cluster"], file)
    say(f"load check: its page is {page}")
    if verdict.passed:
        say(f"load check: passed: {text.success(measured)}")
    elif is_required:
        raise LoadCheckFailedError(f"load check: {text.failure(measured, verdict)} Its page is {page}")
    else:
        say(f"load check: failed: {text.failure(measured, verdict)}")
    return summary(measured, verdict)


def _client(props: Properties, places: Mapping[str, RecordedPlace]) -> AbstractContextManager[LoadClient | None]:
    """Returns the machine that loads the cluster in a member's place; None for none."""
    given: Mapping[str, Any] | None = props.get("client")
    if given is None:
        return nullcontext()
    from etcd_cluster.load_check.client import Issuer, ProgramOfMember, load_client  # lazily: few need cryptography

    program = ProgramOfMember.of_first(places, props["connections"] or {}, given["version"])
    issuer = Issuer.parse(given["issuer"]) if given["issuer"] else None
    return load_client(given["connection"], program, issuer)


def _passed(olds: Properties) -> bool:
    return bool((olds.get("result") or NOT_DONE).get("passed"))


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
