"""State that outlives our releases: its names, its schema numbers, and what other releases wrote."""

from __future__ import annotations

import base64
import copy
import json
import pickletools
from typing import Any

import pytest
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult
from pulumi.dynamic.dynamic import serialize_provider

from etcd_cluster import providers
from etcd_cluster.etcd import options
from etcd_cluster.lifecycle import SCHEMA_VERSION, Lifecycle, NewerStateError, Properties, Schema
from etcd_cluster.machines.machine import Ports
from etcd_cluster.member.layout import Layout
from etcd_cluster.providers import _Provider
from etcd_cluster.rollout.desired import DesiredCluster
from tests.unit.test_rollout_resource import GOAL, desired_text

IN_STATE = {
    "BackupScheduleProvider",
    "BackupSourceProvider",
    "CertificateAuthorityProvider",
    "CertificateProvider",
    "DataVolumesProvider",
    "DeliveredBinariesProvider",
    "DiskSizesProvider",
    "FormationProvider",
    "HostRecordProvider",
    "LoadCheckProvider",
    "LocalBinariesProvider",
    "LoginKeyProvider",
    "MachineReplacementProvider",
    "MetricsEndpointsProvider",
    "RenewalProvider",
    "ReplacementRequestProvider",
    "RestoreSourceProvider",
    "RolloutProvider",
    "SshKeyPairProvider",
}
"""A name may be added. One that is renamed or removed orphans every stack that has it."""


def test_the_names_that_state_holds_are_these() -> None:
    assert {name for name in vars(providers) if name.endswith("Provider") and not name.startswith("_")} == {
        *IN_STATE,
        "ResourceProvider",
    }


@pytest.mark.parametrize("name", sorted(IN_STATE))
def test_state_names_the_provider_and_holds_no_code(name: str) -> None:
    provider = getattr(providers, name)()
    pickled = base64.b64decode(serialize_provider(provider))
    words = {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}
    assert words == {"etcd_cluster.providers", name}
    assert provider.serialize_as_secret_always is False


@pytest.mark.parametrize("name", sorted(IN_STATE))
def test_every_provider_has_an_implementation(name: str) -> None:
    lifecycle = getattr(providers, name)()._lifecycle
    assert isinstance(lifecycle, Lifecycle)
    assert lifecycle.schema.version == SCHEMA_VERSION, "the first that is read refuses for all"


class Lamp(Lifecycle):
    """Has seen: what its methods were given."""

    schema = Schema(
        version=3,
        defaults={"colour": "white"},
        upgrades={
            0: lambda old: {"watts": old["power"]},
            2: lambda old: {**old, "watts": old["watts"] * 10},
        },
    )
    seen: list[Properties]

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        Lamp.seen.append(olds)
        return DiffResult(changes=False)

    def create(self, props: Properties) -> CreateResult:
        return CreateResult("id", props)

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        Lamp.seen.append(olds)
        return UpdateResult(news)

    def delete(self, id_: str, props: Properties) -> None:
        Lamp.seen.append(props)


@pytest.fixture
def lamp(monkeypatch: pytest.MonkeyPatch) -> _Provider:
    class LampProvider(_Provider):
        @property
        def _lifecycle(self) -> Lifecycle:
            return Lamp()

    Lamp.seen = []
    return LampProvider()


def test_everything_that_is_stored_has_its_schema(lamp: _Provider) -> None:
    assert lamp.check({}, {"watts": 40}).inputs == {"watts": 40, "schema": 3}
    assert lamp.create({"watts": 40}).outs == {"watts": 40, "schema": 3}
    assert lamp.update("id", {"watts": 1, "schema": 1}, {"watts": 40}).outs == {"watts": 40, "schema": 3}
    read = lamp.read("id", {"watts": 40, "schema": 3})
    assert (read.outs, read.inputs) == ({"watts": 40, "colour": "white", "schema": 3},) * 2


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ({"watts": 40, "schema": 3.0}, {"watts": 40, "schema": 3.0, "colour": "white"}),
        ({"watts": 40, "colour": "red", "unknown": 1, "schema": 3}, None),
        ({"watts": 4, "schema": 2}, {"watts": 40, "schema": 2, "colour": "white"}),
        ({"power": 4, "schema": 0}, {"watts": 40, "colour": "white"}),
        ({"power": 4}, {"watts": 40, "colour": "white"}),
        ({}, {}),
    ],
    ids=[
        "today's",
        "all keys, and one more",
        "the one before",
        "the first",
        "from before the first release",
        "nothing",
    ],
)
def test_older_state_is_upgraded_step_by_step_before_anything_reads_it(
    stored: dict[str, Any], read: dict[str, Any] | None, lamp: _Provider
) -> None:
    before = dict(stored)
    lamp.diff("id", stored, {})
    lamp.update("id", stored, {})
    lamp.delete("id", stored)
    assert Lamp.seen == [stored if read is None else read] * 3
    assert stored == before, "what the engine holds stays as it is"


