"""Room for a build, asked before it starts."""

from __future__ import annotations

import logging
import shutil

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME, Manifest
from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.process.host_memory import available_memory_bytes

_log = logging.getLogger(__name__)

_GIB = 1 << 30
_MIB = 1 << 20
# A build of 3.1 GB of weights took 15 GB of host memory (H100, TensorRT 10.6): 4.8 times the weights.
MEMORY_PER_WEIGHT = 4.8
MEMORY_BASE_BYTES = 1 * _GIB
# Where CPU and GPU share one memory, both count. Above the builder's own, that build took 10,588 MiB of the host's and
# 3,212 of the GPU's for a plan of 3,124; the builder's own is by a public log of TensorRT 10.3 on an AGX Orin, 927 MiB
# and 1,096 (docs/jetson.md has both).
SHARED_MEMORY_PER_WEIGHT = (10_588 + 3_212) / 3_124
SHARED_MEMORY_BASE_BYTES = (927 + 1_096) * _MIB
# Plan and a little more; an older plan stays until the new one is checked.
DISK_PER_WEIGHT = 1.05
DISK_BASE_BYTES = 64 * _MIB


def weights_bytes(manifest: Manifest) -> int:
    """Size of a bundle's weights, of which a build needs a multiple."""
    return sum(entry.size_bytes for entry in manifest.files if entry.path == WEIGHTS_NAME)


def memory_needed(weights: int, shared: bool) -> int:
    """Bytes that building one plan takes, predicted; on a board the GPU's too, as it has no other.

    Args:
        weights: their size in bytes.
        shared: whether CPU and GPU share one memory.
    """
    if shared:
        return int(weights * SHARED_MEMORY_PER_WEIGHT) + SHARED_MEMORY_BASE_BYTES
    return int(weights * MEMORY_PER_WEIGHT) + MEMORY_BASE_BYTES


def disk_needed(weights: int) -> int:
    """Bytes of disk that building one plan takes."""
    return int(weights * DISK_PER_WEIGHT) + DISK_BASE_BYTES


def check_room(bundle: Bundle, ignore_memory: bool = False, shared: bool = False) -> None:
    """Refuse a build that would fill the disk, and warn of one that may not fit the memory.

    Only warn: what a build takes was measured on one GPU, and differs on others. Swap counts as memory: a
    build on a Jetson leans on it.

    Args:
        bundle: to build.
        ignore_memory: do not warn.
        shared: whether CPU and GPU share one memory.

    Raises:
        ResourceError: too little disk, with what is needed and what is there.
    """
    weights = weights_bytes(bundle.manifest)
    disk, free_disk = disk_needed(weights), shutil.disk_usage(bundle.folder).free
    if disk > free_disk:
        raise ResourceError(
            f"Not enough disk at {bundle.folder} for a plan: {_gib(disk)} needed, {_gib(free_disk)} free.",
            "Free some, or move the bundle to a larger disk.",
        )
    memory, available = memory_needed(weights, shared), available_memory_bytes()
    if not ignore_memory and available is not None and memory > available:
        _log.warning(
            "the build may run out of memory: about %s needed by a measurement on an H100, %s available with swap. "
            "What helps: stop other programs (on a Jetson also the desktop: sudo init 3), add swap on fast storage, "
            "a lower --level, --workspace-mib 512. --ignore-memory does not look.",
            _gib(memory),
            _gib(available),
        )


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
