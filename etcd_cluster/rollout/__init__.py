"""Brings a running cluster to what is asked, one member at a time, from whatever it is found in.

observe (what is there) -> plan (what to do next, a pure decision) -> carry out that one step -> again, until nothing
is left to do. A run that was cut short is finished by the next one, because that one looks again.
"""

from etcd_cluster.rollout.machine_replacement import MachineReplacement
from etcd_cluster.rollout.resource import Rollout

__all__ = ["MachineReplacement", "Rollout"]
