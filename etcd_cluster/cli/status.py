"""`etcd-cluster status`: compares what the last `up` asked for with what the machines report now."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etcd_cluster.cli.clusters import Cluster, recorded_backups, selected_cluster, with_few_attempts
from etcd_cluster.cli.command import OUTPUT, Command, CommandError, ExitCode, Option
from etcd_cluster.clocks import current_time
from etcd_cluster.errors import EtcdClusterError

if TYPE_CHECKING:
    from etcd_cluster.rollout.backup_status import DesiredBackups
    from etcd_cluster.rollout.status import CASchedule, ClusterStatus, Schedules

WATCH_SECONDS = 5.0
_CLEAR = "\x1b[H\x1b[2J"
LEGEND = "LAG: log entries not applied yet, none up to 100. DISK: used part of the file system that holds the data."
_LABEL = f"{'legend':<12}"

DESCRIPTION = """\
Shows how a cluster stands: one row a member, then what concerns all of them. It asks every machine, over
SSH or here, and changes nothing. A machine that does not answer takes about ten seconds, and shows as
unreachable.

columns:
  STATE         leader, follower, learner; not healthy; no leader: cut off from the others; unknown: it
                runs and does not answer; down; unreachable, with the reason below the table
  ETCD          the version that runs
  DATABASE      its size, and the part of the quota that it takes
  LAG           entries of raft's log that other members have and this one has not applied yet; up to 100
                is none
  DISK          used part of the file system that holds the data
  CERTIFICATES  the earlier end of its two certificates; due: the next `up` renews them
  DRIFT         how the machine differs from what the last `up` made of it
  peers         below the table: running members that do not reach one another
  backups       below the table: where they go; ages of the newest, and of the newest that passed a restore;
                when the next one is made. Late: the newest is older than two intervals, or a test overdue
  next up       below the table: the first thing that an `up` would do though nothing was changed in the
                program

exit codes:
  0  all is well
  1  drift, an alarm, a member that is not healthy, does not reach another one or may not change the cluster,
     late or failed backups, or anything that the next `up` would do
  2  no answer: a wrong option, no such stack or cluster, a state that cannot be read
With --watch, Ctrl-C ends with the code of the last answer."""

Answer = tuple[ExitCode, str]


def run(options: argparse.Namespace) -> ExitCode:
    """Answers once, or again and again.

    Args:
        options: The global ones, `output`, `html`, and `watch`: seconds between two answers, or None.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        from etcd_cluster.ssh.processes import ChildProcesses

        stopped.set()
        ChildProcesses.stop_all()

    if options.html and (options.watch is not None or options.output == "json"):
        raise CommandError("--html: a page is made once, and is for people. Leave out --watch and --output json")
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _once(options, stopped) if options.watch is None else _watch(options, stopped)
    except EtcdClusterError:
        if stopped.is_set():
            return ExitCode.INTERRUPTED
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _once(options: argparse.Namespace, stopped: threading.Event) -> ExitCode:
    code, text = _answer(options)
    print(text)
    return ExitCode.INTERRUPTED if stopped.is_set() else code


def _watch(options: argparse.Namespace, stopped: threading.Event) -> ExitCode:
    """Answers until a signal comes. The state is read again each time: an `up` may have changed it."""
    code, text = _answer(options)
    while not stopped.is_set():
        print(f"{_CLEAR}{text}" if sys.stdout.isatty() and options.output == "table" else text, flush=True)
        if stopped.wait(options.watch):
            break
        try:
            answer = _answer(options)
        except EtcdClusterError as error:
            answer = ExitCode.NO_ANSWER, _problem(options, error)
        if not stopped.is_set():
            code, text = answer
    return code


def _problem(options: argparse.Namespace, error: EtcdClusterError) -> str:
    return json.dumps({"error": str(error)}) if options.output == "json" else f"error: {error}"


