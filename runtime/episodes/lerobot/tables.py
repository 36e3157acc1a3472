"""Parquet tables of strangers: some columns of some row groups, of which the footer is looked at first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_edge.runtime.episodes.reading import reading, require_file
from vla_edge.runtime.errors import EpisodeError

MAX_TABLE_BYTES = 512 << 20  # of the columns that are read of one file or row group, unpacked
MAX_ROWS = 20_000_000
_MAX_THRIFT_BYTES = 64 << 20


@contextmanager
def opened_table(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file.

    Raises:
        EpisodeError: damaged, or of more rows than `MAX_ROWS`.
    """
    require_file(path)
    with (
        reading(path, "Parquet"),
        pq.ParquetFile(
            path,
            memory_map=False,
            pre_buffer=False,
            thrift_string_size_limit=_MAX_THRIFT_BYTES,
            thrift_container_size_limit=1 << 20,
        ) as table,
    ):
        if table.metadata.num_rows > MAX_ROWS:
            raise EpisodeError(f"{path} has more than {MAX_ROWS} rows.", "Split the data set.")
        yield table


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of all rows.

    Raises:
        EpisodeError: one is not there, they would be too large, or the file is damaged.
    """
    with opened_table(path) as table:
        return read_groups(table, range(table.num_row_groups), columns, path)


def read_groups(table: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], path: Path) -> pa.Table:
    """Some columns of some row groups; see `read_table`."""
    check_columns(table, groups, columns, path)
    return table.read_row_groups(list(groups), columns=list(columns), use_threads=False)


def check_columns(table: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], path: Path) -> None:
    """Refuse columns that are not there, or that say they would be too large.

    Raises:
        EpisodeError: names them.
    """
    held = table.schema_arrow.names
    missing = [name for name in columns if name not in held]
    if missing:
        raise EpisodeError(f"{path} lacks the columns {', '.join(missing)}.", "Copy the data set again.")
    parts = [part for part in _parts(table, groups) if _top(part.path_in_schema) in columns]
    size_bytes = sum(part.total_uncompressed_size for part in parts)
    if size_bytes > MAX_TABLE_BYTES:
        raise EpisodeError(
            f"{path} would take {size_bytes >> 20} MiB, at most {MAX_TABLE_BYTES >> 20} are read.",
            "Write the data set again with smaller files.",
        )


def groups_with(table: pq.ParquetFile, column: str, value: int) -> list[int]:
    """The row groups in which a value may be, by what the footer says of each."""
    found = []
    for group in range(table.num_row_groups):
        for part in _parts(table, [group]):
            if part.path_in_schema != column:
                continue
            told = part.statistics
            if told is None or not told.has_min_max or told.min <= value <= told.max:
                found.append(group)
    return found


def numbers(table: pa.Table, column: str, path: Path) -> np.ndarray:
    """A column of numbers, or of lists of equally many, float64 or int64 [rows] or [rows, width].

    Raises:
        EpisodeError: another type, a value that is missing, or lists of different lengths.
    """
    found = table.column(column).combine_chunks()
    kind = found.type
    rows = len(found)
    width = 1
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        flat = found.flatten()
        width, odd = divmod(len(flat), max(rows, 1))
        lengths = found.value_lengths() if not pa.types.is_fixed_size_list(kind) else None
        if found.null_count or odd or (lengths is not None and len(lengths.unique()) > 1):
            raise EpisodeError(f"{path}: {column} is not equally long everywhere.", "Record it again.")
        found = flat
    if found.null_count or not (pa.types.is_integer(found.type) or pa.types.is_floating(found.type)):
        raise EpisodeError(f"{path}: {column} holds {kind}, or not a number in each row.", "Record it again.")
    values: np.ndarray = found.to_numpy(zero_copy_only=False)
    return values.reshape(rows, width) if found is not table.column(column) and width != 1 else values


def _parts(table: pq.ParquetFile, groups: Sequence[int]) -> Iterator[Any]:
    for group in groups:
        told = table.metadata.row_group(group)
        for at in range(told.num_columns):
            yield told.column(at)


def _top(path_in_schema: str) -> str:
    """A column's own name, of a part such as "tasks.list.element"; names themselves hold dots."""
    for ending in (".list.element", ".list.item", ".element", ".item", ".bytes", ".path"):
        path_in_schema = path_in_schema.removesuffix(ending)
    return path_in_schema
