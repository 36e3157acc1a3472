"""An MCAP file, read by its library record by record; chunks are unpacked here, to no more than they declare.

The library's own unpacking trusts the compressed stream: a chunk of a few KiB could fill the memory.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import StreamReader

from vla_edge.runtime.errors import EpisodeError

from .bag_file import MAX_MESSAGE_BYTES, MAX_MESSAGES, MAX_TOPICS, Stored, Topic
from .messages import COMMANDS, IMAGES

_READ = frozenset((*IMAGES, *COMMANDS))
_MAX_RECORD_BYTES = MAX_MESSAGE_BYTES + (1 << 20)
_RECORD = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_RECOVER = "It was cut short or damaged: mcap recover IN -o OUT, or leave it out."


class _BoundedReads:
    """A file of which no read takes more than a record may be long: lengths within records are taken as they stand."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, _MAX_RECORD_BYTES))


class McapFile:
    """See `bag_file.BagFile`. Places are (where a record begins in the file, where the message lies in its chunk).

    Args:
        path: begins with MCAP's magic.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._schemas: dict[int, str] = {}
        self._topics: dict[int, Topic] = {}
        self._held: tuple[int, bytes] = (-1, b"")  # the chunk that was unpacked last

    def close(self) -> None:
        self._file.close()

    def messages(self) -> Iterator[Stored]:
        count = 0
        start = self._file.seek(0)
        try:
            for record in self._records():
                for stored in self._of(record, start):
                    count += 1
                    if count > MAX_MESSAGES:
                        raise EpisodeError(
                            f"{self._path} has more than {MAX_MESSAGES} messages.", "Split the recording."
                        )
                    if stored.topic.kind in _READ:
                        yield stored
                start = self._file.tell()
        except EndOfFile as error:
            raise EpisodeError(f"{self._path} ends in the middle of a record.", _RECOVER) from error

    def again(self, place: Any) -> bytes:
        start, within = place
        if within is None:
            record = self._record_at(start)
            if not isinstance(record, Message):
                raise self._changed()
            return bytes(record.data)
        if self._held[0] != start:
            chunk = self._record_at(start)
            if not isinstance(chunk, Chunk):
                raise self._changed()
            self._held = (start, self._unpacked(chunk))
        first, last = within
        return self._held[1][first:last]

    def _records(self, whole: bool = True) -> Iterator[Any]:
        bounded: Any = _BoundedReads(self._file)
        reader = StreamReader(
            bounded, skip_magic=not whole, emit_chunks=True, record_size_limit=_MAX_RECORD_BYTES
        )
        return iter(reader.records)

    def _record_at(self, start: int) -> Any:
        """The record there; where it is the file's first, the header that stands before it is passed over."""
        self._file.seek(start)
        records = self._records(whole=start == 0)
        return next((record for record in records if isinstance(record, (Chunk, Message))), None)

    def _of(self, record: Any, start: int) -> Iterator[Stored]:
        """The messages in a record of the file."""
        if isinstance(record, Schema):
            self._schemas[record.id] = record.name[:256]
        elif isinstance(record, Channel):
            self._learn(record)
        elif isinstance(record, Message):
            yield Stored(self._topic(record.channel_id), record.log_time, record.data, (start, None))
        elif isinstance(record, Chunk):
            data = self._unpacked(record)
            self._held = (start, data)
            yield from self._in_chunk(data, start)

    def _in_chunk(self, data: bytes, start: int) -> Iterator[Stored]:
        at, end = 0, len(data)
        while at < end:
            if at + _RECORD.size > end:
                raise EndOfFile()
            code, length = _RECORD.unpack_from(data, at)
            first = at + _RECORD.size
            at = first + length
            if at > end or (code == Opcode.MESSAGE and length < _MESSAGE.size):
                raise EndOfFile()
            if code == Opcode.MESSAGE:
                channel, _, log_ns, _ = _MESSAGE.unpack_from(data, first)
                within = (first + _MESSAGE.size, at)
                yield Stored(self._topic(channel), log_ns, data[within[0] : at], (start, within))
            elif code in (Opcode.SCHEMA, Opcode.CHANNEL):
                stream = ReadDataStream(io.BytesIO(data[first:at]))
                yield from self._of((Schema if code == Opcode.SCHEMA else Channel).read(stream), start)

    def _unpacked(self, chunk: Chunk) -> bytes:
        size = chunk.uncompressed_size
        if size > MAX_MESSAGE_BYTES:
            raise EpisodeError(
                f"{self._path} has a chunk of {size >> 20} MiB, at most {MAX_MESSAGE_BYTES >> 20} are unpacked.",
                "Write it again with smaller chunks.",
            )
        if chunk.compression == "zstd":
            with zstandard.ZstdDecompressor().stream_reader(chunk.data) as stream:
                data = stream.read(size + 1)
        elif chunk.compression == "lz4":
            data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
        elif chunk.compression == "":
            data = chunk.data
        else:
            raise EpisodeError(
                f"{self._path} is packed by {chunk.compression[:32]!r}, which is not read.",
                "Known are zstd and lz4.",
            )
        if len(data) != size:
            raise EpisodeError(f"{self._path} has a chunk that does not unpack to its size.", _RECOVER)
        if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
            raise EpisodeError(f"{self._path} has a chunk whose checksum is not right.", _RECOVER)
        return data

    def _learn(self, channel: Channel) -> None:
        if len(self._topics) >= MAX_TOPICS:
            raise EpisodeError(f"{self._path} has more than {MAX_TOPICS} topics.", "Split the recording.")
        kind = self._schemas.get(channel.schema_id, "")
        self._topics[channel.id] = Topic(
            channel.topic[:256], kind if channel.message_encoding == "cdr" else ""
        )

    def _topic(self, channel: int) -> Topic:
        try:
            return self._topics[channel]
        except KeyError:
            raise EpisodeError(f"{self._path} has a message of no channel.", _RECOVER) from None

    def _changed(self) -> EpisodeError:
        return EpisodeError(f"{self._path} was changed while it was read.", "Begin again.")
