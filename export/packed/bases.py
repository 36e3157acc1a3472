"""What bundles that are here already can give: whole files and blocks, found by their SHA-256."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.digest import sha256_of
from vla_edge.runtime.files.regular_file import open_regular

from .blocks import Advance, Place, nothing, paths_of, places_in, read_exactly


class Bases:
    """Bundles to take from. Nothing of them is believed: what is taken is hashed.

    Args:
        bundles: opened; their sizes are enough. Earlier ones are asked first.
    """

    def __init__(self, bundles: Sequence[Bundle] = ()) -> None:
        self._bundles = tuple(bundles)

    def whole_file(self, sha256: str, size_bytes: int) -> Path | None:
        """A file of that content, hashed now."""
        for bundle in self._bundles:
            for entry in bundle.manifest.files:
                if (entry.sha256, entry.size_bytes) == (sha256, size_bytes):
                    path = bundle.locate(entry)
                    if sha256_of(path) == sha256:
                        return path
        return None

    def find(self, wanted: Iterable[str], advance: Advance = nothing) -> dict[str, Place]:
        """Where wanted blocks lie, as far as there are any; further bundles are read only while some are missing."""
        missing = set(wanted)
        found: dict[str, Place] = {}
        for bundle in self._bundles:
            for path in paths_of(bundle):
                if not missing:
                    return found
                for place in places_in(bundle, path, advance):
                    if place.sha256 in missing:
                        missing.discard(place.sha256)
                        found[place.sha256] = place
        return found


class PlaceReader:
    """Reads blocks where they lie; files stay open until it is closed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[Path, io.FileIO] = {}

    def read(self, place: Place) -> bytes:
        """The block's bytes.

        Raises:
            BundleError: they are no longer what they were.
        """
        if place.path not in self._files:
            self._files[place.path] = self._stack.enter_context(open_regular(place.path))
        data = read_exactly(self._files[place.path], place.offset, place.size_bytes, place.path)
        if hashlib.sha256(data).hexdigest() != place.sha256:
            raise BundleError(f"{place.path} changed while it was read.", "Leave it as it is, and try again.")
        return data

    def close(self) -> None:
        self._stack.close()


@contextmanager
def place_reader() -> Iterator[PlaceReader]:
    reader = PlaceReader()
    try:
        yield reader
    finally:
        reader.close()
