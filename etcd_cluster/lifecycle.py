"""Defines what every dynamic resource shares: how its state is versioned, read and written.

The contract with existing stacks is docs/development/state-contract.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, ClassVar, cast

from pulumi.dynamic import CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from etcd_cluster.errors import EtcdClusterError

Properties = dict[str, Any]

SCHEMA_VERSION = 1
"""The schema number of all resources. Whichever resource is read first refuses a newer state, before any is touched."""
SCHEMA = "schema"
"""The key that holds a state's schema number. A state without one is of schema 0, from before the first release."""


class NewerStateError(EtcdClusterError):
    """A newer release wrote this state; its meaning is unknown here."""


@dataclass(frozen=True)
class Schema:
    """The shape of one resource's inputs and outputs.

    Args:
        version: The number that is written today; `SCHEMA_VERSION`, but in tests.
        defaults: Key -> what its absence means, for keys that were added without a new number.
        upgrades: Number -> function from properties of that schema to properties of the next one. A number without a
            function needs none.
    """

    version: int = SCHEMA_VERSION
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    upgrades: Mapping[int, Callable[[Properties], Properties]] = field(
        default_factory=dict[int, Callable[[Properties], Properties]]
    )

    def read(self, stored: Mapping[str, Any]) -> Properties:
        """Returns stored properties as the current schema has them; none, where nothing is stored.

        Raises:
            NewerStateError: The state's number is higher than `version`.
        """
        if not stored:
            return {}
        found = int(stored.get(SCHEMA) or 0)
        if found > self.version:
            raise NewerStateError(
                f"made by a newer etcd-cluster: its state has schema {found}; expected is {self.version} at most, as "
                f"etcd-cluster {release()} knows it. Nothing was changed. Install that release, or a later one"
            )
        properties = dict(stored)
        for number in range(found, self.version):
            properties = self.upgrades.get(number, _unchanged)(properties)
        return {**self.defaults, **properties}

    def write(self, properties: Mapping[str, Any]) -> Properties:
        """Returns properties with the number of this schema."""
        return {**properties, SCHEMA: self.version}


class Lifecycle:
    """The life of one kind of resource: the methods of a dynamic provider, behind the classes in providers.py.

    `olds` are always of the current `schema`; what the methods return is stored with its number.
    """

    schema: ClassVar[Schema] = Schema()

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Returns the inputs to store, and what is wrong with them."""
        return CheckResult(news, [])

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Returns whether an update is due."""
        return DiffResult(changes=False, replaces=[])

    def create(self, props: Properties) -> CreateResult:
        """Makes the resource, and returns its id and outputs."""
        raise NotImplementedError

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Changes the resource, and returns its outputs."""
        raise NotImplementedError

    def delete(self, id_: str, props: Properties) -> None:
        """Forgets the resource: nothing is left of most of them."""

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Returns what `pulumi refresh` and import store: by default, what is stored already."""
        return ReadResult(id_, props, props)


def _unchanged(properties: Properties) -> Properties:
    return properties


def release() -> str:
    """Returns the version of this package, or that it is a checkout."""
    try:
        return metadata.version("etcd-cluster")
    except metadata.PackageNotFoundError:
        return "of this checkout"


def same(old: Any, new: Any) -> bool:
    """Returns whether two values are the same. An unknown value never is; a missing value equals an empty one."""
    if isinstance(new, Unknown) or new == UNKNOWN:
        return False
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast(Properties, old), cast(Properties, new)
        return all(same(before.get(key), after.get(key)) for key in before.keys() | after.keys())
    if isinstance(old, list) and isinstance(new, list):
        items_before, items_after = cast("Sequence[Any]", old), cast("Sequence[Any]", new)
        return len(items_before) == len(items_after) and all(map(same, items_before, items_after))
    return (old or None) == (new or None)
