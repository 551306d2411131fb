"""Defines the error that refuses a change or ends a run. It has a kind and details; messages.py makes its text."""

from __future__ import annotations

from etcd_cluster.errors import EtcdClusterError, Explanation
from etcd_cluster.rollout.planner import messages
from etcd_cluster.rollout.planner.actions import Details


class RefusedError(EtcdClusterError):
    """The cluster cannot be brought to the desired state from here.

    Args:
        kind: Why. It is a `WaitReason` if the run has waited in vain.
        details: Name -> value in the text.
        appendix: Lines below the text, such as the end of a log; "" for none.
    """

    def __init__(self, kind: messages.Reason, details: Details | None = None, appendix: str = "") -> None:
        self.kind = kind
        self.details: Details = details or {}
        self.explanation: Explanation = messages.explain(kind, self.details)
        super().__init__("\n".join(filter(None, (messages.refused(self.explanation), appendix))))
