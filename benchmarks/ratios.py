"""Pure: measured seconds -> a table of medians and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median


def table(
    seconds: Mapping[str, Sequence[float]],
    reference: str,
    targets: Mapping[str, float] | None = None,
    *,
    digits: int = 2,
) -> str:
    """One row a contestant. Every round's ratio is to the reference of the same round, so that a busy machine weighs
    on both. targets: the ratio that a contestant should stay within, printed beside its own. digits: of seconds."""
    rows = [["", "median", "ratio", "min - max", "target"]]
    for name, own in seconds.items():
        row = [name, f"{median(own):.{digits}f} s"]
        if name == reference:
            row += ["1", "", ""]
        else:
            each = [mine / its for mine, its in zip(own, seconds[reference], strict=True)]
            target = f"<= {targets[name]}" if targets and name in targets else ""
            row += [f"{median(each):.2f}", f"{min(each):.2f} - {max(each):.2f}", target]
        rows.append(row)
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip()

    return "\n".join(map(line, rows))
