"""Whether a file is what somebody says that it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_edge.runtime.files.digest import sha256_of_open
from vla_edge.runtime.files.regular_file import open_regular, regular_size

Progress = Callable[[int], None]


def unreadable(path: Path) -> str:
    """Why a file cannot be opened; empty where it can."""
    try:
        open_regular(path).close()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    return ""


def hash_problem(path: Path, wanted: str, says: str, progress: Progress) -> str:
    """Why a file has not the SHA-256 that `says`; empty where it has."""
    try:
        with open_regular(path) as file:
            found = sha256_of_open(file, progress)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    return "" if found == wanted else f"{path} was changed: its SHA-256 is {found}, {says} says {wanted}."


def size_of(path: Path) -> int | None:
    """Bytes of a regular file; None where it is none."""
    try:
        return regular_size(path)
    except OSError:
        return None
