"""An HDF5 file's datasets, checked before a value of them is read.

HDF5 can point elsewhere (links, virtual datasets, raw data in other files), run plug-ins (filters), and
unpack a small chunk without an end: zlib's filter grows its buffer for as long as the stream goes on. So
links must be hard, storage the file's own, filters of a short list; and the stored bytes of a chunk that
could become large are unpacked here first, no further than the chunk's own size.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from vla_edge.runtime.errors import EpisodeError

# Unpacked; also the file's cache, so that no chunk is unpacked for each of its frames.
MAX_CHUNK_BYTES = 64 << 20
MAX_CHUNKS_A_ROW = 4096

# How many times a filter's input may become at most, by zlib's and LZF's formats.
_RATIO = {h5py.h5z.FILTER_DEFLATE: 1032, h5py.h5z.FILTER_LZF: 264}
_PLAIN = frozenset({h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
_HARMLESS_BYTES = 128 << 20
_CHECKSUM_BYTES = 4

_REWRITE = "Write it again with h5py, a frame a chunk, with gzip or no compression."


def open_dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """A dataset at the file's root, which lies in this file alone.

    Raises:
        EpisodeError: there is none, or it is a link, or stored elsewhere, or through a filter not of our list.
    """
    encoded = name.encode()
    if not file.id.links.exists(encoded):
        raise EpisodeError(
            f"{path} holds no {name!r}; it holds {_names(file)}.",
            "An episode has images [T, H, W, 3] and actions [T, 2 or 3].",
        )
    # asked of the link, not of what it leads to: an external one would be followed
    if file.id.links.get_info(encoded).type != h5py.h5l.TYPE_HARD:
        raise EpisodeError(
            f"{path}: {name!r} is a link, which is not followed.", "Copy its data into the file."
        )
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise EpisodeError(f"{path}: {name!r} is not a dataset.", "Look at it with h5ls.")
    properties = found.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise EpisodeError(
            f"{path}: {name!r} is stored in other files, which are not opened.",
            "Copy its data into the file.",
        )
    _check_filters(properties, name, path)
    _check_layout(found, name, path)
    return found


def _names(file: h5py.File) -> str:
    found = [name.decode("utf-8", "replace") for name in itertools.islice(file.id, 10)]
    return ", ".join(repr(name) for name in found) or "nothing"


def _filters(properties: Any) -> list[int]:
    return [properties.get_filter(at)[0] for at in range(properties.get_nfilters())]


def _check_filters(properties: Any, name: str, path: Path) -> None:
    codes = _filters(properties)
    unknown = [code for code in codes if code not in _RATIO and code not in _PLAIN]
    if unknown or len([code for code in codes if code in _RATIO]) > 1:
        raise EpisodeError(
            f"{path}: {name!r} is stored through the filters {codes}, which are not read.", _REWRITE
        )


def _check_layout(dataset: h5py.Dataset, name: str, path: Path) -> None:
    """Refuse storage that is not there, or chunks that would take much memory."""
    if dataset.chunks is None:
        if dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
            raise EpisodeError(f"{path}: {name!r} was never written whole.", "Record or copy it again.")
        return
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise EpisodeError(
            f"{path}: {name!r} has chunks of {chunk_bytes >> 20} MiB, at most {MAX_CHUNK_BYTES >> 20} are read.",
            _REWRITE,
        )
    if math.prod(_across(dataset)) > MAX_CHUNKS_A_ROW:
        raise EpisodeError(f"{path}: {name!r} is cut into very many small chunks.", _REWRITE)


def _across(dataset: h5py.Dataset) -> list[int]:
    """How many chunks there are along each axis but the first."""
    return [-(-side // chunk) for side, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]


class CheckedRows:
    """Reads rows of a dataset, after the chunks that hold them were looked at.

    Args:
        dataset: from `open_dataset`.
        path: of its file.
        size_bytes: of that file.
    """

    def __init__(self, dataset: h5py.Dataset, path: Path, size_bytes: int) -> None:
        self._dataset, self._path, self._size_bytes = dataset, path, size_bytes
        self._checked: set[int] = set()  # places of chunks along the first axis
        properties = dataset.id.get_create_plist()
        self._codes = _filters(properties)
        self._packed = next((code for code in self._codes if code in _RATIO), None)

    def __getitem__(self, row: int | slice) -> Any:
        """One row, or those of a slice without a step, as NumPy has them.

        Raises:
            EpisodeError: a chunk was never written, lies outside of the file, or unpacks beyond its size.
        """
        if self._dataset.chunks is not None:
            first, last = (row.start, row.stop - 1) if isinstance(row, slice) else (row, row)
            depth = self._dataset.chunks[0]
            for at in range(first // depth, last // depth + 1):
                if at not in self._checked:
                    for offset in self._offsets(at * depth):
                        self._check(offset)
                    self._checked.add(at)
        return self._dataset[row]

    def _offsets(self, first: int) -> Iterator[tuple[int, ...]]:
        chunks = self._dataset.chunks
        for place in itertools.product(*map(range, _across(self._dataset))):
            yield (first, *(at * side for at, side in zip(place, chunks[1:], strict=True)))

    def _check(self, offset: tuple[int, ...]) -> None:
        stored = self._dataset.id.get_chunk_info_by_coord(offset)
        name = self._dataset.name
        if stored.byte_offset is None:
            raise EpisodeError(
                f"{self._path}: {name} was never written from index {offset[0]} on.",
                "The recording was cut short: record it again, or leave it out.",
            )
        if stored.byte_offset + stored.size > self._size_bytes:
            raise EpisodeError(f"{self._path} is truncated: {name} lies beyond its end.", "Copy it again.")
        if self._packed is None or stored.size * _RATIO[self._packed] <= _HARMLESS_BYTES:
            return
        if self._packed != h5py.h5z.FILTER_DEFLATE or stored.size > 2 * MAX_CHUNK_BYTES:
            raise EpisodeError(f"{self._path}: a packed chunk of {name} is too large.", _REWRITE)
        self._try_unpacking(offset)

    def _try_unpacking(self, offset: tuple[int, ...]) -> None:
        mask, data = self._dataset.id.read_direct_chunk(offset)
        if mask >> self._codes.index(h5py.h5z.FILTER_DEFLATE) & 1:  # this one was left as it is
            return
        allowed = math.prod(self._dataset.chunks) * self._dataset.dtype.itemsize + _CHECKSUM_BYTES
        if len(zlib.decompressobj().decompress(data, allowed + 1)) > allowed:
            raise EpisodeError(
                f"{self._path}: a chunk of {self._dataset.name} unpacks to more than its size.",
                "It was made to fill memory, or is damaged: do not use it.",
            )
