"""etcd on EC2, in a VPC that exists already. Only etcd's machines, and what belongs to them, are this stack's."""

import pulumi
import pulumi_aws as aws

from etcd_cluster import AwsMachines, Bastion, EtcdCluster, EtcdClusterArgs

config = pulumi.Config()

# One private subnet in each of three zones. Listed, not looked up by a tag: members live where the list says, so a
# subnet that somebody adds to the VPC later must not move one.
subnet_ids: list[str] = config.require_object("privateSubnetIds")
vpc_id = aws.ec2.get_subnet_output(id=subnet_ids[0]).vpc_id

# Whoever is in this group may talk to etcd. Give it to the machines of your application.
clients = aws.ec2.SecurityGroup("etcd-clients", vpc_id=vpc_id, description="May connect to etcd")

cluster = EtcdCluster(
    "etcd",
    EtcdClusterArgs(
        machines=AwsMachines(
            subnet_ids=subnet_ids,
            client_security_group_ids=[clients.id],
            # Members have no public address. `pulumi up` reaches them through the bastion that is there already.
            bastion=Bastion(
                address=config.require("bastionAddress"),
                host_key=config.require("bastionHostKey"),
                user="admin",
                private_key=config.require_secret("bastionKey"),
            ),
            ssh_security_group_ids=[config.require("bastionSecurityGroupId")],
            tags={"team": "platform"},
        ),
        size="medium",
    ),
)

pulumi.export("clientSecurityGroupId", clients.id)
pulumi.export("endpoints", cluster.endpoints)
pulumi.export("caCertificate", cluster.ca_certificate)
pulumi.export("clientCertificate", cluster.client_certificate)
pulumi.export("clientKey", cluster.client_key)  # stays a secret
