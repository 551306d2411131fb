"""Defines who may reach a cloud machine's ports: named groups and ranges of addresses, never the world."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from etcd_cluster.errors import ConfigurationError

WIDEST_PREFIX = {4: 8, 6: 7}
"""10.0.0.0/8 and fc00::/7. A few wider ones would make up the whole world."""


def require_private(key: str, ranges: Sequence[str]) -> None:
    """Refuses a range that is malformed, or that holds all addresses or a large part of them."""
    for text in ranges:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigurationError(
                key, text, f"not a range of addresses ({error})", "write it like 10.0.0.0/16"
            ) from None
        if network.prefixlen < WIDEST_PREFIX[network.version]:
            raise ConfigurationError(
                key, text, "the whole world, or much of it", "name the ranges or groups that need it"
            )
