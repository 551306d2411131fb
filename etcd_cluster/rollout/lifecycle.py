"""Brings a cluster to the desired state of a Rollout: observe, carry out one action, observe again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    UpdateResult,
)

from etcd_cluster.backup.files import MemberPlace, schedule_of, variables
from etcd_cluster.backup.store import StoreUrl
from etcd_cluster.clocks import current_time
from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.lifecycle import Lifecycle, Properties, Schema, same
from etcd_cluster.member import render
from etcd_cluster.member.lines import (
    BackUp,
    Log,
    PeerLog,
    PrepareAgain,
    PrepareRestore,
    Probe,
    PutRestored,
    RaftPosition,
    Remove,
    Restore,
    SetUsers,
)
from etcd_cluster.member.machines import STEP_SECONDS, MemberMachines, Place, RecordedPlace, StepFailedError, say
from etcd_cluster.rollout import changes
from etcd_cluster.rollout.backup_status import DesiredBackups, warnings
from etcd_cluster.rollout.desired import DesiredCluster, DesiredMember
from etcd_cluster.rollout.machines import OBSERVATION_SECONDS, ClusterMachines
from etcd_cluster.rollout.observed import BrokenPair, Observation
from etcd_cluster.rollout.planner import alarms, differences, messages, next_action, users
from etcd_cluster.rollout.planner.actions import HEALTH_SECONDS, Action, HostStep, Refusal, WaitFor, WarningKind
from etcd_cluster.rollout.planner.refusals import RefusedError
from etcd_cluster.rollout.planner.run_context import RunContext
from etcd_cluster.rollout.repetitions import MOST_REPETITIONS, Repetitions
from etcd_cluster.ssh.connection import SshConnectionLostError, SshNoAnswerError
from etcd_cluster.ssh.processes import CommandTimeoutError

SHOWN = (
    "version",
    "tls",
    "size",
    "etcd",
    "members",
    "places",
    "ca_fingerprints",
    "peer_ca_fingerprints",
    "allow_plaintext",
    "users",
    "roles",
    "restore_from",
    "names",
    "restoration",
    "defragment",
    "delete_data",
)
"""The inputs whose changes a reviewer sees."""
INPUTS = (*SHOWN, "desired", "connections", "record", "former", "given_up", "steps", "drift", "backups")
LOOK_AGAIN_SECONDS = 0.3
REMOVE_SECONDS = 120
FORGET = "ETCD_CLUSTER_FORGET"
"""Environment variable: names of members whose machines are gone for good, separated by commas or spaces."""
MOST_PAIRS = 3
"""Pairs of members that do not reach one another, of which a run shows the logs when it ends."""
MOST_WAITING_SECONDS = 600
"""Limit for all waiting between two actions: more than several waits one after the other."""
OF_A_DEVELOPMENT_VERSION = Explanation(
    "this stack was made by a development version of etcd-cluster, whose state had other names",
    "a stack of this version",
    "destroy it with the version that made it, which keeps the data, then run `pulumi up` with this one (CHANGELOG.md)",
)


class NotRemovedError(EtcdClusterError):
    """Members that were to be removed from their machines may still run there. The text names each, and why."""


class RolloutLifecycle(Lifecycle):
    """Refuses in the preview what cannot be done safely. An `up` looks for drift, and does what is left to do."""

    schema: ClassVar[Schema] = Schema(defaults={"connections": {}, "former": {}, "etcd": {}, "tls": True})

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Refuses unsafe changes, describes the steps of a change, and looks for drift in an `up` without changes."""
        news = dict(news)
        looks = news.pop("looks")
        if olds and "desired" not in olds:
            return CheckResult(news, [CheckFailure("", str(OF_A_DEVELOPMENT_VERSION))])
        refused = changes.refusals(olds, news) if olds else changes.first_refusals(news)
        failures = [CheckFailure("", str(each.explanation)) for each in refused]
        news["steps"] = _steps(olds, news)
        news["given_up"] = changes.given_up(olds, news)
        news["drift"] = drift(news) if olds and looks and not failures and not _changed(olds, news) else []
        return CheckResult(news, failures)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if an input differs, or if there is drift. No input replaces the resource."""
        return DiffResult(changes=_changed(olds, news) or bool(news["drift"]), replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Brings the cluster to its desired state. It may have to be formed first."""
        _bring_about(props, {}, RunContext(forming=True))
        return CreateResult(DesiredCluster.parse(props["desired"]).token, _inputs(props))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Shows the drift that was found, and brings the cluster to its new desired state."""
        for line in news["drift"] or ():
            say(line)
        _bring_about(news, olds, _context(news, restoring=changes.restores(olds, news)))
        return UpdateResult(_inputs(news))

    def delete(self, id_: str, props: Properties) -> None:
        """Removes members from machines that outlive the cluster.

        If the stack has a record of its hosts, that record removes them: see host_record.py.
        """
        if props.get("record"):
            return
        desired = DesiredCluster.parse(props["desired"])
        staying = [name for name, member in desired.members.items() if member.outlives_destroy]
        with ClusterMachines(desired.members, props["connections"]) as machines:
            remove(
                staying,
                machines,
                _owner(desired),
                len(desired.members),
                delete_data=desired.delete_data,
                left_out=False,
            )

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns the recorded properties; no machine is asked."""
        return ReadResult(id_, props, _inputs(props))


