"""A change of a running cluster, judged by what every change promises: clients write all the time, and nothing is lost.

done = change(cluster, etcd={"max-txn-ops": 300})            # one `up`; all members restart
done = change(cluster, restarts=(), ssh={...})               # nobody does
with changing(cluster, restarts=["host-1"]) as judged:       # whatever the block does: a killed `up`, faults
    ...
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.lab.clusters import Cluster, changes_nothing
from tests.lab.stack import Run
from tests.lab.writes import Access, Result, Writes, writing

STARTED = "systemctl show -P ExecMainStartTimestampMonotonic etcd-cluster"
SHOWN_LINE = re.compile(r"(?:^|\s)((?:host-\d+|cluster): .*)$", re.MULTILINE)


@dataclass
class Change:
    """A change that is under way; after its block, what it did.

    restarted: members that run before and after, as another process, in the order of its start.
    """

    writes: Writes
    restarted: Sequence[str] = field(default_factory=list[str])

    @property
    def result(self) -> Result:
        return self.writes.result


@dataclass(frozen=True)
class Changed:
    """What one `up` did. restarted: as of Change."""

    run: Run
    result: Result
    restarted: Sequence[str]

    @property
    def steps(self) -> list[str]:
        """What the run said of members, "MEMBER: what", in order."""
        return steps(self.run)


def steps(run: Run) -> list[str]:
    """What a run said of members: "MEMBER: what", in order, each line once."""
    return list(dict.fromkeys(SHOWN_LINE.findall(run.output)))


def started(cluster: Cluster) -> dict[str, int]:
    """Host name -> when its etcd was started, in microseconds on the clock that all hosts share; 0 where none was."""
    return {name: int(printed) for name, printed in cluster.each_host(STARTED).items()}


@contextmanager
def changing(
    cluster: Cluster,
    *,
    restarts: Collection[str] | None = None,
    expect_downtime: bool = False,
    access: Access | None = None,
    **writing_options: Any,
) -> Iterator[Change]:
    """The block changes a healthy cluster, under continuous writes. Raises AssertionError unless afterwards all members
    are healthy and in the same cluster as before, nothing was lost (without downtime: nor failed), exactly the members
    of `restarts` run as another process (None: all that run before and after), and a further `up` changes nothing.

    access: of the writing clients, where what the stack exports will not do throughout.
    """
    before, ids = started(cluster), cluster.cluster_ids()
    with writing(cluster.lab, access or Access.of(cluster.outputs), **writing_options) as writes:
        judged = Change(writes)
        yield judged
    print(writes.result)  # shown for a test that fails, or with -s
    writes.assert_nothing_lost(expect_downtime=expect_downtime)
    after = started(cluster)
    stayed = {name for name in before if before[name] and after.get(name)}
    judged.restarted = [name for name in sorted(stayed, key=after.__getitem__) if after[name] != before[name]]
    assert set(judged.restarted) == (stayed if restarts is None else set(restarts))
    assert cluster.healthy()
    assert cluster.cluster_ids() == ids
    assert len(ids) == 1
    assert_converged(cluster)


def change(
    cluster: Cluster, *, restarts: Collection[str] | None = None, expect_downtime: bool = False, **config: Any
) -> Changed:
    """One `up` with other stack config (None: the key is left out), judged as by `changing`."""
    configure(cluster, **config)
    with changing(cluster, restarts=restarts, expect_downtime=expect_downtime) as judged:
        run = cluster.up()
    return Changed(run, judged.result, judged.restarted)


def configure(cluster: Cluster, **config: Any) -> None:
    """Edits the stack config; None leaves a key out."""
    edited = {**cluster.stack.config, **config}
    cluster.stack.config = {key: value for key, value in edited.items() if value is not None}


def assert_converged(cluster: Cluster) -> None:
    """Another `up` changes nothing: not in the stack, and not on hosts."""
    before = started(cluster)
    run = cluster.stack.up()
    assert changes_nothing(run), run.output
    assert started(cluster) == before
