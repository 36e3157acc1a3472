"""A replay for programs: a line of JSON or of CSV, or a row of Parquet, for each step."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from typing import IO, Any

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import Writers, safe_cell, value_columns

from .lines import Line
from .table_file import TableFile


def as_fields(line: Line, spec: ActionSpec) -> dict[str, Any]:
    """A step in JSON's own types; what has a value for each component maps names to values."""

    def named(values: Any) -> dict[str, Any] | None:
        return None if values is None else dict(zip(spec.names, values, strict=True))

    step, other = line
    fields = {
        "episode": step.episode,
        "step": step.step,
        "time_s": step.time_s,
        "instruction": step.instruction,
        "units": named(spec.units),
        "recorded": named(step.recorded),
        "predicted": named(step.predicted),
        "error": named(step.error),
        "normalised_error": named(step.normalised_error),
        "angle_deg": step.angle_deg,
        "flips": named(step.flips),
        "clamped": step.clamped,
        "held": step.held,
        "latency_ms": step.latency_ms,
    }
    return fields if other is None else {**fields, "against": named(other)}


def writers(spec: ActionSpec) -> Writers:
    """By a file's suffix: CSV, Parquet, or JSON Lines with all there is."""
    lines, table = partial(_json_lines, spec=spec), partial(TableFile, spec=spec)
    return {".csv": partial(_csv, spec=spec), ".jsonl": lines, ".ndjson": lines, PARQUET: table}


PARQUET = ".parquet"
SUFFIXES = dict.fromkeys((".csv", ".jsonl", ".ndjson", PARQUET))


def _json_lines(file: IO[str], spec: ActionSpec) -> Callable[[Line], None]:
    return lambda line: print(json_text(as_fields(line, spec), indent=None), file=file)


def _csv(file: IO[str], spec: ActionSpec) -> Callable[[Line], None]:
    names = value_columns(spec.names, spec.units, ())
    columns = ["episode", "step", "time_s", "instruction"]
    columns += [f"{what}_{name}" for what in ("recorded", "predicted", "error", "against") for name in names]
    columns += [f"normalised_error_{name}" for name in spec.names]
    columns += ["angle_deg", "flips", "clamped", "held", "latency_ms"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(safe_cell, columns))
    nothing = (None,) * len(names)

    def write(line: Line) -> None:
        step, other = line
        against = nothing if other is None else other
        row: list[Any] = [safe_cell(step.episode), step.step, step.time_s, safe_cell(step.instruction or "")]
        row += [*(step.recorded or nothing), *step.predicted, *(step.error or nothing), *against]
        row += [*(step.normalised_error or nothing), step.angle_deg, sum(step.flips or ())]
        row += [str(step.clamped).lower(), str(step.held).lower(), step.latency_ms]
        writer.writerow(row)

    return write
