"""What the deployment and the providers agree on: a provider carries out the steps of the resources of its types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from embedded_engine.plan import Difference
from embedded_engine.state import Resource
from embedded_engine.values import Values
from etcd_cluster.errors import EtcdClusterError

Say = Callable[[str], None]


class StepError(EtcdClusterError):
    """A step of one resource failed; the text is meant for a person."""


class UnsupportedTypeError(EtcdClusterError):
    """A resource that only the Pulumi engine can manage."""


class CheckFailure(NamedTuple):
    property: str
    reason: str


@dataclass(frozen=True)
class Step:
    """What a provider gets beside the resource. say: shows a line of progress."""

    say: Say
    timeout_seconds: float | None = None


class Provider(Protocol):
    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]: ...
    def diff(self, old: Resource, goal: Resource) -> Difference: ...
    def create(self, goal: Resource, step: Step) -> tuple[str, Values]: ...
    def update(self, old: Resource, goal: Resource, step: Step) -> Values: ...
    def delete(self, old: Resource, step: Step) -> None: ...
