"""The program: this stack's config -> one etcd cluster -> its endpoints."""

import pulumi

from etcd_cluster import ConfigurationError, EtcdCluster
from etcd_cluster.stack_config import args_from_stack_config

try:
    args = args_from_stack_config()
    cluster = EtcdCluster("etcd", args)
except ConfigurationError as error:
    raise pulumi.RunError(str(error)) from None

pulumi.export("endpoints", cluster.endpoints)
pulumi.export("members", cluster.members)
pulumi.export("caCertificate", cluster.ca_certificate)
pulumi.export("clientCertificate", cluster.client_certificate)
pulumi.export("clientKey", cluster.client_key)
if cluster.users:
    pulumi.export("users", cluster.users)
pulumi.export("version", cluster.version)
if cluster.backup_policy is not None:
    pulumi.export("backupPolicy", cluster.backup_policy)
if args.dns is not None:
    pulumi.export("dnsRecords", cluster.dns_records)
if cluster.monitoring is not None:
    pulumi.export("monitoring", cluster.monitoring)
pulumi.export("readme", cluster.readme)
