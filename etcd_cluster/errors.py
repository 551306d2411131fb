"""What this project raises. Everything a caller may want to catch is an `EtcdClusterError`."""

from __future__ import annotations

import json


class EtcdClusterError(Exception):
    """Any failure this project explains itself."""


class ConfigurationError(EtcdClusterError):
    """A setting that cannot be used, and what to write in its place: "KEY: VALUE: problem. Fix."

    Args:
        key: The setting as the user writes it, such as `etcd.heartbeat-interval`.
        value: What was given. It is printed, so never pass a secret.
        problem: What is wrong, without a closing period.
        fix: What to do about it, without a closing period. It is printed with a capital.
    """

    def __init__(self, key: str, value: object, problem: str, fix: str) -> None:
        super().__init__(key, value, problem, fix)
        self.key = key
        self.value = value
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        value = json.dumps(self.value, default=str, ensure_ascii=False, skipkeys=True)
        end = "" if self.fix.endswith("?") else "."
        return f"{self.key}: {value}: {self.problem}. {self.fix[:1].upper()}{self.fix[1:]}{end}"
