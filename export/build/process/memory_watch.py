"""Memory of a process that builds, seen from outside, so that nothing of the reading is in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vla_edge.export.build.target import Target
from vla_edge.runtime.process.host_memory import available_memory_bytes

_MIB = 1 << 20
_BYTES_PER_KIB = 1024
INTERVAL_S = 0.03  # a reading takes about 0.1 ms
# What no file backs: in memory, and in swap, where a build on a small board has part of it.
_ANONYMOUS = re.compile(r"^(?:RssAnon|VmSwap):\s*([0-9]+) kB$", re.ASCII | re.MULTILINE)


@dataclass(frozen=True)
class Peaks:
    """Largest values of one build, in MiB; None where this machine does not tell.

    Attributes:
        host: anonymous memory of the process.
        gpu: taken of the GPU's memory since before the process began; on a board, of what the machine has less, that
            part which is not `host`.
        together: the largest sum of both at one moment.
    """

    host: int
    gpu: int | None
    together: int | None


class MemoryWatch:
    """Call `sample` with the process's number as often as wanted; it reads every `INTERVAL_S`.

    Args:
        free_bytes: of the GPU's memory; None where no GPU builds.
        shared: CPU and GPU share one memory, of which `free_bytes` tells.
        proc: where processes are; another folder in tests.
    """

    def __init__(
        self, free_bytes: Callable[[], int | None] | None, shared: bool, proc: Path = Path("/proc")
    ) -> None:
        self._free_bytes, self._shared, self._proc = free_bytes, shared, proc
        self._before = free_bytes() if free_bytes else None
        self._host = 0
        self._gpu: int | None = None
        self._together: int | None = None
        self._next_s = 0.0

    def sample(self, pid: int) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + INTERVAL_S
        host = _anonymous_bytes(self._proc / str(pid) / "status")
        self._host = max(self._host, host)
        free = self._free_bytes() if self._free_bytes else None
        if free is None or self._before is None:
            return
        taken = self._before - free
        # what other programs give back meanwhile hides as much of what is taken, but not of what the process holds
        gpu = max(0, taken - host if self._shared else taken)
        self._gpu = max(self._gpu or 0, gpu)
        self._together = max(self._together or 0, host + gpu)

    def peaks(self) -> Peaks:
        gpu, together = (None if size is None else size // _MIB for size in (self._gpu, self._together))
        return Peaks(self._host // _MIB, gpu, together)


def watch_of(target: Target) -> MemoryWatch:
    """The watch that fits the target; of a board it needs no hold on the GPU, of another GPU `target.device`."""
    if target.device is None:
        return MemoryWatch(None, shared=False)
    if target.shares_memory:
        # With swap: to make room, the build pushes others out too, and memory looks free again.
        return MemoryWatch(available_memory_bytes, shared=True)
    target.device.activate()
    return MemoryWatch(target.device.free_bytes, shared=False)


def _anonymous_bytes(status: Path) -> int:
    """0 for a process that has ended, or of which nothing is told."""
    try:
        text = status.read_text()
    except OSError:
        return 0
    return sum(map(int, _ANONYMOUS.findall(text))) * _BYTES_PER_KIB
