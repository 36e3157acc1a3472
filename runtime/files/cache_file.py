"""A file that only saves time: when it cannot be read or written, the work is done anew, and a log says so."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_atomically
from .regular_file import read_regular

_log = logging.getLogger(__name__)

_FORMAT = "vla-edge cache 1"
_MAX_CACHE_BYTES = 1 << 30
_MAX_HEAD_BYTES = 512


@dataclass(frozen=True)
class CacheFile:
    """One cache: a line with its maker and the SHA-256 of its content, then the content.

    TensorRT parses a cache in native code, so it is given only what was written here, by the same version
    of it, and has not changed since.

    Attributes:
        path: None for no cache at all.
        name: for the log, such as "timing cache".
        made_by: which library and version understands the content, such as "tensorrt 10.6.0".
    """

    path: Path | None
    name: str
    made_by: str

    def read(self) -> bytes:
        """Its content; empty where there is none, none that can be read, another's, or a changed one."""
        if self.path is None:
            return b""
        try:
            data = read_regular(self.path, _MAX_CACHE_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as error:
            _log.warning("the %s %s cannot be read: %s", self.name, self.path, error)
            return b""
        end = data.find(b"\n", 0, _MAX_HEAD_BYTES)
        content = data[end + 1 :]
        if end < 0 or data[:end] != self._head(content):
            _log.warning(
                "the %s %s is damaged, or not of %s; it is made anew", self.name, self.path, self.made_by
            )
            return b""
        return content

    def write(self, data: bytes | memoryview) -> bool:
        """Replace its content as a whole, or leave it as it was; tells whether it is there now."""
        if self.path is None:
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, lambda file: file.writelines((self._head(data), b"\n", data)))
        except OSError as error:
            _log.warning("the %s %s cannot be written: %s", self.name, self.path, error)
            return False
        return True

    def _head(self, content: bytes | memoryview) -> bytes:
        made_by = self.made_by.encode("unicode_escape").decode("ascii")
        return f"{_FORMAT}, {made_by}, {hashlib.sha256(content).hexdigest()}".encode("ascii")
