"""What a GPU did while steps were timed: energy, reasons for lower clocks, other processes. Read from outside.

Units and reasons are NVML's (docs.nvidia.com/deploy/nvml-api, "Device Queries", "Clocks Event Reasons").
A Jetson's NVML gives none of them; there the board's rails are read, see `board.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vla_edge.bench.report.types import Energy

from .board import read_rails_w
from .nvml import NvmlGpu
from .phases import TIMED_PHASE, Phase
from .telemetry import MOST_W, number

# counters move in steps of up to a tenth of a second: less would measure the step
MIN_ENERGY_S = 0.5
MJ_PER_J = 1000
MW_PER_W = 1000
MOST_MJ = float(1 << 60)
MOST_REASONS = float(1 << 32)

# bits of nvmlDeviceGetCurrentClocksEventReasons that slow a running kernel down
SLOWDOWNS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "temperature, by the driver",
    0x0000000000000040: "temperature, by the hardware",
    0x0000000000000080: "power brake",
}

Clock = Callable[[], float]


class GpuWatch:
    """Follows one GPU, or a board's rails, through the phases of a worker. Call `sample` as often as wanted.

    Args:
        gpu: None without a GPU that NVML knows.
        clock: seconds.
    """

    def __init__(self, gpu: NvmlGpu | None, clock: Clock = time.monotonic) -> None:
        self._gpu = gpu
        self._clock = clock
        # seconds and joules, at the first reading in the timed phase and at the first one after it
        self._marks: list[tuple[float, float | None]] = []
        self._powers_w: list[float] = []
        self._method: str = ""
        self.slowdowns: set[str] = set()
        self.other_processes = 0

    def sample(self, pid: int, phase: Phase) -> None:
        """Read the device; `pid` is the worker's."""
        timed = phase == TIMED_PHASE
        if len(self._marks) == (0 if timed else 1):
            self._marks.append((self._clock(), self._energy_j()))
        if timed:
            self._read_timed(pid)

    def energy(self, steps: int) -> Energy | None:
        """Energy of each of the timed steps, or None where nothing could be read or the time was too short."""
        if len(self._marks) < 2 or not steps:
            return None
        (began_s, began_j), (ended_s, ended_j) = self._marks
        seconds = ended_s - began_s
        if seconds < MIN_ENERGY_S:
            return None
        joules, method = None if began_j is None or ended_j is None else ended_j - began_j, "nvml-energy"
        if joules is None or not 0 < joules <= MOST_W * seconds:  # it stood still, began anew or jumped
            if not self._powers_w:
                return None
            joules, method = sum(self._powers_w) / len(self._powers_w) * seconds, self._method
        return Energy(
            joules_per_step=joules / steps,
            mean_power_w=joules / seconds,
            method=method,  # type: ignore[arg-type]
            seconds=seconds,
        )

    def _read_timed(self, pid: int) -> None:
        power_w = self._power_w()
        if power_w is not None:
            self._powers_w.append(power_w)
        if self._gpu is None:
            return
        reasons = self._number("nvmlDeviceGetCurrentClocksEventReasons", MOST_REASONS)
        if reasons is None:  # the name that drivers before 535 know
            reasons = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", MOST_REASONS)
        self.slowdowns |= {text for bit, text in SLOWDOWNS.items() if int(reasons or 0) & bit}
        processes = self._gpu.processes() or {}
        others = len(processes) - (pid in processes)
        # inside a container NVML may give the host's ids: then the worker itself is one of the others
        foreign = others - (others == len(processes) and bool(others))
        self.other_processes = max(self.other_processes, foreign)

    def _power_w(self) -> float | None:
        milliwatts = self._number("nvmlDeviceGetPowerUsage", MOST_W * MW_PER_W)
        if milliwatts is not None:
            self._method = "nvml-power"
            return milliwatts / MW_PER_W
        if self._method == "nvml-power":  # refused in mid-run: another sensor measures something else
            return None
        watts = read_rails_w()
        if watts is not None:
            self._method = "hwmon-power"
        return watts

    def _energy_j(self) -> float | None:
        millijoules = self._number("nvmlDeviceGetTotalEnergyConsumption", MOST_MJ)
        return None if millijoules is None else millijoules / MJ_PER_J

    def _number(self, function: str, most: float) -> float | None:
        """A reading of NVML, or None where this GPU, driver or binding has it not."""
        gpu = self._gpu
        return None if gpu is None else number(function, lambda: gpu.ask(function), most)
