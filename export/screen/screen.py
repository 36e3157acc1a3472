"""How results look on stdout, in every command here: the console, cleaned texts, tables that can be copied."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from vla_edge.runtime import printable

MIB = 1 << 20
# Where there is no terminal to ask; a file is read in a window of about this width.
PIPE_WIDTH = 110
_BLANKS_AT_END = re.compile(r"(?<! ) +$", re.MULTILINE)


def result_console(pipe_width: int = PIPE_WIDTH) -> Console:
    """A console on stdout."""
    console = Console(highlight=False)
    return console if console.is_terminal else _PipeConsole(highlight=False, width=pipe_width)


class _PipeConsole(Console):
    """A console whose lines carry no blanks at their ends, which rich pads tables with."""

    def print(self, *objects: Any, **options: Any) -> None:
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write(_BLANKS_AT_END.sub("", captured.get()))


def say(console: Console, text: str, style: str = "") -> None:
    """A line that is never broken, so that a path or command in it can be copied; `text` may hold markup."""
    console.print(text, style=style, soft_wrap=True)


def prose(console: Console, text: str, style: str = "") -> None:
    """Words to read: broken between words on a terminal, one line in a pipe; `text` may hold markup."""
    console.print(text, style=style, soft_wrap=not console.is_terminal, highlight=False)


def escape(text: str) -> str:
    """A text from a file, so that neither rich nor the terminal takes it for a command."""
    return escape_markup(printable.printable(text))


def one_line(text: object) -> str:
    """As `escape`, for a text that must not break its line."""
    return escape_markup(printable.one_line(str(text)))


def plain_table(titles: Sequence[str], right: Sequence[str] = ()) -> Table:
    """A table without lines; the columns named in `right` are aligned right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def as_text(value: Any) -> str:
    """A setting's value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def size(size_bytes: int) -> str:
    """Such as "3.4 MiB" or "3.05 GiB"."""
    return f"{size_bytes / (1 << 30):.2f} GiB" if size_bytes >= 1 << 30 else f"{size_bytes / MIB:.1f} MiB"
