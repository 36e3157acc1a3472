"""NVML, and the GPU in it that CUDA means by an index.

The two count differently: NVML by PCI bus and over all GPUs, CUDA the fastest first and only those of
`CUDA_VISIBLE_DEVICES`. What both know is the bus id. Any single function may be refused, by Jetsons most of
them: everything is asked through `telemetry`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vla_edge.runtime.cuda.libcuda import LibCuda

from .telemetry import MOST_BYTES, number, reading, sensible

MOST_GPUS = 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NvmlGpu:
    """One GPU.

    Attributes:
        nvml: the module, initialised.
        handle: NVML's of the GPU.
    """

    nvml: Any
    handle: Any

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function of NVML says of this GPU; to be called in a reading of `telemetry`."""
        return getattr(self.nvml, function)(self.handle, *arguments)

    def used_bytes(self) -> float | None:
        """Memory that all processes hold; None where the GPU does not tell."""
        return number("GPU memory in use", lambda: self.ask("nvmlDeviceGetMemoryInfo").used, MOST_BYTES)

    def processes(self) -> dict[int, float | None] | None:
        """Bytes of each process that computes on it, None where they are hidden; None where no process is told."""
        found = reading("processes on the GPU", self._processes)
        if found is None:
            return None
        return {pid: sensible("a process's GPU memory", used, MOST_BYTES) for pid, used in found}

    def _processes(self) -> list[tuple[int, object]]:
        found = self.ask("nvmlDeviceGetComputeRunningProcesses")
        # a list of older bindings may lack the memory
        return [(int(process.pid), getattr(process, "usedGpuMemory", None)) for process in found]


@contextmanager
def open_nvml() -> Iterator[Any | None]:
    """NVML, or None where the library, the driver or a GPU is missing."""
    nvml = reading("NVML", _initialised)
    try:
        yield nvml
    finally:
        if nvml is not None:
            reading("the end of NVML", lambda: nvml.nvmlShutdown())


def _initialised() -> Any:
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def gpu_count(nvml: Any) -> int:
    """GPUs that NVML knows; 0 where it does not tell."""
    return int(number("the number of GPUs", lambda: nvml.nvmlDeviceGetCount(), MOST_GPUS) or 0)


@contextmanager
def open_gpu(cuda_index: int = 0) -> Iterator[NvmlGpu | None]:
    """The GPU that CUDA calls `cuda_index`, or None where NVML or CUDA does not know it."""
    with open_nvml() as nvml:
        yield None if nvml is None else find_gpu(nvml, cuda_index)


def find_gpu(nvml: Any, cuda_index: int) -> NvmlGpu | None:
    """NVML's view of a CUDA device; opens no context, so that it holds no memory there.

    Args:
        nvml: the module, initialised.
        cuda_index: as CUDA counts in this process's environment.
    """
    try:
        bus_id = LibCuda().pci_bus_id(cuda_index)
        return NvmlGpu(nvml, nvml.nvmlDeviceGetHandleByPciBusId(bus_id))
    except Exception as error:  # a driver or binding of any age, without this function or this GPU
        logger.warning("NVML does not know CUDA's GPU %d: %s", cuda_index, error)
        return None
