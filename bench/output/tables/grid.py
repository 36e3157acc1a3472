"""A table of a report, apart from how it is laid out: a terminal, a text, Markdown and the page share it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_edge.bench.output.format import NOTHING, backend_label, clipped, printable, weights_word
from vla_edge.bench.report.types import Row

WEIGHTS = "weights"


@dataclass(frozen=True)
class Line:
    """One line of a table; `status` is the row's, "" where the line is no backend's."""

    cells: tuple[str, ...]
    status: str = ""


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
        word = printable(weights_word(origin))
        if WEIGHTS not in self.words:
            return self
        at = self.words.index(WEIGHTS)
        if any(line.cells[at] != word for line in self.lines):
            return self
        lines = tuple(Line((*line.cells[:at], *line.cells[at + 1 :]), line.status) for line in self.lines)
        return replace(self, words=(*self.words[:at], *self.words[at + 1 :]), lines=lines)

    def without_empty(self) -> Grid:
        """The same without the figures that no line has."""
        first = len(self.words)
        columns = range(first, len(self.headings))
        kept = [at for at in columns if any(line.cells[at] != NOTHING for line in self.lines)]
        lines = tuple(
            Line((*line.cells[:first], *(line.cells[at] for at in kept)), line.status) for line in self.lines
        )
        return replace(self, figures=tuple(self.headings[at] for at in kept), lines=lines)

    @property
    def headings(self) -> tuple[str, ...]:
        return (*self.words, *self.figures)


def row_line(row: Row, cells: tuple[str, ...], *, marked: bool = True) -> Line:
    """A row's line, of the backend and more cells.

    `marked` has a wrong one say so beside its name, for tables without a result column.
    """
    name, *others = (printable(clipped(cell)) for cell in (backend_label(row), *cells[1:]))
    mark = " (WRONG)" if marked and row.status == "wrong" else ""
    return Line((f"{name}{mark}", *others), row.status)
