"""A file that only saves time: when it cannot be read or written, the work is done anew, and a log says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_atomically

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheFile:
    """One cache.

    Attributes:
        path: None for no cache at all.
        name: for the log, such as "timing cache".
    """

    path: Path | None
    name: str

    def read(self) -> bytes:
        """Its content; empty where there is none, or none that can be read."""
        try:
            return self.path.read_bytes() if self.path is not None else b""
        except FileNotFoundError:
            return b""
        except OSError as error:
            _log.warning("the %s %s cannot be read: %s", self.name, self.path, error)
            return b""

    def write(self, data: bytes | memoryview) -> None:
        """Replace its content as a whole, or leave it as it was."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, lambda file: file.write(data))
        except OSError as error:
            _log.warning("the %s %s cannot be written: %s", self.name, self.path, error)
