"""Makes what a Kubernetes control plane needs to use a cluster: kubeadm's configuration, and paths of files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

ApiVersion = Literal["v1beta4", "v1beta3"]
"""Of kubeadm's configuration: v1beta4 since Kubernetes 1.31, v1beta3 from 1.22 on. The part for etcd is the same."""
API_VERSIONS: Sequence[ApiVersion] = get_args(ApiVersion)

PKI = "/etc/kubernetes/pki"
"""kubeadm's folder of certificates: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/"""
FILES: Mapping[str, tuple[str, str]] = {
    "caFile": ("caCertificate", "etcd/ca.crt"),
    "certFile": ("clientCertificate", "apiserver-etcd-client.crt"),
    "keyFile": ("clientKey", "apiserver-etcd-client.key"),
}
"""Key of kubeadm's configuration -> the cluster's output that the file holds, and its path below PKI.

https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/#external-etcd-nodes
"""


def external_etcd(endpoints: Sequence[str], api_version: ApiVersion = "v1beta4") -> str:
    """Returns the part of kubeadm's ClusterConfiguration for these endpoints, YAML. In plaintext it names no files."""
    import yaml  # lazily: few programs need it

    tls = all(endpoint.startswith("https:") for endpoint in endpoints)
    files = {key: f"{PKI}/{path}" for key, (_, path) in FILES.items()} if tls else {}
    document = {
        "apiVersion": f"kubeadm.k8s.io/{api_version}",
        "kind": "ClusterConfiguration",
        "etcd": {"external": {"endpoints": [*endpoints], **files}},
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text