def _answer(options: argparse.Namespace) -> Answer:
    """Returns the exit code, and what is printed. With `--watch`, JSON is one line."""
    from etcd_cluster.rollout.status import as_json, as_text
    from etcd_cluster.rollout.status_page import as_html

    status = look(selected_cluster(options, secrets=True))
    code = ExitCode.SUCCESS if status.ok else ExitCode.NOT_HEALTHY
    if options.html:
        return code, as_html(status)
    if options.output == "json":
        return code, json.dumps(as_json(status), indent=None if options.watch else 2, ensure_ascii=False)
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return code, f"{as_text(status, colours=colours)}\n{_LABEL}{LEGEND}"


def look(cluster: Cluster) -> ClusterStatus:
    """Asks every machine of the cluster.

    Args:
        cluster: A cluster of a stack that was read with its secrets.

    Raises:
        EtcdClusterError: Nothing can be asked: there is no `ssh` here, or the state is not that of a cluster.
    """
    from etcd_cluster.rollout.machines import ClusterMachines
    from etcd_cluster.rollout.planner.run_context import RunContext
    from etcd_cluster.rollout.status import cluster_status

    desired = cluster.desired()
    with ClusterMachines(desired.members, with_few_attempts(cluster.connections)) as machines:
        observation = machines.observe(disk=True, users=RunContext().users_to_ask(desired))
    now = current_time()
    return cluster_status(desired, observation, schedules(cluster), now, desired_backups(cluster))


def desired_backups(cluster: Cluster) -> DesiredBackups | None:
    """Returns where and when backups are to be made; None for a cluster without any."""
    from etcd_cluster.rollout.backup_status import DesiredBackups

    props = recorded_backups(cluster.stack, cluster.name)
    return None if props is None else DesiredBackups.parse(props)


def schedules(cluster: Cluster) -> Schedules:
    """Returns when the cluster's CAs are rotated. The CA of clients may be one that the program made elsewhere."""
    from etcd_cluster.member.render import Transport
    from etcd_cluster.rollout.status import CASchedule

    nothing = CASchedule()
    made = {name: _schedule(inputs) for name, inputs in cluster.cas.items()}
    others = ("-peer-ca", "-monitoring-ca")
    of_clients = {name: schedule for name, schedule in made.items() if not name.endswith(others)}
    first = next(iter(of_clients.values()), nothing)
    return {
        Transport.CLIENT: of_clients.get(f"{cluster.name}-ca", first),
        Transport.PEER: made.get(f"{cluster.name}-peer-ca", nothing),
    }


def _schedule(ca: Mapping[str, Any]) -> CASchedule:
    from etcd_cluster.rollout.status import CASchedule

    return CASchedule(ca.get("rotate_after") or "", ca.get("drop_after") or "")


def seconds(text: str) -> float:
    """Returns the value of `--watch`.

    Raises:
        argparse.ArgumentTypeError: It is not a number from 1 to 86,400.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text}: not a number of seconds from 1 to 86400")
    return value


COMMAND = Command(
    name="status",
    summary="health, leader, versions, database, certificates and drift: one row a member",
    description=DESCRIPTION,
    examples=(
        ("etcd-cluster status --stack prod", "a table"),
        ("etcd-cluster status --stack prod --watch 10", "again every ten seconds"),
        ("etcd-cluster status --output json", "for programs; with --watch, one line each time"),
        ("etcd-cluster status --html > status.html", "one page, to look at, to send or to print"),
        ("etcd-cluster status >/dev/null || mail ...", "for cron"),
    ),
    options=(
        OUTPUT,
        Option("--html", "one HTML page that needs no other file", {"action": "store_true"}),
        Option(
            "--watch",
            f"answer again every SECONDS (default: {WATCH_SECONDS:g}), until Ctrl-C",
            {"metavar": "SECONDS", "type": seconds, "nargs": "?", "const": WATCH_SECONDS, "default": None},
        ),
    ),
    run=run,
)
