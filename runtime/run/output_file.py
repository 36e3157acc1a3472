"""Results of `vla-run` in a file, CSV or JSON Lines by its suffix; the file is there when all of it is."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import ImageError, InputError
from vla_edge.runtime.files.atomic import staging_file, sync_folder
from vla_edge.runtime.files.staging import PARTIAL_SUFFIX
from vla_edge.runtime.files.writable import refuse_unwritable
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.process.interrupts import uninterrupted

from .images import Result

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.manifest import ActionSpec

# a spreadsheet would run a text that begins so as a formula, some also where the sign is a wide one
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Write = Callable[[Result], None]


def as_fields(result: Result) -> dict[str, Any]:
    """One image's result in JSON's own types: `image`, then those of `Action.as_dict`, or `error` and `hint`."""
    path, found = result
    if isinstance(found, ImageError):
        return {"image": str(path), "error": found.problem, "hint": found.hint}
    return {"image": str(path), **found.as_dict()}


def check_output(path: Path) -> None:
    """Refuse what cannot become a file of results, before any work is done.

    Raises:
        InputError: another suffix, no such folder, one that is not writable, or a folder of this name.
    """
    if path.suffix.lower() not in _WRITERS:
        raise InputError(
            f"{path} is of no known kind.",
            f"Its name decides: give one that ends in {' or '.join(_WRITERS)}.",
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}.", "Make it first.")
    refuse_unwritable(path.parent)


@contextmanager
def result_file(path: Path | None, action: ActionSpec) -> Iterator[Write]:
    """Yields what to call with each result; at the end the file appears, replacing an earlier one.

    What is there when the work ends early (Ctrl-C, a fault of the engine) is kept as `PATH.partial`.

    Args:
        path: ends in .csv, .jsonl or .ndjson; None writes nothing.
        action: its components and their units.

    Raises:
        InputError: as `check_output`.
        OSError: the disk is full or the folder cannot be written.
    """
    if path is None:
        yield lambda result: None
        return
    check_output(path)
    with (
        staging_file(path) as (staged, binary),
        io.TextIOWrapper(binary, "utf-8", errors="backslashreplace", newline="") as file,
    ):
        write = _Counted(_WRITERS[path.suffix.lower()](file, action))
        try:
            yield write
            _publish(file, staged, path)
        except BaseException:
            if write.count:
                with uninterrupted():
                    _keep(file, staged, path)
            raise
    sync_folder(path.parent)


def _publish(file: IO[str], staged: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    staged.replace(path)


def _keep(file: IO[str], staged: Path, path: Path) -> None:
    file.flush()
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    staged.replace(partial)
    click.echo(f"the results so far are kept in {one_line(str(partial))}", err=True)


class _Counted:
    """Writes, and knows how often."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.count = 0

    def __call__(self, result: Result) -> None:
        self._write(result)
        self.count += 1


def _json_lines(file: IO[str], action: ActionSpec) -> Write:
    def write(result: Result) -> None:
        file.write(json_text(as_fields(result), indent=None) + "\n")

    return write


def _csv(file: IO[str], action: ActionSpec) -> Write:
    """A row an image; the columns are the same for all. Of a policy of several steps the command now.

    Raises:
        InputError: two columns would have one name, and a reader one of them.
    """
    values = [
        f"{name}_{unit.replace('/', 'p')}" for name, unit in zip(action.names, action.units, strict=True)
    ]
    columns = ["image", "instruction", *values, "clamped", "held", "total_ms", "error"]
    if twice := [column for column in values if columns.count(column) > 1]:
        raise InputError(
            f"two columns of a CSV would be named {twice[0]!r}: the action's components are called so.",
            "Write .jsonl instead.",
        )
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writerow({column: _text(column) for column in columns})

    def write(result: Result) -> None:
        path, found = result
        row: dict[str, Any] = {"image": _text(str(path))}
        if isinstance(found, ImageError):
            row["error"] = _text(found.problem)
        else:
            row |= dict(zip(values, found.values, strict=True))
            row |= {"instruction": _text(found.instruction or ""), "total_ms": found.timings_ms["total"]}
            row |= {"clamped": str(found.clamped).lower(), "held": str(found.held).lower()}
        writer.writerow(row)

    return write


def _text(text: str) -> str:
    """A cell that is no formula to a spreadsheet, and no command to a terminal."""
    shown = one_line(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA_STARTS) else shown


_WRITERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
