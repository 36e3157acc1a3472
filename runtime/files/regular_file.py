"""Opening files of which only the name is known: never a link, a pipe or a device."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

IS_LINK = "it is a symbolic link"
_NOT_REGULAR = "it is not a regular file"


def regular_size(path: Path) -> int:
    """Bytes of a regular file.

    Raises:
        OSError: there is none, or it is a link (`is_link` tells), a pipe, a folder or a device.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, IS_LINK, str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, _NOT_REGULAR, str(path))
    return status.st_size


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file for reading, unbuffered; a pipe is refused instead of waited for.

    Raises:
        OSError: as `regular_size`, or it cannot be read.
    """
    regular_size(path)  # before any open: to open a device may already do something
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # exchanged in between
            raise OSError(errno.EINVAL, _NOT_REGULAR, str(path))
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file, at most `limit_bytes` + 1 of it: one more tells that it is too long.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        pieces, left = [], limit_bytes + 1
        while left and (piece := file.read(min(left, 1 << 24))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def is_link(error: OSError) -> bool:
    """Whether a file was refused because it is a symbolic link."""
    return error.errno == errno.ELOOP
