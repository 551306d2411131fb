"""Brings a running cluster to its desired state, one member at a time, from whatever state it is found in.

observe (what is there) -> decide (what to do next; pure) -> carry out that one action -> again, until nothing
is left to do. If a run is cut short, the next one finishes the work, because it observes again.
"""

from etcd_cluster.rollout.machine_replacement import MachineReplacement
from etcd_cluster.rollout.resource import Rollout

__all__ = ["MachineReplacement", "Rollout"]
