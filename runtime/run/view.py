"""What `vla-run` shows: the instruction that is followed, an action an image, and what computed it."""

from __future__ import annotations

import itertools
import shutil
import statistics
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.streams import plus_minus
from vla_edge.runtime.command.wrapping import for_terminal
from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.order import natural_order
from vla_edge.runtime.printable import one_line

from .images import Result

if TYPE_CHECKING:
    from vla_edge.runtime.action import Action
    from vla_edge.runtime.bundle.manifest import Manifest
    from vla_edge.runtime.engines.session import EngineIdentity

_NARROWEST_NAME = 6  # of an image, before its row is left to the terminal to wrap


class Table:
    """Prints a row an image as results come; the same text on a terminal and in a file.

    Args:
        manifest: of the bundle that acts.
        identity: of its engine.
    """

    def __init__(self, manifest: Manifest, identity: EngineIdentity) -> None:
        self._manifest, self._identity = manifest, identity
        self._batch = manifest.batch
        action = manifest.action
        heads = zip(action.names, action.units, strict=True)
        self._heads = [f"{one_line(name)} {one_line(unit)}" for name, unit in heads]
        self._widths = [max(len(head), len("-0.0000")) + 2 for head in self._heads]
        self._total_ms: list[float] = []
        self._followed: str | None = None

    def row(self, result: Result) -> None:
        """One image: its action on stdout, or on stderr why there is none."""
        path, found = result
        if isinstance(found, ImageError):
            print_refusal(found)
            return
        if not self._total_ms:
            self._head(found)
        elif found.instruction != self._followed:  # another episode's
            self._follow(found)
        self._total_ms.append(found.timings_ms["total"])
        cells = "".join(
            f"{value:>+{width}.4f}" for value, width in zip(found.values, self._widths, strict=True)
        )
        marks = f"{' (clamped)' if found.clamped else ''}{' (held)' if found.held else ''}"
        click.echo(f"{cells}  {_fitted(one_line(str(path)), len(cells) + 2 + len(marks))}{marks}")

    def end(self, failures: int) -> None:
        """What the figures rest on."""
        done = len(self._total_ms)
        if done:
            for line in (
                f"{_count(done, 'image')}; clamped to {self._limits()}; "
                f"p50 {statistics.median(self._total_ms):.1f} ms {self._unit_of_time()}",
                one_line(f"{self._identity}; {self._identity.compute}"),
            ):
                click.echo(_folded(line))
        if failures:
            click.echo(f"{_count(failures, 'image')} of {done + failures} could not be used.", err=True)

    def _limits(self) -> str:
        """Such as "±1.15 m/s", or "±1.15 m/s, ±0.5 rad/s"."""
        limits: dict[str, set[float]] = {}
        for unit, limit in zip(self._manifest.action.units, self._manifest.action.limit, strict=True):
            limits.setdefault(one_line(unit), set()).add(limit)
        return ", ".join(
            f"{', '.join(f'{plus_minus()}{limit:g}' for limit in sorted(values))} {unit}"
            for unit, values in limits.items()
        )

    def _unit_of_time(self) -> str:
        return "a frame" if self._batch == 1 else f"a run of {self._batch} frames"

    def _head(self, action: Action) -> None:
        self._follow(action)
        heads = "".join(f"{head:>{width}}" for head, width in zip(self._heads, self._widths, strict=True))
        click.echo(f"{heads}  image")

    def _follow(self, action: Action) -> None:
        self._followed = action.instruction
        if action.instruction is not None:
            held = len(self._manifest.instructions)
            is_default = action.instruction == self._manifest.default_instruction
            note = f", the default of {_count(held, 'instruction')}" if is_default and held > 1 else ""
            click.echo(f"following {one_line(repr(action.instruction))}{note}")


def print_refusal(error: ImageError) -> None:
    """On stderr, so that what is on stdout are results only."""
    line = f"error: {one_line(error.problem)} {one_line(error.hint)}".rstrip()
    click.echo(for_terminal(line, sys.stderr), err=True)


def _fitted(name: str, beside: int) -> str:
    """On a terminal the end of a name that is too long for the row; in a file all of it."""
    room = shutil.get_terminal_size().columns - beside
    if len(name) <= room or room < _NARROWEST_NAME or not sys.stdout.isatty():
        return name
    return "…" + name[len(name) - room + 1 :]


def _folded(line: str) -> str:
    """On a terminal a long line is folded between words; in a file it stays one."""
    if not sys.stdout.isatty():
        return line
    return textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")


def note_order(paths: Sequence[Path]) -> None:
    """Say on stderr where files that were named one by one, as a shell's `*` does, are not in natural order."""
    for first, second in itertools.pairwise(paths):
        if first.parent == second.parent and natural_order(second) < natural_order(first):
            names = f"{one_line(first.name)} before {one_line(second.name)}"
            click.echo(
                f"note: the frames are taken as given, {names}; a folder is taken as people count.", err=True
            )
            return


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
