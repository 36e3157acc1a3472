"""Memory of a board whose CPU and GPU share it, such as a Jetson's: NVML tells nothing there.

What an engine takes is then seen as what the machine has less: `MemAvailable` of /proc/meminfo, which counts
caches that could be dropped as free. It is the whole machine's, so other work on it is counted, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .report import DeviceMethod
from .units import BYTES_PER_MIB

# a list of names, parted by zero bytes, such as "nvidia,p3767-0000", "nvidia,tegra234"
COMPATIBLE = Path("/proc/device-tree/compatible")
TEGRA = b"nvidia,tegra"


def is_tegra(compatible: Path = COMPATIBLE) -> bool:
    """Whether this board is built around an NVIDIA Tegra, as every Jetson is."""
    try:
        return TEGRA in compatible.read_bytes()
    except OSError:
        return False


def available_bytes() -> int:
    """Memory that could be had without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


class UnifiedMemory:
    """Peak of what the machine has less than at the start; the interface of `memory.DeviceMemory`.

    Args:
        available: bytes that could be had now.
    """

    method: DeviceMethod = "mem-available"

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        self._available = available
        self._before_bytes = available()
        self._peak_bytes = 0

    def sample(self, pid: int) -> float:
        """MiB taken since the start, by all processes."""
        taken = max(0, self._before_bytes - self._available())
        self._peak_bytes = max(self._peak_bytes, taken)
        return taken / BYTES_PER_MIB

    @property
    def peak_mib(self) -> float:
        return self._peak_bytes / BYTES_PER_MIB
