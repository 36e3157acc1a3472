"""Recordings for the Rerun viewer, read back by Rerun's own reader."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """What was logged at one moment: seconds on `time`, the number on `frame`, the first component."""

    time_s: float
    frame: int | None
    value: Any


def rows_in(path: Path) -> dict[str, list[Row]]:
    """By entity, in the order of time; what is static is left out."""
    found: dict[str, list[Row]] = {}
    for chunk in _reader(path).stream():
        table = chunk.to_record_batch()
        names = [name for name in table.schema.names if ":" in name and not name.endswith(":media_type")]
        text = [name for name in names if name.endswith(":text")]
        if "time" not in table.schema.names or not names:
            continue
        times = [value / 1e9 for value in table.column("time").cast("int64").to_pylist()]
        numbers = [None] * len(times)
        if "frame" in table.schema.names:
            numbers = table.column("frame").to_pylist()
        values = [value and value[0] for value in table.column((text or names)[0]).to_pylist()]
        rows = found.setdefault(chunk.entity_path, [])
        rows += [Row(*row) for row in zip(times, numbers, values, strict=True)]
    return {entity: sorted(rows, key=lambda row: row.time_s) for entity, rows in found.items()}


def names_in_layout(path: Path) -> list[str]:
    """What the views and containers of a recording's layout are called."""
    reader = _reader(path)
    (layout,) = reader.blueprints()
    names: list[str] = []
    for chunk in reader.stream(store=layout):
        table = chunk.to_record_batch()
        for column in table.schema.names:
            if column.endswith(":display_name"):
                names += [value[0] for value in table.column(column).to_pylist() if value]
    return names


def _reader(path: Path) -> Any:
    from rerun.chunk import RrdReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the footer, which a long recording does without
        return RrdReader(path)
