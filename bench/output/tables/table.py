"""A report and its tables printed: for a terminal to its width and in colours, for a pipe as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

from vla_edge.bench.output.document import BLANK, Block, Words, answers, document
from vla_edge.bench.output.format import NAME_LIMIT
from vla_edge.bench.report.types import Report

from .grid import Grid
from .layout import fold, lay_out

STYLES = {
    "answer": "bold green",
    "doubted": "bold yellow",
    "alarm": "red",
    "title": "bold",
    "quiet": "dim",
    "caption": "",
}
ROWS = {"best": "bold green", "wrong": "bold red", "failed": "red", "skipped": "dim"}
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
    printed = sum(_print_block(block, console) for block in document(report, everything=full or not screen))
    if screen and printed > console.height:
        _print_all((BLANK, *answers(report)), console)


def print_grid(grid: Grid, console: Console, styles: Mapping[str, str]) -> None:
    """A table with its caption and footnotes; `styles` are those of the lines' statuses."""
    _print_words(Words(grid.caption, "caption"), console)
    _print_table(grid, console, styles)
    _print_all((Words(f"[{at}] {text}", "quiet") for at, text in enumerate(grid.footnotes, 1)), console)


def print_text(text: str, console: Console, style: str = "") -> int:
    """A paragraph, wrapped between words on a terminal; returns how many lines it took."""
    return _print_line(text, console, style)


def _print_all(blocks: Iterable[Block], console: Console) -> None:
    for block in blocks:
        _print_block(block, console)


def _print_block(block: Block, console: Console) -> int:
    if isinstance(block, Words):
        return _print_words(block, console)
    return _print_table(block, console, ROWS)


def _print_words(words: Words, console: Console) -> int:
    count = _print_line(words.text, console, STYLES.get(words.style, ""), words.indent)
    if words.style == "title" and not console.is_terminal:
        count += _print_line("=" * min(len(words.text), NAME_LIMIT), console)
    return count


def _print_table(grid: Grid, console: Console, styles: Mapping[str, str]) -> int:
    width, rule = (console.width, "─") if console.is_terminal else (None, "-")
    count = 0
    for line in lay_out(grid, width, rule):
        style = STYLES["title"] if line.role == "group" else STYLES["quiet"] if line.role else ""
        _write(line.text, console, style or styles.get(line.status, ""))
        count += 1
    return count


def _print_line(text: str, console: Console, style: str = "", indent: int = 0) -> int:
    """One paragraph; a list's second line stands below its first word."""
    if not console.is_terminal:
        _write(" " * indent + text, console)
        return 1
    hanging = indent + (2 if text.startswith("- ") else 0)
    lines = fold(text, max(console.width - hanging, LEAST_WIDTH))
    for at, line in enumerate(lines):
        _write(" " * (hanging if at else indent) + line, console, style)
    return len(lines)


def _write(text: str, console: Console, style: str = "") -> None:
    """One line as it is: no markup, no highlighting, nothing that the output cannot encode."""
    encoding = console.encoding
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    console.print(Text(text, style=style), soft_wrap=True)
