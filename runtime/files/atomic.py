"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from vla_edge.runtime.process.interrupts import uninterrupted

from .renaming import rename_new
from .staging import new_file, remove_leftovers

Write = Callable[[BinaryIO], object]


def write_atomically(path: Path, write: Write, replace: bool = True) -> None:
    """Write through a temporary neighbour that is synced and renamed; an interruption leaves the old state.

    Args:
        path: the file to appear; its folder must exist.
        write: is given the temporary file, open for binary writing.
        replace: what has this name then, even if it came only while `write` was at work.

    Raises:
        FileExistsError: something has this name, and is not to be replaced.
        OSError: the disk is full or the folder read-only; names the file, and nothing is left behind.
    """
    if replace:
        write_all_atomically({path: write})
        return
    with _written(path, write) as temporary, uninterrupted():
        rename_new(temporary, path)
    sync_folder(path.parent)


def write_all_atomically(writes: Mapping[Path, Write]) -> None:
    """Write several files that belong together: none appears before all of them are on the disk.

    Args:
        writes: for each file what `write_atomically` takes.

    Raises:
        OSError: as there; no file has appeared or changed.
    """
    folders = dict.fromkeys(path.parent for path in writes)
    with ExitStack() as stack:
        staged = [(stack.enter_context(_written(path, write)), path) for path, write in writes.items()]
        with uninterrupted():
            for temporary, path in staged:
                temporary.replace(path)
    for folder in folders:
        sync_folder(folder)


@contextmanager
def _written(path: Path, write: Write) -> Iterator[Path]:
    """A neighbour of `path` with the content, synced; removed in the end, unless renamed meanwhile."""
    with staging_file(path) as (temporary, file):
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            if error.filename is None and error.errno is not None:  # writing does not know the name
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        yield temporary


@contextmanager
def staging_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden neighbour of `path`, open for binary writing; removed in the end, unless renamed meanwhile.

    What dead processes left in the folder is removed first.

    Raises:
        OSError: the folder cannot be written.
    """
    remove_leftovers(path.parent)
    temporary, file = new_file(path)
    try:
        with file:
            yield temporary, file
    finally:
        with uninterrupted():
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable: it is on the disk only when its folder is.

    A folder that this user may write but not read (a drop box) cannot be synced; what is done there is no
    less done, and its file was synced.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
