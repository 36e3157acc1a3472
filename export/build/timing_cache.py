"""TensorRT's timing cache in a file beside the plan: the second build of a model measures little anew."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vla_edge.runtime.files.cache_file import CacheFile

_log = logging.getLogger(__name__)

CacheState: TypeAlias = Literal["none", "new", "reused"]


class TimingCache:
    """A file of measured kernel times.

    Only a shortcut: a cache of another version or a damaged one is not given to TensorRT, one of another GPU
    is refused by it; both are written anew, and one that cannot be written costs the next build its time.

    Attributes:
        state: "none", "new", or "reused" once `attach` found a usable file.
    """

    def __init__(self, path: Path | None, made_by: str) -> None:
        """`path` is None for no cache at all; `made_by` names TensorRT and its version."""
        self.path = path
        self._file = CacheFile(path, "timing cache", made_by)
        self.state: CacheState = "none"
        self._config: Any = None

    def attach(self, config: Any) -> None:
        """Give the cache to a builder configuration."""
        if self.path is None:
            return
        self._config = config
        self.state = "new"
        data = self._file.read()
        if data and self._set(data):
            self.state = "reused"
        elif not self._set(b""):
            _log.warning("TensorRT accepts no timing cache; building without one")
            self._config, self.state = None, "none"

    def save(self) -> None:
        """Write what was measured, together with what another build has written meanwhile."""
        if self._config is None or self.path is None:
            return
        cache = self._config.get_timing_cache()
        if cache is None:
            return
        present = self._file.read()
        if present:
            other = self._config.create_timing_cache(present)
            if other is None or not cache.combine(other, False):
                _log.info("%s is of another GPU or version and is written anew", self.path)
        self._file.write(memoryview(cache.serialize()).cast("B"))

    def _set(self, data: bytes) -> bool:
        cache = self._config.create_timing_cache(data)
        return cache is not None and bool(self._config.set_timing_cache(cache, False))
