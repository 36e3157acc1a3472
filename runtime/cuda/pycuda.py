"""`CudaDevice` over pycuda: its devices, primary context, device memory and streams.

Never `pycuda.autoinit`: that makes a context of its own, which TensorRT and PyTorch do not share.
Graphs, events, copies and page-locking go to the driver library (`libcuda`): pycuda has no graphs, and its
copies accept no stream that it did not make.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from vla_edge.runtime.errors import EngineError

from .device import MIB, DeviceInfo, check_index
from .errors import cuda_error
from .libcuda import LibCuda
from .system import driver_text


class PycudaDevice:
    """See `CudaDevice`."""

    def __init__(self, index: int = 0) -> None:
        # The driver first: without one, importing pycuda fails in words of the dynamic linker.
        self._lib = LibCuda()
        self._drv = import_pycuda()
        with _words("cuInit"):
            self._drv.init()
            check_index(index, self._drv.Device.count())
            device = self._drv.Device(index)
            self.info = self._read_info(device, index)
            self._context: Any = device.retain_primary_context()
        # pycuda frees memory and streams when their objects die: they are kept here by handle.
        self._kept: dict[int, Any] = {}
        self.activate()

    def activate(self) -> None:
        if self._context is None:
            raise EngineError("The CUDA device is closed.", "Open it again.")
        self._lib.call("cuCtxSetCurrent", self._context.handle)

    def free_bytes(self) -> int:
        with self._pushed("cuMemGetInfo"):
            free, _ = self._drv.mem_get_info()
        return int(free)

    def create_stream(self) -> int:
        with self._pushed("cuStreamCreate"):
            stream = self._drv.Stream(1)  # CU_STREAM_NON_BLOCKING
        self._kept[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        with self._pushed("cuStreamDestroy"):
            del self._kept[stream]

    def synchronize(self, stream: int) -> None:
        self._lib.call("cuStreamSynchronize", stream)

    def allocate(self, size_bytes: int) -> int:
        with self._pushed("cuMemAlloc"):
            memory = self._drv.mem_alloc(size_bytes)
        self._kept[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        with self._pushed("cuMemFree"):
            self._kept.pop(address).free()

    def pin(self, host: np.ndarray) -> None:
        # Not pycuda's register_host_memory: version 2026.1 crashes in it with NumPy 2.
        self._lib.call("cuMemHostRegister_v2", host.ctypes.data, host.nbytes, 0)

    def unpin(self, host: np.ndarray) -> None:
        self._lib.call("cuMemHostUnregister", host.ctypes.data)

    def copy_to_device(self, target: int, source: np.ndarray, stream: int) -> None:
        self._lib.call("cuMemcpyHtoDAsync_v2", target, source.ctypes.data, source.nbytes, stream)

    def copy_to_host(self, target: np.ndarray, source: int, stream: int) -> None:
        self._lib.call("cuMemcpyDtoHAsync_v2", target.ctypes.data, source, target.nbytes, stream)

    def begin_capture(self, stream: int) -> None:
        self._lib.begin_capture(stream)

    def end_capture(self, stream: int) -> int:
        return self._lib.end_capture(stream)

    def abandon_capture(self, stream: int) -> None:
        self._lib.abandon_capture(stream)

    def launch_graph(self, graph: int, stream: int) -> None:
        self._lib.call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._lib.call("cuGraphExecDestroy", graph)

    def create_event(self) -> int:
        return self._lib.create_event()

    def record_event(self, event: int, stream: int) -> None:
        self._lib.call("cuEventRecord", event, stream)

    def wait_event(self, stream: int, event: int) -> None:
        self._lib.call("cuStreamWaitEvent", stream, event, 0)  # CU_EVENT_WAIT_DEFAULT

    def elapsed_ms(self, start: int, end: int) -> float:
        return self._lib.elapsed_ms(start, end)

    def destroy_event(self, event: int) -> None:
        self._lib.call("cuEventDestroy_v2", event)

    def close(self) -> None:
        if self._context is None:
            return
        context, self._context = self._context, None
        self._kept.clear()
        with _words("cuDevicePrimaryCtxRelease"):
            context.detach()

    def _read_info(self, device: Any, index: int) -> DeviceInfo:
        major, minor = device.compute_capability()
        return DeviceInfo(
            index=index,
            name=device.name(),
            sm=10 * major + minor,
            total_mib=device.total_memory() // MIB,
            integrated=bool(device.get_attribute(self._drv.device_attribute.INTEGRATED)),
            driver=driver_text(self._drv.get_driver_version()),
        )

    @contextmanager
    def _pushed(self, call: str) -> Iterator[None]:
        """pycuda looks for the context on a stack of its own, one per thread."""
        with _words(call):
            self._context.push()
            try:
                yield
            finally:
                self._drv.Context.pop()
        self.activate()


@contextmanager
def _words(call: str) -> Iterator[None]:
    """Turn pycuda's errors, such as "cuMemAlloc failed: out of memory", into this package's."""
    import pycuda.driver as drv

    try:
        yield
    except drv.Error as error:
        text = str(error)
        name = type(error).__name__ if type(error) is not drv.Error else ""
        known = (
            "CUDA_ERROR_OUT_OF_MEMORY"
            if isinstance(error, drv.MemoryError)
            else name or "pycuda.driver.Error"
        )
        raise cuda_error(call, known, text) from error


def import_pycuda() -> ModuleType:
    """The module `pycuda.driver`.

    Raises:
        EngineError: pycuda is not installed, or was built for another CUDA.
    """
    try:
        import pycuda.driver
    except ImportError as error:
        raise EngineError(
            f"pycuda cannot be imported: {error}.",
            "Install it (pip install pycuda; it compiles and needs the CUDA toolkit), or use memory='cuda-bindings'.",
        ) from error
    return pycuda.driver
