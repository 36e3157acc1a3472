"""A table of a report, apart from how it is laid out: a terminal, a text, Markdown and the page share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vla_edge.bench.output.format import (
    NOTHING,
    backend_label,
    formatted,
    name,
    printable,
    significant,
    units_of,
    weights_word,
)
from vla_edge.bench.report.types import Row

WEIGHTS = "weights"


@dataclass(frozen=True)
class Line:
    """One line of a table; `status` is the row's, "" where the line is no backend's."""

    cells: tuple[str, ...]
    status: str = ""


@dataclass(frozen=True)
class Column:
    """What a table says of each of its items.

    Attributes:
        heading: of the column.
        path: where an item has the value, such as "memory.device_peak_mib"; "" is the item itself.
        form: how the value is written, which may be None; a text is for Python's `format`.
    """

    heading: str
    path: str
    form: Callable[[Any], str] | str = significant

    def cell(self, item: object) -> str:
        value = held(item, self.path)
        return printable(formatted(value, self.form) if isinstance(self.form, str) else self.form(value))


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        key: what it shows, in one word.
        caption: with the units of its figures.
        words: headings of the columns that are text; the backend is the first.
        figures: headings of the columns that are numbers.
        lines: of as many cells as there are headings.
        footnotes: what cells refer to as [1], [2] and so on.
    """

    key: str
    caption: str
    words: tuple[str, ...]
    figures: tuple[str, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...] = ()

    def without_weights(self, origin: str) -> Grid:
        """The same without the column of the weights' kind, where all lines have what is said above the table."""
        word = weights_word(origin)
        at = self.words.index(WEIGHTS) if WEIGHTS in self.words else -1
        return self.without(at) if at > 0 and all(line.cells[at] == word for line in self.lines) else self

    def without_empty(self) -> Grid:
        """The same without the figures that no line has."""
        columns = range(len(self.words), len(self.headings))
        return self.without(*(at for at in columns if all(line.cells[at] == NOTHING for line in self.lines)))

    def without(self, *columns: int) -> Grid:
        """The same without some columns."""

        def left(cells: Sequence[str], first: int = 0) -> tuple[str, ...]:
            return tuple(cell for at, cell in enumerate(cells, first) if at not in columns)

        lines = tuple(Line(left(line.cells), line.status) for line in self.lines)
        return replace(self, words=left(self.words), figures=left(self.figures, len(self.words)), lines=lines)

    @property
    def headings(self) -> tuple[str, ...]:
        return (*self.words, *self.figures)


def table_of(
    key: str,
    caption: str,
    items: Iterable[object],
    words: Sequence[Column],
    figures: Sequence[Column],
    *,
    kind: str = "status",
) -> Grid:
    """A table with a line for each item; `kind` is where an item has the line's status, "" for nowhere."""
    columns = (*words, *figures)
    lines = tuple(
        Line(
            tuple(column.cell(item) for column in columns),
            held(item, kind) if kind else "",
        )
        for item in items
    )
    heads, numbers = (tuple(column.heading for column in part) for part in (words, figures))
    return Grid(key, caption, heads, numbers, lines)


def in_units(columns: Iterable[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns with "{unit}" in a heading filled in: what the errors of these rows are in."""
    return [
        replace(column, heading=column.heading.replace("{unit}", units_of(rows)).rstrip())
        for column in columns
    ]


def held(item: Any, path: str) -> Any:
    """What an item of a report holds at a path; None where a part on the way is None."""
    for part in filter(None, path.split(".")):
        item = None if item is None else getattr(item, part)
    return item


def label(row: Row) -> str:
    return name(backend_label(row))


def marked_label(row: Row) -> str:
    """A row's name that says where it is wrong, for tables without a result column."""
    return f"{label(row)}{' (WRONG)' * (row.status == 'wrong')}"
