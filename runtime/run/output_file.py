"""Results of `vla-run` in a file, CSV or JSON Lines by its suffix; the file is there when all of it is."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vla_edge.runtime.command import result_file as files
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import safe_cell, value_columns
from vla_edge.runtime.errors import ImageError

from .images import Result

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.manifest import ActionSpec

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
        InputError: as `vla_edge.runtime.command.result_file.check_output`.
    """
    files.check_output(path, _WRITERS)


def result_file(path: Path | None, action: ActionSpec) -> AbstractContextManager[Write]:
    """Yields what to call with each result; see `vla_edge.runtime.command.result_file.result_file`.

    Args:
        path: ends in .csv, .jsonl or .ndjson; None writes nothing.
        action: its components and their units.
    """
    writers = {suffix: partial(begin, action=action) for suffix, begin in _WRITERS.items()}
    return files.result_file(path, writers)


def _json_lines(file: IO[str], action: ActionSpec) -> Write:
    def write(result: Result) -> None:
        file.write(json_text(as_fields(result), indent=None) + "\n")

    return write


def _csv(file: IO[str], action: ActionSpec) -> Write:
    """A row an image; the columns are the same for all. Of a policy of several steps the command now."""
    first, last = ("image", "instruction"), ("clamped", "held", "total_ms", "error")
    values = value_columns(action.names, action.units, {*first, *last})
    columns = [*first, *values, *last]
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writerow({column: safe_cell(column) for column in columns})

    def write(result: Result) -> None:
        path, found = result
        row: dict[str, Any] = {"image": safe_cell(str(path))}
        if isinstance(found, ImageError):
            row["error"] = safe_cell(found.problem)
        else:
            row |= dict(zip(values, found.values, strict=True))
            row |= {"instruction": safe_cell(found.instruction or ""), "total_ms": found.timings_ms["total"]}
            row |= {"clamped": str(found.clamped).lower(), "held": str(found.held).lower()}
        writer.writerow(row)

    return write


_WRITERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
