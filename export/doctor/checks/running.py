"""What running a policy takes of the memory: by its plan's sizes, and by what was measured around one.

On an H100 the full-size hybrid, loaded, takes 3,766 MiB of the GPU: 3,124 its plan, 518 CUDA's context, 124 TensorRT's
scratch, inputs and outputs; and 154 to 186 MiB of the host (bench/NOTES.md). No board has told its own figures yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla_edge.export.build.memory import weights_bytes
from vla_edge.export.resources import RESIZE_FACTOR
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.errors import BundleError

from ..machine import Machine
from .plans import fits, planners

_MIB = 1 << 20
CUDA_BYTES = 520 * _MIB
SCRATCH_BYTES = 130 * _MIB
PROGRAM_BYTES = 190 * _MIB


@dataclass(frozen=True)
class Running:
    """Bytes that running takes.

    Attributes:
        what: runs, such as "its plan".
        weights: of it; None where no bundle was given: then the others are the least of any policy.
        host: of the host's memory.
        gpu: of the GPU's, which on a board is the same memory.
    """

    what: str
    weights: int | None
    host: int
    gpu: int


def running_memory(folder: Path | None, machine: Machine) -> Running:
    """What running a bundle takes here, or any policy, at least, where none is given or its manifest is damaged."""
    with_gpu = machine.should_have_gpu
    try:
        bundle = Bundle.unchecked(folder) if folder else None
    except BundleError:  # `check_files` says so
        bundle = None
    if bundle is None:
        return Running("any policy", None, PROGRAM_BYTES, CUDA_BYTES if with_gpu else 0)
    weights = weights_bytes(bundle.manifest)
    on_cpu = Running("it on the CPU", weights, PROGRAM_BYTES + weights + _resizing(bundle.manifest), 0)
    if machine.gpu is None:
        return on_cpu
    plans = [plan for name in planners(machine) if (plan := fits(bundle, machine, name))]
    if plans:
        weights = plans[0].record.size_bytes
    elif not planners(machine):
        return on_cpu
    what = "its plan" if plans else "its plan, once it is built,"
    return Running(what, weights, PROGRAM_BYTES, CUDA_BYTES + SCRATCH_BYTES + weights)


def _resizing(manifest: Manifest) -> int:
    """What a CPU takes to resize a camera's frames."""
    return RESIZE_FACTOR * manifest.batch * manifest.camera.frame_bytes if manifest.camera else 0
