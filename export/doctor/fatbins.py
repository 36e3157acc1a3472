"""For which GPUs a library holds kernels, read from its file: nothing of it is loaded or run.

NVIDIA documents no layout. What nvcc writes into the section .nv_fatbin is known from tools that take it apart: a
header with the size of what follows, then entries, each with its kind, its sizes and the compute capability that it
is for. A file that does not look so tells nothing.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_ELF = b"\x7fELF\x02\x01"  # of 64 bits, little-endian
_SECTIONS_AT, _SECTION_SIZES_AT = 0x28, 0x3A
_SECTION = struct.Struct("<IIQQQQ")  # name, kind, flags, address, offset, size
_NAME = b".nv_fatbin"
_FATBIN = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes that follow
_MAGIC = 0xBA55ED50
_ENTRY = struct.Struct("<HHIQ")  # kind, flags, bytes of this header, bytes of the payload
_ARCHITECTURE_AT = 28
_SMALLEST_ENTRY = 32
_CUBIN = 2  # machine code; 1 is PTX
_ALIGNMENT = 8
_MOST = 1_000_000  # fatbins, and entries of one: more than any library has


def kernels_in(path: Path) -> tuple[int, ...]:
    """Compute capabilities that a library has machine code for, 87 for 8.7; empty where its file does not tell.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        try:
            return tuple(sorted({sm for begin, end in _sections(image) for sm in _cubins(image, begin, end)}))
        except (struct.error, ValueError, OverflowError):  # cut off, or of another layout
            return ()


def _sections(image: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where sections of kernels begin and end."""
    if image[: len(_ELF)] != _ELF:
        return
    (table,) = struct.unpack_from("<Q", image, _SECTIONS_AT)
    size, count, names = struct.unpack_from("<HHH", image, _SECTION_SIZES_AT)
    (*_, names_at, _) = _SECTION.unpack_from(image, table + names * size)
    for at in range(count):
        name, _, _, _, begin, length = _SECTION.unpack_from(image, table + at * size)
        if image[names_at + name : names_at + name + len(_NAME) + 1] == _NAME + b"\0":
            yield begin, min(begin + length, len(image))


def _cubins(image: mmap.mmap, begin: int, end: int) -> Iterator[int]:
    at = begin
    for _ in range(_MOST):
        if at + _FATBIN.size > end:
            return
        magic, _, header, follows = _FATBIN.unpack_from(image, at)
        if magic != _MAGIC or header < _FATBIN.size:
            at += _ALIGNMENT  # filled up between two
            continue
        yield from _entries(image, at + header, min(at + header + follows, end))
        at += header + follows


def _entries(image: mmap.mmap, begin: int, end: int) -> Iterator[int]:
    at = begin
    for _ in range(_MOST):
        if at + _SMALLEST_ENTRY > end:
            return
        kind, _, header, payload = _ENTRY.unpack_from(image, at)
        if header < _SMALLEST_ENTRY:
            return
        if kind == _CUBIN:
            yield struct.unpack_from("<I", image, at + _ARCHITECTURE_AT)[0]
        at += header + payload
