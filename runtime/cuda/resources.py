"""Buffers and graphs built on a `CudaDevice`: each frees what it holds once, in `close`."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.errors import EngineError

from .device import CudaDevice

# TensorRT wants tensors at 256 bytes; cuMemAlloc aligns its blocks at least so.
ALIGNMENT_BYTES = 256


class Arena:
    """The same layout of tensors in page-locked host memory and in device memory.

    All inputs of an engine lie in one arena and all outputs in another, so that one copy moves them:
    every further copy would cost microseconds of latency in each call.

    Attributes:
        arrays: NumPy arrays over the host side, by tensor name. They own their memory: an array that
            outlives `close` is still readable, merely no longer connected to the engine.
        addresses: device addresses, by tensor name.
    """

    def __init__(self, device: CudaDevice, specs: Iterable[TensorSpec]) -> None:
        self._device = device
        offsets, size = _layout(tuple(specs))
        # Anonymous pages of their own: page-locking works in pages, and must not touch a neighbour's.
        self._host = np.frombuffer(mmap.mmap(-1, size), dtype=np.uint8)
        device.pin(self._host)
        try:
            self._base = device.allocate(size)
        except BaseException:
            device.unpin(self._host)
            raise
        self.addresses: Mapping[str, int] = {spec.name: self._base + at for spec, at in offsets}
        self.arrays: Mapping[str, np.ndarray] = MappingProxyType(
            {spec.name: self._view(spec, at) for spec, at in offsets}
        )
        self._open = True

    def upload(self, stream: int) -> None:
        """Queue the copy from host to device."""
        self._device.copy_to_device(self._base, self._host, stream)

    def download(self, stream: int) -> None:
        """Queue the copy from device to host."""
        self._device.copy_to_host(self._host, self._base, stream)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._device.free(self._base)
            self._device.unpin(self._host)

    def _view(self, spec: TensorSpec, at: int) -> np.ndarray:
        dtype = np.dtype(spec.dtype)
        count = int(np.prod(spec.shape))
        return self._host[at : at + count * dtype.itemsize].view(dtype).reshape(spec.shape)


class DeviceTensors:
    """Tensors in device memory alone, in one block.

    Attributes:
        addresses: by tensor name.
        size_bytes: of the block; 0 without tensors, which take no memory.
    """

    def __init__(self, device: CudaDevice, specs: Iterable[TensorSpec]) -> None:
        self._device = device
        offsets, size = _layout(tuple(specs))
        self.size_bytes = size if offsets else 0
        self._base: int | None = device.allocate(size) if offsets else None
        self.addresses: Mapping[str, int] = {spec.name: (self._base or 0) + at for spec, at in offsets}

    def close(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            self._device.free(base)


class Graph:
    """An executable CUDA graph."""

    def __init__(self, device: CudaDevice, stream: int, work: Callable[[], None]) -> None:
        """Capture what `work` queues on the stream. Nothing of it runs yet.

        Raises:
            EngineError: the work cannot be captured, or what `work` itself raises.
        """
        self._device = device
        device.begin_capture(stream)
        try:
            work()
        except BaseException:
            device.abandon_capture(stream)
            raise
        self._handle: int | None = device.end_capture(stream)

    def launch(self, stream: int) -> None:
        """Queue what was captured.

        Raises:
            EngineError: CUDA refuses, or the graph is closed: what looked like a run would have been none.
        """
        if self._handle is None:
            raise EngineError("The CUDA graph is closed.", "Load the bundle again.")
        self._device.launch_graph(self._handle, stream)

    def close(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._device.destroy_graph(handle)


class Stopwatch:
    """GPU time between two points of a stream."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._events = [device.create_event(), device.create_event()]

    def start(self, stream: int) -> None:
        self._device.record_event(self._events[0], stream)

    def stop_ms(self, stream: int) -> float:
        """Milliseconds since `start`; waits until the stream has come here."""
        self._device.record_event(self._events[1], stream)
        return self._device.elapsed_ms(self._events[0], self._events[1])

    def close(self) -> None:
        while self._events:
            self._device.destroy_event(self._events.pop())


def _layout(specs: tuple[TensorSpec, ...]) -> tuple[list[tuple[TensorSpec, int]], int]:
    """Offsets of the tensors, each aligned, and the bytes that they need together."""
    offsets, at = [], 0
    for spec in specs:
        offsets.append((spec, at))
        size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        at += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return offsets, max(at, ALIGNMENT_BYTES)
