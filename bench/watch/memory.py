"""Memory of a backend's process, read from outside it, so that reading costs the process nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from vla_edge.bench.report.types import DeviceMethod, Growth, Memory, PhaseMemory
from vla_edge.bench.report.units import BYTES_PER_MIB, KIB_PER_MIB
from vla_edge.runtime.process.machine import is_jetson

from .board import taken_bytes
from .nvml import NvmlGpu
from .telemetry import reading


class HostMemory(NamedTuple):
    """Resident memory of one process, in MiB.

    Attributes:
        resident: of all kinds, now (`VmRSS`).
        anonymous: of `resident`, what is backed by no file (`RssAnon`).
        peak: high-water mark of `resident` since the program started (`VmHWM`).
    """

    resident: float
    anonymous: float
    peak: float


def read_host(pid: int | Literal["self"] = "self") -> HostMemory | None:
    """Read `/proc/PID/status`; None where there is no such process or file.

    Not `getrusage`: its maximum is inherited from the parent across `exec`. Nor `psutil`, which has no high-water
    mark on Linux.
    """
    return reading("memory of a process", lambda: _read_status(Path(f"/proc/{pid}/status")))


def _read_status(path: Path) -> HostMemory | None:
    try:
        text = path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "RssAnon" not in fields:  # a process that has ended but was not waited for
        return None
    kib = [int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon", "VmHWM")]
    return HostMemory(*(size / KIB_PER_MIB for size in kib))


class DeviceMemory:
    """Peak of the memory that a process holds on a device, or of what all processes hold more than at the start.

    Inside a container NVML may know processes by the host's ids only, and of a board with one memory for CPU and GPU
    it tells nothing: then there is the growth alone, and `method` says so.

    Args:
        used: bytes that all processes hold; None where it is not told.
        own: bytes that one process holds, by its id.
        growth: the method's name where `own` tells nothing.
    """

    def __init__(
        self,
        used: Callable[[], float | None],
        own: Callable[[int], float | None] = lambda pid: None,
        growth: DeviceMethod = "nvml-device-growth",
    ) -> None:
        self._used = used
        self._own = own
        self._growth = growth
        self._before_bytes = used()
        self._peaks_bytes: dict[DeviceMethod, float] = {}

    def sample(self, pid: int) -> float | None:
        """MiB held now, by the process where it is known, else by all since the start; None if neither is told."""
        own, used = self._own(pid), self._used()
        grown = None if used is None or self._before_bytes is None else max(0.0, used - self._before_bytes)
        told: dict[DeviceMethod, float | None] = {"nvml-process": own, self._growth: grown}
        for method, size in told.items():
            if size is not None:
                self._peaks_bytes[method] = max(size, self._peaks_bytes.get(method, 0.0))
        held = grown if own is None else own
        return None if held is None else held / BYTES_PER_MIB

    @property
    def method(self) -> DeviceMethod:
        return "nvml-process" if "nvml-process" in self._peaks_bytes else self._growth

    @property
    def peak_mib(self) -> float | None:
        """None until something was told."""
        peak_bytes = self._peaks_bytes.get(self.method)
        return None if peak_bytes is None else peak_bytes / BYTES_PER_MIB


def open_reader(gpu: NvmlGpu | None) -> DeviceMemory | None:
    """The reader that fits this machine, or None without a GPU that NVML knows."""
    if is_jetson():
        return DeviceMemory(taken_bytes, growth="mem-available")
    if gpu is None:
        return None
    return DeviceMemory(gpu.used_bytes, lambda pid: (gpu.processes() or {}).get(pid))


class MemoryWatch:
    """Peaks of one process, host and device, by phase. Call `sample` as often as wanted."""

    def __init__(self, device: DeviceMemory | None) -> None:
        self._device = device
        self._phases: dict[str, HostMemory] = {}
        self._device_phases: dict[str, float] = {}
        # what was held when a phase began: anonymous on the host, on the device; None where it could not be read
        self._entries: dict[str, tuple[float | None, float | None]] = {}

    def sample(self, pid: int, phase: str) -> None:
        now = read_host(pid)
        if now is not None:
            self._phases[phase] = HostMemory(*map(max, now, self._phases.get(phase, now)))
        held = self._device.sample(pid) if self._device else None
        if held is not None:
            self._device_phases[phase] = max(held, self._device_phases.get(phase, 0.0))
        self._entries.setdefault(phase, (now.anonymous if now else None, held))

    def growth(self, phase: str, steps: int) -> Growth | None:
        """What was held more when the phase after `phase` began than when it began; None if one was not seen."""
        following = dict(pairwise(self._entries)).get(phase)
        if following is None:
            return None
        host, device = (
            None if before is None or after is None else after - before
            for before, after in zip(self._entries[phase], self._entries[following], strict=True)
        )
        return Growth(steps=steps, host_anonymous_mib=host, device_mib=device)

    def summary(self, own: HostMemory | None = None, torch_allocator_peak_mib: float | None = None) -> Memory:
        """The peaks.

        Args:
            own: the process's last reading of itself, which no sample can be too late for.
            torch_allocator_peak_mib: as torch reports it, where it runs on a GPU.
        """
        readings = [*self._phases.values(), *([own] if own else [])]
        device_peak_mib = self._device.peak_mib if self._device else None
        return Memory(
            host_peak_mib=max((reading.peak for reading in readings), default=None),
            host_anonymous_peak_mib=max((reading.anonymous for reading in readings), default=None),
            device_peak_mib=device_peak_mib,
            device_method=self._device.method if self._device and device_peak_mib is not None else None,
            torch_allocator_peak_mib=torch_allocator_peak_mib,
            phases=tuple(
                PhaseMemory(
                    phase=name,
                    host_mib=reading.resident,
                    host_anonymous_mib=reading.anonymous,
                    device_mib=self._device_phases.get(name),
                )
                for name, reading in self._phases.items()
            ),
        )
