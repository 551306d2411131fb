"""A program that runs the component on CloudMachines; its config is one block, `etcd-cluster:lab`."""

from __future__ import annotations

from pathlib import Path

import pulumi

from etcd_cluster import Bastion, EtcdCluster, EtcdClusterArgs, Install
from tests.lab.cloud import CloudMachines

config = pulumi.Config("etcd-cluster").require_object("lab")
bastion = Bastion(
    config["bastion"]["address"],
    config["bastion"]["hostKey"],
    user="admin",
    private_key=pulumi.Output.secret(Path(config["bastion"]["privateKeyFile"]).read_text()),
)
machines = CloudMachines(
    config["folder"],
    bastion,
    config.get("replaceMember"),
    config.get("images", {}),
    config.get("pinned", {}),
    config.get("replaceDeadMember"),
)
cluster = EtcdCluster(
    "etcd",
    EtcdClusterArgs(
        machines=machines, install=Install(mirror=config["mirror"], sha256=config["sha256"]), allow_undersized=True
    ),
)

for name in ("endpoints", "members", "ca_certificate", "client_certificate", "client_key", "version"):
    first, *others = name.split("_")
    pulumi.export(first + "".join(map(str.title, others)), getattr(cluster, name))
