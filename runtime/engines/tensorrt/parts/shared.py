"""Engines that several sessions of this process use: the weights lie on the device once.

Two policies of one bundle, or of two whose plans share a part, load the same verified bytes. An engine may have
any number of contexts, and each session makes its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from threading import Lock
from weakref import WeakValueDictionary

from vla_edge.runtime.engines.tensorrt.engine import Engine
from vla_edge.runtime.engines.tensorrt.library import Library
from vla_edge.runtime.engines.tensorrt.record import PartRecord
from vla_edge.runtime.process.forked import HomeProcess


def engine_key(library: Library, device_index: int, part: PartRecord) -> Hashable:
    """What makes two engines the same one: the library, the GPU, and bytes of these hashes, once they were checked.

    Not the implementation of device memory: both use the device's primary context.
    """
    content = (part.size_bytes, part.chunk_bytes, part.chunk_sha256)
    return (library.trt, library.backend, device_index, *content)


class _Entry:
    """One engine and how many use it."""

    def __init__(self) -> None:
        self.loading = Lock()  # held while it is loaded: whoever comes meanwhile waits
        self.engine: Engine | None = None
        self.users = 0
        self.home = HomeProcess(self)  # a forked child never frees it


class _Registry:
    """Entries by key. Held by their users alone, so that sessions that are dropped without `close` free them too."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.entries: WeakValueDictionary[Hashable, _Entry] = WeakValueDictionary()


_registry = _Registry()


class EngineLease:
    """One session's use of an engine.

    Thread rule: any number of leases of one key may be taken and closed in any threads; one lease belongs to one.
    """

    def __init__(self, key: Hashable) -> None:
        """Nothing is held yet.

        Args:
            key: from `engine_key`; None for an engine that nobody else can have.
        """
        self._key = key
        self._registry = _registry  # of this process: a child's is another one
        self._entry: _Entry | None = None

    def take(self, load: Callable[[], Engine]) -> Engine:
        """The engine of the key: the one that is there, else what `load` gives. Once for each lease.

        Raises:
            EngineError: what `load` raises; then nothing is held, and another lease's `take` loads anew.
        """
        entry = self._enter()
        try:
            with entry.loading:
                if entry.engine is None:
                    entry.engine = load()
                return entry.engine
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give it up; the last one frees it. Its contexts must be gone. Calling it again does nothing."""
        entry = self._entry
        if entry is None or not entry.home.here:
            return
        with self._registry.lock:
            if self._entry is None:
                return
            self._entry = None
            entry.users -= 1
            if entry.users:
                return
            # whoever comes now loads anew; this one is on its way out
            if self._registry.entries.get(self._key) is entry:
                del self._registry.entries[self._key]
        if entry.engine is not None:
            entry.engine.close()

    def _enter(self) -> _Entry:
        with self._registry.lock:
            entry = self._registry.entries.get(self._key) if self._key is not None else None
            if entry is None:
                entry = _Entry()
                if self._key is not None:
                    self._registry.entries[self._key] = entry
            entry.users += 1
            self._entry = entry
            return entry


def _renew() -> None:
    """In a forked child: its parent's engines are not its own, and its parent's threads may hold the locks."""
    global _registry
    _registry = _Registry()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
