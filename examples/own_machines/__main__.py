"""etcd on machines of a place that this package does not know: virtual machines of Incus. See incus.py."""

import pulumi
from incus import IncusMachines

from etcd_cluster import EtcdCluster, EtcdClusterArgs

config = pulumi.Config()

cluster = EtcdCluster(
    "etcd",
    EtcdClusterArgs(
        machines=IncusMachines(
            addresses=config.require_object("addresses"),
            public_key=config.require("sshPublicKey"),
            private_key=config.require_secret("sshKey"),
        ),
        size="small",
    ),
)

pulumi.export("endpoints", cluster.endpoints)
pulumi.export("caCertificate", cluster.ca_certificate)
pulumi.export("clientCertificate", cluster.client_certificate)
pulumi.export("clientKey", cluster.client_key)  # stays a secret
