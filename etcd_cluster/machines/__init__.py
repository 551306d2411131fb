"""Where members run: one file a platform, each yielding the same `Machine`."""

from etcd_cluster.machines.aws import AwsMachines
from etcd_cluster.machines.gcp import GcpMachines
from etcd_cluster.machines.hosts import Host, HostMachines
from etcd_cluster.machines.local import LocalMachines
from etcd_cluster.machines.machine import Machine, Machines, Ports
from etcd_cluster.machines.ssh import Bastion, Ssh

__all__ = [
    "AwsMachines",
    "Bastion",
    "GcpMachines",
    "Host",
    "HostMachines",
    "LocalMachines",
    "Machine",
    "Machines",
    "Ports",
    "Ssh",
]