def roll_out(desired: DesiredCluster, machines: ClusterMachines, context: RunContext) -> Observation:
    """Observes, carries out the next action, and observes again, until nothing is left to do.

    Args:
        desired: The desired state.
        machines: The machines of all members.
        context: What this run knows.

    Returns:
        The last observation.

    Raises:
        RefusedError: The next action must not be carried out.
        StepFailedError: An action failed. What was done until then stays done; the next run goes on from there.
    """
    looked_at, repetitions, restarted = time.monotonic(), Repetitions(), set[str]()
    context.permitted = set()
    machines.observe(claim=context.run)
    # Observe again: another run may claim one machine while this one claims the others.
    observation = machines.observe(rights=True, users=context.users_to_ask(desired))
    require_claimed(observation, context.run, desired.token)
    context.learn(observation)
    while (action := next_action(desired, observation, context)) is not None:
        if isinstance(action, WaitFor):
            _wait(action, observation, machines, context, time.monotonic() - looked_at)
        else:
            context.waited.clear()
            if repetitions.is_futile(action, observation):
                raise RefusedError(Refusal.FUTILE, {"action": action, "times": MOST_REPETITIONS})
            _carry_out(action, desired, observation, machines, context)
            restarted |= {step.member for step in action.steps if not step.only_restores}
        looked_at = time.monotonic()
        observation = machines.observe(
            rights=context.lacks_rights(observation), users=context.users_to_ask(desired), restarted=restarted
        )
        restarted -= observation.connected_both_ways
        require_claimed(observation, context.run, desired.token)
        context.learn(observation)
    prove(desired, observation, machines, context)
    return observation


def require_claimed(observation: Observation, run: str, token: str = "") -> None:
    """Raises `RefusedError` unless this run has claimed all machines: two runs that each claimed some would both act.

    Args:
        observation: What the machines report.
        run: Id of this run.
        token: Token of the cluster; "" to check all machines. A machine with data of another cluster is not claimed,
            and is refused for that.
    """
    ours = {name: host for name, host in observation.hosts.items() if not token or host.token in ("", token)}
    lost = [name for name, host in ours.items() if host.claim not in ("", run)]
    if lost:
        raise RefusedError(Refusal.TAKEN_OVER, {"members": lost})


def prove(desired: DesiredCluster, observation: Observation, machines: ClusterMachines, context: RunContext) -> None:
    """Checks that a write works at every member, as clients do it: with the exported certificate, at the exported URL.

    Each member is asked on its own machine, all at once.

    Args:
        desired: The desired state.
        observation: The last observation.
        machines: The machines of all members.
        context: What this run knows.

    Raises:
        StepFailedError: A member takes no write.
        RefusedError: The members do not belong to one cluster.
    """

    def probe(name: str) -> str:
        line = Probe(desired.members[name].member.client_url(desired.tls), HEALTH_SECONDS, tls=desired.tls)
        variables = render.client_variables("".join(desired.trusted), desired.client)
        return machines.run(name, line, variables, run=context.run, say=say, timeout_seconds=STEP_SECONDS)

    answers = machines.on_all(list(desired.members), probe)
    for name, answer in answers.items():
        if isinstance(answer, EtcdClusterError):
            raise answer
        if not answer.strip().isdigit():
            raise StepFailedError(f"{name}: a write works there, but the answer names no cluster; run again")
    ids = {name: f"{int(answer):x}" for name, answer in answers.items()}
    if set(ids.values()) != {observation.cluster_id}:
        details = {"found": ids, "cluster": observation.cluster_id}
        raise RefusedError(Refusal.ENDPOINTS_OF_DIFFERENT_CLUSTERS, details)
    leads = f"; {observation.leader} leads" if observation.leader and len(ids) > 1 else ""
    say(f"all {len(ids)} members are healthy and take writes{leads}")


