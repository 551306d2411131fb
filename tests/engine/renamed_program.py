"""The program, with the component's name from the environment: COMPONENT, and COMPONENT_BEFORE as its alias."""

from __future__ import annotations

import os

import pulumi

from etcd_cluster import EtcdCluster
from etcd_cluster.stack_config import args_from_stack_config

before = os.environ.get("COMPONENT_BEFORE")
aliases = [pulumi.Alias(name=before)] if before else []
cluster = EtcdCluster(
    os.environ.get("COMPONENT", "etcd"), args_from_stack_config(), pulumi.ResourceOptions(aliases=aliases)
)

pulumi.export("endpoints", cluster.endpoints)
pulumi.export("members", cluster.members)
pulumi.export("caCertificate", cluster.ca_certificate)
pulumi.export("clientCertificate", cluster.client_certificate)
pulumi.export("clientKey", cluster.client_key)
pulumi.export("version", cluster.version)
