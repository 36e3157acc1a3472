"""An open packed bundle: its index and manifest agree, and each block is checked as it is read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from vla_edge.runtime.bundle.bundle import REQUIRED_FILES, limit_bytes
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, Manifest
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.regular_file import open_regular, regular_size

from .blocks import read_exactly
from .index import COPY_AGAIN, Index, read_index


@dataclass(frozen=True)
class Packed:
    """A packed bundle, open for reading.

    Attributes:
        path: of the file.
        index: checked.
        manifest: of the bundle in it, checked; the index lists the same files.
    """

    path: Path
    index: Index
    manifest: Manifest
    _file: io.FileIO
    _offsets: tuple[int, ...]

    def read(self, number: int) -> bytes:
        """A block that is packed here.

        Raises:
            BundleError: it is damaged.
        """
        return _checked(self._file, self.path, self.index, self._offsets, number)


@contextmanager
def open_packed(path: Path) -> Iterator[Packed]:
    """Open a packed bundle; in bounded memory and time, whatever the file holds.

    Raises:
        BundleError: no packed bundle, or one that is damaged, cut short or not consistent.
    """
    try:
        size_bytes, file = regular_size(path), open_regular(path)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read: {error.strerror}.", "Give a file that vla-bundle pack wrote."
        ) from error
    with file:
        index, start = read_index(file, size_bytes, str(path))
        sizes = (block.size_bytes if block.packed else 0 for block in index.blocks)
        offsets = tuple(accumulate(sizes, initial=start))
        data = b"".join(_checked(file, path, index, offsets, number) for number in index.files[0].blocks)
        yield Packed(path, index, _manifest(path, index, data), file, offsets)


def _checked(file: io.FileIO, path: Path, index: Index, offsets: tuple[int, ...], number: int) -> bytes:
    block = index.blocks[number]
    data = read_exactly(file, offsets[number], block.size_bytes, path)
    if hashlib.sha256(data).hexdigest() != block.sha256:
        raise BundleError(f"{path} is damaged {offsets[number]} bytes from its start.", COPY_AGAIN)
    return data


def _manifest(path: Path, index: Index, data: bytes) -> Manifest:
    """The manifest, whose files are those of the index, and no longer than files of their names can be."""
    if hashlib.sha256(data).hexdigest() != index.manifest_sha256:
        raise BundleError(f"{path} contradicts itself: its manifest is another than it names.", COPY_AGAIN)
    manifest = decode(data, f"{path}: {MANIFEST_NAME}")
    listed = [(entry.path, entry.size_bytes, entry.sha256) for entry in manifest.files]
    packed = [(file.path, file.size_bytes, file.sha256) for file in index.files[1:]]
    named = {entry.path for entry in manifest.files}
    if listed != packed or manifest.name != index.name or not named.issuperset(REQUIRED_FILES):
        raise BundleError(f"{path} contradicts itself: manifest and index list other files.", COPY_AGAIN)
    for entry in manifest.files:
        limit = limit_bytes(entry.path, manifest)
        if entry.size_bytes > limit:
            raise BundleError(
                f"{path}: {entry.path} would have {entry.size_bytes} bytes, by its manifest at most {limit}.",
                "It was damaged or made up; pack the bundle again.",
            )
    return manifest
