"""Whether a folder can be written into, asked before the work whose result goes there."""

from __future__ import annotations

import os
from pathlib import Path

from vla_edge.runtime.errors import InputError


def refuse_unwritable(folder: Path, elsewhere: str = "write elsewhere with -o") -> None:
    """Raise InputError where a folder cannot be made, or not be written into.

    Args:
        folder: need not exist yet.
        elsewhere: what else the user can do; in a command with that option, to take it.
    """
    existing = nearest_existing(folder)
    if not existing.is_dir():
        raise InputError(
            f"{existing} is not a folder, so nothing can be written into {folder}.",
            f"{elsewhere[0].upper()}{elsewhere[1:]}.",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"the folder {existing} is not writable.", f"Change its permissions, or {elsewhere}."
        )


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the lowest of its parents that exists."""
    # os.path: what lies in a folder that must not be searched does not exist either
    return next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
