"""What a run prints: one line a step, in plain text, and never a secret."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TextIO

from embedded_engine.diff import Decision, Operation
from embedded_engine.state import Resource
from embedded_engine.values import Secret, Value, Values, plain, shown, strings, whole_numbers

# Operation -> its sign, what is going on, and what was done.
_WORDS = {
    Operation.CREATE: ("+", "creating", "created"),
    Operation.UPDATE: ("~", "updating", "updated"),
    Operation.REPLACE: ("+-", "replacing", "replaced"),
    Operation.DELETE: ("-", "deleting", "deleted"),
    Operation.FORGET: ("=", "forgetting", "forgotten, not deleted"),
}
_WIDEST_VALUE = 110
# Of a text of many lines, such as a certificate, its beginning says what it is.
_WIDEST_OF_MANY_LINES = 60
# A page about the stack, for Pulumi Cloud to render.
_NOT_SHOWN = "readme"
# Shorter secrets would turn ordinary words into [secret].
_SHORTEST_MASKED = 6
# Of a connection, only these are secret: its address is what errors are about.
_CONNECTION_SECRETS = {"privateKey", "password", "privateKeyPassword"}


class Display:
    """Prints the steps of one run. Safe to use from many threads."""

    def __init__(self, stream: TextIO | None = None, *, dry_run: bool = False) -> None:
        """Prints to the stream, by default standard output. dry_run: the steps are those of a preview."""
        self._stream = stream or sys.stdout
        self._dry_run = dry_run
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._started: dict[int, float] = {}
        self.counts: Counter[Operation] = Counter()
        self.operations: list[tuple[str, str]] = []

    def hide(self, resource: Resource) -> None:
        """Learns the secrets of a resource, so that no later line shows one."""
        for values in (resource.inputs, resource.outputs):
            for key, value in values.items():
                self._hide(value, connection=key in ("connection", "connections"))

    def hide_text(self, text: str) -> None:
        """Learns one secret."""
        if len(text) >= _SHORTEST_MASKED:
            with self._lock:
                self._secrets.update({text, json.dumps(text, ensure_ascii=False)[1:-1]})
                if "PRIVATE KEY" in text:
                    self._secrets.update(line for line in text.splitlines() if len(line) > 16 and "-----" not in line)

    def _hide(self, value: Value, connection: bool = False, inside: bool = False) -> None:
        if isinstance(value, Secret):
            self._hide(value.value, connection, inside=True)
        elif isinstance(value, dict):
            for key, item in value.items():
                if not connection or key in _CONNECTION_SECRETS or isinstance(item, dict):
                    self._hide(item, connection and key not in _CONNECTION_SECRETS, inside)
        elif isinstance(value, list):
            for item in value:
                self._hide(item, connection, inside)
        elif inside:
            for text in strings(value):
                self.hide_text(text)

    def masked(self, text: str) -> str:
        """The text with every secret that was learned replaced."""
        with self._lock:
            known = sorted(self._secrets, key=len, reverse=True)
        for each in known:
            if each in text:
                text = text.replace(each, "[secret]")
        return text

    def heading(self, text: str) -> None:
        """A line about the run."""
        self._print(text)

    def previewed(self, decision: Decision, old: Resource | None, goal: Resource) -> None:
        """A step of a preview, with the values that change."""
        self._count(decision.operation, goal)
        changes = _changes(old, goal, decision.reasons) if old is not None else ()
        text = decision.operation.value + _bracketed(decision.reasons)
        self._step(_WORDS[decision.operation][0], goal, text, *(f"       {line}" for line in changes))

    def unchanged(self, resource: Resource) -> None:
        """A resource that needs no step: counted, not shown."""
        self._count(Operation.SAME, resource)

    def started(self, operation: Operation, resource: Resource, reasons: Iterable[str] = ()) -> None:
        """The beginning of a step."""
        self._started[id(resource)] = time.monotonic()
        if resource.custom:
            sign, doing, _ = _WORDS[operation]
            self._step(sign, resource, doing + _bracketed(reasons))

    def finished(self, operation: Operation, resource: Resource, reason: str = "", *, counts: bool = True) -> None:
        """The end of a step.

        Args:
            operation: What was done.
            resource: The resource that `started` was called with.
            reason: Why the step needed no work; default: shows its duration.
            counts: Whether the step is one of its own, rather than half of a replacement.
        """
        if counts:
            self._count(operation, resource)
        if resource.custom:
            sign, _, done = _WORDS[operation]
            duration = self._duration(resource)
            self._step(sign, resource, f"{done} ({reason})" if reason else done + duration)

    def failed(self, operation: str, resource: Resource, message: str) -> None:
        """A step that failed, and why."""
        first, *rest = message.splitlines() or [""]
        text = f"{operation} failed{self._duration(resource)}: {first}"
        self._step("!", resource, text, *(f"     {line}" for line in rest))

    def _duration(self, resource: Resource) -> str:
        began = self._started.pop(id(resource), None)
        return f" ({time.monotonic() - began:.1f} s)" if began is not None else ""

    def progress(self, resource: Resource, line: str) -> None:
        """A line that a step printed."""
        self._print(f"     {resource.name}: {line}")

    def note(self, severity: str, text: str) -> None:
        """A message that belongs to no step. severity: `info`, `warning` or `error`."""
        first, *rest = text.splitlines() or [""]
        self._print("\n".join([f"{severity}: {first}", *(f"    {line}" for line in rest)]))

    def summary(self, ok: bool, seconds: float) -> None:
        """The last line of a run."""
        parts: list[str] = []
        for operation, (sign, _, done) in _WORDS.items():
            if count := self.counts[operation]:
                parts.append(f"{sign} {count} to {operation.value}" if self._dry_run else f"{sign} {count} {done}")
        if not parts and ok:
            parts.append("no changes" if self._dry_run else "nothing changed")
        if count := self.counts[Operation.SAME]:
            parts.append(f"{count} unchanged")
        self._print(f"{'' if ok else 'failed: '}{', '.join(parts) or 'nothing done'} ({seconds:.1f} s)")

    def outputs(self, outputs: Mapping[str, Value]) -> None:
        """The outputs of the stack, a line each."""
        keys = sorted(outputs.keys() - {_NOT_SHOWN})
        if keys:
            self._print("Outputs:")
            width = max(map(len, keys))
            for key in keys:
                self._print(f"    {key:<{width}}  {_short(shown(outputs[key]))}")

    def _count(self, operation: Operation, resource: Resource) -> None:
        with self._lock:
            self.counts[operation] += 1
            self.operations.append((operation.value, resource.urn))

    def _step(self, sign: str, resource: Resource, text: str, *more: str) -> None:
        """more: lines that belong to the step, and stay with it while other threads print."""
        self._print("\n".join([f" {sign:>2} {resource.type.rpartition('/')[2]} {resource.name}: {text}", *more]))

    def _print(self, line: str) -> None:
        line = self.masked(line)
        # A closed pipe (`| head`) must not interrupt a step.
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stream.write(line + "\n")
            self._stream.flush()


def _bracketed(reasons: Iterable[str]) -> str:
    text = ", ".join(reasons)
    return f" [{text}]" if text else ""


def _changes(old: Resource, goal: Resource, keys: Iterable[str]) -> Iterable[str]:
    for key in keys:
        before, after = old.inputs.get(key), goal.inputs.get(key)
        if before == after and key not in goal.inputs:
            continue
        if key in goal.hide_diffs:
            yield f"{key}: changed"
        elif isinstance(before, Secret) or isinstance(after, Secret):
            yield f"{key}: [secret]"
        else:
            yield from _change(key, shown(before), shown(after))


def _change(key: str, before: Value, after: Value) -> Iterable[str]:
    """On one line; where that gets long, the removed and added items of a list or a mapping, a line each."""
    line = f"{key}: {_short(before)} -> {_short(after)}"
    old, new = _items(before), _items(after)
    if len(line) <= _WIDEST_VALUE or old is None or new is None:
        yield line
        return
    yield f"{key}:"
    everything = len(old) if isinstance(after, list) else 0
    # Without the two lines that would name files.
    for item in islice(difflib.unified_diff(old, new, n=everything, lineterm=""), 2, None):
        if not item.startswith("@@"):
            yield f"  {item[0]} {item[1:]}"


def _items(value: Value) -> list[str] | None:
    """One line for each item of a list or a mapping; None where there are none to tell apart."""
    if value is None:
        return []
    if isinstance(value, list):
        return [item if isinstance(item, str) and item.isprintable() else _short(item) for item in value]
    return [f"{key}: {_short(value[key])}" for key in sorted(value)] if isinstance(value, dict) else None


def _short(value: Value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    widest = _WIDEST_OF_MANY_LINES if isinstance(value, str) and "\n" in value.strip() else _WIDEST_VALUE
    return text if len(text) <= widest else text[:widest] + "..."


def printable(outputs: Values, show_secrets: bool) -> dict[str, object]:
    """Stack outputs as `pulumi stack output --json` gives them."""
    if show_secrets:
        return {key: whole_numbers(plain(value)) for key, value in outputs.items()}
    return {key: shown(value) for key, value in outputs.items()}
