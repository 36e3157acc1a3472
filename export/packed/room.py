"""Disk, asked before the work that needs it."""

from __future__ import annotations

import shutil
from pathlib import Path

from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.files.writable import nearest_existing

_MIB = 1 << 20
_MARGIN_BYTES = 8 * _MIB  # folders, side files, and what others write meanwhile


def require_room(folder: Path, size_bytes: int, what: str) -> None:
    """Refuse work that would fill the disk.

    Raises:
        ResourceError: with what is needed and what is there.
    """
    free = shutil.disk_usage(nearest_existing(folder)).free
    if size_bytes + _MARGIN_BYTES > free:
        raise ResourceError(
            f"Not enough disk at {folder} for {what}: {size_bytes / _MIB:.0f} MiB needed, "
            f"{free / _MIB:.0f} MiB free.",
            "Free some, or write to a larger disk.",
        )
