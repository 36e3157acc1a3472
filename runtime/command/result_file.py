"""Results of a command in a file, of the kind that its suffix says; the file is there when all of it is."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.atomic import staging_file, sync_folder
from vla_edge.runtime.files.staging import PARTIAL_SUFFIX
from vla_edge.runtime.files.writable import refuse_unwritable
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.process.interrupts import uninterrupted

# a spreadsheet would run a text that begins so as a formula, some also where the sign is a wide one
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Write = Callable[[Any], None]
# By suffix: begins a file, and gives what writes a result into it. A format that ends with more than its last result,
# as Parquet does, gives an object with `close`, and writes to the text's `buffer`.
Writers = Mapping[str, Callable[[IO[str]], Write]]


def check_output(path: Path, suffixes: Mapping[str, object]) -> None:
    """Refuse what cannot become a file of results, before any work is done.

    Raises:
        InputError: another suffix, no such folder, one that is not writable, or a folder of this name.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"{path} is of no known kind.",
            f"Its name decides: give one that ends in {' or '.join(suffixes)}.",
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}.", "Make it first.")
    refuse_unwritable(path.parent)


@contextmanager
def result_file(path: Path | None, writers: Writers) -> Iterator[Write]:
    """Yields what to call with each result; at the end the file appears, replacing an earlier one.

    What is there when the work ends early (Ctrl-C, a fault of the engine) is kept as `PATH.partial`.

    Args:
        path: ends in one of the suffixes; None writes nothing.
        writers: by suffix, in lower case.

    Raises:
        InputError: as `check_output`.
        OSError: the disk is full or the folder cannot be written.
    """
    if path is None:
        yield lambda result: None
        return
    check_output(path, writers)
    with (
        staging_file(path) as (staged, binary),
        io.TextIOWrapper(binary, "utf-8", errors="backslashreplace", newline="") as file,
    ):
        write = _Counted(writers[path.suffix.lower()](file))
        try:
            yield write
            write.close()
            _publish(file, staged, path)
        except BaseException:
            if write.count:
                with uninterrupted():
                    write.close()
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

    def __call__(self, result: Any) -> None:
        self._write(result)
        self.count += 1

    def close(self) -> None:
        """Write what the format has at its end; again, nothing."""
        end = getattr(self._write, "close", None)
        if end is not None:
            end()


def value_columns(names: Sequence[str], units: Sequence[str], others: Collection[str]) -> list[str]:
    """Columns of a table for the components of an action, each with its unit, as `linear_x_mps`.

    Args:
        names, units: of the components.
        others: columns beside them.

    Raises:
        InputError: two columns would have one name, and a reader one of them.
    """
    columns = [f"{name}_{unit.replace('/', 'p')}" for name, unit in zip(names, units, strict=True)]
    if twice := [name for name in columns if name in others or columns.count(name) > 1]:
        raise InputError(
            f"two columns would be named {twice[0]!r}: the action's components are called so.",
            "Write .jsonl instead.",
        )
    return columns


def safe_cell(text: str) -> str:
    """A cell that is no formula to a spreadsheet, and no command to a terminal."""
    shown = one_line(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA_STARTS) else shown
