"""The report as Markdown, for a README or a pull request: what a pipe gets, with all but the summaries folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vla_edge.bench.report.types import Report

from .document import Block, Words, document
from .format import printable
from .marks import MARKDOWN_MARK
from .tables.grid import Grid

_SPECIAL = re.compile(r"([\\`*\[\]|~#$])")
# an underscore inside a word is one, at its edge it would be emphasis
_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")
_STYLES = {"answer": "**{}**", "doubted": "**{}**", "alarm": "**{}**", "title": "## {}"}


def to_markdown(report: Report) -> str:
    """The report without its samples, in GitHub's Markdown: the same text for the same report."""
    lines = "\n".join([MARKDOWN_MARK, "", *_lines(document(report, everything=True))])
    return re.sub(r"\n{3,}", "\n\n", lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Text of a report as text: no markup, no cell or line of its own."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", shown))


def _lines(blocks: Iterable[Block]) -> Iterator[str]:
    folded = False
    for block in blocks:
        if isinstance(block, Grid):
            yield from ("", *table_lines(block), "")
            continue
        if folded and block.style in ("title", "more"):
            yield from ("</details>", "")
            folded = False
        if block.style == "more":
            yield from (f"<details><summary>{escape(block.text)}</summary>", "")
            folded = True
        else:
            yield from _paragraph(block)


def _paragraph(words: Words) -> Iterator[str]:
    item = "- " if words.text.startswith("- ") else ""
    text = escape(words.text.removeprefix(item))
    yield f"{item}{_STYLES.get(words.style, '{}').format(text)}" if text else ""
    if not item:
        yield ""


def table_lines(grid: Grid) -> Iterator[str]:
    """A table padded to be read as it stands; figures are set right."""
    body = [
        [escape(cell) for cell in cells] for cells in (grid.headings, *(line.cells for line in grid.lines))
    ]
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    sides = ["<" if at < len(grid.words) else ">" for at in range(len(widths))]
    head, *rest = (
        f"| {' | '.join(f'{cell:{side}{width}}' for cell, side, width in zip(cells, sides, widths, strict=True))} |"
        for cells in body
    )
    rules = (
        f"-{'-' * width}{'-' if side == '<' else ':'}" for side, width in zip(sides, widths, strict=True)
    )
    yield from (head, f"|{'|'.join(rules)}|", *rest)
