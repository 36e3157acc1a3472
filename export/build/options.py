"""How a plan is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, Backend
from vla_edge.runtime.errors import InputError


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
        force: build even where a good plan, or a part of one, is there.
        parts: into how many the graph is cut, each built by itself in turn; "auto" takes what is there, else the fewest
            whose predicted memory fits this machine. A camera's part is one more.
        memory_limit: bytes that building one part may take, the GPU's memory included, where this machine has more.
        reuse: take parts that plans of this bundle and of those beside it have already.
        ignore_memory: neither look at the memory of this machine nor warn of too little.
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
    parts: Literal["auto"] | int = "auto"
    memory_limit: int | None = None
    reuse: bool = True
    ignore_memory: bool = False

    def __post_init__(self) -> None:
        if self.parts != "auto" and (isinstance(self.parts, bool) or self.parts < 1):
            raise InputError(f"{self.parts!r} parts cannot be built.", "Give a number from 1 up, or 'auto'.")
        if self.memory_limit is not None and self.memory_limit < 1:
            raise InputError(f"A memory limit of {self.memory_limit} bytes is refused.", "Give more.")
