"""Room for a build: the memory that it will take, predicted; what this machine has; the disk.

One place for the figures of the prediction. A build takes the builder's own memory, then something for any graph, then
a multiple of the weights. Measured on an H100 80GB, TensorRT 10.6.0, full size, generated weights, in a process of one
heap that gives back what is free (`process/parent.py`); MiB above `trt.Builder()` alone (docs/jetson.md has the table):

    weights  host    GPU   largest sum
         42    170   103     266
        168    466   261     595
        596  1,294   675   1,969
        961  1,820 1,053   2,874
        981  2,105 1,077   3,184
      3,113  6,629 3,211   9,841

The lines below lie above all of it: to predict too much costs one part more, too little the build.
"""

from __future__ import annotations

import logging
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME, Manifest
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES, Backend
from vla_edge.runtime.engines.tensorrt.record import BuildFacts, PartRecord
from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.process.host_memory import available_memory_bytes

from .target import Target

_log = logging.getLogger(__name__)

_GIB = 1 << 30
_MIB = 1 << 20
# Plan and a little more; an older plan stays until the new one is checked.
DISK_PER_WEIGHT = 1.05
DISK_BASE_BYTES = 64 * _MIB


@dataclass(frozen=True)
class Line:
    """MiB for MiB of weights: the builder's own, what any graph takes, and a multiple of the weights."""

    base: int
    fixed: int
    factor: float

    def above(self, weights: int) -> int:
        """Bytes above the builder's own."""
        return self.fixed * _MIB + int(self.factor * weights)

    def size_bytes(self, weights: int) -> int:
        return self.base * _MIB + self.above(weights)

    def __add__(self, other: Line) -> Line:
        return Line(self.base + other.base, self.fixed + other.fixed, self.factor + other.factor)


@dataclass(frozen=True)
class Need:
    """What a build takes at most, in bytes: of the host's memory, of the GPU's; of one that is shared all is `host`."""

    host: int
    gpu: int

    @property
    def together(self) -> int:
        return self.host + self.gpu


# The builder's own on that H100: 4,691 and 1,292 for its kernel library, 37 and 524 for Python and CUDA's context. On a
# board that library takes 927 and 1,096, by a public log of TensorRT 10.3 on an AGX Orin (docs/jetson.md).
_HOST, _GPU = Line(4728, 150, 2.1), Line(1816, 110, 1.0)
_BOARD_HOST, _BOARD_GPU = Line(927 + 37, 150, 2.1), Line(1096 + 524, 110, 1.0)
# TensorRT-RTX 1.7 times nothing and has no kernels to load: 119 MiB for weights of 2, 795 for 232 (x86, no GPU).
_RTX_HOST, _RTX_GPU = Line(128, 0, 3.0), Line(0, 0, 0.0)


# Of what a line has above the builder's own the least that a build took was 0.68 (table above); with a margin.
_LEAST_ABOVE = 0.6
# An excess grows with the weights at most so far: a small part's tells little of a large one.
_MOST_SCALED = 2
_MOST_LESS, _MOST_MORE = 0.5, 2  # of the line: side files are others', and one alone must not steer a build


