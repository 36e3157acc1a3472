"""What every reader of episodes shares: other libraries' exceptions in our words, and regular files only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_edge.runtime.command.failures import is_out_of_memory
from vla_edge.runtime.errors import EpisodeError, VlaError
from vla_edge.runtime.foreign import words_of

_NO_MEMORY = "It is damaged and asks for too much, or this machine has too little free."
_COPY_AGAIN = "It is damaged or truncated: copy it again, or leave it out."


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises over a file into an EpisodeError that names it.

    Args:
        path: the file.
        what: what it is read as, such as "HDF5".

    Raises:
        EpisodeError: the file is damaged, or cannot be read.
        VlaError, ImportError: as they were raised.
    """
    try:
        yield
    except (VlaError, ImportError):
        raise
    except Exception as error:  # decoders raise whatever they like; none of them documents all of it
        if is_out_of_memory(error):
            raise EpisodeError(f"there is not enough memory to read {path} as {what}.", _NO_MEMORY) from error
        # FFmpeg's and the system's errors have words of their own beside a number
        reason = getattr(error, "strerror", None) or words_of(error)
        raise EpisodeError(
            f"{path} cannot be read as {what}: {reason}".rstrip(".") + ".", _COPY_AGAIN
        ) from error


def require_file(path: Path) -> int:
    """The bytes of a regular file; links are followed.

    Raises:
        EpisodeError: there is none, it is empty, or it is a pipe, a folder or a device.
    """
    try:
        status = path.stat()  # before any open: opening a device may do something
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise EpisodeError(f"{path} cannot be read: {reason}.", "Give the path of an episode.") from error
    if not stat.S_ISREG(status.st_mode):
        raise EpisodeError(f"{path} is not a regular file.", "Give the path of an episode.")
    if status.st_size == 0:
        raise EpisodeError(f"{path} is empty.", "Check what wrote it, or leave it out.")
    return status.st_size


def inside(root: Path, path: Path) -> Path:
    """A path that a data set names, if it lies in the data set, its links followed.

    Raises:
        EpisodeError: it leads outside.
    """
    try:
        is_inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle
        is_inside = False
    if not is_inside:
        raise EpisodeError(
            f"{path} leads out of the data set {root}.",
            "Copy the data set with its links followed: cp -rL.",
        )
    return path
