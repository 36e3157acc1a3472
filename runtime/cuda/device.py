"""The few CUDA operations that an inference session needs, as a protocol.

Two implementations: `bindings` (NVIDIA's cuda-python, the default) and `pycuda`. Both use the primary
context of the device, so that TensorRT, PyTorch and several sessions of one process share it. Handles
(streams, graphs, events, device addresses) are plain integers, as TensorRT takes them.

Thread rule: CUDA's current context belongs to a thread. Whoever calls a device from a thread that has
not done so before calls `activate` first; it costs under a microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from vla_edge.runtime.errors import EngineError

if TYPE_CHECKING:  # a command's help names the implementations, and needs no NumPy
    import numpy as np

MemoryName = Literal["cuda-bindings", "pycuda"]
MIB = 1 << 20


@dataclass(frozen=True)
class DeviceInfo:
    """What is known of a GPU without running anything on it.

    Attributes:
        index: CUDA's device index.
        name: such as "NVIDIA H200".
        sm: compute capability as one number: 90 for 9.0, 87 for 8.7.
        total_mib: device memory; on a Jetson, the memory shared with the CPU.
        integrated: whether it shares memory with the CPU.
        driver: of the kernel driver where it can be read, and the CUDA version that it supports.
    """

    index: int
    name: str
    sm: int
    total_mib: int
    integrated: bool
    driver: str

    def __str__(self) -> str:
        return f"cuda:{self.index} {self.name} (sm{self.sm})"


class CudaDevice(Protocol):
    """One GPU. Every method raises `EngineError` with CUDA's own words when the driver refuses."""

    info: DeviceInfo

    def activate(self) -> None:
        """Make the device's primary context current in the calling thread."""

    def free_bytes(self) -> int:
        """Device memory that no process holds; a Jetson's is shared with the CPU."""

    def create_stream(self) -> int:
        """A stream that does not wait for the legacy default stream."""

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None:
        """Return when everything queued on the stream has run; errors of that work surface here."""

    def allocate(self, size_bytes: int) -> int:
        """Device memory, aligned to at least 256 bytes; returns its address."""

    def free(self, address: int) -> None: ...

    def pin(self, host: np.ndarray) -> None:
        """Page-lock the memory of an array, so that copies run at full speed and can be captured."""

    def unpin(self, host: np.ndarray) -> None:
        """The memory stays valid: it belongs to the array."""

    def copy_to_device(self, target: int, source: np.ndarray, stream: int) -> None:
        """Queue a copy of the whole array to the device address."""

    def copy_to_host(self, target: np.ndarray, source: int, stream: int) -> None:
        """Queue a copy that fills the whole array."""

    def begin_capture(self, stream: int) -> None:
        """Record what this thread queues on the stream, instead of running it."""

    def end_capture(self, stream: int) -> int:
        """Stop recording; returns an executable graph."""

    def abandon_capture(self, stream: int) -> None:
        """Stop recording after a failure; never raises, so that the first error stays visible."""

    def launch_graph(self, graph: int, stream: int) -> None: ...

    def destroy_graph(self, graph: int) -> None: ...

    def create_event(self) -> int: ...

    def record_event(self, event: int, stream: int) -> None: ...

    def wait_event(self, stream: int, event: int) -> None:
        """Let what is queued on the stream from now on wait for the event as it was recorded last.

        While a capture runs, waiting for an event that was recorded in it takes the stream into that capture.
        """

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds of GPU time between two recorded events; waits for the second."""

    def destroy_event(self, event: int) -> None: ...

    def close(self) -> None:
        """Release this object's hold of the primary context. Calling it again does nothing."""


def check_index(index: int, count: int) -> None:
    """Refuse a device index that does not exist, in words rather than as an error of the driver."""
    if count == 0:
        raise EngineError(
            "CUDA finds no GPU.", "Check nvidia-smi (tegrastats on Jetson) and CUDA_VISIBLE_DEVICES."
        )
    if not 0 <= index < count:
        raise EngineError(
            f"There is no GPU {index}; CUDA sees {count}, numbered from 0.", "Choose another --device."
        )
