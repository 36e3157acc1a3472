"""Actions in a CSV file beside frames that tell none: a header of components, a row a frame."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vla_edge.runtime.errors import EpisodeError

from .episode import MAX_COMPONENTS, Actions, checked_actions
from .reading import reading, require_file

MAX_CSV_BYTES = 64 << 20  # it may be one line
_COLUMN = re.compile(r"\s*([^\[\]]+?)\s*(?:\[([^\[\]]+)\])?\s*")
_WRITE_IT = "Its header names the components, such as: linear_x [m/s],linear_y [m/s]"


def actions_beside(path: Path, count: int) -> Actions | None:
    """The actions in a CSV file, if there is one.

    Args:
        path: of the CSV.
        count: of the frames.

    Returns:
        Names and, where all columns have one in brackets, units as the header tells; None without a file.

    Raises:
        EpisodeError: another number of rows, or a cell that is no number; names the file and its line.
    """
    if not path.exists():
        return None
    if require_file(path) > MAX_CSV_BYTES:
        raise EpisodeError(f"{path} has more than {MAX_CSV_BYTES >> 20} MiB.", "Split the recording.")
    with reading(path, "CSV"), path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        names, units = _header(next(rows, []), path)
        values = np.empty((count, len(names)))
        filled = 0
        for filled, row in enumerate(_rows(rows, names, path), 1):
            if filled > count:
                break
            values[filled - 1] = row
        if filled != count:
            found = f"more than {count}" if filled > count else str(filled)
            raise EpisodeError(f"{path} has {found} rows, for {count} frames.", "It takes a row for each.")
    return checked_actions(values, names, units, path)


def _header(cells: list[str], path: Path) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    found = [_COLUMN.fullmatch(cell) for cell in cells]
    named = [match for match in found if match is not None]
    if not 0 < len(named) == len(cells) <= MAX_COMPONENTS or any(map(_is_number, cells)):
        raise EpisodeError(f"{path} has no header of actions.", _WRITE_IT)
    names = tuple(match[1] for match in named)
    if len(set(names)) < len(names):
        raise EpisodeError(f"{path} has two columns of one name.", _WRITE_IT)
    units = tuple(match[2] for match in named if match[2])
    return names, units if len(units) == len(names) else None


def _rows(rows: Iterator[list[str]], names: tuple[str, ...], path: Path) -> Iterator[list[float]]:
    for line, cells in enumerate(rows, 2):
        if not cells:
            continue
        if len(cells) != len(names) or not all(map(_is_number, cells)):
            raise EpisodeError(f"{path}, line {line}: not {len(names)} numbers.", _WRITE_IT)
        yield list(map(float, cells))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
