"""Parquet tables of strangers: some columns of some row groups, read a few rows at a time up to a limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vla_edge.runtime.episodes.reading import reading, require_file
from vla_edge.runtime.errors import EpisodeError

MAX_TABLE_BYTES = 512 << 20  # of the columns that are read of one file, unpacked
MAX_ROWS = 20_000_000
_ROWS_AT_ONCE = 4096
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
        EpisodeError: one is not there, they are too large, or the file is damaged.
    """
    with opened_table(path) as table:
        return read_groups(table, range(table.num_row_groups), columns, path)


def read_groups(table: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], path: Path) -> pa.Table:
    """Some columns of some row groups; see `read_table`. Their size is counted as they come, not believed."""
    check_columns(table, columns, path)
    batches = []
    size_bytes = 0
    for batch in table.iter_batches(
        _ROWS_AT_ONCE, row_groups=list(groups), columns=list(columns), use_threads=False
    ):
        size_bytes += batch.nbytes
        if size_bytes > MAX_TABLE_BYTES:
            raise EpisodeError(
                f"{path} holds more than {MAX_TABLE_BYTES >> 20} MiB in {', '.join(columns)}.",
                "Write the data set again with smaller files.",
            )
        batches.append(batch)
    wanted = pa.schema([table.schema_arrow.field(name) for name in columns])
    return pa.Table.from_batches(batches) if batches else wanted.empty_table()


def check_columns(table: pq.ParquetFile, columns: Sequence[str], path: Path) -> None:
    """Refuse a table without some columns.

    Raises:
        EpisodeError: names them.
    """
    held = table.schema_arrow.names
    missing = [name for name in columns if held.count(name) != 1]
    if missing:
        raise EpisodeError(f"{path} lacks the columns {', '.join(missing)}.", "Copy the data set again.")


def groups_with(table: pq.ParquetFile, column: str, value: int, path: Path) -> list[int]:
    """The row groups that hold a value, by the column itself.

    The footer's statistics would tell sooner, but pyarrow (26.0) ends the process where those of a column are damaged:
    no column is asked for its part of the footer.

    Raises:
        EpisodeError: as `read_table`.
    """
    groups = range(table.num_row_groups)
    return [
        group
        for group in groups
        if (numbers(read_groups(table, [group], [column], path), column, path) == value).any()
    ]


def numbers(table: pa.Table, column: str, path: Path) -> np.ndarray:
    """A column of numbers, or of lists of equally many, float64 or int64 [rows] or [rows, width].

    Raises:
        EpisodeError: another type, a value that is missing, or lists of different lengths.
    """
    found = table.column(column).combine_chunks()
    kind = found.type
    shape: tuple[int, ...] = (len(found),)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = pc.list_value_length(found).unique()
        if found.null_count or len(lengths) > 1:
            raise EpisodeError(f"{path}: {column} is not equally long everywhere.", "Record it again.")
        shape = (len(found), -1) if len(found) else (0, 0)
        found = found.flatten()
    if found.null_count or not (pa.types.is_integer(found.type) or pa.types.is_floating(found.type)):
        raise EpisodeError(f"{path}: {column} holds {kind}, or not a number in each row.", "Record it again.")
    values: np.ndarray = found.to_numpy(zero_copy_only=False)
    return values.reshape(shape)
