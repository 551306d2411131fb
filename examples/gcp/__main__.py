"""etcd on Compute Engine, in a network that exists already: one member in each of three zones."""

import pulumi
import pulumi_gcp as gcp

from etcd_cluster import Bastion, EtcdCluster, EtcdClusterArgs, GcpMachines

config = pulumi.Config()
region = pulumi.Config("gcp").require("region")

network = gcp.compute.get_network_output(name=config.require("network"))
subnetwork = gcp.compute.get_subnetwork_output(name=config.require("subnetwork"), region=region)

cluster = EtcdCluster(
    "etcd",
    EtcdClusterArgs(
        machines=GcpMachines(
            network=network.self_link,
            subnetwork=subnetwork.self_link,
            zones=[f"{region}-{zone}" for zone in config.require_object("zones")],
            # Machines with one of these network tags may talk to etcd, or reach SSH.
            client_tags=["kubernetes-control-plane"],
            ssh_tags=["bastion"],
            # Members have no external address. `pulumi up` reaches them through the bastion that is there already.
            bastion=Bastion(
                address=config.require("bastionAddress"),
                host_key=config.require("bastionHostKey"),
                user="admin",
                private_key=config.require_secret("bastionKey"),
            ),
            labels={"team": "platform"},
        ),
        size="medium",
    ),
)

pulumi.export("endpoints", cluster.endpoints)
pulumi.export("caCertificate", cluster.ca_certificate)
pulumi.export("clientCertificate", cluster.client_certificate)
pulumi.export("clientKey", cluster.client_key)  # stays a secret
