"""Runs a load check on the machines of a cluster: looks at them, loads, samples meanwhile, and judges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etcd_cluster.clocks import CLOCK_TOLERANCE_SECONDS, are_apart, describe
from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.install.load_generator import place_benchmark
from etcd_cluster.load_check.generator import Requests
from etcd_cluster.load_check.load import CHECK_PERF_SECONDS, Load, client_problem, disk_problem, quota_problem
from etcd_cluster.load_check.samples import DATABASE, IS_LEADER, QUOTA, Sample
from etcd_cluster.load_check.verdict import CheckPerf, Limits, Measured, Verdict, judge
from etcd_cluster.member.answers import answered_facts
from etcd_cluster.member.lines import RunLoad, SampleLoad
from etcd_cluster.member.machines import MemberMachines
from etcd_cluster.rollout.machines import ClusterMachines
from etcd_cluster.rollout.observed import Observation
from etcd_cluster.ssh.connection import parse_connection

if TYPE_CHECKING:
    from etcd_cluster.load_check.client import LoadClient

SAMPLE_SECONDS = 5.0
SAMPLE_LIMIT_SECONDS = 60
LIMITS = Limits()
SPARE_SECONDS = 1200
"""What a load check may wait for besides its load: another one (600 s at most), keys of an earlier one, cleaning up."""

Say = Callable[[str], None]


class LoadCheckRefusedError(EtcdClusterError):
    """The cluster was not loaded: it could not have borne it, or it is not well."""


class HoldsKeysError(LoadCheckRefusedError):
    """The cluster was not loaded, as it holds keys: somebody may use it already."""


@dataclass(frozen=True)
class LoadSettings:
    """How a cluster is loaded.

    Args:
        load: The load.
        urls: Client URLs of all members.
        benchmark: Where `benchmark` comes from: the fields of `LoadGenerator`.
        client: The machine that generates the load, entered once the cluster bears it; None for that of a follower.
        only_without_keys: Refuses a cluster that holds keys.
        compact: Drops the history of the cluster's keys at the end.
    """

    load: Load
    urls: Sequence[str]
    benchmark: Mapping[str, Any]
    client: AbstractContextManager[LoadClient | None] = field(default_factory=nullcontext[None])
    only_without_keys: bool = False
    compact: bool = False


def check(
    machines: ClusterMachines, names: Sequence[str], settings: LoadSettings, say: Say
) -> tuple[Measured, Verdict]:
    """Loads a cluster and judges it. What it wrote is gone when it returns, and when it is killed as well.

    Args:
        machines: The machines of all members.
        names: Names of the members.
        settings: What is to be done.
        say: Called with each line of progress.

    Raises:
        LoadCheckRefusedError: The cluster is not loaded, for a reason.
        EtcdClusterError: A machine cannot be asked, or a step failed on it.
    """
    observation = _require_health(machines, names)
    found = _sample(machines, names)
    _require_room(settings.load, found)
    generator = _generator(found)
    if settings.only_without_keys:  # before anything is built or placed, and again under the lock of the load check
        line = RunLoad(clean=True, only_without_keys=True)
        _require_no_keys(_facts(machines.run(generator, line, timeout_seconds=SPARE_SECONDS, say=say)))
    with settings.client as client:
        if client:
            generator = client.name
            _prepare_client(client, settings.load, observation)
        return _check(machines, names, client, generator, settings, say)


def _prepare_client(client: LoadClient, load: Load, observation: Observation) -> None:
    """Places what a client needs, if it can load the cluster.

    Raises:
        LoadCheckRefusedError: It has no room, or a member would not take its certificate: this machine dates that.
    """
    for name, ahead in observation.clocks.items():
        if client.issuer and are_apart(ahead):
            raise LoadCheckRefusedError(
                str(
                    Explanation(
                        describe(name, ahead),
                        f"clocks that are at most {CLOCK_TOLERANCE_SECONDS:.0f} s apart: this one dates the client's "
                        "certificate, and members judge it by theirs",
                        "set the wrong clock (chronyc makestep), on that machine or on this one",
                    )
                )
            )
    problem = client_problem(load, client.name, _sample_client(client).free_mib)
    if problem:
        raise LoadCheckRefusedError(str(problem))
    client.place_etcdctl()


def _check(
    machines: ClusterMachines,
    names: Sequence[str],
    client: LoadClient | None,
    generator: str,
    settings: LoadSettings,
    say: Say,
) -> tuple[Measured, Verdict]:
    """Likewise, once everything bears the load.

    Args:
        machines: The machines of all members.
        names: Names of the members.
        client: The machine that generates the load; None for a member's.
        generator: What the machine that generates the load is called.
        settings: What is to be done.
        say: Called with each line of progress.
    """
    load = settings.load
    connection = client.connection if client else machines.connection(generator)
    program = place_benchmark(parse_connection(connection) if connection else None, settings.benchmark, say)
    say(f"{generator}: loads the cluster: {load.text}")
    first = _sample(machines, names)  # anew: `benchmark` may have been built meanwhile
    if client:
        first[generator] = _sample_client(client)
    samples: dict[str, list[Sample]] = {name: [sample] for name, sample in first.items()}
    ahead = first[generator].clock - first[generator].seconds
    clock = describe(generator, ahead) if client and client.issuer and are_apart(ahead) else ""
    line, limit = _line(settings, program, client=client is not None, clock=clock), _limit_seconds(load)

    def run_load() -> str:
        if client:
            return client.machines.run(generator, line, client.variables(limit), timeout_seconds=limit, say=say)
        return machines.run(generator, line, timeout_seconds=limit, say=say)

    answer = _while_sampling(machines, client, samples, run_load)
    facts = _facts(answer)
    _require_no_keys(facts)
    began, ended = int(facts["began"]) / 1000, int(facts["ended"]) / 1000
    around = {name: _around(began - ahead, ended - ahead, samples[name]) for name in sorted(samples)}
    of_client = around.pop(client.name) if client else ()
    measured = Measured(
        load=load,
        generator=generator,
        began=began,
        ended=ended,
        writes=_requests(answer, "writes", load.writes * load.seconds, facts),
        reads=_requests(answer, "reads", load.reads * load.seconds, facts),
        clock_ahead=ahead,
        samples=around,
        of_client=of_client,
        check_perf=_check_perf(load, answer, facts),
    )
    return measured, judge(measured, LIMITS)


def clean(machines: ClusterMachines, names: Sequence[str], say: Say) -> None:
    """Removes what a load check left that was killed.

    Raises:
        EtcdClusterError: The machine cannot be asked, or the cluster takes no writes.
    """
    _require_health(machines, names)
    generator = _generator(_sample(machines, names))
    machines.run(generator, RunLoad(clean=True), timeout_seconds=SPARE_SECONDS, say=say)


def _around(began: float, ended: float, samples: Sequence[Sample]) -> list[Sample]:
    """Returns the samples of the load: from the last one before its begin to the first one after its end."""
    first = max((index for index, each in enumerate(samples) if each.seconds <= began), default=0)
    last = min((index for index, each in enumerate(samples) if each.seconds >= ended), default=len(samples) - 1)
    return list(samples[first : last + 1])


def _require_no_keys(facts: Mapping[str, str]) -> None:
    if "holds" in facts:
        raise HoldsKeysError(
            str(
                Explanation(
                    f"the cluster holds {facts['holds']} keys, so it may be in use",
                    "a cluster without keys, as one has just been formed",
                    "load it by hand, at a time that suits its clients: `etcd-cluster load-check --yes`",
                )
            )
        )


_FACTS = ("holds=", "began=", "ended=", "writes_status=", "reads_status=", "check_perf_status=")


def _facts(answer: str) -> Mapping[str, str]:
    return answered_facts("\n".join(line for line in answer.splitlines() if line.startswith(_FACTS)))


def _line(settings: LoadSettings, program: str, *, client: bool, clock: str) -> RunLoad:
    load = settings.load
    return RunLoad(
        urls=",".join(settings.urls),
        program=program,
        writes=load.writes,
        reads=load.reads,
        clients=load.clients,
        seconds=load.seconds,
        limit_seconds=load.limit_seconds,
        value_bytes=load.value_bytes,
        only_without_keys=settings.only_without_keys,
        compact=settings.compact,
        check_perf=load.check_perf,
        client=client,
        clock=clock,
    )


def _limit_seconds(load: Load) -> int:
    """Returns how long the step that loads may last."""
    return load.limit_seconds + (2 * CHECK_PERF_SECONDS if load.check_perf else 0) + SPARE_SECONDS


def _check_perf(load: Load, answer: str, facts: Mapping[str, str]) -> CheckPerf | None:
    if not load.check_perf:
        return None
    return CheckPerf(load.check_perf, facts["check_perf_status"] == "0", _lines_of(answer, "check_perf"))


def _lines_of(answer: str, name: str) -> list[str]:
    return [line.removeprefix(f"{name}:") for line in answer.splitlines() if line.startswith(f"{name}:")]


def _requests(answer: str, name: str, wanted: int, facts: Mapping[str, str]) -> Requests:
    report = "\n".join(_lines_of(answer, name))
    return Requests.parse(report, wanted, ended=facts[f"{name}_status"] == "0")


def _require_health(machines: ClusterMachines, names: Sequence[str]) -> Observation:
    observation = machines.observe()
    ill = [name for name in names if not observation.is_healthy(name)]
    if ill or observation.alarms or observation.alarms is None:
        problem = f"{', '.join(ill)}: not healthy" if ill else "an alarm stands, or nobody can be asked for alarms"
        raise LoadCheckRefusedError(
            str(
                Explanation(
                    f"the cluster is not well ({problem})",
                    "every member healthy, and no alarm, before it is loaded",
                    "run `pulumi up`, or `etcd-cluster status`, which say what it lacks",
                )
            )
        )
    return observation


def _require_room(load: Load, samples: Mapping[str, Sample]) -> None:
    database = max(each.numbers.get(DATABASE, 0.0) for each in samples.values())
    quota = min(each.numbers.get(QUOTA, 0.0) for each in samples.values())
    problems = [quota_problem(load, database, quota)]
    problems += [disk_problem(load, name, each.free_mib) for name, each in samples.items()]
    for problem in problems:
        if problem is not None:
            raise LoadCheckRefusedError(str(problem))


def _generator(samples: Mapping[str, Sample]) -> str:
    """Returns the member whose machine generates the load: a follower, since the leader has most to do."""
    return min(samples, key=lambda name: (samples[name].numbers.get(IS_LEADER, 0.0), name))


def _sample(machines: ClusterMachines, names: Sequence[str]) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for name, answer in machines.on_all(names, lambda name: _sample_of(machines, name, SampleLoad())).items():
        if isinstance(answer, EtcdClusterError):
            raise answer
        found[name] = answer
    return found


def _sample_client(client: LoadClient) -> Sample:
    return _sample_of(client.machines, client.name, SampleLoad(client=True))


def _sample_of(machines: MemberMachines, name: str, line: SampleLoad) -> Sample:
    before = time.time()
    text = machines.run(name, line, timeout_seconds=SAMPLE_LIMIT_SECONDS)
    return Sample.parse(text, (before + time.time()) / 2)


def _while_sampling(
    machines: ClusterMachines,
    client: LoadClient | None,
    samples: dict[str, list[Sample]],
    load: Callable[[], str],
) -> str:
    """Returns what `load` returns; meanwhile, and once at the end, samples all members, and the client."""
    over = threading.Event()

    def sample(name: str) -> Sample:
        return _sample_client(client) if client and name == client.name else _sample_of(machines, name, SampleLoad())

    def keep_sampling() -> None:
        while not over.wait(SAMPLE_SECONDS):
            for name, answer in machines.on_all(list(samples), sample).items():
                if isinstance(answer, Sample):  # a member that gives none is asked again
                    samples[name].append(answer)

    thread = threading.Thread(target=keep_sampling, daemon=True)
    thread.start()
    try:
        answer = load()
    finally:
        over.set()
        thread.join()
    for name, last in machines.on_all(list(samples), sample).items():
        if isinstance(last, EtcdClusterError):
            raise last
        samples[name].append(last)
    return answer


def summary(measured: Measured, verdict: Verdict) -> dict[str, Any]:
    """Returns the figures that the stack's state keeps."""
    return {
        "passed": verdict.passed,
        "size": measured.load.size,
        "writes_per_second": round(measured.writes.per_second, 1),
        "reads_per_second": round(measured.reads.per_second, 1),
        "write_99": measured.writes.percentiles.get(99.0),
        "read_99": measured.reads.percentiles.get(99.0),
    }
