"""Production etcd as a Pulumi component. These are the public names; everything else may change."""

from etcd_cluster.cluster import EtcdCluster
from etcd_cluster.errors import ConfigurationError, EtcdClusterError
from etcd_cluster.machines import (
    AwsMachines,
    Bastion,
    GcpMachines,
    Host,
    HostMachines,
    LocalMachines,
    Machine,
    Machines,
    Ports,
    Ssh,
)
from etcd_cluster.pki import Authority, Certificate, CertificateArgs, CertificateAuthority, CertificateAuthorityArgs
from etcd_cluster.settings import EtcdClusterArgs, Install
from etcd_cluster.sizes import SIZES, Size

__all__ = [
    "SIZES",
    "Authority",
    "AwsMachines",
    "Bastion",
    "Certificate",
    "CertificateArgs",
    "CertificateAuthority",
    "CertificateAuthorityArgs",
    "ConfigurationError",
    "EtcdCluster",
    "EtcdClusterArgs",
    "EtcdClusterError",
    "GcpMachines",
    "Host",
    "HostMachines",
    "Install",
    "LocalMachines",
    "Machine",
    "Machines",
    "Ports",
    "Size",
    "Ssh",
]
