"""Production etcd as a Pulumi component. These are the public names; everything else may change.

Each name is imported when it is first used: a program loads what it asks for, and a provider what its call needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etcd_cluster.arguments import Defragment, EtcdClusterArgs, Install
    from etcd_cluster.backup.arguments import Backup, Keep
    from etcd_cluster.backup.restore_arguments import Recover, RestoreInPlace
    from etcd_cluster.cluster import EtcdCluster
    from etcd_cluster.dns import Dns
    from etcd_cluster.errors import ConfigurationError, EtcdClusterError
    from etcd_cluster.etcd.sizes import SIZES, Size
    from etcd_cluster.load_generator import LoadGenerator
    from etcd_cluster.machines.aws.arguments import AwsMachines
    from etcd_cluster.machines.gcp.arguments import GcpMachines
    from etcd_cluster.machines.hosts import Host, HostMachines
    from etcd_cluster.machines.local import LocalMachines
    from etcd_cluster.machines.machine import Machine, Machines, Ports
    from etcd_cluster.monitoring.arguments import Monitoring
    from etcd_cluster.pki.resources import (
        CA,
        Certificate,
        CertificateArgs,
        CertificateAuthority,
        CertificateAuthorityArgs,
    )
    from etcd_cluster.ssh.login import Bastion, Ssh
    from etcd_cluster.ssh.proxy_command import ProxyCommand
    from etcd_cluster.users import Permission, User

__all__ = [
    "CA",
    "SIZES",
    "AwsMachines",
    "Backup",
    "Bastion",
    "Certificate",
    "CertificateArgs",
    "CertificateAuthority",
    "CertificateAuthorityArgs",
    "ConfigurationError",
    "Defragment",
    "Dns",
    "EtcdCluster",
    "EtcdClusterArgs",
    "EtcdClusterError",
    "GcpMachines",
    "Host",
    "HostMachines",
    "Install",
    "Keep",
    "LoadGenerator",
    "LocalMachines",
    "Machine",
    "Machines",
    "Monitoring",
    "Permission",
    "Ports",
    "ProxyCommand",
    "Recover",
    "RestoreInPlace",
    "Size",
    "Ssh",
    "User",
]

_NAMES = {
    "backup.arguments": "Backup Keep",
    "backup.restore_arguments": "Recover RestoreInPlace",
    "cluster": "EtcdCluster",
    "dns": "Dns",
    "errors": "ConfigurationError EtcdClusterError",
    "load_generator": "LoadGenerator",
    "etcd.sizes": "SIZES Size",
    "machines.aws.arguments": "AwsMachines",
    "machines.gcp.arguments": "GcpMachines",
    "machines.hosts": "Host HostMachines",
    "machines.local": "LocalMachines",
    "machines.machine": "Machine Machines Ports",
    "monitoring.arguments": "Monitoring",
    "pki.resources": "CA Certificate CertificateArgs CertificateAuthority CertificateAuthorityArgs",
    "settings": "Defragment EtcdClusterArgs Install",
    "ssh.login": "Bastion Ssh",
    "ssh.proxy_command": "ProxyCommand",
    "users": "Permission User",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
