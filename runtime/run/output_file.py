"""Results of `vla-run` in a file, CSV or JSON Lines by its suffix; the file is there when all of it is."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import Writers, safe_cell, value_columns
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


def writers(spec: ActionSpec) -> Writers:
    """By a file's suffix: what takes each `Result`; `spec` has the components and their units."""
    return {".csv": partial(_csv, spec=spec), ".jsonl": _json_lines, ".ndjson": _json_lines}


SUFFIXES = dict.fromkeys((".csv", ".jsonl", ".ndjson"))


def _json_lines(file: IO[str]) -> Write:
    def write(result: Result) -> None:
        file.write(json_text(as_fields(result), indent=None) + "\n")

    return write


def _csv(file: IO[str], spec: ActionSpec) -> Write:
    """A row an image; the columns are the same for all. Of a policy of several steps the command now."""
    first, last = ("image", "instruction"), ("clamped", "held", "total_ms", "error")
    values = value_columns(spec.names, spec.units, {*first, *last})
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
