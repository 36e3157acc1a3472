"""Look before leaping: is there disk and memory for what is about to start?"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.files.writable import nearest_existing
from vla_edge.runtime.process.host_memory import available_memory_bytes

GIB = 1 << 30
LIBRARIES_BYTES = int(0.9 * GIB)  # torch, transformers and ONNX Runtime loaded
SPARE_DISK_BYTES = 256 << 20  # golden samples, the graph, file system overhead
# Parity keeps the graph's own buffers and one widened weight at a time beside the mapped files.
ACTIVATION_BYTES = int(1.2 * GIB)
# For each byte of a frame to resize on a CPU: 60 MiB for 720x1280, 1,110 for 4096x4096 (ONNX Runtime 1.31).
RESIZE_FACTOR = 22

LITTLE_MEMORY = (
    "warning: the export may run out of memory. What helps: stop other programs, add swap, or export on a larger "
    "machine; the bundle can be built and run on the robot. --ignore-memory does not look."
)


@dataclass(frozen=True)
class Needs:
    """What an export takes, in bytes; what is only mapped from files can be evicted and does not count."""

    disk: int
    memory: int


def estimate(
    weights_bytes: int, largest_weight_bytes: int, call_bytes: int = 0, golden_bytes: int = 0
) -> Needs:
    """What an export takes.

    Args:
        weights_bytes: of the data file.
        largest_weight_bytes: of its largest weight, in FP32.
        call_bytes: of a camera's frames that the graph takes in one call.
        golden_bytes: of those of all golden samples.
    """
    memory = LIBRARIES_BYTES + ACTIVATION_BYTES + 6 * largest_weight_bytes
    memory += RESIZE_FACTOR * call_bytes + golden_bytes
    return Needs(disk=weights_bytes + golden_bytes + SPARE_DISK_BYTES, memory=memory)


def check(needs: Needs, folder: Path, ignore_memory: bool = False) -> list[str]:
    """What is needed and what is there; a second line warns of little memory.

    Only warns: the estimate knows neither every machine nor every version of the libraries.

    Args:
        needs: from `estimate`.
        folder: where the bundle goes; its nearest existing parent is asked.
        ignore_memory: do not warn.

    Raises:
        ResourceError: too little disk, with the figures.
    """
    existing = nearest_existing(folder)
    free, memory = shutil.disk_usage(existing).free, available_memory_bytes(swap=False)
    available = "an unknown amount" if memory is None else f"{memory / GIB:.1f} GiB"
    line = (
        f"needs {needs.disk / GIB:.1f} GiB of disk, {free / GIB:.1f} GiB free; "
        f"needs {needs.memory / GIB:.1f} GiB of memory, {available} available"
    )
    if needs.disk > free:
        raise ResourceError(
            f"not enough disk in {existing}: {line}.", "Free some, or write elsewhere with -o."
        )
    if ignore_memory or memory is None or needs.memory <= memory:
        return [line]
    return [line, LITTLE_MEMORY]
