"""A report and its tables printed: for a terminal to its width and in colours, for a pipe as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.text import Text

from vla_edge.bench.report.types import Report

from .document import BLANK, Block, Words, answers, document
from .format import NAME_LIMIT
from .tables.grid import Grid
from .tables.layout import fold, lay_out

# of paragraphs, and of a table's lines by their kind
STYLES = {
    "answer": "bold green",
    "doubted": "bold yellow",
    "alarm": "red",
    "title": "bold",
    "more": "bold",
    "quiet": "dim",
    "head": "dim",
    "rule": "dim",
    "group": "bold",
    "best": "bold green",
    "wrong": "bold red",
    "failed": "red",
    "skipped": "dim",
}
# what an output without Unicode has in their place
_ASCII = str.maketrans({"…": "...", "─": "-", "·": "-", "×": "x", "\ufffd": "?"})
LEAST_WIDTH = 20


def print_report(report: Report, console: Console, *, full: bool = False) -> None:
    """Print what matters most on a terminal, everything into a pipe: the answer first.

    A terminal that the report does not fit is told the answer once more, where its reader is then.

    Args:
        full: everything on a terminal too.
    """
    screen = console.is_terminal
    printed = print_blocks(document(report, everything=full or not screen), console)
    if screen and printed > console.height:
        print_blocks((BLANK, *answers(report)), console)


def print_blocks(blocks: Iterable[Block], console: Console, styles: Mapping[str, str] = STYLES) -> int:
    """Print paragraphs and tables in the styles of their kinds; returns how many lines that took."""
    count = 0
    for block in blocks:
        for text, kind in _table(block, console) if isinstance(block, Grid) else _paragraph(block, console):
            _write(text, console, styles.get(kind, ""))
            count += 1
    return count


def _table(grid: Grid, console: Console) -> Iterator[tuple[str, str]]:
    width, rule = (console.width, "─") if console.is_terminal else (None, "-")
    yield from ((line.text, line.kind) for line in lay_out(grid, width, rule))


def _paragraph(words: Words, console: Console) -> Iterator[tuple[str, str]]:
    """Wrapped between words on a terminal, where a list's second line stands below its first word."""
    text, indent = words.text, words.indent
    if not console.is_terminal:
        yield " " * indent + text, ""
        if words.style in ("title", "more"):
            yield "=" * min(len(text), NAME_LIMIT), ""
        return
    hanging = indent + (2 if text.startswith("- ") else 0)
    for at, line in enumerate(fold(text, max(console.width - hanging, LEAST_WIDTH))):
        yield " " * (hanging if at else indent) + line, words.style


def _write(text: str, console: Console, style: str) -> None:
    """One line as it is: no markup, no highlighting, nothing that the output cannot encode."""
    encoding = console.encoding
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    console.print(Text(text, style=style), soft_wrap=True)
