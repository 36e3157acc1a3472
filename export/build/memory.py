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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME, Manifest
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES, Backend
from vla_edge.runtime.engines.tensorrt.record import PartRecord
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

    def size_bytes(self, weights: int) -> int:
        return (self.base + self.fixed) * _MIB + int(self.factor * weights)


@dataclass(frozen=True)
class Need:
    """What a build takes at most, in bytes: of the host's memory, of the GPU's."""

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


@dataclass(frozen=True)
class Prediction:
    """The memory of builds on one machine.

    Attributes:
        host, gpu: the lines.
        shared: CPU and GPU share one memory.
        host_shift, gpu_shift: bytes by which builds on this very machine took more or less.
    """

    host: Line
    gpu: Line
    shared: bool
    host_shift: int = 0
    gpu_shift: int = 0

    def __call__(self, weights: int) -> Need:
        """Of a build with so many bytes of weights."""
        host, gpu = self.host.size_bytes(weights), self.gpu.size_bytes(weights)
        return Need(max(0, host + self.host_shift), max(0, gpu + self.gpu_shift))


def prediction(backend: Backend, shared: bool, measured: Iterable[PartRecord] = ()) -> Prediction:
    """What builds by a library take.

    Args:
        backend: the library.
        shared: CPU and GPU share one memory.
        measured: parts that were built by it on this machine; the prediction then goes by the worst of them.
    """
    if LIBRARIES[backend].compiles_at_load:
        plain = Prediction(_RTX_HOST, _RTX_GPU, shared)
    else:
        plain = Prediction(_BOARD_HOST, _BOARD_GPU, True) if shared else Prediction(_HOST, _GPU, False)
    host_shifts, gpu_shifts = [], []
    for part in measured:
        build = part.build
        if part.weights_bytes is None or build.timing_cache == "reused":  # with kernel times it takes less
            continue
        need = plain(part.weights_bytes)
        if shared and build.peak_mib is not None:
            host_shifts.append(build.peak_mib * _MIB - need.together)
        elif not shared and build.peak_host_mib:
            host_shifts.append(build.peak_host_mib * _MIB - need.host)
            gpu_shifts.append((build.peak_gpu_mib or 0) * _MIB - need.gpu)
    return Prediction(plain.host, plain.gpu, shared, max(host_shifts, default=0), max(gpu_shifts, default=0))


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


def memory_needed(weights: int, shared: bool) -> int:
    """Bytes of host memory that building with TensorRT takes, predicted; on a board the GPU's too: it has no other.

    Args:
        weights: their size in bytes.
        shared: whether CPU and GPU share one memory.
    """
    need = prediction("tensorrt", shared)(weights)
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


def warn_of_memory(what: str, need: Need, room: Room, more_parts: str = "") -> None:
    """Say that a build may not fit, and what would help. Only a warning: others' figures are behind it.

    Args:
        what: that is built.
        need: predicted for it.
        room: that is there.
        more_parts: how to ask for more parts, where that would help.
    """
    needed = (
        f"about {gib(need.together)} together with the GPU's" if room.shared else f"about {gib(need.host)}"
    )
    if not room.shared and room.gpu is not None:
        needed += f" and {gib(need.gpu)} of the GPU's"
    there = [f"{gib(room.host)} available with swap"] if room.host is not None else []
    there += [f"{gib(room.gpu)} free on the GPU"] if room.gpu is not None else []
    there += [f"a limit of {gib(room.limit)}"] if room.limit is not None else []
    _log.warning(
        "%s may run out of memory: %s predicted from builds on an H100, %s. What helps: stop other programs (on a "
        "Jetson also the desktop: sudo init 3), add swap on fast storage, %sa lower --level, --workspace-mib 512. "
        "--ignore-memory does not look.",
        what,
        needed,
        ", ".join(there),
        f"{more_parts}, " if more_parts else "",
    )


def gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
