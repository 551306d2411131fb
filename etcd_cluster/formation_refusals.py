"""Says why a cluster cannot be formed. The kind is decided in formation_lifecycle.py; the text is made here, last."""

from __future__ import annotations

from enum import Enum, auto

from etcd_cluster.errors import EtcdClusterError, Explanation


class Obstacle(Enum):
    """Why the machines cannot form a cluster now."""

    OTHER_MEMBERS_DATA = auto()
    OTHER_CLUSTERS_UNIT = auto()
    SAME_MACHINE = auto()
    RUNS_ALREADY = auto()
    DIFFERENT_MARKERS = auto()
    DIFFERENT_LOGS = auto()
    NO_MAJORITY = auto()
    NO_MARKER = auto()
    CLOCKS_APART = auto()
    NO_SSH_CLIENT = auto()
    UNREACHABLE = auto()
    HANGS = auto()
    PREFLIGHT_FAILED = auto()


EXPLANATIONS: dict[Obstacle, Explanation] = {
    Obstacle.OTHER_MEMBERS_DATA: Explanation(
        "{member}: its machine holds the data of member {owner} of cluster {other}, but this is member {member} of "
        "{cluster}",
        "a machine without data, or with the data of this member",
        "use another disk or machine, or the names it had; to go on with the data of a destroyed stack, set "
        "movedFrom: {other}",
    ),
    Obstacle.OTHER_CLUSTERS_UNIT: Explanation(
        "{member}: etcd-cluster.service on its machine belongs to another cluster (token {token}), or to a first "
        "`up` of this one that failed and was destroyed without it",
        "no etcd-cluster.service, or one of this cluster",
        "remove that etcd (systemctl disable --now etcd-cluster; rm /etc/systemd/system/etcd-cluster.service), or use "
        "another machine",
    ),
    Obstacle.SAME_MACHINE: Explanation(
        "{members} are the same machine (machine-id {machine})",
        "a machine of its own for every member",
        "give every member its own, or a cloned host an id of its own (rm /etc/machine-id; systemd-machine-id-setup)",
    ),
    Obstacle.RUNS_ALREADY: Explanation(
        "{members}: a member of this cluster runs there already, but this stack's state does not know it",
        "the state that made it, or no running etcd",
        "import the lost state (`pulumi stack import`), or stop etcd on every host (`systemctl stop etcd-cluster`) "
        "to take its data over",
    ),
    Obstacle.DIFFERENT_MARKERS: Explanation(
        "these machines hold data of different clusters ({found})",
        "the data of one cluster",
        "bring back the disks that belong together, or move the data of all but one cluster away (docs/destroy.md)",
    ),
    Obstacle.DIFFERENT_LOGS: Explanation(
        "these machines hold data of different clusters, by etcd's own logs ({found}), as where a snapshot was "
        "restored beside data from before",
        "the data of one cluster",
        "move the data of all but one cluster away (docs/recover.md)",
    ),
    Obstacle.NO_MAJORITY: Explanation(
        "{lost}: no data, and with those of {having} alone, {count} of {all} members, the cluster cannot go on",
        "the data of a majority of its members, or of none",
        "bring the missing data back, or restore a snapshot (docs/recover.md), or, to start empty, move away what "
        'every machine holds (docs/destroy.md, "Start empty")',
    ),
    Obstacle.NO_MARKER: Explanation(
        "{having}: data without a readable marker (etcd-cluster.json beside them), so it is unknown whose they are",
        "the marker of this cluster beside the data",
        "put the marker back, or move the data away (docs/destroy.md)",
    ),
    Obstacle.CLOCKS_APART: Explanation(
        "clocks apart: {found}",
        "clocks that differ by at most {tolerance} s",
        "set them right (chronyc makestep), here or there",
    ),
    Obstacle.NO_SSH_CLIENT: Explanation("{why}", "OpenSSH's client on this machine", "install it"),
    Obstacle.UNREACHABLE: Explanation(
        "{member}: {why}", "an answer from every machine that is to form the cluster", "make it answer"
    ),
    Obstacle.HANGS: Explanation(
        "{member}: its machine did not answer the preflight within {seconds} s",
        "an answer within that time",
        "find out what hangs there (a file system, sudo, the log-in)",
    ),
    Obstacle.PREFLIGHT_FAILED: Explanation("{why}", "a preflight without problems", "fix it"),
}
"""Kind -> what is wrong, what was expected, what to do before `pulumi up` is run again."""


class FormationError(EtcdClusterError):
    """The machines are not in a state in which this cluster can be formed. Nothing was changed on them.

    Args:
        kind: Why.
        details: Name -> value in the text.
    """

    def __init__(self, kind: Obstacle, **details: object) -> None:
        self.kind = kind
        said = EXPLANATIONS[kind]
        super().__init__(
            str(
                Explanation(
                    said.problem.format(**details),
                    f"{said.expected.format(**details)}; nothing was changed on any machine",
                    f"{said.fix.format(**details)}, then run `pulumi up` again",
                )
            )
        )