def _wait(
    wait: WaitFor, observation: Observation, machines: ClusterMachines, context: RunContext, passed: float
) -> None:
    waited = context.waited.get(wait.limit, 0.0) + passed + LOOK_AGAIN_SECONDS
    context.waited[wait.limit] = waited
    # Waits that alternate would never reach their own limits.
    all_waits = sum(context.waited.values())
    if waited > wait.seconds or all_waits > MOST_WAITING_SECONDS:
        seconds = min(wait.seconds if waited > wait.seconds else all_waits, MOST_WAITING_SECONDS)
        log = _logs_on(wait.pairs, observation, machines) or _log_of(wait.member, observation, machines)
        raise RefusedError(wait.reason, wait.details, f"This run waited {seconds:.0f} seconds.{log}")
    time.sleep(LOOK_AGAIN_SECONDS)


def _log_of(member: str | None, observation: Observation, machines: ClusterMachines) -> str:
    if member is None or member not in observation.hosts:
        return ""
    with contextlib.suppress(EtcdClusterError):
        return "\n" + machines.run(member, Log(), timeout_seconds=OBSERVATION_SECONDS).strip()
    return ""


def _logs_on(pairs: Sequence[BrokenPair], observation: Observation, machines: ClusterMachines) -> str:
    """Returns the last line on the other member from the log of each one, for the first pairs."""
    both_ways = dict.fromkeys(way for pair in pairs for way in ((pair.member, pair.peer), (pair.peer, pair.member)))
    ids = {name: host.live.id for name, host in observation.hosts.items() if host.live}
    ids |= {member.name: member.id for member in observation.members}
    lines: list[str] = []
    for name, peer in [*both_ways][: 2 * MOST_PAIRS]:
        if name in observation.hosts:
            with contextlib.suppress(EtcdClusterError):
                line = machines.run(name, PeerLog(ids[peer], peer), timeout_seconds=OBSERVATION_SECONDS).strip()
                lines.append(f"\n{name}, on {peer}: {line or 'no line in its log'}")
    return "".join(lines)


def _carry_out(
    action: Action, desired: DesiredCluster, observation: Observation, machines: ClusterMachines, context: RunContext
) -> None:
    """Runs all steps of an action at once; then raises the first failure, or goes on with what follows it."""
    steps = {step.member: step for step in action.steps}

    def do(name: str) -> str:
        step = steps[name]
        if isinstance(step.line, Restore) and step.line.file:
            machines.deliver(name, Path(_restored_file(desired)), step.line.file, step.line.sha256)
        return machines.run(
            name,
            step.line,
            _variables(step, desired),
            run=context.run,
            progress=messages.summary(action),
            say=say,
            timeout_seconds=STEP_SECONDS,
        )

    answers = machines.on_all(list(steps), do)
    for name, answer in answers.items():
        if isinstance(answer, StepFailedError):
            raise StepFailedError(f"{answer}\nThe run stopped there; the next `up` starts with {name}")
        if isinstance(answer, EtcdClusterError):
            raise answer
        context.note(steps[name], answer, index=observation.index)
    if action.then is not None:
        _carry_out(action.then, desired, observation, machines, context)


def _variables(step: HostStep, desired: DesiredCluster) -> Mapping[str, str]:
    if isinstance(step.line, PrepareAgain):
        return desired.members[step.member].prepare_variables
    restoration = desired.restoration
    if isinstance(step.line, PrepareRestore | PutRestored | RaftPosition) and restoration is not None:
        own = {"cluster": desired.cluster, "token": desired.token}
        root = isinstance(step.line, PrepareRestore) and step.line.users
        as_root = render.client_variables("".join(desired.trusted), desired.root) if root else {}
        return {**restoration.variables.get(step.member, own), **as_root}
    if isinstance(step.line, BackUp) and restoration is not None and restoration.schedule is not None:
        return _backup_variables(restoration.schedule, desired, step.member)
    if isinstance(step.line, Restore) and desired.restored is not None:
        return desired.restored.variables
    if isinstance(step.line, SetUsers):
        requests = "\n".join(" ".join(render.encode(word) or "-" for word in each.words) for each in step.requests)
        return {"requests": requests, **render.client_variables("".join(desired.trusted), desired.root)}
    manifest = "\n".join(f"{file.mode} {file.owner} {render.encode(file.content)} {file.path}" for file in step.files)
    history = render.encode(step.history.text()) if step.history else ""
    return {"manifest": manifest, "history": history}


