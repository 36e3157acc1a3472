"""Write a bundle so that it exists whole or not at all.

Everything goes into a hidden sibling folder, is synced, and is renamed into place; until then no command
takes it for a bundle. An interrupted export removes its folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vla_edge.runtime.atomic import sync_folder
from vla_edge.runtime.bundle import PARTIAL_SUFFIX
from vla_edge.runtime.digest import sha256_of
from vla_edge.runtime.errors import InputError, ResourceError
from vla_edge.runtime.manifest import MANIFEST_NAME, FileEntry, Manifest, encode


def refuse_existing(target: Path, force: bool) -> None:
    """Raise InputError where something is in the way."""
    if target.exists() and not force:
        raise InputError(
            f"{target} exists already.", "Choose another place with -o, or replace it with --force."
        )
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise InputError(
            f"{target} is not a bundle, so --force does not replace it.",
            "Move it away, or choose another place with -o.",
        )


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A hidden sibling of `target` to write into; removed on any error or interrupt, renamed by `publish`.

    Raises:
        ResourceError: the disk filled up in between.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.{os.getpid()}{PARTIAL_SUFFIX}"
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ResourceError(
            f"the disk of {target.parent} filled up while {target.name} was written; nothing was kept.",
            "Free some, or write elsewhere with -o.",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path, manifest: Manifest, force: bool) -> None:
    """Write the manifest, sync, and rename the staging folder to `target`.

    With `force`, an older bundle stays until the new one is complete, and comes back should the last
    rename fail.
    """
    path = folder / MANIFEST_NAME
    path.write_bytes(encode(manifest))
    for item in folder.iterdir():
        with item.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
    refuse_existing(target, force)
    old = target.parent / f".{target.name}.{os.getpid()}.old"
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def entry(path: Path, sha256: str | None = None) -> FileEntry:
    """The manifest's entry of a file; hashed here unless the writer did."""
    return FileEntry(path=path.name, size_bytes=path.stat().st_size, sha256=sha256 or sha256_of(path))
