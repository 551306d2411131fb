"""Draws lines over time as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 54, 8, 10, 30
STEPS = (1, 2, 5)

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        name: For the legend.
        points: (seconds, value), in order.
    """

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Plot:
    """One drawing.

    Args:
        title: What it shows.
        note: How that is counted.
        lines: The lines; without any, the drawing says so.
        text: Writes a value of the vertical axis.
        limit: Where a limit is drawn; None for none.
        limit_text: What stands at it.
        most: Value that the vertical axis reaches at least; 0 leaves it to the lines.
        logarithmic: Whether equal steps upwards are equal factors.
        without: What it says without any lines.
    """

    title: str
    note: str
    lines: Sequence[Line]
    text: Callable[[float], str]
    limit: float | None = None
    limit_text: str = ""
    most: float = 0.0
    logarithmic: bool = False
    without: str = "Not measured."

    def html(self, seconds: float) -> str:
        """Returns the drawing with its caption and legend.

        Args:
            seconds: Length of the horizontal axis.
        """
        lines = [line for line in self.lines if line.points]
        caption = f"<figcaption>{escape(self.title)}<small>{escape(self.note)}</small></figcaption>"
        if not lines:
            return f'<figure>{caption}<p class="faint">{escape(self.without)}</p></figure>'
        legend = "".join(
            f'<li><svg viewBox="0 0 28 8" aria-hidden="true"><path class="line series-{number}" d="M0 4H28"/></svg>'
            f"{escape(line.name)}</li>"
            for number, line in enumerate(lines, start=1)
        )
        return f'<figure>{caption}\n{self._svg(lines, seconds)}\n<ul class="legend">{legend}</ul></figure>'

    def _svg(self, lines: Sequence[Line], seconds: float) -> str:
        values = [value for line in lines for _, value in line.points if math.isfinite(value)]
        marks = self._marks(values)
        low, high = marks[0], marks[-1]

        def x(at: float) -> float:
            return LEFT + (WIDTH - LEFT - RIGHT) * min(max(at / seconds, 0.0), 1.0)

        def y(value: float) -> float:
            value = min(max(value, low), high)
            part = math.log(value / low) / math.log(high / low) if self.logarithmic else (value - low) / (high - low)
            return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part

        parts = [
            f'<path class="grid" d="M{LEFT} {y(mark):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{escape(self.text(mark))}</text>'
            for mark in marks
        ]
        step = nice_step(seconds / 6)
        for number in range(int(seconds / step) + 1):
            at = number * step
            anchor = "end" if x(at) > WIDTH - RIGHT - 14 else "middle"
            unit = " s" if at + step > seconds else ""
            parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{at:g}{unit}</text>')
        if self.limit is not None:
            height = y(self.limit)
            above = height - 5 if height > TOP + 16 else height + 14
            parts.append(
                f'<path class="limit" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/>'
                f'<text class="limit-text" x="{WIDTH - RIGHT}" y="{above:.1f}" text-anchor="end">'
                f"{escape(self.limit_text)}</text>"
            )
        for number, line in enumerate(lines, start=1):
            points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
            parts.append(f'<polyline class="line series-{number}" points="{points}"/>')
        label = escape(f"{self.title}: {', '.join(line.name for line in lines)}")
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n' + "\n".join(parts) + "\n</svg>"

    def _marks(self, values: Sequence[float]) -> list[float]:
        """Returns the marks of the vertical axis: its lowest and its highest value are the first and the last."""
        shown = [*values, *([] if self.limit is None else [self.limit])]
        most = max([*shown, self.most])
        if self.logarithmic:
            least = min((value for value in shown if value > 0), default=1.0)
            first = math.floor(math.log10(least))
            last = max(first + 1, math.ceil(math.log10(most * 1.01)))
            return [10.0**power for power in range(first, last + 1)]
        step = nice_step((most or 1.0) / 4)
        return [number * step for number in range(math.ceil((most or 1.0) * 0.999 / step) + 1)]


def nice_step(least: float) -> float:
    """Returns the next number from there on of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in STEPS if step * power >= least * 0.999), 10 * power)
