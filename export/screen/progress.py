"""Progress of every command here, on stderr: a bar on a terminal that leaves nothing, one line in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vla_edge.runtime.command.console import stderr_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

BYTES = "bytes"
_BAR_WIDTH = 20


def note(console: Console, text: str) -> None:
    """A remark beside the result; `text` may come from a file."""
    from rich.text import Text

    from vla_edge.runtime.command.wrapping import folded
    from vla_edge.runtime.printable import printable

    line = printable(text).replace("\n", "\\n")
    console.print(Text(folded(line, console.width) if console.is_terminal else line, "dim"), soft_wrap=True)


def bars(console: Console, unit: str = "") -> Progress:
    """Bars that vanish when they end; amounts in bytes where the unit says so."""
    from rich import progress
    from rich.table import Column

    title = Column(no_wrap=True, overflow="ellipsis")
    amount = progress.DownloadColumn if unit == BYTES else progress.MofNCompleteColumn
    return progress.Progress(
        progress.TextColumn("{task.description}", table_column=title),
        progress.BarColumn(_BAR_WIDTH, table_column=Column(no_wrap=True)),
        amount(table_column=Column(no_wrap=True)),
        progress.TimeElapsedColumn(table_column=Column(no_wrap=True)),
        console=console,
        transient=True,
    )


@contextmanager
def stage(
    title: str, total: int, unit: str, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """A piece of work; yields what to call with each number done.

    Args:
        title: what is being done, such as "writing weights".
        total: of the whole work.
        unit: "bytes", or what is counted.
        console: on stderr.
    """
    console = console or stderr_console()
    if not console.is_terminal:
        note(console, title)
        yield lambda advance: None
        return
    with bars(console, unit) as shown:
        task = shown.add_task(title, total=total)
        yield lambda advance: shown.advance(task, advance)
