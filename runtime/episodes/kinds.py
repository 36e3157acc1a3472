"""The formats of recordings, told by how a file begins."""

from __future__ import annotations

import enum
import os
import re
from pathlib import Path

_HEAD_BYTES = 64
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# HDF5 leaves room for a block of the user's own before its first byte
_USER_BLOCKS = (0, 512, 1024, 2048, 4096)


class Kind(enum.Enum):
    """A format: what people call it, and the packages that read it by their import names."""

    HDF5 = ("HDF5 (*.h5, one an episode)", ("h5py",))

    def __init__(self, label: str, packages: tuple[str, ...]) -> None:
        self.label, self.packages = label, packages


# Names that promise a recording.
SUFFIXES = {".h5": Kind.HDF5, ".hdf5": Kind.HDF5}


def kind_of_file(path: Path) -> Kind | None:
    """The format of a file by its first bytes; None for any other, and for what is no regular file."""
    try:
        if not path.is_file():  # before any open: a pipe could keep us waiting
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            for start in _USER_BLOCKS:
                file.seek(start, os.SEEK_SET)
                if file.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC:
                    return Kind.HDF5
    except (OSError, ValueError):  # who opens it says why
        return None
    return next((kind for pattern, kind in _BEGINNINGS if re.match(pattern, head, re.DOTALL)), None)


_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = ()
