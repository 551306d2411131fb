"""The engine's side of the SDK's protocol: turns its requests into registrations of a deployment, and answers them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from google.protobuf import empty_pb2
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks
from pulumi.runtime.proto import engine_pb2, resource_pb2

from embedded_engine.contract import StepError, UnsupportedTypeError
from embedded_engine.deployment import Deployment
from embedded_engine.display import Display
from embedded_engine.hooks import Hooks
from embedded_engine.state import STACK_TYPE, Resource
from embedded_engine.values import Secret, Values, from_struct, to_struct

_STACK_REFERENCE = "pulumi:pulumi:StackReference"
_INSTALL = "Install the Pulumi CLI (https://www.pulumi.com/docs/install/) and run `pulumi up`"
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_UNAVAILABLE_FEATURES = {
    resource_pb2.RESOURCE_MONITOR_FEATURE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_INVOKE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_PARAMETERIZATION,
}


class _NoMocks(Mocks):
    def call(self, args: MockCallArgs) -> Any:
        raise UnsupportedTypeError(f"the function {args.token} needs the Pulumi CLI. {_INSTALL}")

    def new_resource(self, args: MockResourceArgs) -> Any:
        raise UnsupportedTypeError(f"resources of type {args.typ} need the Pulumi CLI. {_INSTALL}")


class Monitor(MockMonitor):
    """What the SDK takes for the engine's resource monitor. other_outputs: the outputs of a stack, by its name."""

    def __init__(
        self,
        stack: str,
        project: str,
        deployment: Deployment,
        hooks: Hooks,
        display: Display,
        other_outputs: Callable[[str], Values],
    ) -> None:
        super().__init__(_NoMocks())
        self._prefix = f"urn:pulumi:{stack}::{project}::"
        self._deployment = deployment
        self._hooks = hooks
        self._display = display
        self._other_outputs = other_outputs
        self._completed: dict[str, Resource] = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        parent_type = parent.split("::")[2] if parent else ""
        qualified = f"{parent_type}${type_}" if parent_type not in ("", STACK_TYPE) else type_
        return f"{self._prefix}{qualified}::{name}"

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.aliases and self._deployment.is_new(urn):
            self._display.note("warning", f"{request.name} is taken as new: only the Pulumi CLI follows `aliases`")
        resource = self._deployment.register(_goal(request, urn))
        self._completed[urn] = resource
        # As in the engine: what a component exports may name resources that are not registered yet.
        outputs = resource.outputs if resource.custom else {}
        return resource_pb2.RegisterResourceResponse(urn=urn, id=resource.id, object=to_struct(outputs))

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self._deployment.register_outputs(request.urn, from_struct(request.outputs))
        return empty_pb2.Empty()

    def ReadResource(self, request: Any) -> Any:
        if request.type != _STACK_REFERENCE:
            raise UnsupportedTypeError(f"reading an existing {request.type} needs the Pulumi CLI. {_INSTALL}")
        outputs = self._other_outputs(request.id)
        properties: Values = {
            "name": request.id,
            "outputs": outputs,
            "secretOutputNames": [key for key in sorted(outputs) if isinstance(outputs[key], Secret)],
        }
        urn = self.make_urn(request.parent, request.type, request.name)
        return resource_pb2.ReadResourceResponse(urn=urn, properties=to_struct(properties))

    def Invoke(self, request: Any) -> Any:
        arguments = from_struct(request.args)
        if request.tok != "pulumi:pulumi:getResource":
            raise UnsupportedTypeError(f"the function {request.tok} needs the Pulumi CLI. {_INSTALL}")
        resource = self._completed.get(str(arguments.get("urn")))
        if resource is None:
            raise StepError(f"unknown resource {arguments.get('urn')}")
        answer: Any = {"return": to_struct({"urn": resource.urn, "id": resource.id, "state": resource.outputs})}
        return resource_pb2.ResourceInvokeResponse(**answer)

    def RegisterResourceHook(self, request: Any) -> Any:
        self._hooks.register(
            request.name,
            request.callback.token,
            on_dry_run=request.on_dry_run,
            ignore_errors=request.ignore_errors,
        )
        return empty_pb2.Empty()

    def RegisterErrorHook(self, request: Any) -> Any:
        self._hooks.register(request.name, request.callback.token)
        return empty_pb2.Empty()

    def GetDeploymentInfo(self, request: Any) -> Any:
        features = cast(Any, super()).GetDeploymentInfo(request).supportedFeatures
        kept = [feature for feature in features if feature not in _UNAVAILABLE_FEATURES]
        return resource_pb2.DeploymentInfo(supportedFeatures=kept)

    def SignalAndWaitForShutdown(self, request: Any) -> Any:
        # The program has run to its end, and its hooks can still be called.
        self._deployment.finish()
        return empty_pb2.Empty()


class Engine:
    """What the SDK takes for the engine: shows what a program logs."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def Log(self, request: Any) -> Any:
        severities = {engine_pb2.INFO: "info", engine_pb2.WARNING: "warning", engine_pb2.ERROR: "error"}
        if request.severity in severities:
            self._display.note(severities[request.severity], request.message)
        return empty_pb2.Empty()

    def RequirePulumiVersion(self, request: Any) -> Any:
        # What is asked for is an engine; this stands in for one.
        return empty_pb2.Empty()


def _goal(request: Any, urn: str) -> Resource:
    if request.remote:
        raise UnsupportedTypeError(f"components of other packages ({request.type}) need the Pulumi CLI. {_INSTALL}")
    if request.importId:
        raise UnsupportedTypeError(f"`import_` ({request.name}) needs the Pulumi CLI. {_INSTALL}")
    bindings = {
        field.name: list(names) for field, names in request.hooks.ListFields()
    } if request.HasField("hooks") else {}  # fmt: skip
    trigger = None
    if request.HasField("replacement_trigger"):
        from google.protobuf import struct_pb2

        trigger = from_struct(struct_pb2.Struct(fields={"value": request.replacement_trigger}))["value"]
    return Resource(
        urn=urn,
        type=request.type,
        custom=request.custom,
        inputs=from_struct(request.object),
        parent=request.parent,
        dependencies=list(request.dependencies),
        property_dependencies={key: list(each.urns) for key, each in request.propertyDependencies.items() if each.urns},
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        deleted_with=request.deletedWith,
        replace_with=list(request.replace_with),
        replacement_trigger=trigger,
        delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
        ignore_changes=list(request.ignoreChanges),
        replace_on_changes=list(request.replaceOnChanges),
        additional_secret_outputs=list(request.additionalSecretOutputs),
        hide_diffs=list(request.hideDiffs),
        custom_timeouts={
            operation: _seconds(text)
            for operation, text in (
                ("create", request.customTimeouts.create),
                ("update", request.customTimeouts.update),
                ("delete", request.customTimeouts.delete),
            )
            if text
        },
        hooks=bindings,
    )


def _seconds(duration: str) -> float:
    """`1h30m`, `90s`: a duration as the engine reads it."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise StepError(f"custom timeout {duration!r} is not a duration such as 90s or 1h30m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
