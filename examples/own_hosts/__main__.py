"""etcd on hosts that you own, listed in the stack's config and reached over SSH."""

from typing import Any

import pulumi

from etcd_cluster import EtcdCluster, EtcdClusterArgs, Host, HostMachines, Ssh

config = pulumi.Config()

# Member name -> host. The name is the member's for its whole life, whatever host it runs on.
listed: dict[str, dict[str, Any]] = config.require_object("hosts")
hosts = {
    name: Host(address=host["address"], host_key=host["hostKey"], device=host["device"])
    for name, host in listed.items()
}

cluster = EtcdCluster(
    "etcd",
    EtcdClusterArgs(
        machines=HostMachines(hosts, Ssh(user="admin", private_key=config.require_secret("sshKey"))),
        size="medium",
        # etcd's own settings, by their own names: these suit members that are some 50 ms apart.
        etcd={"heartbeat-interval": 200, "election-timeout": 2000},
    ),
)

pulumi.export("endpoints", cluster.endpoints)
pulumi.export("members", cluster.members)
pulumi.export("caCertificate", cluster.ca_certificate)
pulumi.export("clientCertificate", cluster.client_certificate)
pulumi.export("clientKey", cluster.client_key)  # stays a secret
