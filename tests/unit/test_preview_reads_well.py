"""What a reviewer reads of a pull request's preview, against golden copies: `golden/preview-PLATFORM-*.txt`.

`UPDATE_GOLDEN=1 scripts/test tests/unit` writes them. A review of them is a review of what users see.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest

from etcd_cluster import AwsMachines, EtcdCluster, EtcdClusterArgs, GcpMachines, LocalMachines, Machines
from etcd_cluster.rollout.lifecycle import INPUTS, RolloutLifecycle
from tests.unit.recording import Recorded, Recording, record
from tests.unit.test_cluster import HOSTS
from tests.unit.test_examples import calls, results

GOLDEN = Path(__file__).with_name("golden")
OLD, NEW = "3.6.15", "3.6.16"
WIDEST_LINE = 300
ENCODED = re.compile(r"[A-Za-z0-9+/=]{80,}")
"""What keys, files and scripts would look like, were they to get into a line."""

PLATFORMS: dict[str, Machines] = {
    "local": LocalMachines(directory="/srv/etcd"),
    "hosts": HOSTS,
    "aws": AwsMachines(
        subnet_ids=["subnet-a", "subnet-b", "subnet-c"], client_cidrs=["10.0.0.0/16"], ssh_cidrs=["10.1.0.0/24"]
    ),
    "gcp": GcpMachines(
        network="projects/p/global/networks/platform",
        subnetwork="projects/p/regions/europe-west3/subnetworks/platform",
        zones=["europe-west3-a", "europe-west3-b", "europe-west3-c"],
        client_ranges=["10.0.0.0/16"],
        ssh_ranges=["10.1.0.0/24"],
    ),
}


def build(platform: str, version: str, *, preview: bool) -> Recording:
    """preview: of a stack without resources, where no provider has answered anything yet."""
    sdk = f"pulumi_{platform}"
    if platform in ("aws", "gcp") and importlib.util.find_spec(sdk) is None:
        pytest.skip(f"{sdk} is not installed")
    return record(
        lambda: EtcdCluster("etcd", EtcdClusterArgs(machines=PLATFORMS[platform], version=version)),
        preview=preview,
        results=(lambda _: {}) if preview else results,
        calls=calls,
    )


def first_preview(platform: str) -> str:
    """Every resource, in the order in which they can be made, and the line of each Command."""
    recording = build(platform, NEW, preview=True)
    lines: list[str] = []
    for resource in in_order(recording):
        lines.append(f"+ {short_type(resource)} {resource.name}")
        if "Command" in resource.type:
            steps = [key for key in ("create", "delete") if key in resource.inputs]
            lines += [f"    {key}: {shown(resource.inputs[key])}" for key in steps]
        elif resource.type.endswith(":Rollout"):
            lines += [f"    {key}: {shown(value)}" for key, value in checked(resource).items() if value]
    return "\n".join([*lines, ""])


def version_preview(platform: str) -> str:
    """Every resource that changes, with each changed input: before and after. All else stays."""
    before, after = build(platform, OLD, preview=False), build(platform, NEW, preview=False)
    lines: list[str] = []
    for resource in in_order(after):
        old, new = before.resources[resource.name].inputs, resource.inputs
        if resource.type.endswith(":Rollout"):
            old = checked(before.resources[resource.name])
            new = checked(resource, old)
        changed = [key for key, value in new.items() if shown(old.get(key)) != shown(value)]
        if changed:
            lines.append(f"~ {short_type(resource)} {resource.name}")
        for key in changed:
            lines += [f"  - {key}: {shown(old.get(key))}", f"  + {key}: {shown(new[key])}"]
    return "\n".join([*lines, ""])


def checked(rollout: Recorded, olds: dict[str, Any] | None = None) -> dict[str, Any]:
    """Its inputs after its provider's check, which adds what an `up` will do. Secrets stay secret."""
    unwrap = pulumi.runtime.rpc.unwrap_rpc_secret
    before = {key: unwrap(value) for key, value in (olds or {}).items()}
    news = {key: unwrap(value) for key, value in rollout.inputs.items() if key != "__provider"} | {"looks": False}
    result = RolloutLifecycle().check(before, news)
    assert not result.failures
    assert set(result.inputs) <= set(INPUTS)
    secret = {key for key in rollout.inputs if rollout.is_secret(key)}
    return {key: rollout.inputs[key] if key in secret else result.inputs.get(key) for key in INPUTS}


def in_order(recording: Recording) -> list[Recorded]:
    """By how many resources have to come before, then by name."""
    resources = recording.resources

    @cache
    def depth(name: str) -> int:
        names = {urn.split("::")[-1] for urn in resources[name].request.dependencies}
        return 1 + max((depth(each) for each in names if each in resources), default=0)

    return sorted(resources.values(), key=lambda resource: (depth(resource.name), resource.name))


def short_type(resource: Recorded) -> str:
    return resource.type.removeprefix("pulumi-python:dynamic/")


def shown(value: Any) -> str:
    """As the CLI shows it: secrets hidden, text quoted."""
    if pulumi.runtime.rpc.is_rpc_secret(value):
        return "[secret]"
    if isinstance(value, pulumi.output.Unknown):
        return "[unknown]"
    return json.dumps(value, default=lambda _: "[unknown]", sort_keys=True)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("kind", ["first", "version"])
def test_a_preview_reads_as_reviewed(platform: str, kind: str) -> None:
    text = first_preview(platform) if kind == "first" else version_preview(platform)
    golden = GOLDEN / f"preview-{platform}-{kind}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_line_is_long_and_none_holds_a_script_or_something_encoded(platform: str) -> None:
    for preview in (True, False):
        for resource in build(platform, NEW, preview=preview).resources.values():
            for key, text in texts(resource.inputs):
                where = f"{resource.name}: {key}"
                assert len(text) <= WIDEST_LINE, where
                assert "\n" not in text, where
                assert not ENCODED.search(text.replace("/", "")), where


def texts(inputs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text that is not secret, with the input that it is in."""

    def inside(value: Any) -> Iterator[str]:
        if pulumi.runtime.rpc.is_rpc_secret(value):
            return
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from inside(item)
        elif isinstance(value, str):
            yield value

    for key, value in inputs.items():
        # How Pulumi finds a dynamic resource's code, which it never shows; and a certificate, which is for all to see.
        if key not in ("__provider", "ca_certificate_pem"):
            for text in inside(value):
                yield key, text


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_version_change_shows_each_member_and_the_cluster_and_touches_no_machine(platform: str) -> None:
    """Programs come to each machine, then the cluster is rolled. What is not etcd's does not change."""
    before, after = build(platform, OLD, preview=False), build(platform, NEW, preview=False)

    def visible(recording: Recording, name: str) -> str:
        inputs = recording.resources[name].inputs
        return json.dumps({key: shown(value) for key, value in inputs.items()}, sort_keys=True)

    changed = {name for name in after.resources if visible(before, name) != visible(after, name)}
    prepared = {name for name in after.resources if name.endswith("-prepare")}
    assert len(prepared) == 3
    assert changed == {"etcd", "etcd-rollout", *prepared, *(["etcd-binaries"] if platform == "local" else [])}
