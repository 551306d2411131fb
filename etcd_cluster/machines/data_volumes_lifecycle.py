"""Remembers which members have a data volume, and refuses to put another one in its place. Asks nobody."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, UpdateResult

from etcd_cluster.errors import ConfigurationError
from etcd_cluster.lifecycle import Lifecycle, Properties
from etcd_cluster.machines.kept_volume import KeptVolume

STORED = ("owner", "volumes", "given")


class DataVolumesLifecycle(Lifecycle):
    """Stores `owner`, `volumes` (member -> id of the volume that it took up, "" for one that was made) and `given`."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Records the volume of each member, and refuses what would cost one of them its data."""
        known: Mapping[str, str] = olds.get("volumes") or {}
        owner = olds.get("owner") or secrets.token_hex(8)
        taken_up: Mapping[str, str] = news["taken_up"]
        failures = [
            CheckFailure("", str(refused))
            for member in news["members"]
            for refused in _Member(member, owner, olds, news).refusals()
        ]
        volumes = {member: known.get(member, taken_up.get(member, "")) for member in news["members"]}
        return CheckResult({"owner": owner, "volumes": volumes, "given": news["given"]}, failures)

    def create(self, props: Properties) -> CreateResult:
        """Stores the volumes."""
        return CreateResult(props["owner"], props)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports a change if a member came or went, or something is given for another one."""
        return DiffResult(changes=any(olds.get(key) != news.get(key) for key in STORED))

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Stores the volumes."""
        return UpdateResult(news)


@dataclass(frozen=True)
class _Member:
    """One member, by the state (`olds`) and by what the program found and gives (`news`)."""

    name: str
    owner: str
    olds: Properties
    news: Properties

    def refusals(self) -> Iterator[ConfigurationError]:
        stands = self.name in (self.olds.get("volumes") or {})
        yield from self._given_anew() if stands else ()
        if self.name in self.news["given"].get(self.news["key"], ()):
            return
        yield from self._not_its_own() if stands else self._uncertain()

    def _given_anew(self) -> Iterator[ConfigurationError]:
        """What is the caller's stays the caller's, and what the stack made stays in it."""
        before: Mapping[str, Mapping[str, object]] = self.olds.get("given") or {}
        for key, members in self.news["given"].items():
            was, is_given = self.name in before.get(key, ()), self.name in members
            if was and is_given and self.name != self.news.get("replaced"):
                yield from self._another(key, before[key][self.name], members[self.name])
            if is_given and not was:
                yield ConfigurationError(
                    f"{key}.{self.name}",
                    "(given)",
                    f"{self.name} has one of this stack already, and would lose it",
                    "take it out; it is for a member that the stack does not have yet",
                )
            if was and not is_given:
                yield ConfigurationError(
                    f"{key}.{self.name}",
                    None,
                    f"{self.name} runs with what was given here, and would get a new one in its place",
                    "give it again, or remove the member first: what is yours stays",
                )

    def _another(self, key: str, had: object, given: object) -> Iterator[ConfigurationError]:
        """Another one comes with another machine. One that is known only later is checked by `up`."""
        if isinstance(had, str) and isinstance(given, str) and given != had:
            yield ConfigurationError(
                f"{key}.{self.name}",
                given,
                f"{self.name} runs with {had}, and another one needs another machine",
                f"give {had} again, or {key.partition('.')[0]}.replaceMember: {self.name} in the same run",
            )

    def _not_its_own(self) -> Iterator[ConfigurationError]:
        """The one volume that carries the names of a member that stands is its own."""
        id_ = self.news["taken_up"].get(self.name)
        its_own = self.olds["volumes"][self.name]
        if id_ and id_ != its_own and not any(each.owner == self.owner for each in self._found if each.id == id_):
            yield ConfigurationError(
                self.news["key"],
                id_,
                f"it carries the names of {self.name}, whose volume in this stack is another one",
                f"delete its {self.news['label']}; nothing else of it changes",
            )

    def _uncertain(self) -> Iterator[ConfigurationError]:
        """For a new member, volumes of its name are taken up if that is certain, and never passed over."""
        # A run that was to remove the member ended before its machine went.
        is_back = any(each.in_use and each.owner == self.owner for each in self._found)
        if self._is_of_before or is_back or self.name in self.news["taken_up"]:
            return
        key, label = self.news["key"], self.news["label"]
        ids = [each.id for each in self._found]
        if len(ids) > 1:
            yield ConfigurationError(
                key,
                ids,
                f"these volumes carry the names of {self.name}, and one of them may hold its data",
                f"delete the {label} of all but the one to take up, or give it as {key}: {{{self.name}: {ids[0]}}}",
            )
        elif ids:
            yield ConfigurationError(
                key,
                ids[0],
                f"it carries the names of {self.name}, and another machine has it",
                f"detach it to have it taken up, or give another one as {key}: {{{self.name}: ID}}",
            )

    @property
    def _is_of_before(self) -> bool:
        """Returns whether the stack was made without this resource: all its volumes run, and name no owner."""
        found = [_volumes(self.news, member) for member in self.news["members"]]
        return not self.olds and all(any(each.in_use and not each.owner for each in volumes) for volumes in found)

    @property
    def _found(self) -> list[KeptVolume]:
        return _volumes(self.news, self.name)


def _volumes(news: Properties, member: str) -> list[KeptVolume]:
    found: Sequence[Mapping[str, Any]] = news["found"].get(member) or ()
    return [KeptVolume(**each) for each in found]
