"""What a person sees of a run: one line a step, in plain text, and never a secret."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TextIO

from embedded_engine.plan import Decision, Operation
from embedded_engine.state import STACK_TYPE, Resource
from embedded_engine.values import Secret, Value, Values, shown, strings

_SIGNS = {
    Operation.SAME: " ",
    Operation.CREATE: "+",
    Operation.UPDATE: "~",
    Operation.REPLACE: "+-",
    Operation.DELETE: "-",
    Operation.FORGET: "=",
}
_COLOURS = {"+": "32", "~": "33", "+-": "35", "-": "31", "!": "31", "=": "36"}
_DOING = {
    Operation.CREATE: "creating",
    Operation.UPDATE: "updating",
    Operation.REPLACE: "replacing",
    Operation.DELETE: "deleting",
    Operation.FORGET: "forgetting",
}
_DONE = {
    Operation.CREATE: "created",
    Operation.UPDATE: "updated",
    Operation.REPLACE: "replaced",
    Operation.DELETE: "deleted",
    Operation.FORGET: "forgotten, not deleted",
}
_WIDEST_VALUE = 200
# Of a text of many lines, such as a certificate, its beginning says what it is.
_WIDEST_OF_MANY_LINES = 60
_WIDEST_CHANGE = 110
# Shorter secrets would turn ordinary words into [secret].
_SHORTEST_MASKED = 6
# Of a connection, only these are secret: its address is what errors are about.
_CONNECTION_SECRETS = {"privateKey", "password", "privateKeyPassword"}


class Display:
    """Prints the steps of one run. Safe to use from many threads."""

    def __init__(self, stream: TextIO | None = None, *, dry_run: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty()
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
        with self._lock:
            known = sorted(self._secrets, key=len, reverse=True)
        for each in known:
            if each in text:
                text = text.replace(each, "[secret]")
        return text

    def heading(self, text: str) -> None:
        self._print(text)

    def planned(self, decision: Decision, old: Resource | None, goal: Resource) -> None:
        """A step of a preview, with the values that change."""
        self._count(decision.operation, goal)
        if decision.operation is Operation.SAME:
            return
        why = f"[{', '.join(decision.reasons)}]" if decision.reasons else ""
        changes = _changes(old, goal, decision.reasons) if old is not None else ()
        self._step(
            _SIGNS[decision.operation],
            goal,
            f"{decision.operation.value} {why}".rstrip(),
            *(f"       {line}" for line in changes),
        )

    def unchanged(self, resource: Resource) -> None:
        self._count(Operation.SAME, resource)

    def started(self, operation: Operation, resource: Resource, reasons: Iterable[str] = ()) -> None:
        self._started[id(resource)] = time.monotonic()
        why = f" [{', '.join(reasons)}]" if reasons else ""
        if resource.custom:
            self._step(_SIGNS[operation], resource, f"{_DOING[operation]}{why}")

    def finished(self, operation: Operation, resource: Resource, note: str = "", *, counts: bool = True) -> None:
        if counts:
            self._count(operation, resource)
        began = self._started.pop(id(resource), None)
        if not note and began is not None:
            note = f"{time.monotonic() - began:.1f} s"
        text = f"{_DONE[operation]} ({note})" if note else _DONE[operation]
        if resource.custom:
            self._step(_SIGNS[operation], resource, text)

    def failed(self, operation: str, resource: Resource, message: str) -> None:
        began = self._started.pop(id(resource), None)
        after = f" ({time.monotonic() - began:.1f} s)" if began is not None else ""
        first, *rest = message.splitlines() or [""]
        self._step("!", resource, f"{operation} failed{after}: {first}", *(f"     {line}" for line in rest))

    def progress(self, resource: Resource, line: str) -> None:
        self._print(f"     {resource.name}: {line}")

    def note(self, severity: str, text: str, resource: Resource | None = None) -> None:
        """A message that belongs to no step. severity: `info`, `warning` or `error`."""
        about = f"{resource.name}: " if resource is not None else ""
        lines = text.splitlines() or [""]
        self._print(f"{severity}: {about}{lines[0]}")
        for line in lines[1:]:
            self._print("    " + line)

    def summary(self, ok: bool, seconds: float) -> None:
        parts: list[str] = []
        words = {Operation.SAME: "unchanged", **({each: each.value for each in _DONE} if self._dry_run else _DONE)}
        for operation in (Operation.CREATE, Operation.UPDATE, Operation.REPLACE, Operation.DELETE, Operation.FORGET):
            if self.counts[operation]:
                parts.append(
                    f"{_SIGNS[operation]} {self.counts[operation]} {'to ' if self._dry_run else ''}{words[operation]}"
                )
        if not parts and ok:
            parts.append("no changes" if self._dry_run else "nothing changed")
        if self.counts[Operation.SAME]:
            parts.append(f"{self.counts[Operation.SAME]} unchanged")
        end = "" if ok else "failed: "
        self._print(f"{end}{', '.join(parts) or 'nothing done'} ({seconds:.1f} s)")

    def outputs(self, outputs: Mapping[str, Value]) -> None:
        if outputs:
            self._print("Outputs:")
            width = max(len(key) for key in outputs)
            for key in sorted(outputs):
                self._print(f"    {key:<{width}}  {_short(shown(outputs[key]))}")

    def _count(self, operation: Operation, resource: Resource) -> None:
        with self._lock:
            if resource.type != STACK_TYPE or operation is not Operation.SAME:
                self.counts[operation] += 1
            self.operations.append((operation.value, resource.urn))

    def _step(self, sign: str, resource: Resource, text: str, *more: str) -> None:
        """more: lines that belong to it, whoever else prints meanwhile."""
        mark = f"{sign:>2}"
        if self._colour and sign in _COLOURS:
            mark = f"\x1b[{_COLOURS[sign]}m{mark}\x1b[0m"
        self._print("\n".join([f" {mark} {resource.type.rpartition('/')[2]} {resource.name}: {text}", *more]))

    def _print(self, line: str) -> None:
        line = self.masked(line)
        # A reader that went away (`| head`) is no reason to leave a step half done.
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stream.write(line + "\n")
            self._stream.flush()


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
    """On one line; where that gets long, what went and what came of a list or a mapping, an item a line."""
    line = f"{key}: {_short(before)} -> {_short(after)}"
    old, new = _items(before), _items(after)
    if len(line) <= _WIDEST_CHANGE or old is None or new is None:
        yield line
        return
    yield f"{key}:"
    for tag, start, end, new_start, new_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from (f"  - {item}" for item in old[start:end])
            yield from (f"  + {item}" for item in new[new_start:new_end])
        elif isinstance(after, list):
            yield from (f"    {item}" for item in old[start:end])


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
    from embedded_engine.values import plain, whole_numbers

    if show_secrets:
        return {key: whole_numbers(plain(value)) for key, value in outputs.items()}
    return {key: shown(value) for key, value in outputs.items()}
