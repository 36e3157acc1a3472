"""What was sent, in a file: CSV or JSON Lines by its suffix."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vla_edge.runtime.command import result_file as files
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import Write, safe_cell, value_columns

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.manifest import ActionSpec

    from .watching import Sent


def check_output(path: Path) -> None:
    """Refuse what cannot become a file of commands, before anything moves.

    Raises:
        InputError: as `vla_edge.runtime.command.result_file.check_output`.
    """
    files.check_output(path, _WRITERS)


def result_file(path: Path | None, action: ActionSpec) -> AbstractContextManager[Write]:
    """Yields what to call with each `Sent`; see `vla_edge.runtime.command.result_file.result_file`.

    Args:
        path: ends in .csv, .jsonl or .ndjson; None writes nothing.
        action: its components and their units.
    """
    writers = {
        suffix: partial(begin, names=action.names, units=action.units) for suffix, begin in _WRITERS.items()
    }
    return files.result_file(path, writers)


def _json_lines(file: IO[str], names: Sequence[str], units: Sequence[str]) -> Write:
    def write(sent: Sent) -> None:
        file.write(json_text(sent.as_fields(), indent=None) + "\n")

    return write


def _csv(file: IO[str], names: Sequence[str], units: Sequence[str]) -> Write:
    """A row a command, stops included."""
    first, last = ("time_s", "moving"), ("latency_ms", "instruction", "reason")
    values = value_columns(names, units, {*first, *last})
    columns = [*first, *values, *last]
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writerow({column: safe_cell(column) for column in columns})

    def write(sent: Sent) -> None:
        command = sent.command
        row: dict[str, Any] = dict(zip(values, command.values, strict=True))
        row |= {"time_s": f"{sent.time_s:.6f}", "moving": str(not command.stopped).lower()}
        row["reason"] = safe_cell(command.reason)
        if command.action is not None:
            row |= {
                "latency_ms": command.latency_ms,
                "instruction": safe_cell(command.action.instruction or ""),
            }
        writer.writerow(row)

    return write


_WRITERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
