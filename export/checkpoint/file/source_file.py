"""A checkpoint's file, opened once: every later look goes to the same descriptor, and a change is noticed."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.errors import CheckpointError, VlaError

from .map_guard import GuardedMap


@dataclass(frozen=True)
class _Identity:
    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


class SourceFile:
    """An open regular file that is not expected to change.

    Raises:
        CheckpointError: the file is missing, empty, no regular file, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guarded: GuardedMap | None = None
        # O_NONBLOCK: a FIFO without a writer would hang here, before it can be refused
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist.", "Check the path.") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        weakref.finalize(self, os.close, self.descriptor)
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(
                f"{path} is not a file.", "Give the checkpoint itself, such as best_simple_lstm_model.pth."
            )
        self._identity = _identity(status)
        if not self.size_bytes:
            raise CheckpointError(f"{path} is empty.", "Copy it again from where it was trained.")

    @property
    def size_bytes(self) -> int:
        """As it was when the file was opened."""
        return self._identity.size_bytes

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Exactly these bytes.

        Raises:
            CheckpointError: the file does not have them, or the disk fails.
        """
        pieces = []
        try:
            while size_bytes > 0 and (piece := os.pread(self.descriptor, size_bytes, offset)):
                pieces.append(piece)
                offset, size_bytes = offset + len(piece), size_bytes - len(piece)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if size_bytes > 0:
            self.check_unchanged()
            raise CheckpointError(
                f"{self.path} is incomplete: it ends at byte {offset:,}, {size_bytes:,} bytes too early.",
                "Compare its size and SHA-256 with the origin's and copy it again.",
            )
        return b"".join(pieces)

    def map(self) -> mmap.mmap:
        """The whole file in memory, private: a write would stay in this process.

        Where the file is cut, or the disk fails, while the map is read, zeros are read: ask `check_unchanged`
        before anything made of it is kept.

        Raises:
            CheckpointError: its file system cannot.
            MemoryError: there is not enough address space.
        """
        try:
            self._guarded = self._guarded or GuardedMap(self.descriptor, self.size_bytes)
            return self._guarded.map
        except (OSError, ValueError) as error:
            self.check_unchanged()
            if getattr(error, "errno", 0) == errno.ENOMEM:
                raise MemoryError from error
            raise CheckpointError(
                f"{self.path} cannot be mapped into memory: {error}.",
                "Copy it to a disk of this machine and try again.",
            ) from error

    def check_unchanged(self) -> None:
        """Compare what the file is now with what it was when it was opened. Takes microseconds.

        Raises:
            CheckpointError: it was written to, cut, replaced or removed in the meantime, or could not be read.
        """
        try:
            now = (_identity(os.fstat(self.descriptor)), _identity(os.stat(self.path)))
        except OSError as error:
            raise self._changed(error.strerror or str(error)) from error
        if now != (self._identity, self._identity):
            before, after = self._identity.size_bytes, now[1].size_bytes
            raise self._changed(
                f"{before:,} bytes before, {after:,} now" if before != after else "its times or inode differ"
            )

        if self._guarded and self._guarded.lost:
            raise CheckpointError(
                f"{self.path} could not be read to its end: its disk or network share failed.",
                "Nothing was kept. Copy it to another disk (the system's log tells more) and try again.",
            )

    @contextmanager
    def errors_explained(self) -> Iterator[None]:
        """Where the work inside fails after a change of the file, the change is the error, whatever it led to."""
        try:
            yield
        except VlaError:
            self.check_unchanged()
            raise

    def _changed(self, how: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} was changed while it was being read ({how}).",
            "Nothing was kept. Wait until nobody writes to it (a training run may be saving), "
            "or give a copy, and try again.",
        )


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.")


def _identity(status: os.stat_result) -> _Identity:
    return _Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
