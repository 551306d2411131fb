"""Tells a new request to replace a machine from one that has been in the program before."""

from __future__ import annotations

import secrets

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from etcd_cluster.lifecycle import Lifecycle, Properties


class ReplacementRequestLifecycle(Lifecycle):
    """Gives each request an id of its own: what is made from the id differs, and so is made anew.

    The end of a request changes nothing but what is remembered, so that the next one, for the same member, is new.
    Other keys and other user data change no request: the machine was made of those before.
    """

    def create(self, props: Properties) -> CreateResult:
        """Takes a request."""
        return CreateResult(secrets.token_hex(8), props)

    def diff(self, id_: str, olds: Properties, news: Properties) -> DiffResult:
        """Reports another member as another request, and none as a change in place."""
        member = news.get("member")
        is_another = olds.get("member") != member
        is_incomplete = "authorized_key" not in olds  # of a version before: what is current is what the machine has
        return DiffResult(changes=is_another or is_incomplete, replaces=["member"] if is_another and member else [])

    def update(self, id_: str, olds: Properties, news: Properties) -> UpdateResult:
        """Remembers that there is no request."""
        return UpdateResult(news)