def test_state_of_a_newer_release_is_refused_before_anything_is_touched(lamp: _Provider) -> None:
    stored = {"watts": 40, "schema": 4}
    (failure,) = lamp.check(stored, {"watts": 40}).failures
    said = "made by a newer etcd-cluster: its state has schema 4; expected is 3 at most"
    assert said in failure.reason
    assert "Install that release" in failure.reason
    for call in (
        lambda: lamp.diff("id", stored, {}),
        lambda: lamp.update("id", stored, {}),
        lambda: lamp.delete("id", stored),
        lambda: lamp.read("id", stored),
    ):
        with pytest.raises(NewerStateError, match=said):
            call()
    assert Lamp.seen == []


def test_resources_are_of_these_types() -> None:
    """A type is part of every URN: one that is renamed needs an alias."""
    from etcd_cluster.backup.restore_source import BackupSource
    from etcd_cluster.backup.schedule import BackupSchedule
    from etcd_cluster.formation import Formation
    from etcd_cluster.install.resources import DeliveredBinaries, LocalBinaries
    from etcd_cluster.load_check.resource import LoadCheck
    from etcd_cluster.pki.resources import Certificate, CertificateAuthority
    from etcd_cluster.rollout import MachineReplacement, Rollout
    from etcd_cluster.rollout.host_record import HostRecord
    from etcd_cluster.ssh.keys import SshKeyPair

    kinds: dict[type[Resource], str] = {
        BackupSchedule: "cluster:BackupSchedule",
        BackupSource: "cluster:BackupSource",
        Formation: "cluster:Formation",
        HostRecord: "cluster:HostRecord",
        LoadCheck: "cluster:LoadCheck",
        MachineReplacement: "cluster:MachineReplacement",
        Rollout: "cluster:Rollout",
        LocalBinaries: "install:LocalBinaries",
        DeliveredBinaries: "install:DeliveredBinaries",
        Certificate: "pki:Certificate",
        CertificateAuthority: "pki:CertificateAuthority",
        SshKeyPair: "ssh:SshKeyPair",
    }
    assert {kind: kind._resource_type_name.partition("/")[2] for kind in kinds} == kinds


# --- the desired cluster, which state holds as one text ---


def test_what_an_earlier_release_did_not_write_has_a_default() -> None:
    stored = {"cluster": "p/s/etcd", "token": "t", "version": "3.6.16", "members": {"b": {"address": "10.0.0.2"}}}
    desired = DesiredCluster.parse(json.dumps(stored))
    assert (desired.tls, desired.user_options, desired.trusted, desired.delete_data) == (True, {}, (), False)
    assert desired.options == options.defaults("3.6.16")
    member = desired.members["b"]
    assert (member.layout, member.ports, member.device, member.outlives_destroy) == (Layout.system(), Ports(), "", True)


def test_every_key_of_the_desired_cluster_but_what_identifies_it_may_be_missing_or_unknown() -> None:
    text = json.loads(desired_text(GOAL.desired))
    for key in text.keys() - {"cluster", "token", "version", "members"}:
        DesiredCluster.parse(json.dumps({name: value for name, value in text.items() if name != key}))
    for key in text["members"]["a"].keys() - {"address"}:
        changed = copy.deepcopy(text)
        del changed["members"]["a"][key]
        DesiredCluster.parse(json.dumps(changed))
    for path in text["members"]["a"]["layout"].keys() - {"supervisor"}:
        changed = copy.deepcopy(text)
        del changed["members"]["a"]["layout"][path]
        assert DesiredCluster.parse(json.dumps(changed)).members["a"].layout.data
    text["members"]["a"]["layout"]["later"] = text["members"]["a"]["later"] = text["later"] = "unknown"
    assert DesiredCluster.parse(json.dumps(text)) == GOAL.desired


def test_the_layout_of_a_folder_is_known_by_one_path_of_it() -> None:
    layout = Layout.below("/home/me/etcd-1")
    assert Layout.parse({"supervisor": "process", "binaries": layout.binaries}) == layout
