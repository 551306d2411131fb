"""Who may reach a cloud machine's ports: named groups and private ranges, never the world."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from etcd_cluster.errors import ConfigurationError


def require_private(key: str, ranges: Sequence[str]) -> None:
    """Refuses a range that is malformed, or that holds every address."""
    for text in ranges:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigurationError(
                key, text, f"not a range of addresses ({error})", "write it like 10.0.0.0/16"
            ) from None
        if network.prefixlen == 0:
            raise ConfigurationError(key, text, "the whole world", "name the ranges or groups that need it")
