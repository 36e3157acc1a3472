"""How a plan is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, Backend


@dataclass(frozen=True)
class BuildOptions:
    """How to build. None leaves a choice to TensorRT.

    Attributes:
        backend: which library builds; its plans run on that library only.
        device_index: CUDA's index of the GPU to build on and for.
        memory: implementation of device memory for the check.
        sm: compute capability to build for, 89 for 8.9, where it is not this machine's (TensorRT-RTX only).
        level: builder optimisation level, 0 to 5: how long TensorRT searches for fast kernels.
        aux_streams: most streams that run beside the main one.
        workspace_mib: most scratch memory of one layer.
        tf32: let FP32 matmuls round their operands to 10 bits. Off: FP32 parts of a graph are there because
            half precision was not enough.
        timing_cache: keep measured kernel times beside the plan, so that the next build takes less.
        timing_cache_path: another file for them.
        force: build even where a good plan is there.
        ignore_memory: do not warn of little memory.
    """

    backend: Backend = DEFAULT_BACKEND
    device_index: int = 0
    memory: MemoryName = "cuda-bindings"
    sm: int | None = None
    level: int = 3
    aux_streams: int | None = None
    workspace_mib: int | None = None
    tf32: bool = False
    timing_cache: bool = True
    timing_cache_path: Path | None = None
    force: bool = False
    ignore_memory: bool = False
