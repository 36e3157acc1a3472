"""SHA-256 of files, the one way in which every part hashes them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

# SHA-256 of one file runs on one core: 1.45 GiB/s here, 3.4 GB in 2.3 s. Read calls of 1 MiB are as fast
# as larger ones or a memory map, and a second thread that reads ahead gains nothing over the kernel's.
_READ_BYTES = 1 << 20


def sha256_of(path: Path, advance: Callable[[int], None] = lambda size_bytes: None) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Args:
        path: the file.
        advance: called with numbers of bytes read.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return sha256_of_open(file, advance)


def sha256_of_open(file: io.RawIOBase, advance: Callable[[int], None] = lambda size_bytes: None) -> str:
    """As `sha256_of`, of a file that is open, unbuffered, from where it stands."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        advance(count)
    return digest.hexdigest()
