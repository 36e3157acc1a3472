"""`CudaDevice` over NVIDIA's cuda-python (`cuda.bindings`), through the driver API.

The driver API rather than the runtime's: it needs no CUDA runtime library of a matching version, which
on a robot is where "CUDA driver version is insufficient" comes from.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from vla_edge.runtime.errors import EngineError

from .device import MIB, DeviceInfo, check_index
from .errors import cuda_error, no_driver
from .system import driver_text

_log = logging.getLogger(__name__)

# Measured on a driver that waits for a second: 12.8.0 and 12.9.0 stop every thread for as long, 12.9.1 none.
OLDEST_VERSION = (12, 9, 1)
# cuda.h: CU_STREAM_NON_BLOCKING, CU_EVENT_DEFAULT, CU_EVENT_WAIT_DEFAULT
_STREAM_NON_BLOCKING = 1
_EVENT_DEFAULT = 0
_WAIT_DEFAULT = 0
_NAME_BYTES = 256


class BindingsDevice:
    """See `CudaDevice`."""

    def __init__(self, index: int = 0) -> None:
        self._driver = import_driver()
        self._success = self._driver.CUresult.CUDA_SUCCESS
        self._initialise()
        check_index(index, int(self._call("cuDeviceGetCount")))
        self._device = self._call("cuDeviceGet", index)
        self.info = self._read_info(index)
        self._context: Any = self._call("cuDevicePrimaryCtxRetain", self._device)
        self.activate()

    def activate(self) -> None:
        if self._context is None:
            raise EngineError("The CUDA device is closed.", "Open it again.")
        self._call("cuCtxSetCurrent", self._context)

    def free_bytes(self) -> int:
        free, _ = self._call("cuMemGetInfo")
        return int(free)

    def create_stream(self) -> int:
        return int(self._call("cuStreamCreate", _STREAM_NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def allocate(self, size_bytes: int) -> int:
        return int(self._call("cuMemAlloc", size_bytes))

    def free(self, address: int) -> None:
        self._call("cuMemFree", address)

    def pin(self, host: np.ndarray) -> None:
        self._call("cuMemHostRegister", host.ctypes.data, host.nbytes, 0)

    def unpin(self, host: np.ndarray) -> None:
        self._call("cuMemHostUnregister", host.ctypes.data)

    def copy_to_device(self, target: int, source: np.ndarray, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync", target, source.ctypes.data, source.nbytes, stream)

    def copy_to_host(self, target: np.ndarray, source: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, source, target.nbytes, stream)

    def begin_capture(self, stream: int) -> None:
        # Thread-local: an allocation by another thread of the process does not spoil the capture.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        status, graph = self._driver.cuStreamEndCapture(stream)
        if status == self._success:
            self._driver.cuGraphDestroy(graph)
        else:
            _log.debug("the abandoned capture ended with %s", status)

    def launch_graph(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)

    def create_event(self) -> int:
        return int(self._call("cuEventCreate", _EVENT_DEFAULT))

    def record_event(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def wait_event(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", stream, event, _WAIT_DEFAULT)

    def elapsed_ms(self, start: int, end: int) -> float:
        self._call("cuEventSynchronize", end)
        return float(self._call("cuEventElapsedTime", start, end))

    def destroy_event(self, event: int) -> None:
        self._call("cuEventDestroy", event)

    def close(self) -> None:
        if self._context is not None:
            self._context = None
            self._call("cuDevicePrimaryCtxRelease", self._device)

    def _initialise(self) -> None:
        try:
            self._call("cuInit", 0)
        except EngineError:
            raise
        # cuda.bindings raises its own types, which differ between versions, when libcuda.so.1 is missing.
        except Exception as error:
            raise no_driver() from error

    def _read_info(self, index: int) -> DeviceInfo:
        attribute = self._driver.CUdevice_attribute
        read: Callable[[Any], int] = lambda key: int(self._call("cuDeviceGetAttribute", key, self._device))  # noqa: E731
        name = self._call("cuDeviceGetName", _NAME_BYTES, self._device)
        return DeviceInfo(
            index=index,
            name=name.split(b"\0", 1)[0].decode(errors="replace"),
            sm=10 * read(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
            + read(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            total_mib=int(self._call("cuDeviceTotalMem", self._device)) // MIB,
            integrated=bool(read(attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED)),
            driver=driver_text(int(self._call("cuDriverGetVersion"))),
        )

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._driver, name)(*arguments)
        if status != self._success:
            raise cuda_error(name, status.name, self._text(status))
        return values[0] if len(values) == 1 else values

    def _text(self, status: Any) -> str:
        answer, text = self._driver.cuGetErrorString(status)
        return text.decode(errors="replace") if answer == self._success and text else "no description"


def import_driver() -> ModuleType:
    """The driver module of cuda-python, `cuda.bindings.driver`.

    Raises:
        EngineError: the package is not installed, or holds the interpreter's lock while it waits for the GPU.
    """
    try:
        bindings = import_module("cuda.bindings")
    except ModuleNotFoundError as error:
        raise EngineError(
            "cuda-bindings is not installed, which holds device memory for TensorRT.", _INSTALL
        ) from error
    _refuse_older(getattr(bindings, "__version__", "of unknown version"))
    return import_module("cuda.bindings.driver")


_INSTALL = (
    "Install it: pip install 'cuda-bindings>=12.9.1' "
    "(for JetPack 6 'cuda-bindings>=12.9.1,<13': 13.x needs driver 580 or later)."
)


def _refuse_older(version: str) -> None:
    """Refuse a version that stops every thread while it waits, the one that would stop the robot among them."""
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_VERSION:
        raise EngineError(
            f"cuda-bindings {version} is too old: it keeps Python's lock while it waits for the GPU, so that "
            "no other thread could stop the robot when the engine hangs.",
            _INSTALL,
        )
