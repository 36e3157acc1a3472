"""The zip archive that a torch checkpoint is: where each record lies, checked before anything is read from it.

Stricter than zip readers have to be, since torch writes in one way only: records are not compressed, do not
overlap, have one name each, and lie before the directory that lists them.
Format: APPNOTE.TXT 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end), 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.printable import printable

from .source_file import SourceFile

LOCAL_MAGIC = b"PK\x03\x04"
_ENTRY_MAGIC = b"PK\x01\x02"
_END_MAGIC = b"PK\x05\x06"
_LOCATOR64_MAGIC = b"PK\x06\x07"
_END64_MAGIC = b"PK\x06\x06"

# signature, disks, entries on this disk and in total, size and offset of the directory, length of the comment
_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
# signature, versions, flags, method, time, date, CRC, sizes, lengths of name, extra, comment, disk, attributes, offset
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_MAX_COMMENT_BYTES = 0xFFFF
_MAX_DIRECTORY_BYTES = 64 << 20
_MAX_RECORDS = 250_000
_ENCRYPTED = 1
_IN_ZIP64 = 0xFFFFFFFF
# What stands in the six fields of the directory's end whose values are in its zip64 part
_WIDE = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, _IN_ZIP64, _IN_ZIP64)

RESAVE = 'torch.save({"model_state_dict": model.state_dict()}, "new.pth")'


@dataclass(frozen=True)
class Record:
    """The bytes of one record in the file. `crc32` is 0 where the writer gave none."""

    name: str
    offset: int
    size_bytes: int
    crc32: int


@dataclass(frozen=True)
class _Entry:
    name: str
    header_at: int
    size_bytes: int
    stored_bytes: int
    crc32: int
    method: int
    flags: int


def torch_records(file: SourceFile) -> Mapping[str, Record]:
    """The records of a torch checkpoint by name, without the archive's root folder ("data.pkl", "data/0").

    Raises:
        CheckpointError: the archive is damaged, has parts that contradict each other, is compressed, or is no
            checkpoint.
    """
    start, entries = _directory(file)
    root = _root(file, [entry.name for entry in entries])
    # torch's records would be mapped as they are, and compressed bytes taken for weights
    if any(entry.method for entry in entries):
        raise CheckpointError(
            f"{file.path} was packed again with compression; torch's own files are not compressed, so that they can be "
            "memory-mapped.",
            "Use the original file, or unpack this one and pack it without compression (zip -0).",
        )
    records: dict[str, Record] = {}
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.header_at):
        record = _located(file, entry)
        if entry.header_at < end:
            raise _contradiction(file, f"records {printable(before)} and {printable(entry.name)} overlap")
        end, before = record.offset + record.size_bytes, entry.name
        name = entry.name.removeprefix(root)
        if name in records:
            raise _contradiction(file, f"two records are named {printable(entry.name)}")
        records[name] = record
    if end > start:
        raise _contradiction(file, f"record {printable(before)} reaches beyond the data")
    _check_byte_order(file, records)
    return records


def truncated(file: SourceFile, reason: str) -> CheckpointError:
    """The error for an archive whose directory cannot be read."""
    return CheckpointError(
        f"{file.path} is incomplete or damaged: the directory at its end cannot be read ({reason}). "
        f"The file has {file.size_bytes:,} bytes ({file.size_bytes / 2**20:.1f} MiB).",
        "The usual cause is a copy that was cut short. Compare the size (ls -l) and the SHA-256 (sha256sum) with "
        "those at the origin, then copy again.",
    )


def _root(file: SourceFile, names: list[str]) -> str:
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if not roots:
        raise CheckpointError(
            f"{file.path} is a zip archive, but no torch checkpoint: it has no data.pkl.",
            "If the checkpoint is packed inside, unpack it first.",
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{file.path} is a TorchScript program, not a checkpoint.",
            f"Save the weights of the model that it was made from: {RESAVE}.",
        )
    if len(roots) > 1:
        listed = ", ".join(f"{printable(root)[:80]}data.pkl" for root in roots[:3])
        raise _contradiction(file, f"it has {len(roots)} records named data.pkl: {listed}")
    return roots[0]


def _check_byte_order(file: SourceFile, records: Mapping[str, Record]) -> None:
    record = records.get("byteorder")
    order = file.read(record.offset, min(record.size_bytes, 16)) if record else b"little"
    if order != b"little":
        raise CheckpointError(
            f"{file.path} was written with the byte order {printable(order.decode('latin1'))!r}; "
            "only little-endian files are read.",
            f"Save the weights on a little-endian machine (x86, Arm): {RESAVE}.",
        )


def _directory(file: SourceFile) -> tuple[int, list[_Entry]]:
    """Where the directory starts, and its entries."""
    tail_at = max(0, file.size_bytes - _END.size - _MAX_COMMENT_BYTES)
    tail = file.read(tail_at, file.size_bytes - tail_at)
    found = tail.rfind(_END_MAGIC)
    if found < 0 or len(tail) - found < _END.size:
        raise truncated(file, "failed finding central directory")
    _, disk, start_disk, _, count, size, start, comment = _END.unpack_from(tail, found)
    end_at = tail_at + found
    if end_at + _END.size + comment != file.size_bytes:
        raise truncated(file, "failed finding central directory: other data follows it")
    limit = end_at
    locator_at = end_at - _LOCATOR64.size
    if locator_at >= 0 and file.read(locator_at, 4) == _LOCATOR64_MAGIC:
        _, disk, limit, disks = _LOCATOR64.unpack(file.read(locator_at, _LOCATOR64.size))
        if limit + _END64.size > locator_at or disks > 1:
            raise truncated(file, "its zip64 part lies outside of the file")
        magic, _, _, _, disk, start_disk, _, count, size, start = _END64.unpack(file.read(limit, _END64.size))
        if magic != _END64_MAGIC:
            raise truncated(file, "its zip64 part is not there")
        narrow, wide = _END.unpack_from(tail, found)[1:7], (disk, start_disk, count, count, size, start)
        if any(short not in (full, most) for short, full, most in zip(narrow, wide, _WIDE, strict=True)):
            raise truncated(file, "its zip64 part says something else")
    if disk or start_disk:
        raise truncated(file, "it is one part of several")
    if start + size > limit or size > _MAX_DIRECTORY_BYTES or count > _MAX_RECORDS:
        raise truncated(file, f"{count:,} records in {size:,} bytes at {start:,}")
    return start, list(_entries(file, file.read(start, size), count))


def _entries(file: SourceFile, directory: bytes, count: int) -> Iterator[_Entry]:
    at = 0
    for _ in range(count):
        if directory[at : at + 4] != _ENTRY_MAGIC or at + _ENTRY.size > len(directory):
            raise truncated(file, f"bad entry at byte {at:,} of it")
        fields = _ENTRY.unpack_from(directory, at)
        _, _, _, flags, method, _, _, crc32, stored, size, name_bytes, extra_bytes, comment_bytes = fields[
            :13
        ]
        name_at = at + _ENTRY.size
        at = name_at + name_bytes + extra_bytes + comment_bytes
        if at > len(directory):
            raise truncated(file, "its last entry is cut off")
        name = _decoded(directory[name_at : name_at + name_bytes])
        extra = directory[name_at + name_bytes : name_at + name_bytes + extra_bytes]
        size, stored, header_at = _zip64(file, extra, (size, stored, fields[16]))
        yield _Entry(name, header_at, size, stored, crc32, method, flags)


def _zip64(file: SourceFile, extra: bytes, given: tuple[int, int, int]) -> tuple[int, int, int]:
    """Sizes and offset, of which those that do not fit into 32 bits stand in the extra field 1."""
    wide: list[int] = []
    at = 0
    while at + 4 <= len(extra) and _IN_ZIP64 in given:
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            content = extra[at + 4 : at + 4 + length]
            wide = [value for (value,) in struct.iter_unpack("<Q", content[: len(content) // 8 * 8])]
            break
        at += 4 + length
    if given.count(_IN_ZIP64) > len(wide):
        raise truncated(file, "an entry lacks its zip64 sizes")
    size, stored, header_at = (wide.pop(0) if value == _IN_ZIP64 else value for value in given)
    return size, stored, header_at


def _located(file: SourceFile, entry: _Entry) -> Record:
    """The record's bytes, by its local header."""
    if entry.flags & _ENCRYPTED:
        raise _contradiction(file, f"record {printable(entry.name)} is encrypted")
    if entry.stored_bytes != entry.size_bytes:
        raise _contradiction(file, f"record {printable(entry.name)} has two sizes")
    if entry.header_at + _LOCAL.size > file.size_bytes:
        raise _contradiction(file, f"record {printable(entry.name)} lies beyond the end of the file")
    header = _LOCAL.unpack(file.read(entry.header_at, _LOCAL.size))
    name_at = entry.header_at + _LOCAL.size
    data_at = name_at + header[9] + header[10]
    if header[0] != LOCAL_MAGIC:
        raise _contradiction(file, f"record {printable(entry.name)} has no header where the directory says")
    if data_at + entry.size_bytes > file.size_bytes:
        raise _contradiction(file, f"record {printable(entry.name)} lies beyond the end of the file")
    local_name = _decoded(file.read(name_at, header[9]))
    if local_name != entry.name or header[3]:
        raise _contradiction(file, f"the header of record {printable(entry.name)} says something else")
    return Record(entry.name, data_at, entry.size_bytes, entry.crc32)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", errors="backslashreplace")


def _contradiction(file: SourceFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path} is refused: {what}.",
        "torch writes no such archive: the file is damaged or made to do harm. Compare its SHA-256 with the "
        "origin's and copy it again.",
    )
