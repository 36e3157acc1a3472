"""From a packed file to a bundle that is whole or not there; a killed run goes on where it was.

Progress is kept nowhere but in the staging folder itself: a block that is in its place and hashes right is not
written again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError, InputError
from vla_edge.runtime.files.atomic import sync_folder
from vla_edge.runtime.files.renaming import rename_new
from vla_edge.runtime.files.staging import remove, resumed_folder
from vla_edge.runtime.files.writable import refuse_unwritable
from vla_edge.runtime.process.interrupts import uninterrupted

from .bases import Bases, PlaceReader, place_reader
from .blocks import Advance, Place, nothing
from .index import PackedFile
from .packed import Packed
from .room import require_room

_log = logging.getLogger(__name__)


@dataclass
class Origins:
    """Bytes of an unpacked bundle by where they came from."""

    file: int = 0
    base: int = 0
    linked: int = 0
    kept: int = 0  # of a run that was killed


def unpack(packed: Packed, target: Path, bases: Sequence[Bundle] = (), advance: Advance = nothing) -> Origins:
    """Make the bundle `target`.

    Args:
        packed: open.
        target: a folder that is not there; its parent is made.
        bases: bundles that have what was left out. Files that are the same in one of them are hard links to its.
        advance: called with numbers of bytes done, the bundle's in all.

    Returns:
        Where the bytes came from.

    Raises:
        BundleError: the packed file or a base is damaged, or a block is nowhere.
        InputError: something has that name already.
        ResourceError: too little disk.
    """
    if os.path.lexists(target):
        raise _exists(target)
    refuse_unwritable(target.parent, "unpack elsewhere")
    target.parent.mkdir(parents=True, exist_ok=True)
    with resumed_folder(target) as folder:
        origins = fill(packed, folder, Bases(bases), advance)
        try:
            with uninterrupted():
                rename_new(folder, target)
        except FileExistsError as error:
            raise _exists(target) from error
    sync_folder(target.parent)
    return origins


def fill(packed: Packed, folder: Path, bases: Bases, advance: Advance = nothing) -> Origins:
    """Write all files into a staging folder, sync them and check them as a bundle.

    Args:
        packed: open.
        folder: may hold anything; what is not of this bundle is removed.
        bases: have what was left out.
        advance: as in `unpack`.

    Raises:
        BundleError, ResourceError: as `unpack`.
    """
    origins = Origins()
    _clear(folder, {file.path for file in packed.index.files})
    rest = [file for file in packed.index.files if not _link(file, folder, bases, origins, advance)]
    _log.info(
        "%d files are linked, to be written: %s", len(packed.index.files) - len(rest), [f.path for f in rest]
    )
    require_room(folder, sum(file.size_bytes - _size(folder / file.path) for file in rest), "the bundle")
    places = _left_out(packed, rest, bases)
    with place_reader() as reader:
        for file in rest:
            _write(packed, file, folder, places, reader, origins, advance)
    sync_folder(folder)
    _check(packed, folder)
    return origins


def _exists(target: Path) -> InputError:
    return InputError(f"{target} exists already.", "Unpack into another folder, or move it away.")


def _clear(folder: Path, names: set[str]) -> None:
    """Remove what is not a plain file of the bundle. Hard links are: to write into one changes another bundle."""
    for path in list(folder.iterdir()):
        status = path.lstat()
        if path.name not in names or not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            remove(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _link(file: PackedFile, folder: Path, bases: Bases, origins: Origins, advance: Advance) -> bool:
    """Give a base's equal file a second name; False where there is none, or the file system cannot."""
    path = bases.whole_file(file.sha256, file.size_bytes)
    if path is None:
        return False
    own = folder / file.path
    own.unlink(missing_ok=True)
    with suppress(OSError):  # another disk, or one without hard links: its blocks are copied
        os.link(path, own, follow_symlinks=False)
        origins.linked += file.size_bytes
        advance(file.size_bytes)
        return True
    return False


def _left_out(packed: Packed, files: Sequence[PackedFile], bases: Bases) -> dict[str, Place]:
    """Where the blocks lie that these files need and the packed file has not."""
    blocks = packed.index.blocks
    needed = {number for file in files for number in file.blocks if not blocks[number].packed}
    places = bases.find(blocks[number].sha256 for number in needed)
    missing = [blocks[number] for number in needed if blocks[number].sha256 not in places]
    if missing and packed.index.since is not None:
        since = packed.index.since
        size_bytes = sum(block.size_bytes for block in missing)
        raise BundleError(
            f"{packed.path} leaves out what {since.name} {since.manifest_sha256[:12]} has, and {len(missing)} "
            f"blocks of that, {size_bytes / (1 << 20):.1f} MiB, are in no bundle that was given.",
            "Put that bundle beside it (or unpack with --base BUNDLE), or pack a whole one, without --since.",
        )
    return places


def _write(
    packed: Packed,
    file: PackedFile,
    folder: Path,
    places: dict[str, Place],
    reader: PlaceReader,
    origins: Origins,
    advance: Advance,
) -> None:
    """One file, block by block; blocks that are there already stay."""
    with _open_own(folder / file.path) as descriptor:
        offset, end = 0, os.fstat(descriptor).st_size
        for number in file.blocks:
            block = packed.index.blocks[number]
            if offset + block.size_bytes <= end and _is_there(
                descriptor, offset, block.size_bytes, block.sha256
            ):
                origins.kept += block.size_bytes
            elif block.sha256 in places:
                _write_at(descriptor, reader.read(places[block.sha256]), offset)
                origins.base += block.size_bytes
            else:
                _write_at(descriptor, packed.read(number), offset)
                origins.file += block.size_bytes
            offset += block.size_bytes
            advance(block.size_bytes)
        os.ftruncate(descriptor, file.size_bytes)
        os.fsync(descriptor)
    _log.info("%s: %d bytes written in %d blocks", file.path, file.size_bytes, len(file.blocks))


@contextmanager
def _open_own(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    except OSError as error:
        if error.filename is None and error.errno is not None:  # writing does not know the name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        os.close(descriptor)


def _is_there(descriptor: int, offset: int, size_bytes: int, sha256: str) -> bool:
    return hashlib.sha256(os.pread(descriptor, size_bytes, offset)).hexdigest() == sha256


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _check(packed: Packed, folder: Path) -> None:
    """As every reader will: types, paths, sizes, hashes, and where the graph has its weights."""
    try:
        bundle = Bundle.open(folder)
        _ = bundle.model_path
    except BundleError as error:
        raise BundleError(
            f"{packed.path} does not hold a sound bundle: {error.problem}",
            "Pack it again with vla-bundle pack.",
        ) from error
    if bundle.manifest_sha256 != packed.index.manifest_sha256:
        raise BundleError(f"{packed.path} holds another bundle than it says.", "Pack it again.")
