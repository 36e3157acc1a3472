"""Memory of a backend's process, read from outside it, so that reading costs the process nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vla_edge.bench.report.types import DeviceMethod, Growth, Memory, PhaseMemory
from vla_edge.bench.report.units import BYTES_PER_MIB, KIB_PER_MIB

from .nvml import NvmlGpu
from .telemetry import reading
from .unified import UnifiedMemory, is_tegra


@dataclass(frozen=True)
class HostMemory:
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

    Not `getrusage`: its maximum is inherited from the parent across `exec`.
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

    def mib(name: str) -> float:
        return int(fields[name].split()[0]) / KIB_PER_MIB

    return HostMemory(mib("VmRSS"), mib("RssAnon"), mib("VmHWM"))


@dataclass(frozen=True)
class _Entry:
    """What was held when a phase began; None where it could not be read."""

    host_anonymous: float | None
    device: float | None


class DeviceReader(Protocol):
    """Reads the memory of one device: `DeviceMemory`, or `UnifiedMemory` where CPU and GPU share it.

    `peak_mib` is None until something was told, and `sample` where nothing is told now.
    """

    @property
    def method(self) -> DeviceMethod: ...

    @property
    def peak_mib(self) -> float | None: ...

    def sample(self, pid: int) -> float | None: ...


def open_reader(gpu: NvmlGpu | None) -> DeviceReader | None:
    """The reader that fits this machine, or None without a GPU that NVML knows."""
    if is_tegra():
        return UnifiedMemory()
    return None if gpu is None else DeviceMemory(gpu)


class MemoryWatch:
    """Peaks of one process, host and device, by phase. Call `sample` as often as wanted."""

    def __init__(self, device: DeviceReader | None) -> None:
        self._device = device
        self._phases: dict[str, HostMemory] = {}
        self._device_phases: dict[str, float] = {}
        self._entries: dict[str, _Entry] = {}

    def sample(self, pid: int, phase: str) -> None:
        now = read_host(pid)
        if now is not None:
            self._phases[phase] = _larger(self._phases.get(phase), now)
        held = None
        if self._device is not None:
            held = self._device.sample(pid)
        if held is not None:
            self._device_phases[phase] = max(held, self._device_phases.get(phase, 0.0))
        self._entries.setdefault(phase, _Entry(now.anonymous if now else None, held))

    def growth(self, phase: str, steps: int) -> Growth | None:
        """What was held more when the phase after `phase` began than when it began; None if one was not seen."""
        names = list(self._entries)
        if phase not in names or names[-1] == phase:
            return None
        before = self._entries[phase]
        after = self._entries[names[names.index(phase) + 1]]
        return Growth(
            steps=steps,
            host_anonymous_mib=_difference(after.host_anonymous, before.host_anonymous),
            device_mib=_difference(after.device, before.device),
        )

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


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _larger(before: HostMemory | None, now: HostMemory) -> HostMemory:
    if before is None:
        return now
    return HostMemory(
        max(before.resident, now.resident), max(before.anonymous, now.anonymous), max(before.peak, now.peak)
    )


class DeviceMemory:
    """Peak of the memory that a process holds on one GPU, by NVML.

    Inside a container NVML may know processes by the host's ids only; then the growth of the whole
    device since the start is taken, and `method` says so.
    """

    def __init__(self, gpu: NvmlGpu) -> None:
        self._gpu = gpu
        self._before_bytes = gpu.used_bytes()
        self._process_bytes: float | None = None
        self._growth_bytes: float | None = None

    def sample(self, pid: int) -> float | None:
        """MiB held now, by the process where it is known, else by all since the start; None if neither is told."""
        own = (self._gpu.processes() or {}).get(pid)
        if own is not None:
            self._process_bytes = max(own, self._process_bytes or 0.0)
        grown = self._grown_bytes()
        if grown is not None:
            self._growth_bytes = max(grown, self._growth_bytes or 0.0)
        held = grown if own is None else own
        return None if held is None else held / BYTES_PER_MIB

    def _grown_bytes(self) -> float | None:
        used = self._gpu.used_bytes()
        return None if used is None or self._before_bytes is None else max(0.0, used - self._before_bytes)

    @property
    def method(self) -> DeviceMethod:
        return "nvml-device-growth" if self._process_bytes is None else "nvml-process"

    @property
    def peak_mib(self) -> float | None:
        peak_bytes = self._growth_bytes if self._process_bytes is None else self._process_bytes
        return None if peak_bytes is None else peak_bytes / BYTES_PER_MIB
