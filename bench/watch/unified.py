"""Memory of a board whose CPU and GPU share it, such as a Jetson's: NVML tells nothing there.

What an engine takes is then seen as what the machine has less: `MemAvailable` of /proc/meminfo, which counts
caches that could be dropped as free. It is the whole machine's, so other work on it is counted, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_edge.bench.report.types import DeviceMethod
from vla_edge.bench.report.units import BYTES_PER_MIB

from .telemetry import MOST_BYTES, number

# a list of names, parted by zero bytes, such as "nvidia,p3767-0000", "nvidia,tegra234"
COMPATIBLE = Path("/proc/device-tree/compatible")
TEGRA = b"nvidia,tegra"


def is_tegra(compatible: Path = COMPATIBLE) -> bool:
    """Whether this board is built around an NVIDIA Tegra, as every Jetson is."""
    try:
        return TEGRA in compatible.read_bytes()
    except OSError:
        return False


def available_bytes() -> float | None:
    """Memory that could be had without swapping; None where the machine does not tell."""
    import psutil

    return number("available memory", lambda: psutil.virtual_memory().available, MOST_BYTES)


class UnifiedMemory:
    """Peak of what the machine has less than at the start; the interface of `memory.DeviceMemory`.

    Args:
        available: bytes that could be had now.
    """

    method: DeviceMethod = "mem-available"

    def __init__(self, available: Callable[[], float | None] = available_bytes) -> None:
        self._available = available
        self._before_bytes = available()
        self._peak_bytes: float | None = None

    def sample(self, pid: int) -> float | None:
        """MiB taken since the start, by all processes; None where the machine does not tell."""
        available = self._available()
        if available is None or self._before_bytes is None:
            return None
        taken = max(0.0, self._before_bytes - available)
        self._peak_bytes = max(self._peak_bytes or 0.0, taken)
        return taken / BYTES_PER_MIB

    @property
    def peak_mib(self) -> float | None:
        return None if self._peak_bytes is None else self._peak_bytes / BYTES_PER_MIB
