"""Asks a cloud whether zones offer a type of machine, before one is made. No answer stops nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.runtime.invoke import invoke_async

from etcd_cluster.errors import ConfigurationError

Offers = Mapping[str, Collection[str]]
"""Type -> the zones that offer it."""


@dataclass(frozen=True)
class Question:
    """What is asked for new machines.

    Args:
        key: The key that names the type.
        machine_type: The type.
        alternatives: Types that have what the type's row has, the best first.
        capacity: What the alternatives have, in words.
        places: The key with the places of machines.
    """

    key: str
    machine_type: str
    alternatives: Sequence[str]
    capacity: str
    places: str

    @property
    def types(self) -> list[str]:
        """All types to ask for, in one question."""
        return [self.machine_type, *(each for each in self.alternatives if each != self.machine_type)]

    def require_offered(self, offers: Offers, new: Collection[str], all_zones: Collection[str]) -> None:
        """Refuses a type that a zone of a new machine does not offer; names the nearest one that all zones offer.

        Args:
            offers: The answer; empty if there is none.
            new: Zones of machines that are made.
            all_zones: Zones of all machines.

        Raises:
            ConfigurationError: A zone does not offer the type.
        """
        if not offers:
            return
        missing = sorted(zone for zone in {*new} if zone not in offers.get(self.machine_type, ()))
        if not missing:
            return
        everywhere = sorted({*new, *all_zones})
        nearest = next((each for each in self.alternatives if {*everywhere} <= {*offers.get(each, ())}), None)
        raise ConfigurationError(
            self.key,
            self.machine_type,
            f"not offered in {', '.join(missing)}",
            f"use {nearest}, which has {self.capacity} and is offered in {', '.join(everywhere)}"
            if nearest
            else f"use a type that is offered in {', '.join(everywhere)}, or other {self.places}",
        )


class OfferedType:
    """The type of new machines, checked against what their zones offer. Nothing is asked if none is made.

    Args:
        question: What is asked.
        zones: Member name -> zone.
        answer: Asks the cloud, for these zones.
    """

    def __init__(
        self,
        question: Question,
        zones: Mapping[str, pulumi.Output[str]],
        answer: Callable[[Collection[str]], Awaitable[Offers]],
    ) -> None:
        self._question = question
        self._zones = pulumi.Output.all(**zones)
        self._answer = answer

    def for_member(self, name: str, replaced: str | None) -> pulumi.Input[str]:
        """Returns the type of a member's machine.

        For a machine that is replaced, `up` checks it first: once the old machine is gone, it is too late.
        """
        if name != replaced or pulumi.runtime.is_dry_run():
            return self._question.machine_type
        return self._zones.apply(lambda zones: self._checked([name], zones))

    def check_new(self, ids: Mapping[str, pulumi.Output[str]], replaced: str | None) -> None:
        """In a preview, checks the type for machines that have no id yet, and the one that `up` always checks."""
        if not pulumi.runtime.is_dry_run():
            return
        new = pulumi.Output.all(**ids).apply(
            lambda known: [name for name, id_ in known.items() if isinstance(id_, Unknown) or name == replaced],
            run_with_unknowns=True,
        )

        def checked(both: list[Any]) -> Any:
            return self._checked(both[0], both[1])

        pulumi.Output.all(new, self._zones).apply(checked)

    async def _checked(self, new: Sequence[str], zones: Mapping[str, str]) -> str:
        if new:
            here = sorted({*zones.values()})
            self._question.require_offered(await self._answer(here), [zones[name] for name in new], here)
        return self._question.machine_type


async def ask(token: str, arguments: Mapping[str, Any], sdk: str, parent: pulumi.Resource) -> Mapping[str, Any]:
    """Returns what a function of a provider answers; {} where it gives no answer: no right to ask, no connection.

    Args:
        token: The function.
        arguments: What is asked.
        sdk: The installed package whose provider is asked.
        parent: The provider is that of this resource.
    """
    options = pulumi.InvokeOptions(parent=parent, version=version(sdk))
    try:
        return await invoke_async(token, dict(arguments), options) or {}
    except Exception as error:
        pulumi.log.info(f"whether machines can be made is not checked here: {error}", parent)
        return {}
