"""Where the files of a bundle are cut into blocks, so that equal weights are equal blocks.

Weights are cut where the graph's tensors begin and end, and longer ones every MiB from their own start: a tensor
that did not change has the same blocks wherever it lies in the file, and a new head changes its own blocks only.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.external_data import MAX_MODEL_BYTES
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, WEIGHTS_NAME
from vla_edge.runtime.bundle.onnx_wire import external_tensors
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.regular_file import open_regular, read_regular, regular_size
from vla_edge.runtime.process.cores import usable_cores

from .index import MAX_BLOCK_BYTES

Advance = Callable[[int], None]

_SMALL_BLOCK_BYTES = 64 << 10  # of other files: golden samples of an unchanged backbone are found again, too
_AHEAD = 64  # blocks being hashed: so many are in memory at most


@dataclass(frozen=True)
class Place:
    """Where a block lies."""

    path: Path
    offset: int
    size_bytes: int
    sha256: str


def nothing(size_bytes: int) -> None:
    return None


def paths_of(bundle: Bundle) -> list[Path]:
    """The bundle's files: its manifest, then what that lists."""
    return [bundle.folder / MANIFEST_NAME, *(bundle.locate(entry) for entry in bundle.manifest.files)]


def places_in(bundle: Bundle, path: Path, advance: Advance = nothing) -> Iterator[Place]:
    """The blocks of one of the bundle's files, in order, hashed on the cores that this process may use.

    Args:
        bundle: its graph tells where weights are cut.
        path: of `paths_of`.
        advance: called with numbers of bytes hashed.

    Raises:
        BundleError: the file is not what it was when the bundle was opened, or the graph is none.
    """
    size_bytes = regular_size(path)
    edges = _weight_edges(bundle, size_bytes) if path.name == WEIGHTS_NAME else [0, size_bytes]
    longest = MAX_BLOCK_BYTES if path.name == WEIGHTS_NAME else _SMALL_BLOCK_BYTES
    with open_regular(path) as file, ThreadPoolExecutor(max_workers=usable_cores()) as pool:

        def hashed(span: tuple[int, int]) -> Place:
            start, stop = span
            digest = hashlib.sha256(read_exactly(file, start, stop - start, path)).hexdigest()
            return Place(path, start, stop - start, digest)

        for some in _in_batches(_spans(edges, longest)):
            for place in pool.map(hashed, some):
                advance(place.size_bytes)
                yield place


def read_exactly(file: io.FileIO, offset: int, size_bytes: int, path: Path) -> bytes:
    """Bytes of an open file.

    Raises:
        BundleError: it has become shorter.
    """
    pieces = []
    while size_bytes and (piece := os.pread(file.fileno(), size_bytes, offset)):
        pieces.append(piece)
        offset += len(piece)
        size_bytes -= len(piece)
    if size_bytes:
        raise BundleError(f"{path} became shorter while it was read.", "Leave it as it is, and try again.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _weight_edges(bundle: Bundle, size_bytes: int) -> list[int]:
    """Where tensors begin and end; what lies between them, for alignment, is cut off with that."""
    edges = {0, size_bytes}
    for tensor in external_tensors(read_regular(bundle.model_path, MAX_MODEL_BYTES)):
        offset = int(tensor.entries.get("offset", "0"))
        edges |= {offset, offset + int(tensor.entries.get("length", "0"))}
    return sorted(edge for edge in edges if edge <= size_bytes)


def _spans(edges: list[int], longest: int) -> Iterator[tuple[int, int]]:
    for start, stop in pairwise(edges):
        for at in range(start, stop, longest):
            yield at, min(at + longest, stop)


def _in_batches(spans: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    some: list[tuple[int, int]] = []
    for span in spans:
        some.append(span)
        if len(some) == _AHEAD:
            yield some
            some = []
    yield some
