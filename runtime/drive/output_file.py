"""What was sent, in a file: CSV or JSON Lines by its suffix."""

from __future__ import annotations

import csv
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import Write, Writers, safe_cell, value_columns

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.manifest import ActionSpec

    from .watching import Sent


def writers(spec: ActionSpec) -> Writers:
    """By a file's suffix: what takes each `Sent`; `spec` has the components and their units."""
    return {".csv": partial(_csv, spec=spec), ".jsonl": _json_lines, ".ndjson": _json_lines}


SUFFIXES = dict.fromkeys((".csv", ".jsonl", ".ndjson"))


def _json_lines(file: IO[str]) -> Write:
    def write(sent: Sent) -> None:
        file.write(json_text(sent.as_fields(), indent=None) + "\n")

    return write


def _csv(file: IO[str], spec: ActionSpec) -> Write:
    """A row a command, stops included."""
    first, last = ("time_s", "moving"), ("latency_ms", "instruction", "reason")
    values = value_columns(spec.names, spec.units, {*first, *last})
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
