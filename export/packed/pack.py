"""Write a bundle, without its plans, into one file; or only what another bundle lacks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, WEIGHTS_NAME
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError, InputError
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.files.digest import sha256_of
from vla_edge.runtime.files.regular_file import read_regular, regular_size
from vla_edge.runtime.files.writable import refuse_unwritable

from .bases import place_reader
from .blocks import Advance, Place, nothing, paths_of, places_in
from .index import Block, Index, PackedFile, Since, encode_index
from .packed import open_packed
from .room import require_room


@dataclass(frozen=True)
class Known:
    """What the target has already, so that it is left out.

    Attributes:
        since: the bundle that it has.
        blocks: SHA-256 of its blocks.
        files: SHA-256 of its files, where only they are known.
    """

    since: Since
    blocks: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    def has(self, file_sha256: str, block_sha256: str) -> bool:
        """Whether the target has a block of this file."""
        return file_sha256 in self.files or block_sha256 in self.blocks


@dataclass(frozen=True)
class Content:
    """A bundle cut into blocks: what a packed file begins with, and where the blocks follow from."""

    index: Index
    places: tuple[Place, ...]


def known_by(path: Path, advance: Advance = nothing) -> Known:
    """What a target has that has the bundle `path`.

    Args:
        path: a bundle; an earlier packed file, which lists all blocks of its bundle; or a manifest of any name
            without its bundle, by which whole files are known, but no blocks of them.
        advance: called with numbers of bytes hashed.

    Raises:
        BundleError: none of these, or damaged.
    """
    if path.name == MANIFEST_NAME and (path.parent / WEIGHTS_NAME).exists():
        path = path.parent
    if (data := _manifest_in(path)) is not None:
        manifest = decode(data, str(path))
        since = Since(name=manifest.name, manifest_sha256=hashlib.sha256(data).hexdigest())
        return Known(since, files=frozenset(entry.sha256 for entry in manifest.files))
    if path.is_dir():
        bundle = Bundle.open(path, "size")
        places = (place for each in paths_of(bundle) for place in places_in(bundle, each, advance))
        return Known(_identity(bundle), frozenset(place.sha256 for place in places))
    with open_packed(path) as packed:
        index = packed.index
        since = Since(name=index.name, manifest_sha256=index.manifest_sha256)
        return Known(since, frozenset(block.sha256 for block in index.blocks))


def _manifest_in(path: Path) -> bytes | None:
    """The bytes of a manifest, which is told by how it begins; None of a folder and of any other file."""
    try:
        if path.is_dir() or regular_size(path) > MAX_MANIFEST_BYTES:
            return None
        data = read_regular(path, MAX_MANIFEST_BYTES)
    except OSError:  # told in the words of who opens it next
        return None
    return data if data.lstrip()[:1] == b"{" else None


def read_content(bundle: Bundle, known: Known | None = None, advance: Advance = nothing) -> Content:
    """Hash a bundle's blocks; those that are known are not to be packed.

    Args:
        bundle: opened; sizes are enough, since every file is hashed here.
        known: what is left out.
        advance: called with numbers of bytes, twice the bundle's in all.

    Raises:
        BundleError: a file is not as its manifest says.
    """
    listed = {bundle.folder / entry.path: entry.sha256 for entry in bundle.manifest.files}
    numbers: dict[str, int] = {}
    blocks: list[Block] = []
    places: list[Place] = []
    files = []
    for path in paths_of(bundle):
        sha256 = sha256_of(path, advance)
        if sha256 != listed.get(path, bundle.manifest_sha256):
            raise BundleError(f"{path} is not what the manifest says.", "Copy or export the bundle again.")
        own = list(places_in(bundle, path, advance))
        for place in own:
            if place.sha256 not in numbers:
                numbers[place.sha256] = len(blocks)
                left_out = (
                    known is not None and path.name != MANIFEST_NAME and known.has(sha256, place.sha256)
                )
                blocks.append(Block(place.sha256, place.size_bytes, not left_out))
                places.append(place)
        files.append(
            PackedFile(
                path=path.relative_to(bundle.folder).as_posix(),
                size_bytes=sum(place.size_bytes for place in own),
                sha256=sha256,
                blocks=tuple(numbers[place.sha256] for place in own),
            )
        )
    index = Index(
        name=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        since=known.since if known else None,
        blocks=tuple(blocks),
        files=tuple(files),
    )
    return Content(index, tuple(places))


def require_output(output: Path, force: bool) -> None:
    """Refuse a file that cannot be written, or that is there and is not to be replaced.

    Raises:
        InputError: it cannot.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder.", "Give a file with -o, such as policy-2.vla.")
    if output.exists() and not force:
        raise InputError(
            f"{output} exists already.", "Choose another file with -o, or replace it with --force."
        )
    refuse_unwritable(output.parent)
    if not output.parent.is_dir():
        raise InputError(
            f"the folder {output.parent} does not exist.", "Make it, or choose another file with -o."
        )


def write_packed(content: Content, output: Path, replace: bool = False, advance: Advance = nothing) -> int:
    """Write the file, whole or not at all.

    Args:
        content: of `read_content`.
        output: the file to appear; its folder must exist.
        replace: whatever has that name.
        advance: called with numbers of bytes written.

    Returns:
        Its size.

    Raises:
        InputError: the bundle cannot be packed, or the file is there already.
        ResourceError: too little disk.
        BundleError: the bundle changed meanwhile.
    """
    head = encode_index(content.index)
    require_room(output.parent, len(head) + content.index.packed_bytes, output.name)

    def write(file: BinaryIO) -> None:
        file.write(head)
        with place_reader() as reader:
            for block, place in zip(content.index.blocks, content.places, strict=True):
                if block.packed:
                    file.write(reader.read(place))
                    advance(block.size_bytes)

    try:
        write_atomically(output, write, replace)
    except FileExistsError as error:
        raise InputError(
            f"{output} exists already.", "Choose another file with -o, or use --force."
        ) from error
    return len(head) + content.index.packed_bytes


def _identity(bundle: Bundle) -> Since:
    return Since(name=bundle.manifest.name, manifest_sha256=bundle.manifest_sha256)
