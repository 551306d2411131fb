"""Defines which certificates are allowed: kinds, lifetimes, and the error for all others. Imports no cryptography."""

from __future__ import annotations

from typing import Literal

from etcd_cluster.errors import EtcdClusterError

KeyAlgorithm = Literal["RSA-2048", "ECDSA-P256"]
Profile = Literal["server", "peer", "client"]

CA_VALIDITY_HOURS = 87_600
CERTIFICATE_VALIDITY_HOURS = 43_800
MIN_VALIDITY_HOURS = 24
MAX_CA_VALIDITY_HOURS = 219_000
MAX_CERTIFICATE_VALIDITY_HOURS = 87_600
# How long members trust the old CA after a rotation: 30 days to hand the new one to every client.
CA_OVERLAP_HOURS = 720
MAX_OVERLAP_HOURS = 8_760
MAX_COMMON_NAME = 64
"""Characters of a subject: ub-common-name, RFC 5280."""
MAX_ROTATION = 1_000_000


class PkiError(EtcdClusterError):
    """A certificate, a key, or an input for one, cannot be used. The text never holds key material."""
