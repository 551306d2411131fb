"""`etcd-cluster kubeadm`: prints what a Kubernetes control plane needs to use a cluster, and writes its files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etcd_cluster.cli.clusters import selected_cluster
from etcd_cluster.cli.command import Command, CommandError, ExitCode, Option
from etcd_cluster.cli.env import write_private
from etcd_cluster.cli.stacks import HIDDEN
from etcd_cluster.kubernetes import API_VERSIONS, FILES, PKI, external_etcd

DESCRIPTION = f"""\
Prints the part of kubeadm's ClusterConfiguration that has a control plane use this cluster as its external
etcd, to be merged into yours. It names these files, which every control plane node needs in {PKI}:

  etcd/ca.crt                the CAs to trust
  apiserver-etcd-client.crt  the client certificate
  apiserver-etcd-client.key  its key

With --write they are written to a folder, for nobody but you to read; neither is ever printed. On a node, as
root, that folder is {PKI}. After a rotation of the CA, or a renewal, write them again:
kube-apiserver reads the client's pair anew by itself, and the CA when it is restarted."""


def run(options: argparse.Namespace) -> ExitCode:
    """Writes the files if that is asked, and prints the configuration.

    Args:
        options: The global ones, `api_version` and `write`.
    """
    cluster = selected_cluster(options, secrets=options.write is not None)
    endpoints = cluster.outputs["endpoints"]
    if endpoints == HIDDEN or HIDDEN in endpoints:
        raise CommandError(
            f"the endpoints of cluster {cluster.name} are secret in stack {cluster.stack.name}. Give --write "
            "FOLDER, which decrypts them"
        )
    if options.write is not None:
        _write_files(cluster.outputs, options.write)
    print(external_etcd(endpoints, options.api_version), end="")
    return ExitCode.SUCCESS


def _write_files(outputs: Mapping[str, Any], folder: Path) -> None:
    if not outputs["clientKey"]:
        print("the cluster is in plaintext: there are no files to write", file=sys.stderr)
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for output, path in FILES.values():
            target = folder / path
            target.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(target, outputs[output])
            print(f"wrote {target}", file=sys.stderr)
    except OSError as error:
        raise CommandError(f"--write {folder}: {error.strerror}: {error.filename}. Give a folder of yours") from None


COMMAND = Command(
    name="kubeadm",
    summary="what a Kubernetes control plane needs to use the cluster",
    description=DESCRIPTION,
    examples=(
        ("etcd-cluster kubeadm --stack prod", "the configuration"),
        ("etcd-cluster kubeadm --write files >etcd.yaml", "and the files, to copy to each node"),
    ),
    options=(
        Option(
            "--api-version",
            "of kubeadm's configuration (default: v1beta4; v1beta3 up to Kubernetes 1.30)",
            {"choices": API_VERSIONS, "default": API_VERSIONS[0]},
        ),
        Option(
            "--write",
            "the folder to write the files to, made if it is missing (default: none is written)",
            {"metavar": "FOLDER", "type": Path, "default": None},
        ),
    ),
    run=run,
)
