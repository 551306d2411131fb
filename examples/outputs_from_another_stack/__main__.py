"""An application that uses the etcd of another stack. Programs in any of Pulumi's languages read it the same way."""

import pulumi

config = pulumi.Config()
etcd = pulumi.StackReference(config.require("etcdStack"))

# `require_output` fails where the stack lacks that output. The key is a secret there, and stays one here.
connection = pulumi.Output.json_dumps(
    {
        "endpoints": etcd.require_output("endpoints"),
        "caCertificate": etcd.require_output("caCertificate"),
        "clientCertificate": etcd.require_output("clientCertificate"),
        "clientKey": etcd.require_output("clientKey"),
    }
)

# Give it to the application as its platform takes secrets: a Kubernetes Secret, an AWS Secrets Manager version, ...
pulumi.export("etcdConnection", pulumi.Output.secret(connection))
