"""One reading of a whole checkpoint for all that needs every byte: its SHA-256, and its records' own checksums."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.printable import printable

from .archive import Record
from .source_file import SourceFile

_READ_BYTES = 1 << 20
_LISTED = 5


@dataclass
class _Running:
    """The checksum of a record so far."""

    record: Record
    crc32: int = 0

    @property
    def end(self) -> int:
        return self.record.offset + self.record.size_bytes


def hash_and_verify(
    file: SourceFile, records: Iterable[Record], advance: Callable[[int], None] = lambda size_bytes: None
) -> str:
    """SHA-256 of the file as 64 hexadecimal digits, with the CRC-32 of every record compared on the way.

    Args:
        file: an open checkpoint.
        records: of a torch archive; those with a CRC-32 of 0 were written without one. safetensors has none.
        advance: called with numbers of bytes read.

    Raises:
        CheckpointError: a record's bytes are not those that were written, or the file changed meanwhile.
    """
    digest = hashlib.sha256()
    with_sum = (record for record in records if record.crc32 and record.size_bytes)
    waiting = iter(sorted(with_sum, key=lambda record: record.offset))
    current = next(waiting, None)
    running = _Running(current) if current else None
    damaged: list[str] = []
    for at, chunk in _chunks(file):
        digest.update(chunk)
        while running and running.record.offset < at + len(chunk):
            start = max(running.record.offset - at, 0)
            running.crc32 = zlib.crc32(chunk[start : running.end - at], running.crc32)
            if running.end > at + len(chunk):
                break
            if running.crc32 != running.record.crc32:
                damaged.append(running.record.name)
            current = next(waiting, None)
            running = _Running(current) if current else None
        advance(len(chunk))
    file.check_unchanged()
    if damaged:
        raise damage(file, damaged)
    return digest.hexdigest()


def damage(file: SourceFile, names: list[str]) -> CheckpointError:
    """The error for records whose bytes do not have the checksum that was written with them."""
    listed = ", ".join(map(printable, names[:_LISTED]))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return CheckpointError(
        f"{file.path} is damaged: the checksum of {len(names)} of its records is not that of their bytes "
        f"({listed}{more}).",
        "Compare its SHA-256 with the origin's and copy it again; if it is the same, the origin is damaged too.",
    )


def _chunks(file: SourceFile) -> Iterator[tuple[int, memoryview]]:
    """The whole file in order, in one buffer that is used again."""
    buffer = memoryview(bytearray(_READ_BYTES))
    at = 0
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while count := os.preadv(file.descriptor, [buffer], at):
        yield at, buffer[:count]
        at += count