class Corrected:
    """A line, corrected by builds on one machine.

    Less than the line is taken for a smaller library, and lowers the base as far as is sure: to what is left of a
    measured peak without the least that such weights take. More is expected of larger weights, too, still more of it;
    of lighter ones only as far as no build between them took less: what a tower took too much is not a head's.

    Args:
        line: as measured elsewhere.
        seen: weights and peak of each build, bytes.
        lowers: whether less than the line is taken for a smaller library at all.
    """

    def __init__(self, line: Line, seen: Iterable[tuple[int, int]] = (), lowers: bool = True) -> None:
        believed = sorted(
            {(at, min(peak, _MOST_MORE * line.size_bytes(at))) for at, peak in seen if peak > 0}
        )
        self._line = line
        bases = [peak - int(_LEAST_ABOVE * line.above(at)) for at, peak in believed if lowers]
        self._base = max(0, min([line.base * _MIB, *bases]))
        self._excesses = [peak - line.size_bytes(at) for at, peak in believed]
        self._weights = [at for at, _ in believed]
        self._peaks = list(accumulate((peak for _, peak in believed), max))

    def size_bytes(self, weights: int) -> int:
        line, above = self._line, self._line.above(weights)
        size = max(self._base + above, int(_MOST_LESS * line.size_bytes(weights)))
        # what was measured for these weights or less is never too much for them
        lighter = bisect_right(self._weights, weights)
        next_size = self._weights[bisect_left(self._weights, weights) :][:1]
        known = bisect_right(self._weights, next_size[0]) if next_size else lighter
        for at, excess in zip(self._weights[:known], self._excesses[:known], strict=True):
            if excess > 0:
                times = min(_MOST_SCALED, max(1, above / max(1, line.above(at))))
                more = line.size_bytes(weights) + int(excess * times)
                size = max(size, min(more, _MOST_MORE * line.size_bytes(weights)))
        return max(size, self._peaks[lighter - 1]) if lighter else size


@dataclass(frozen=True)
class Prediction:
    """The memory of builds on one machine.

    Attributes:
        host: of the host; where CPU and GPU share one memory, of both.
        gpu: of the GPU's own.
        origin: where the figures are from, such as "builds on an H100".
    """

    host: Corrected
    gpu: Corrected
    origin: str

    def __call__(self, weights: int) -> Need:
        """Of a build with so many bytes of weights."""
        return Need(self.host.size_bytes(weights), self.gpu.size_bytes(weights))


def prediction(backend: Backend, shared: bool, measured: Iterable[PartRecord] = ()) -> Prediction:
    """What builds by a library take.

    Args:
        backend: the library.
        shared: CPU and GPU share one memory.
        measured: parts that were built by it on this machine, which the prediction is corrected by.
    """
    if LIBRARIES[backend].compiles_at_load:
        host, gpu, origin = _RTX_HOST, _RTX_GPU, "builds on x86 without a GPU"
    else:
        origin = "builds on an H100"
        host, gpu = (_BOARD_HOST, _BOARD_GPU) if shared else (_HOST, _GPU)
    seen = [
        (part.weights_bytes, part.build)
        for part in measured
        # with known kernel times it takes less
        if part.weights_bytes is not None and part.build.timing_cache != "reused"
    ]

    if any(build.peak_mib if shared else build.peak_host_mib for _, build in seen):
        origin = f"builds on this machine and {origin.removeprefix('builds ')}"

    # TensorRT-RTX has hardly a library to load, and a head takes less of its weights than a tower: a base that a head
    # lowers would be too low for the tower.
    lowers = not LIBRARIES[backend].compiles_at_load

    def corrected(line: Line, peak_of: Callable[[BuildFacts], int | None]) -> Corrected:
        return Corrected(line, ((at, (peak_of(build) or 0) * _MIB) for at, build in seen), lowers)

    if shared:
        return Prediction(
            corrected(host + gpu, lambda build: build.peak_mib), Corrected(Line(0, 0, 0.0)), origin
        )
    by_host = corrected(host, lambda build: build.peak_host_mib)
    return Prediction(by_host, corrected(gpu, lambda build: build.peak_gpu_mib), origin)


@dataclass(frozen=True)
class Room:
    """Memory that a build may take, in bytes; None for what is not known, or not limited.

    Attributes:
        host: free, swap counted: a build on a board leans on it. Where memory is shared, the GPU's too.
        gpu: free of a GPU's own memory.
        limit: of both together, as the user wants it.
        shared: CPU and GPU share one memory.
    """

    host: int | None
    gpu: int | None
    limit: int | None
    shared: bool

    def excess(self, need: Need) -> int:
        """By how many bytes a build is too large; zero or less where it fits."""
        pairs = [(need.together if self.shared else need.host, self.host), (need.together, self.limit)]
        if not self.shared:
            pairs.append((need.gpu, self.gpu))
        return max((needed - room for needed, room in pairs if room is not None), default=0)


