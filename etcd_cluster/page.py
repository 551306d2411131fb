"""The frame of every HTML page that this package writes: one file, light and dark, and to be printed; with page.css."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files


def document(title: str, body: str) -> str:
    """Returns a whole page.

    Args:
        title: Plain text.
        body: HTML, whose texts are escaped.
    """
    style = (files("etcd_cluster") / "page.css").read_text()
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def facts(items: Iterable[tuple[str, str]]) -> str:
    """Returns names with their values, in columns where there is room."""
    pairs = "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in items)
    return f'<dl class="facts">\n{pairs}\n</dl>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Returns a table; on a narrow screen, each of its rows is a block.

    Args:
        headings: Plain texts.
        rows: Cells: plain texts, or `Html`.
        numbers: Columns whose cells stand at the right.
    """
    kinds = ['class="number"' if index in numbers else "" for index in range(len(headings))]
    head = "".join(f"<th {kind}>{escape(text)}</th>" for text, kind in zip(headings, kinds, strict=True))
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td {kind} data-label="{escape(heading)}">{cell if isinstance(cell, Html) else escape(cell)}</td>'
            for cell, heading, kind in zip(row, headings, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    whole = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="wide"><table class="stacked">{whole}</table></div>'


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()
