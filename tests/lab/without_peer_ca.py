"""The program as it was before members had a CA of their own, for as long as PEER_CA=none is in its
environment: one CA signs all certificates, and one file, ca.crt, says whom a member trusts."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pulumi

from etcd_cluster import certificates, cluster
from etcd_cluster.member.render import Transport


def share_the_ca_of_clients() -> None:
    made: dict[str, Any] = {}

    def ca(name: str, *arguments: Any, real: Any = certificates.CertificateAuthority) -> Any:
        cluster_name = name.removesuffix("-peer-ca").removesuffix("-ca")
        if name.endswith("-peer-ca"):
            return made[cluster_name]
        made[cluster_name] = real(name, *arguments)
        return made[cluster_name]

    def inputs(*arguments: Any, real: Any = cluster.desired_json) -> pulumi.Output[str]:
        return real(*arguments).apply(without_peer_trusted)

    def rollout(*arguments: Any, real: Any = cluster.Rollout, **options: Any) -> Any:
        return real(*arguments, **{**options, "peer_ca_fingerprints": []})

    certificates.CertificateAuthority = ca
    cluster.desired_json = inputs
    cluster.Rollout = rollout
    setattr(Transport, "trusted_file", property(lambda _: "ca.crt"))  # noqa: B010  an enum's


def without_peer_trusted(desired: str) -> str:
    return json.dumps({key: value for key, value in json.loads(desired).items() if key != "peer_trusted"})


if os.environ.get("PEER_CA") == "none":
    share_the_ca_of_clients()
runpy.run_path(str(Path(__file__).resolve().parents[2] / "__main__.py"))
