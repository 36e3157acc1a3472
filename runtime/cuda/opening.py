"""The choice among the implementations of `CudaDevice`; the one that is chosen is the one that is imported."""

from __future__ import annotations

from vla_edge.runtime.errors import InputError

from .device import CudaDevice, MemoryName


def open_device(index: int = 0, memory: MemoryName = "cuda-bindings") -> CudaDevice:
    """Open a GPU through one of the implementations.

    Args:
        index: CUDA's device index; `CUDA_VISIBLE_DEVICES` renumbers.
        memory: which implementation.

    Raises:
        EngineError: no driver, no such GPU, or the package is missing.
        InputError: another name for the implementation.
    """
    if memory == "cuda-bindings":
        from .bindings import BindingsDevice

        return BindingsDevice(index)
    if memory == "pycuda":
        from .pycuda import PycudaDevice

        return PycudaDevice(index)
    raise InputError(f"Unknown device memory implementation {memory!r}.", "Use 'cuda-bindings' or 'pycuda'.")
