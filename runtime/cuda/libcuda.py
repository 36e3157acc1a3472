"""The driver library itself, through ctypes: what pycuda lacks.

pycuda has no CUDA graphs, and its copies and events take only streams that it made itself. The names
with `_v2` are the ones that the current headers mean by the plain names.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint,
    c_ulonglong,
    c_void_p,
    create_string_buffer,
)

from .errors import cuda_error, no_driver

_CAPTURE_MODE_THREAD_LOCAL = 1  # cuda.h: CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

_BUS_ID_BYTES = 16  # "0000:00:00.0" and its end

_SIGNATURES: dict[str, tuple[object, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetPCIBusId": (c_char_p, c_int, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuMemHostRegister_v2": (c_void_p, c_size_t, c_uint),
    "cuMemHostUnregister": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
}


class LibCuda:
    """Calls of the driver API that check their status.

    ctypes releases the interpreter's lock during each call, so waiting for a stream lets other threads run.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise no_driver() from error
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = list(arguments), c_int

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of `_SIGNATURES`.

        Raises:
            EngineError: the status is not CUDA_SUCCESS.
        """
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise cuda_error(name.removesuffix("_v2"), *self._words(status))

    def pci_bus_id(self, index: int) -> str:
        """Where CUDA's device `index` sits, such as "0000:1b:00.0"; opens no context.

        Raises:
            EngineError: no driver that runs, or no such device.
        """
        device, text = c_int(), create_string_buffer(_BUS_ID_BYTES)
        self.call("cuInit", 0)
        self.call("cuDeviceGet", byref(device), index)
        self.call("cuDeviceGetPCIBusId", text, _BUS_ID_BYTES, device)
        return text.value.decode()

    def begin_capture(self, stream: int) -> None:
        self.call("cuStreamBeginCapture_v2", stream, _CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        graph, executable = c_void_p(), c_void_p()
        self.call("cuStreamEndCapture", stream, byref(graph))
        try:
            self.call("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            self.call("cuGraphDestroy", graph)
        return _handle(executable)

    def abandon_capture(self, stream: int) -> None:
        graph = c_void_p()
        status = self._library.cuStreamEndCapture(stream, byref(graph))
        if status == 0 and graph:
            self._library.cuGraphDestroy(graph)

    def create_event(self) -> int:
        event = c_void_p()
        self.call("cuEventCreate", byref(event), 0)
        return _handle(event)

    def elapsed_ms(self, start: int, end: int) -> float:
        milliseconds = c_float()
        self.call("cuEventSynchronize", end)
        self.call("cuEventElapsedTime", byref(milliseconds), start, end)
        return milliseconds.value

    def _words(self, status: int) -> tuple[str, str]:
        """CUDA's name of a status and its sentence."""
        words = []
        for function in (self._library.cuGetErrorName, self._library.cuGetErrorString):
            text = c_char_p()
            known = function(c_int(status), byref(text)) == 0 and text.value is not None
            words.append((text.value or b"").decode(errors="replace") if known else f"code {status}")
        return words[0], words[1]


def _handle(pointer: c_void_p) -> int:
    return int(pointer.value or 0)
