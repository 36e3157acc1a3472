"""Writing a torch checkpoint larger than memory: lay the file out first, then fill in the numbers.

`torch.save` under `torch.serialization.skip_data` writes the whole file but leaves every tensor's bytes
as a hole, so tensors that were never touched cost no memory. The holes are then filled in place, from
two threads, in chunks. Alternatives were worse: saving memory-mapped scratch tensors needs the disk
space twice, and writing the zip by hand means writing torch's pickle by hand.

Holes have no checksum, and `zipfile` (unlike torch) checks them, so each record's CRC-32 is computed on
the way and written where the zip format keeps it: behind the data, and in the central directory.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.files.atomic import sync_folder
from vla_edge.runtime.files.renaming import rename_new
from vla_edge.runtime.files.staging import staging_folder
from vla_edge.runtime.process.cores import usable_cores
from vla_edge.runtime.process.interrupts import uninterrupted

# Zip format, APPNOTE.TXT 4.3.7, 4.3.9, 4.3.12
_LOCAL_HEADER_BYTES = 30
_LOCAL_NAME_LENGTH_AT = 26
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_ENTRY_SIGNATURE = b"PK\x01\x02"
_ENTRY_BYTES = 46
_ENTRY_CRC_AT = 16
_ENTRY_LENGTHS_AT = 28

_WRITERS = 2
_HINT = "Free some space, write to another disk, or choose a smaller --size."


@dataclass(frozen=True)
class Hole:
    """The bytes of one tensor, produced when its turn comes.

    Attributes:
        size_bytes: what `chunks` yields in total.
        chunks: yields C-contiguous arrays; called once, from a worker thread.
    """

    size_bytes: int
    chunks: Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class _Record:
    data_at: int
    size_bytes: int
    descriptor_at: int
    entry_at: int


def write_streamed(
    path: Path,
    container: Any,
    holes: Sequence[Hole],
    advance: Callable[[int], None],
    replace: bool = True,
) -> None:
    """Write a checkpoint whose tensors' values come from `holes`.

    The file appears under its name when it is complete and on the disk, and not before.

    Args:
        path: where to write.
        container: what to save. Its tensors give shapes and dtypes, their values are not read.
        holes: one for each tensor, in the order in which pickle meets them.
        advance: called from worker threads with numbers of bytes written.
        replace: what has this name then, even if it came only meanwhile.

    Raises:
        ResourceError: the disk is too small.
        FileExistsError: something has this name, and is not to be replaced; nothing is kept.
    """
    _check_disk(path, sum(hole.size_bytes for hole in holes))
    with staging_folder(path) as folder:
        # Of the same name: torch names the archive's root folder after the file, up to the suffix.
        partial = folder / path.name
        try:
            _lay_out(partial, container)
            with open(partial, "r+b") as file:
                _fill(file, _records(partial, holes), holes, advance)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ResourceError(
                f"the disk of {path.parent} filled up while {path.name} was written; nothing was kept.", _HINT
            ) from error
        with uninterrupted():
            (os.replace if replace else rename_new)(partial, path)
    sync_folder(path.parent)


def _check_disk(path: Path, data_bytes: int) -> None:
    status = os.statvfs(path.parent)
    free_bytes = status.f_bavail * status.f_frsize
    needed_bytes = data_bytes + (16 << 20)
    if free_bytes < needed_bytes:
        raise ResourceError(
            f"{path.parent} has {free_bytes / 2**20:.0f} MiB free; {path.name} needs {needed_bytes / 2**20:.0f} MiB.",
            _HINT,
        )


def _lay_out(path: Path, container: Any) -> None:
    import torch

    with torch.serialization.skip_data():
        torch.save(container, path)


def _records(path: Path, holes: Sequence[Hole]) -> list[_Record]:
    """Where each hole's data and checksums are, in the order of the holes."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        directory_at = archive.start_dir
    by_name = {}
    with open(path, "rb") as file:
        for entry in entries:
            file.seek(entry.header_offset + _LOCAL_NAME_LENGTH_AT)
            lengths = struct.unpack("<HH", file.read(4))
            data_at = entry.header_offset + _LOCAL_HEADER_BYTES + sum(lengths)
            _, _, name = entry.filename.partition("/")
            by_name[name] = _Record(data_at, entry.file_size, data_at + entry.file_size, directory_at)
            file.seek(directory_at)
            directory_at += _entry_length(file)
    records = [by_name[f"data/{index}"] for index in range(len(holes))]
    if [record.size_bytes for record in records] != [hole.size_bytes for hole in holes]:
        raise ValueError("the holes are not those of the container's tensors in pickling order")
    return records


def _entry_length(file: BinaryIO) -> int:
    """Length of the central directory's entry at the file's position."""
    head = file.read(_ENTRY_BYTES)
    if not head.startswith(_ENTRY_SIGNATURE):
        raise ValueError("torch wrote a zip archive that this code cannot follow")
    return _ENTRY_BYTES + sum(struct.unpack_from("<HHH", head, _ENTRY_LENGTHS_AT))


def _fill(
    file: BinaryIO, records: Sequence[_Record], holes: Sequence[Hole], advance: Callable[[int], None]
) -> None:
    stop = threading.Event()
    # Largest first, so that no thread is left with a large one at the end.
    order = sorted(range(len(holes)), key=lambda index: -holes[index].size_bytes)
    with ThreadPoolExecutor(min(_WRITERS, usable_cores())) as pool:
        jobs = [pool.submit(_fill_one, file.fileno(), records[i], holes[i], advance, stop) for i in order]
        try:
            for job in jobs:
                job.result()
        finally:
            # After an interrupt the workers end at their next chunk.
            stop.set()
            pool.shutdown(cancel_futures=True)


def _fill_one(
    descriptor: int, record: _Record, hole: Hole, advance: Callable[[int], None], stop: threading.Event
) -> None:
    position, checksum = record.data_at, 0
    for chunk in hole.chunks():
        if stop.is_set():
            return
        data = memoryview(chunk).cast("B") if chunk.ndim else chunk.tobytes()
        checksum = zlib.crc32(data, checksum)
        position += _write_all(descriptor, data, position)
        advance(chunk.nbytes)
    crc = struct.pack("<I", checksum)
    os.pwrite(descriptor, _DESCRIPTOR_SIGNATURE + crc, record.descriptor_at)
    os.pwrite(descriptor, crc, record.entry_at + _ENTRY_CRC_AT)


def _write_all(descriptor: int, data: memoryview | bytes, position: int) -> int:
    """pwrite may write less than asked for (2 GiB at most on Linux)."""
    view, written = memoryview(data), 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], position + written)
    return written
