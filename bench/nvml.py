"""NVML, and the GPU in it that CUDA means by an index.

The two count differently: NVML by PCI bus and over all GPUs, CUDA the fastest first and only those of
`CUDA_VISIBLE_DEVICES`. What both know is the bus id.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vla_edge.runtime.cuda.libcuda import LibCuda
from vla_edge.runtime.errors import EngineError

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


@contextmanager
def open_nvml() -> Iterator[Any | None]:
    """NVML, or None where the library, the driver or a GPU is missing."""
    try:
        import pynvml
    except ModuleNotFoundError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


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
    except (EngineError, nvml.NVMLError) as error:
        logger.warning("NVML does not know CUDA's GPU %d: %s", cuda_index, error)
        return None