def _restored_file(desired: DesiredCluster) -> str:
    found = desired.restoration or desired.restored
    return found.file.path if found and found.file else ""


def _backup_variables(props: Mapping[str, Any], desired: DesiredCluster, name: str) -> Mapping[str, str]:
    member, to = desired.members[name], str(props["to"])
    place = MemberPlace(name, member.layout, member.ports)
    store = replace(StoreUrl.parse(to), encrypted=props["encrypted"] is True)
    return variables(desired.cluster, desired.token, place, store, to, schedule_of(props))


def _bring_about(news: Properties, olds: Properties, context: RunContext) -> None:
    """Brings the cluster to the desired state, then removes former members from their machines.

    These are members that leave, and members on former hosts, once the cluster has removed them.

    Args:
        news: The new inputs.
        olds: The inputs of the last rollout that ended well; {} if none did.
        context: What this run knows.
    """
    desired, connections = DesiredCluster.parse(news["desired"]), dict[str, Any](news["connections"])
    context.latest = changes.keys_of_latest(news)
    leaving: dict[str, Place] = {}
    count = len(desired.members)
    handled: Mapping[str, Any] = olds.get("former") or {}
    former: Mapping[str, Any] = news.get("former") or {}
    for name, host in former.items():
        if host.get("moved") and not context.forming and not context.restoring:
            continue  # the cluster was formed: its members know where each of them is
        if name not in desired.members and not same(handled.get(name), host):
            leaving[name] = RecordedPlace.parse(host)
            if host.get("connection"):
                connections[name] = host["connection"]
    if olds:
        before = DesiredCluster.parse(olds["desired"])
        context.users_before = before.users
        count = len(before.members)
        for name, member in before.members.items():
            if name not in desired.members and name not in leaving:
                leaving[name] = member
                if name in olds["connections"]:
                    connections[name] = olds["connections"][name]
    with ClusterMachines({**leaving, **desired.members}, connections, leaving, token=desired.token) as machines:
        observation = roll_out(desired, machines, context)
        staying = [
            name
            for name, place in leaving.items()
            if (not isinstance(place, DesiredMember) or place.outlives_destroy)
            and not (context.restoring and former.get(name, {}).get("moved"))
            and not _is_a_members(name, desired, observation)
        ]
        remove(
            staying,
            machines,
            _owner(desired),
            count,
            delete_data=False,
            left_out=True,
            record=news.get("record") or "",
        )
    _warn(news, desired, observation, context)


def _warn(news: Properties, desired: DesiredCluster, observation: Observation, context: RunContext) -> None:
    """Tells of late and failed backups, databases that are about to end all writes, and what others made of users."""
    if news.get("backups"):
        backups, now = DesiredBackups.parse(news["backups"]), current_time()
        for line in warnings(backups, observation, desired.by_systemd, now):
            say(line)
    for details in alarms.nearly_full(observation):
        say(messages.text(WarningKind.DATABASE_NEARLY_FULL, details))
    for kind, details in users.user_warnings(desired, observation, context.authentication):
        say(messages.text(kind, details))


def _is_a_members(name: str, desired: DesiredCluster, observation: Observation) -> bool:
    """Returns whether the machine of a leaving member is a current member's, under another name or address.

    Cloned machines have one id as well, but not the data of one member.
    """
    host, ours = (
        observation.hosts.get(name),
        (observation.hosts[each] for each in desired.members if each in observation.hosts),
    )
    return host is not None and any(
        host.machine == each.machine and len({host.owner, each.owner} - {""}) < 2 for each in ours
    )


def _owner(desired: DesiredCluster) -> Mapping[str, str]:
    return render.remove_variables(desired.cluster, desired.token)


