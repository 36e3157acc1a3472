"""Messages on a terminal: broken between words, never inside a path or a command; unchanged in a pipe."""

from __future__ import annotations

import logging
import os
import re
import sys
from copy import copy
from typing import TextIO

from vla_edge.runtime.printable import IN_COMMAND, PrintableFormatter

# A command to copy stands at a line's start or after a colon, and ends with its sentence or before the next one.
_COMMAND = re.compile(
    r"(?:(?<=: )(?<!Usage: )|^)(?:vla-[a-z]+|sudo|apt|pip install|python|ffmpeg|mv|cp) [^\n;()]*?"
    r"(?=[.,]?(?:\s(?=\(|[A-Z][a-z])|[;()]|$))",
    re.MULTILINE,
)
_HELD = "\0"  # stands for a blank that must stay
_FALLBACK_COLUMNS = 80


def for_terminal(text: str, stream: TextIO) -> str:
    """A message as `stream` should show it.

    Args:
        text: may have several lines, whose indents stay.
        stream: where it will be written; unless that is a terminal, the text stays as it is.
    """
    return folded(text, _columns(stream)) if stream.isatty() else text


def folded(text: str, columns: int) -> str:
    """The text with lines of at most `columns` cells, as far as words, paths and commands allow."""
    return "\n".join(_fold(line, columns) for line in text.split("\n"))


def _fold(line: str, columns: int) -> str:
    from rich.cells import cell_len

    if cell_len(line) <= columns:
        return line
    held = _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), line)
    indent = held[: len(held) - len(held.lstrip(" "))]
    lines = in_lines(held, columns - len(indent))
    return "\n".join(f"{indent}{each}" for each in lines).replace(_HELD, " ")


def in_lines(text: str, columns: int) -> list[str]:
    """The words of a text in lines of at most `columns` cells, of which Korean takes two a letter."""
    from rich.cells import cell_len

    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(longer) > columns:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _columns(stream: TextIO) -> int:
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _FALLBACK_COLUMNS
    except OSError:
        return _FALLBACK_COLUMNS


class CommandFormatter(PrintableFormatter):
    """Log lines of a command for stderr, in its own words where a record has them; folded on a terminal.

    Args:
        plain: leave out where a line of this package comes from: `warning: <message>`.
    """

    def __init__(self, plain: bool) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._plain = plain

    def format(self, record: logging.LogRecord) -> str:
        shown = copy(record)
        if words := getattr(record, IN_COMMAND, None):
            shown.msg, shown.args = words, ()
        text = super().format(shown)
        if self._plain and record.name.startswith("vla_edge."):
            text = f"{record.levelname.lower()}: {text.partition(': ')[2]}"
        return for_terminal(text, sys.stderr)
