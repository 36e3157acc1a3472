"""The episodes of a replay as a table: beside each other as far as a terminal is wide, and on below."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.printable import one_line

from .against import apart_in_words
from .summary import Kept, errors_of

MOST_ROWS = 20  # the worst of more: the answer is to stay on the screen
_NO_FIGURE = "-"
_GAP = 2


@dataclass(frozen=True)
class _Column:
    """Title, unit and a figure an episode."""

    title: str
    unit: str
    figures: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(map(len, (self.title, self.unit, *self.figures)))

    def cell(self, text: str) -> str:
        return f"{text:>{self.width}}"


def print_table(kept: Sequence[Kept], spec: ActionSpec, against: bool) -> None:
    """A row an episode: the mean absolute error of each component, and what else there is.

    Args:
        kept: the episodes, at least one.
        spec: of the policy's actions.
        against: whether another policy is compared.
    """
    shown = sorted(kept, key=_badness, reverse=True)[:MOST_ROWS] if len(kept) > MOST_ROWS else [*kept]
    if len(kept) > MOST_ROWS:
        click.echo(f"The {MOST_ROWS} episodes that are furthest off, of {len(kept):,}; all: --page FILE.html")
    columns = list(_columns(shown, spec, against))
    names = [one_line(each.name) for each in shown]
    if not sys.stdout.isatty():
        _print_rows(columns, names)
        return
    room = shutil.get_terminal_size().columns
    if sum(column.width + _GAP for column in columns) + max(map(len, names)) <= room:
        _print_rows(columns, names)
        return
    for number, block in enumerate(_blocks(columns, room)):
        if number:
            click.echo("")
        _print_below(block, names, room)


def _badness(kept: Kept) -> float:
    """By what episodes are ranked: the mean error, or where nothing was driven how far the other policy is off."""
    if kept.errors.size:
        return float(abs(kept.errors).mean())
    return 0.0 if kept.apart is None else float(kept.apart.largest.max())


def _columns(kept: Sequence[Kept], spec: ActionSpec, against: bool) -> Iterator[_Column]:
    errors = [errors_of([each], spec) for each in kept]
    for name, unit in zip(spec.names, spec.units, strict=True):
        figures = [_NO_FIGURE if each is None else f"{each.mae[name]:.4f}" for each in errors]
        yield _Column(one_line(name), one_line(unit), tuple(figures))
    angles = [None if each is None else each.angle_deg for each in errors]
    yield _Column("angle", "deg", tuple(_NO_FIGURE if angle is None else f"{angle:.1f}" for angle in angles))
    flips = [_NO_FIGURE if each is None else str(sum(each.flips.values())) for each in errors]
    yield _Column("flips", "steps", tuple(flips))
    if against:
        apart = [
            _NO_FIGURE if each.apart is None else apart_in_words(each.apart.largest.max()) for each in kept
        ]
        yield _Column("apart", one_line(spec.unit), tuple(apart))
    yield _Column("p50", "ms", tuple(f"{statistics.median(each.latency_ms.tolist()):.1f}" for each in kept))


def _blocks(columns: Sequence[_Column], room: int) -> Iterator[list[_Column]]:
    """As many columns at a time as fit, at least one."""
    block: list[_Column] = []
    for column in columns:
        if block and sum(each.width + _GAP for each in (*block, column)) > room:
            yield block
            block = []
        block.append(column)
    yield block


def _print_rows(columns: Sequence[_Column], names: Sequence[str]) -> None:
    _print_line([column.cell(column.title) for column in columns], "episode")
    _print_line([column.cell(column.unit) for column in columns])
    for at, name in enumerate(names):
        _print_line([column.cell(column.figures[at]) for column in columns], name)


def _print_below(columns: Sequence[_Column], names: Sequence[str], room: int) -> None:
    """Each episode's name above its figures."""
    _print_line([column.cell(column.title) for column in columns])
    _print_line([column.cell(column.unit) for column in columns])
    for at, name in enumerate(names):
        click.echo(name if len(name) <= room else f"{name[: room - 1]}…")
        _print_line([column.cell(column.figures[at]) for column in columns])


def _print_line(cells: Sequence[str], last: str = "") -> None:
    click.echo((" " * _GAP).join([*cells, last]).rstrip())
