"""Two clusters in one program, as large Kubernetes clusters have them: one for everything, one for events alone.

kube-apiserver has one CA and one client certificate for both, so both clusters are signed by the same CA.
"""

from typing import Any

import pulumi

from etcd_cluster import (
    CertificateAuthority,
    CertificateAuthorityArgs,
    EtcdCluster,
    EtcdClusterArgs,
    Host,
    HostMachines,
    Ssh,
)

config = pulumi.Config()
ssh = Ssh(user="admin", private_key=config.require_secret("sshKey"))


def machines(key: str) -> HostMachines:
    """The hosts that the stack's config lists under `key`."""
    listed: dict[str, dict[str, Any]] = config.require_object(key)
    return HostMachines(
        {name: Host(host["address"], host["hostKey"], device=host["device"]) for name, host in listed.items()}, ssh
    )


ca = CertificateAuthority("kubernetes-etcd", CertificateAuthorityArgs("Kubernetes etcd")).ca

main = EtcdCluster("main", EtcdClusterArgs(machines("mainHosts"), size="xlarge", ca=ca))
# Events are many, small and soon forgotten: losing them hurts nobody, but their writes slow everything else down.
events = EtcdCluster("events", EtcdClusterArgs(machines("eventsHosts"), size="medium", ca=ca))

flags = pulumi.Output.all(main=main.endpoints, events=events.endpoints).apply(
    lambda endpoints: [
        f"--etcd-servers={','.join(endpoints['main'])}",
        f"--etcd-servers-overrides=/events#{';'.join(endpoints['events'])}",
    ]
)

pulumi.export("kubeApiserverFlags", flags)
pulumi.export("caCertificate", main.ca_certificate)
pulumi.export("clientCertificate", main.client_certificate)
pulumi.export("clientKey", main.client_key)  # stays a secret
