"""Defines every dynamic provider that a stack's state names by this module and its class: neither is ever renamed.

They are thin: the work is in the module that each of them names, which is imported when the engine calls it. The
contract with existing stacks is docs/development/state-contract.md.
"""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import ClassVar

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

from etcd_cluster.lifecycle import Lifecycle, NewerStateError, Properties

_importing = Lock()
"""Engines call several providers at once, and Pulumi's packages import one another in circles: threads that import them
together may each be handed half a module."""


class _Provider(ResourceProvider):
    """Reads and writes versioned state on behalf of a `Lifecycle`."""

    serialize_as_secret_always = False  # pickled by reference: nothing is captured
    implementation: ClassVar[str]
    """MODULE:CLASS of the `Lifecycle`, below this package."""

    @property
    def _lifecycle(self) -> Lifecycle:
        module, _, name = self.implementation.partition(":")
        with _importing:
            lifecycle: type[Lifecycle] = getattr(import_module(f"etcd_cluster.{module}"), name)
        return lifecycle()

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        lifecycle = self._lifecycle
        try:
            checked = lifecycle.check(lifecycle.schema.read(_olds), news)
        except NewerStateError as error:
            return CheckResult(news, [CheckFailure("", str(error))])
        return CheckResult(lifecycle.schema.write(checked.inputs), checked.failures)

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        lifecycle = self._lifecycle
        return lifecycle.diff(_id, lifecycle.schema.read(_olds), _news)

    def create(self, props: Properties) -> CreateResult:
        lifecycle = self._lifecycle
        created = lifecycle.create(props)
        return CreateResult(created.id, lifecycle.schema.write(created.outs or {}))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        lifecycle = self._lifecycle
        updated = lifecycle.update(_id, lifecycle.schema.read(_olds), _news)
        return UpdateResult(lifecycle.schema.write(updated.outs or {}))

    def delete(self, _id: str, _props: Properties) -> None:
        lifecycle = self._lifecycle
        lifecycle.delete(_id, lifecycle.schema.read(_props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        lifecycle = self._lifecycle
        found = lifecycle.read(id_, lifecycle.schema.read(props))
        return ReadResult(
            found.id, lifecycle.schema.write(found.outs or {}), lifecycle.schema.write(found.inputs or {})
        )


class CertificateAuthorityProvider(_Provider):
    """Serves `CertificateAuthority`."""

    implementation = "pki.lifecycles:CertificateAuthorityLifecycle"


class CertificateProvider(_Provider):
    """Serves `Certificate`."""

    implementation = "pki.lifecycles:CertificateLifecycle"


class SshKeyPairProvider(_Provider):
    """Serves `SshKeyPair`."""

    implementation = "ssh.key_lifecycle:SshKeyPairLifecycle"


class LoginKeyProvider(_Provider):
    """Serves `LoginKey`."""

    implementation = "ssh.login_key_lifecycle:LoginKeyLifecycle"


class LocalBinariesProvider(_Provider):
    """Serves `LocalBinaries`."""

    implementation = "install.lifecycles:LocalBinariesLifecycle"


class DeliveredBinariesProvider(_Provider):
    """Serves `DeliveredBinaries`."""

    implementation = "install.lifecycles:DeliveredBinariesLifecycle"


class FormationProvider(_Provider):
    """Serves `Formation`."""

    implementation = "formation_lifecycle:FormationLifecycle"


class HostRecordProvider(_Provider):
    """Serves `HostRecord`."""

    implementation = "rollout.host_record_lifecycle:HostRecordLifecycle"


class RolloutProvider(_Provider):
    """Serves `Rollout`."""

    implementation = "rollout.lifecycle:RolloutLifecycle"


class RenewalProvider(_Provider):
    """Serves what stood in place of `MachineReplacement` before the first release: such a resource is only deleted."""

    implementation = "lifecycle:Lifecycle"


class DiskSizesProvider(_Provider):
    """Serves what remembered the sizes of Google's disks before the first release: such a resource is only deleted."""

    implementation = "lifecycle:Lifecycle"


class DataVolumesProvider(_Provider):
    """Serves `DataVolumes`."""

    implementation = "machines.data_volumes_lifecycle:DataVolumesLifecycle"


class ReplacementRequestProvider(_Provider):
    """Serves `ReplacementRequest`."""

    implementation = "machines.replacement_request_lifecycle:ReplacementRequestLifecycle"


class MachineReplacementProvider(_Provider):
    """Serves `MachineReplacement`."""

    implementation = "rollout.machine_replacement_lifecycle:MachineReplacementLifecycle"


class BackupSourceProvider(_Provider):
    """Serves `BackupSource`."""

    implementation = "backup.restore_source_lifecycle:BackupSourceLifecycle"


class RestoreSourceProvider(_Provider):
    """Serves `RestoreSource`."""

    implementation = "backup.restore_source_lifecycle:RestoreSourceLifecycle"


class BackupScheduleProvider(_Provider):
    """Serves `BackupSchedule`."""

    implementation = "backup.schedule_lifecycle:BackupScheduleLifecycle"


class LoadCheckProvider(_Provider):
    """Serves `LoadCheck`."""

    implementation = "load_check.lifecycle:LoadCheckLifecycle"


class MetricsEndpointsProvider(_Provider):
    """Serves `MetricsEndpoints`."""

    implementation = "monitoring.endpoints_lifecycle:MetricsEndpointsLifecycle"
