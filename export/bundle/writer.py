"""Write a bundle so that it exists whole or not at all.

Everything goes into a hidden sibling folder, is synced, and is renamed into place; until then no command
takes it for a bundle. An interrupted export removes its folder, the next export that of a killed one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest, encode
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError, InputError, ResourceError
from vla_edge.runtime.files.atomic import sync_folder
from vla_edge.runtime.files.digest import sha256_of
from vla_edge.runtime.files.exchange import exchange, require_exchangeable
from vla_edge.runtime.files.renaming import rename_new
from vla_edge.runtime.files.staging import staging_folder
from vla_edge.runtime.files.writable import refuse_unwritable

# What a manifest takes as a name, and with the staging folder's affixes what a file system does.
MAX_NAME_BYTES = 200
_FIXED = {
    errno.EXDEV: "it lies in a lower layer of an overlay, such as a container's image",
    errno.EBUSY: "another disk or folder is mounted there",
}


def refuse_unusable(target: Path) -> None:
    """Raise InputError where no bundle can be written: by its name, or by the folder that it goes into."""
    size_bytes = len(os.fsencode(target.name))
    if size_bytes > MAX_NAME_BYTES:
        raise InputError(
            f"the bundle's name {target.name} has {size_bytes} bytes, at most {MAX_NAME_BYTES} are possible.",
            "Give a shorter one with --name.",
        )
    refuse_unwritable(target.parent)


def refuse_existing(target: Path, force: bool) -> None:
    """Raise InputError where something is in the way, or could not be replaced."""
    if not os.path.lexists(target):
        return
    if not force:
        raise InputError(
            f"{target} exists already.",
            "Choose another --name, or another place with -o; or replace it with --force.",
        )
    if not (target / MANIFEST_NAME).is_file():
        raise InputError(
            f"{target} is not a bundle, so --force does not replace it.",
            "Move it away, or choose another place with -o.",
        )
    try:
        require_exchangeable(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be replaced: {_FIXED.get(error.errno or 0, error.strerror)}.",
            "Give another --name, or another folder with -o.",
        ) from error


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A hidden sibling of `target` to write into; removed on any error or interrupt, renamed by `publish`.

    Raises:
        ResourceError: the disk filled up in between.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with staging_folder(target) as folder:
            yield folder
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ResourceError(
            f"the disk of {target.parent} filled up while {target.name} was written; nothing was kept.",
            "Free some, or write elsewhere with -o.",
        ) from error


def publish(folder: Path, target: Path, manifest: Manifest, force: bool) -> str | None:
    """Write the manifest, sync, and rename the staging folder to `target`.

    With `force`, an older bundle stays in its place until the new one takes it.

    Returns:
        What the user should know: an older bundle that could not be removed.

    Raises:
        InputError: the manifest could not be read back, so that nobody could open the bundle; or another
            export was faster, and `force` is not given.
    """
    path = folder / MANIFEST_NAME
    path.write_bytes(_readable_bytes(manifest))
    for item in folder.iterdir():
        with item.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
    removed = _move_into_place(folder, target, force)
    sync_folder(target.parent)
    return None if removed else f"{folder}, the bundle that was replaced, could not be removed; delete it."


def _move_into_place(folder: Path, target: Path, force: bool) -> bool:
    """Whether nothing is left of an earlier bundle."""
    while True:
        try:
            rename_new(folder, target)
        except FileExistsError:
            refuse_existing(target, force)
        else:
            return True
        if not force:
            continue  # what was there is gone again
        try:
            return exchange(folder, target)
        except FileNotFoundError:
            if not folder.is_dir():
                raise
            # what was there is gone again, or on its way to be replaced by another export


def _readable_bytes(manifest: Manifest) -> bytes:
    """The manifest's bytes, decoded once: types are not checked when it is built, and JSON has no NaN."""
    try:
        data = encode(manifest)
        decode(data)
    except BundleError as error:
        raise InputError(
            f"{manifest.name} would be a bundle that cannot be opened: {error.problem}",
            "Nothing was kept. Change that value where it comes from: the checkpoint, a setting or an option.",
        ) from error
    return data


def entry(path: Path, sha256: str | None = None) -> FileEntry:
    """The manifest's entry of a file; hashed here unless the writer did."""
    return FileEntry(path=path.name, size_bytes=path.stat().st_size, sha256=sha256 or sha256_of(path))