def room_on(target: Target, limit: int | None, look: bool = True) -> Room:
    """What a target's machine has now; the GPU must be open where it has a memory of its own.

    Args:
        target: what to build for.
        limit: see `Room`.
        look: else there is no room but the limit.
    """
    shared = target.shares_memory
    if not look:
        return Room(None, None, limit, shared)
    gpu = target.device.free_bytes() if target.device is not None and not shared else None
    return Room(available_memory_bytes(), gpu, limit, shared)


def weights_bytes(manifest: Manifest) -> int:
    """Size of a bundle's weights, of which a build needs a multiple."""
    return sum(entry.size_bytes for entry in manifest.files if entry.path == WEIGHTS_NAME)


def memory_needed(
    weights: int, shared: bool, backend: Backend = DEFAULT_BACKEND, measured: Iterable[PartRecord] = ()
) -> int:
    """Bytes of host memory that a build takes, predicted; on a board the GPU's too: it has no other.

    Args:
        weights: their size in bytes.
        shared: whether CPU and GPU share one memory.
        backend: the library.
        measured: as `prediction`.
    """
    need = prediction(backend, shared, measured)(weights)
    return need.together if shared else need.host


def disk_needed(weights: int) -> int:
    """Bytes of disk that building one plan takes."""
    return int(weights * DISK_PER_WEIGHT) + DISK_BASE_BYTES


def check_disk(folder: Path, weights: int) -> None:
    """Refuse a build that would fill the disk.

    Args:
        folder: of the bundle.
        weights: bytes of them in what is still to be built.

    Raises:
        ResourceError: too little disk, with what is needed and what is there.
    """
    disk, free = disk_needed(weights), shutil.disk_usage(folder).free
    if weights and disk > free:
        raise ResourceError(
            f"Not enough disk at {folder} for a plan: {gib(disk)} needed, {gib(free)} free.",
            "Free some, or move the bundle to a larger disk.",
        )


def warn_of_memory(what: str, need: Need, room: Room, origin: str, in_parts: int | None = None) -> None:
    """Say that a build may not fit, and what would help. Only a warning: others' figures are behind it.

    Args:
        what: that is built.
        need: predicted for it.
        room: that is there.
        origin: of the prediction.
        in_parts: a number of parts that would fit, where there is one.
    """
    needed = (
        f"about {mib(need.together)} together with the GPU's" if room.shared else f"about {mib(need.host)}"
    )
    if not room.shared and room.gpu is not None:
        needed += f" and {mib(need.gpu)} of the GPU's"
    there = [f"{mib(room.host)} available with swap"] if room.host is not None else []
    there += [f"{mib(room.gpu)} free on the GPU"] if room.gpu is not None else []
    there += [f"a limit of {mib(room.limit)}"] if room.limit is not None else []
    _log.warning(
        "%s may run out of memory: %s predicted from %s, %s. What helps: %s. --ignore-memory does not warn.",
        what,
        needed,
        origin,
        ", ".join(there),
        ", ".join(_helps(need, room, in_parts)),
    )


def _helps(need: Need, room: Room, in_parts: int | None) -> Iterator[str]:
    """What would, of what is short."""
    if in_parts is not None:
        yield f"more parts (--parts {in_parts})"
    if replace(room, limit=None).excess(need) > 0:
        yield "stop other programs (on a Jetson also the desktop: sudo init 3)"
        yield "add swap on fast storage"
    if room.limit is not None and need.together > room.limit:
        yield "a higher --memory-limit"
    yield "a lower --level"
    yield "--workspace-mib 512"


def gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def mib(size: int) -> str:
    """Memory of builds, everywhere: parts take from tens to thousands of it."""
    return f"{size / _MIB:,.0f} MiB"
