"""A table as lines of aligned text that fit a width; no figure is cut.

A table that is too wide goes on below itself with the columns that are left, its rows named again; names that
are too long take more than one line. Rows that share the first part of their names stand below it then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len, chop_cells

from .grid import Grid

GAP = "  "
# the names' share of a width that is too small for all columns, and what names and other texts are never below
KEY_SHARE = 0.55
LEAST_KEY = 18
LEAST_COLUMN = 6
# a terminal of fewer columns shows lines of this length, which it folds
LEAST_WIDTH = 30


@dataclass(frozen=True)
class TextLine:
    """One line of a laid out table: `kind` is "head", "rule" or "group", or a row's status."""

    text: str
    kind: str = ""


def lay_out(grid: Grid, width: int | None = None, rule: str = "-") -> Iterator[TextLine]:
    """Yield a table's lines, none longer than `width` cells; without one, every row is one line.

    Args:
        rule: what the line below the headings is made of.
    """
    room = None if width is None else max(width, LEAST_WIDTH)
    key, widths, groups = _key(grid), _widths(grid), [""] * len(grid.lines)
    if room is not None and len(key) > 1 and _sum(widths, range(len(widths))) > room:
        shared = min(key, key=lambda at: _changes(grid, at))
        groups = [f"{grid.headings[shared]}: {line.cells[shared]}" for line in grid.lines]
        grid = grid.without(shared)
        key, widths = key[:-1], _widths(grid)
    if room is not None:
        _fit_names(widths, key, room)
    for number, columns in enumerate(_parts(widths, key, room)):
        if number:
            yield TextLine("")
        yield from _rows(grid, columns, widths, rule, groups)


def _widths(grid: Grid) -> list[int]:
    return [
        max(cell_len(heading), *(cell_len(line.cells[at]) for line in grid.lines), 1)
        for at, heading in enumerate(grid.headings)
    ]


def _changes(grid: Grid, at: int) -> int:
    """How often a column's text is another than in the line above."""
    texts = [line.cells[at] for line in grid.lines]
    return sum(one != other for one, other in pairwise(texts))


def _key(grid: Grid) -> list[int]:
    """The columns that name a row: the first, and more where several rows have that name."""
    for count in range(1, len(grid.words)):
        if len({line.cells[:count] for line in grid.lines}) == len(grid.lines):
            return list(range(count))
    return list(range(len(grid.words)))


def _fit_names(widths: list[int], key: Sequence[int], room: int) -> None:
    """Narrow the naming columns where that saves a part of the table; their texts are wrapped then."""
    named = _sum(widths, key)
    over = _sum(widths, range(len(widths))) - room
    if over <= 0:
        return
    share = int(room * KEY_SHARE)
    targets = [named - over] if named - over >= LEAST_KEY else [min(named, share), min(LEAST_KEY, share)]
    tried = [_narrowed(widths, key, target, room) for target in targets]
    others = [at for at in range(len(widths)) if at not in key]
    best: list[int] = min(tried, key=lambda made: len(_chunks(made, key, others, room)))
    widths[:] = best


def _narrowed(widths: Sequence[int], key: Sequence[int], target: int, room: int) -> list[int]:
    """Widths whose naming columns take no more than `target` together, and no other column more than the rest."""
    made = list(widths)
    while _sum(made, key) > target:
        widest = max(key, key=lambda at: made[at])
        if made[widest] <= LEAST_COLUMN:
            break
        made[widest] -= 1
    left = max(room - _sum(made, key) - len(GAP), LEAST_COLUMN)
    return [width if at in key else min(width, left) for at, width in enumerate(made)]


def _sum(widths: Sequence[int], columns: Sequence[int]) -> int:
    return sum(widths[at] for at in columns) + len(GAP) * (len(columns) - 1)


def _parts(widths: Sequence[int], key: Sequence[int], room: int | None) -> list[list[int]]:
    """The columns of each part of the table, the naming ones first.

    The first part has as many as fit, since the first columns matter most; the others are about equally wide.
    """
    others = [at for at in range(len(widths)) if at not in key]
    if room is None:
        return [[*key, *others]]
    first, *rest = _chunks(widths, key, others, room)
    left = [at for part in rest for at in part if at not in key]
    for narrower in range(room - 1, LEAST_WIDTH, -1):
        equal = _chunks(widths, key, left, narrower) if left else []
        if len(equal) != len(rest):
            break
        rest = equal
    return [first, *rest]


def _chunks(widths: Sequence[int], key: Sequence[int], others: Sequence[int], room: int) -> list[list[int]]:
    """As many columns in each part as fit."""
    parts: list[list[int]] = []
    for at in others:
        if parts and _sum(widths, [*parts[-1], at]) <= room:
            parts[-1].append(at)
        else:
            parts.append([*key, at])
    return parts or [[*key]]


def _rows(
    grid: Grid, columns: Sequence[int], widths: Sequence[int], rule: str, groups: Sequence[str]
) -> Iterator[TextLine]:
    words, told = len(grid.words), ""

    def lines(cells: Sequence[str]) -> Iterator[str]:
        folded = [fold(cells[at], widths[at]) for at in columns]
        for row in range(max(map(len, folded))):
            placed = [
                _placed(parts[row] if row < len(parts) else "", widths[at], right=at >= words)
                for at, parts in zip(columns, folded, strict=True)
            ]
            yield GAP.join(placed).rstrip()

    yield from (TextLine(text, "head") for text in lines(grid.headings))
    yield TextLine(GAP.join(rule * widths[at] for at in columns), "rule")
    for line, group in zip(grid.lines, groups, strict=True):
        if group != told:
            told = group
            yield from (
                TextLine(text, "group") for text in fold(group, max(_sum(widths, columns), LEAST_KEY))
            )
        yield from (TextLine(text, line.status) for text in lines(line.cells))


def _placed(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return f"{space}{text}" if right else f"{text}{space}"


def fold(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` cells, broken between words where that can be."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *whole, line = chop_cells(word, width) if cell_len(word) > width else [word]
        lines.extend(whole)
    return [*lines, line] if line or not lines else lines