def remove(
    names: Sequence[str],
    machines: MemberMachines,
    owner: Mapping[str, str],
    count: int,
    *,
    delete_data: bool,
    left_out: bool,
    record: str = "",
) -> None:
    """Stops members and removes programs and keys from their machines, all at once.

    Their data stay, unless `delete_data` is set. What cannot be stopped is an error: the resource then stays in the
    stack, and the next run tries again. A machine that nothing answers on may be gone for good, and is passed over with
    a warning if a person said so by name: by taking the host out of the stack, or in the environment (`FORGET`). One
    that was taken out and is named, too, is passed over in any case: its member does not belong to the cluster.

    Args:
        names: Names of the members.
        machines: Their machines.
        owner: `render.remove_variables` of the cluster.
        count: Number of the cluster's members.
        delete_data: Deletes their data as well.
        left_out: The hosts were taken out of the stack.
        record: Id of the HostRecord; "" for none. A machine that holds another id is left alone, as is one that runs
            another cluster's etcd by now.

    Raises:
        NotRemovedError: A member was not stopped. All others were.
    """
    run, line = RunContext().run, Remove(count, delete_data=delete_data is True, record=record)

    def do(name: str) -> str:
        return machines.run(name, line, owner, run=run, say=say, timeout_seconds=REMOVE_SECONDS)

    answers = machines.on_all(names, do)
    failed = {name: answer for name, answer in answers.items() if isinstance(answer, EtcdClusterError)}
    forgotten = os.environ.get(FORGET, "").replace(",", " ").split()
    for name, error in list(failed.items()):
        is_silent = isinstance(error, SshNoAnswerError)
        if sum((left_out, name in forgotten, is_silent)) >= 2:  # silence alone, or a person's word alone, is not enough
            say(
                f"warning: {name}: its etcd was not stopped, and nothing was removed from its machine: {error}. If the "
                "machine comes back, stop etcd there (systemctl disable --now etcd-cluster)"
            )
            del failed[name]
    if failed:
        raise NotRemovedError("\n".join(str(_not_removed(name, each, left_out)) for name, each in failed.items()))


def _not_removed(name: str, error: EtcdClusterError, left_out: bool) -> Explanation:
    is_unknown = isinstance(error, SshConnectionLostError | CommandTimeoutError)
    state = "it is unknown whether its etcd was stopped" if is_unknown else "its etcd was not stopped"
    if left_out:
        fix = f"fix the cause and run this again, or, if the host is not yours any more, set {FORGET}={name}"
    elif isinstance(error, SshNoAnswerError):
        fix = f"run this again once the machine answers, or, if it is gone for good, set {FORGET}={name}"
    else:
        fix = f"fix the cause and run this again ({FORGET} is only for machines that do not answer)"
    return Explanation(f"{name}: {state}: {str(error).rstrip('.')}", "etcd stopped before its machine leaves", fix)


def drift(news: Properties) -> list[str]:
    """Returns what was changed by hand, or broke, one line a member; empty if an `up` has nothing to do.

    A cluster that is just busy, or cannot be asked, counts as drift as well: the update then says why.
    """
    desired = DesiredCluster.parse(news["desired"])
    try:
        with ClusterMachines(desired.members, news["connections"]) as machines:
            context = replace(_context(news), users_before=desired.users)
            observation = machines.observe(users=context.users_to_ask(desired))
        context.learn(observation)
        _warn(news, desired, observation, context)
        action = next_action(desired, observation, context)
    except RefusedError as error:
        return [error.explanation.problem]  # the update says what to do
    except EtcdClusterError as error:
        return str(error).splitlines()
    if action is None:
        return []
    found = {name: differences(desired, observation, name) for name in desired.members}
    lines = [f"{name}: found: {', '.join(map(messages.describe, each))}" for name, each in found.items() if each]
    return lines or [messages.describe(action)]


def _context(news: Properties, *, restoring: bool = False) -> RunContext:
    return RunContext(restoring=restoring, given_up=frozenset(news.get("given_up") or ()))


def _steps(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Returns the steps of a change. Without a change, the last steps stay, so that the preview shows no difference."""
    if not olds:
        return changes.first_steps(news)
    if not _changed(olds, news):
        return list(olds.get("steps") or [])
    steps = changes.steps(olds, news) or changes.steps_of_the_rest(olds, news)
    return [*steps, *changes.dropped_names(olds, news)]


def _changed(olds: Mapping[str, Any], news: Mapping[str, Any]) -> bool:
    return any(not same(olds.get(name), news.get(name)) for name in (*SHOWN, "desired", "connections", "former"))


def _inputs(props: Mapping[str, Any]) -> Properties:
    return {name: props.get(name) for name in INPUTS}
