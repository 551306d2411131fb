"""What a deployment and the providers agree on: a provider carries out the steps of the resources of its types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from embedded_engine.diff import Difference
from embedded_engine.state import Resource
from embedded_engine.values import Values
from etcd_cluster.errors import EtcdClusterError

INSTALL = "Install the CLI (https://www.pulumi.com/docs/install/) and run `pulumi up`"

Log = Callable[[str], None]


class StepError(EtcdClusterError):
    """A step of one resource failed; the text is meant for a person."""


class UnsupportedFeatureError(EtcdClusterError):
    """The program uses what only the Pulumi CLI offers."""

    def __init__(self, feature: str) -> None:
        """Names the feature and says what to do."""
        super().__init__(f"{feature}: not supported without the Pulumi CLI. {INSTALL}")


class CheckFailure(NamedTuple):
    """One input that a provider rejects. property: its name, or "" for the resource as a whole."""

    property: str
    reason: str


@dataclass(frozen=True)
class Step:
    """What a provider gets beside the resource. log: shows a line of progress."""

    log: Log
    timeout_seconds: float | None = None


class Provider(Protocol):
    """Manages the resources of one type, as the provider of a Pulumi package does."""

    def check(self, goal: Resource, old: Resource | None) -> tuple[Values, list[CheckFailure]]:
        """The inputs, with the provider's defaults, and what is wrong with them."""
        ...

    def diff(self, old: Resource, goal: Resource) -> Difference:
        """What an update to the goal would change."""
        ...

    def create(self, goal: Resource, step: Step) -> tuple[str, Values]:
        """The id and the outputs of the new resource."""
        ...

    def update(self, old: Resource, goal: Resource, step: Step) -> Values:
        """The outputs after the update."""
        ...

    def delete(self, old: Resource, step: Step) -> None:
        """Deletes the resource."""
