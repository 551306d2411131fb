"""The engine's side of the SDK's protocol: turns its requests into registrations of a deployment, and answers them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import engine_pb2, resource_pb2

from embedded_engine.deployment import Deployment
from embedded_engine.display import Display
from embedded_engine.provider import StepError, UnsupportedFeatureError
from embedded_engine.state import STACK_TYPE, Resource
from embedded_engine.values import from_struct, to_struct

_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_FEATURES = [
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACEMENT_TRIGGER,
    # The SDK sends these only to an engine that claims them; here each is refused by its name.
    resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACE_WITH,
    resource_pb2.RESOURCE_MONITOR_FEATURE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_INVOKE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_PARAMETERIZATION,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS,
]
# Field of a registration -> the option that sets it.
_UNSUPPORTED_OPTIONS = {
    "aliases": "aliases",
    "importId": "import_",
    "replace_with": "replace_with",
    "transforms": "transforms",
}
# Field of a registration -> the option that sets it, and the paths that it may hold.
_PATHS = {
    "ignoreChanges": ("ignore_changes", re.compile(r'[^"\[\]]+')),
    "replaceOnChanges": ("replace_on_changes", re.compile(r"\w+(\[\*\])?")),
}
# Method of the protocol -> what a program uses it for.
_UNSUPPORTED_REQUESTS = {
    "Invoke": "function {0.tok}",
    "Call": "method {0.tok}",
    "ReadResource": "reading {0.id} of type {0.type}",
    "RegisterStackTransform": "register_resource_transform",
    "RegisterStackInvokeTransform": "register_invoke_transform",
    "RegisterResourceHook": "ResourceHook {0.name}",
    "RegisterErrorHook": "ErrorHook {0.name}",
    "RegisterPackage": "parameterized package {0.name}",
}


class Monitor:
    """What the SDK takes for the engine's resource monitor. The methods are named by the SDK's protocol."""

    def __init__(self, stack: str, project: str, deployment: Deployment) -> None:
        """Answers one program.

        Args:
            stack: The name of the stack, for URNs.
            project: The name of the project, for URNs.
            deployment: Carries out what the program registers.
        """
        self._prefix = f"urn:pulumi:{stack}::{project}::"
        self._deployment = deployment

    def _urn(self, parent: str, type_: str, name: str) -> str:
        parent_type = parent.split("::")[2] if parent else ""
        qualified = f"{parent_type}${type_}" if parent_type not in ("", STACK_TYPE) else type_
        return f"{self._prefix}{qualified}::{name}"

    def RegisterResource(self, request: Any) -> Any:
        """Brings one resource to its goal."""
        urn = self._urn(request.parent, request.type, request.name)
        for field, option in _UNSUPPORTED_OPTIONS.items():
            if getattr(request, field):
                raise UnsupportedFeatureError(f"`{option}` of {request.name}")
        for field, (option, supported) in _PATHS.items():
            for path in getattr(request, field):
                if not supported.fullmatch(path):
                    raise UnsupportedFeatureError(f"`{option}` of {request.name} with the path {path}")
        if request.remote:
            raise UnsupportedFeatureError(f"{request.type}, a component of another package")
        resource = self._deployment.register(_goal(request, urn))
        # As in the engine: what a component exports may name resources that are not registered yet.
        outputs = resource.outputs if resource.custom else {}
        return resource_pb2.RegisterResourceResponse(urn=urn, id=resource.id, object=to_struct(outputs))

    def RegisterResourceOutputs(self, request: Any) -> Any:
        """Takes the outputs of a component or of the stack."""
        self._deployment.register_outputs(request.urn, from_struct(request.outputs))
        return empty_pb2.Empty()

    def SignalAndWaitForShutdown(self, request: Any) -> Any:
        """Is called when the program has run to its end."""
        self._deployment.finish()
        return empty_pb2.Empty()

    def GetDeploymentInfo(self, request: Any) -> Any:
        """Names the features that a program may use."""
        return resource_pb2.DeploymentInfo(supportedFeatures=_FEATURES)

    def __getattr__(self, method: str) -> Callable[[Any], NoReturn]:
        """Refuses every other request of the protocol."""
        if method.startswith("_"):
            raise AttributeError(method)

        def refuse(request: Any) -> NoReturn:
            raise UnsupportedFeatureError(_UNSUPPORTED_REQUESTS.get(method, method).format(request))

        return refuse


class Engine:
    """What the SDK takes for the engine: shows what a program logs."""

    def __init__(self, display: Display) -> None:
        """Shows messages on the display."""
        self._display = display

    def Log(self, request: Any) -> Any:
        """Shows a message, unless it is for debugging."""
        severities = {engine_pb2.INFO: "info", engine_pb2.WARNING: "warning", engine_pb2.ERROR: "error"}
        if request.severity in severities:
            self._display.note(severities[request.severity], request.message)
        return empty_pb2.Empty()

    def RequirePulumiVersion(self, request: Any) -> Any:
        """Accepts: the requirement is for the Pulumi CLI, and this stands in for it."""
        return empty_pb2.Empty()


def _goal(request: Any, urn: str) -> Resource:
    trigger = None
    if request.HasField("replacement_trigger"):
        trigger = from_struct(struct_pb2.Struct(fields={"value": request.replacement_trigger}))["value"]
    timeouts = request.customTimeouts
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
        replacement_trigger=trigger,
        delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
        ignore_changes=list(request.ignoreChanges),
        replace_on_changes=list(request.replaceOnChanges),
        additional_secret_outputs=list(request.additionalSecretOutputs),
        hide_diffs=list(request.hideDiffs),
        custom_timeouts={
            operation: _seconds(getattr(timeouts, operation))
            for operation in ("create", "update", "delete")
            if getattr(timeouts, operation)
        },
    )


def _seconds(duration: str) -> float:
    """`1h30m`, `90s`: a duration as the engine reads it."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise StepError(f"custom timeout {duration!r} is not a duration such as 90s or 1h30m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
