"""`etcd-cluster load-check`: loads a running cluster as a size promises, and judges what it measures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from etcd_cluster.cli.clusters import Cluster, selected_cluster, with_few_attempts
from etcd_cluster.cli.command import OUTPUT, Command, CommandError, ExitCode, Option
from etcd_cluster.cli.load_client import OPTIONS, client_of, require_use
from etcd_cluster.cli.signals import interruptible
from etcd_cluster.errors import Explanation
from etcd_cluster.etcd.sizes import SIZES, size_named

if TYPE_CHECKING:
    from etcd_cluster.load_check.load import Load
    from etcd_cluster.load_check.run import LoadSettings
    from etcd_cluster.load_check.verdict import Measured, Verdict

DESCRIPTION = """\
Loads a cluster for a minute with the clients and requests of its size's row in the hardware table, half writes and half
linearizable reads, by etcd's own `benchmark` on the machine of a follower, or on one that --from names. Then it says
which limits were kept: requests a second and latencies; 10 ms for 99 % of the log's syncs and 25 ms for 99 % of the
database's commits, as etcd needs them of a disk; no change of the leader.

A cluster in production is slowed down by it, so --yes is asked for. Its own keys are removed at the end, also if it is
interrupted; the space that they took is used again after etcd's next compaction. It is refused where the quota or a
disk would not bear it. Everything is on a page, and beside it as JSON.

exit codes:
  0  all limits were kept
  1  a limit was broken
  2  not loaded: no --yes, a cluster that is not well or would not bear it, a wrong option, no such stack"""


def run(options: argparse.Namespace) -> ExitCode:
    """Loads the cluster.

    Args:
        options: The global ones, `size`, `seconds`, `check_perf`, `yes`, `clean`, `client`, `host_key`, `identity`,
            `html`, `archive` and `output`.
    """
    from etcd_cluster.load_check.files import keep, require_writable
    from etcd_cluster.load_check.load import Load
    from etcd_cluster.load_check.run import LoadCheckRefusedError, check, clean
    from etcd_cluster.member.machines import say
    from etcd_cluster.rollout.machines import ClusterMachines

    require_use(options)
    cluster = selected_cluster(options, secrets=True)
    desired, file = cluster.desired(), _file(options, cluster)
    size = size_named(options.size or str(cluster.rollout.get("size") or "small"))
    load = Load.of(size, options.seconds, with_check_perf=options.check_perf)
    if not options.clean:
        _require_yes(options, load)
        require_writable(file)
    with interruptible(), ClusterMachines(desired.members, with_few_attempts(cluster.connections)) as machines:
        if options.clean:
            clean(machines, list(desired.members), say)
            return ExitCode.SUCCESS
        try:
            measured, verdict = check(machines, list(desired.members), _settings(options, cluster, load), say)
        except LoadCheckRefusedError as error:
            raise CommandError(f"not loaded: {error}") from None
    keep(measured, verdict, _title(cluster), file)
    _print(options, measured, verdict, file)
    return ExitCode.SUCCESS if verdict.passed else ExitCode.NOT_HEALTHY


def length(text: str) -> int:
    """Returns the value of `--seconds`.

    Raises:
        argparse.ArgumentTypeError: It is not a whole number from 10 to 3,600.
    """
    if not text.isdecimal() or not 10 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: not a whole number of seconds from 10 to 3600")
    return int(text)


def _require_yes(options: argparse.Namespace, load: Load) -> None:
    if not options.yes:
        raise CommandError(
            str(
                Explanation(
                    f"this loads a running cluster ({load.text}), and slows its clients down meanwhile",
                    "your consent",
                    "add --yes, at a time that suits its clients",
                )
            )
        )


def _settings(options: argparse.Namespace, cluster: Cluster, load: Load) -> LoadSettings:
    from etcd_cluster.load_check.run import LoadSettings
    from etcd_cluster.member.render import url

    desired = cluster.desired()
    # By address: names are for clients elsewhere.
    urls = [url(each.address, each.ports.client, desired.tls) for each in desired.members.values()]
    benchmark = {"source": "archive", "archive": options.archive} if options.archive else {}
    return LoadSettings(
        load, cluster.outputs["endpoints"] if options.client else urls, benchmark, client_of(options, cluster)
    )


def _file(options: argparse.Namespace, cluster: Cluster) -> Path:
    from etcd_cluster.load_check.files import kept_page

    project, stack, name = _title(cluster).split("/", 2)
    file: Path = options.html or kept_page(project, stack, name)
    return file.absolute()


def _title(cluster: Cluster) -> str:
    # The Pulumi CLI takes OWNER/PROJECT/STACK as well.
    return f"{cluster.stack.project.name}/{cluster.stack.name.rpartition('/')[2]}/{cluster.name}"


def _print(options: argparse.Namespace, measured: Measured, verdict: Verdict, file: Path) -> None:
    from etcd_cluster.cli.members import table
    from etcd_cluster.load_check import text
    from etcd_cluster.load_check.verdict import as_json

    if options.output == "json":
        print(json.dumps({**as_json(measured, verdict), "page": str(file)}, indent=2, ensure_ascii=False))
        return
    rows = [
        (
            f"{each.quantity.value}{f' of {each.member}' if each.member else ''}",
            text.limit_text(each),
            text.measured_text(each),
            "kept" if each.kept else "broken",
        )
        for each in verdict.judgements
    ]
    print(table((("WHAT", "LIMIT", "MEASURED", "RESULT"), *rows)))
    if measured.check_perf is not None:
        print(f"\n{text.check_perf(measured.check_perf)}")
        for line in measured.check_perf.lines:
            print(f"  {line}")
    print(f"\npage  {file}")
    print(f"passed: {text.success(measured)}" if verdict.passed else f"failed: {text.failure(measured, verdict)}")
    sys.stdout.flush()


COMMAND = Command(
    name="load-check",
    summary="load the cluster as its size promises, and judge its disks and latencies",
    description=DESCRIPTION,
    examples=(
        ("etcd-cluster load-check --stack prod --yes", "its own size, before it goes into production"),
        ("etcd-cluster load-check --size medium --yes", "would it bear the next size?"),
        ("etcd-cluster load-check --from app-1.example --yes", "as clients on that machine see it"),
        ("etcd-cluster load-check --clean", "removes what a check left that was killed"),
    ),
    options=(
        Option(
            "--size",
            "row of the hardware table (default: the cluster's own)",
            {"choices": tuple(SIZES), "default": None},
        ),
        Option(
            "--seconds",
            "length (default: 60); longer shows a disk, or a processor, whose credit runs out",
            {"metavar": "SECONDS", "type": length, "default": None},
        ),
        *OPTIONS,
        Option(
            "--check-perf",
            "then run etcd's own `check perf` of that size as well, for comparison",
            {"action": "store_true"},
        ),
        Option("--yes", "load it: its clients get slower for a minute", {"action": "store_true"}),
        Option(
            "--clean", "load nothing, only remove what an earlier one left that was killed", {"action": "store_true"}
        ),
        Option(
            "--html",
            "where the page is written (default: among the project's data on this machine)",
            {"metavar": "FILE", "type": Path, "default": None},
        ),
        Option("--archive", "the program `benchmark`, where Go cannot build it", {"metavar": "FILE", "default": None}),
        OUTPUT,
    ),
    run=run,
)
