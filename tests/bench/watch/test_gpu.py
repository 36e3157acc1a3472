"""Energy, slow-downs and neighbours, from an NVML and from sensor files of our own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vla_edge.bench.watch import gpu as module
from vla_edge.bench.watch.board import read_rails_w
from vla_edge.bench.watch.gpu import GpuWatch
from vla_edge.bench.watch.nvml import NvmlGpu

PID = 7


class Nvml:
    """The few functions that are asked, over values to set."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.energy_mj: int | None = 0
        self.power_mw = 300_000
        self.reasons = 0
        self.pids = [PID]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self.energy_mj is None:
            raise self.NVMLError
        return self.energy_mj

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self.power_mw

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]


class Harness:
    """A watch, and the seconds that pass."""

    def __init__(self, nvml: Nvml | None) -> None:
        self.now_s = 100.0
        self.watch = GpuWatch(NvmlGpu(nvml, 0) if nvml else None, clock=lambda: self.now_s)

    def run(self, seconds: float = 2.0) -> None:
        self.watch.sample(PID, "warm-up")
        self.watch.sample(PID, "measure")
        self.now_s += seconds
        self.watch.sample(PID, "measure")


def test_energy_is_the_counters_difference_over_the_timed_steps() -> None:
    nvml = Nvml()
    harness = Harness(nvml)
    harness.run()
    nvml.energy_mj = 600_000
    harness.watch.sample(PID, "parity")
    energy = harness.watch.energy(300)
    assert energy is not None
    assert (energy.joules_per_step, energy.mean_power_w, energy.method) == (2.0, 300.0, "nvml-energy")


def test_without_a_counter_power_is_averaged() -> None:
    nvml = Nvml()
    nvml.energy_mj = None
    harness = Harness(nvml)
    harness.run()
    harness.watch.sample(PID, "parity")
    energy = harness.watch.energy(300)
    assert energy is not None
    assert (energy.joules_per_step, energy.method) == (2.0, "nvml-power")


def test_a_run_too_short_for_the_counter_has_no_energy() -> None:
    nvml = Nvml()
    harness = Harness(nvml)
    harness.run(seconds=0.02)
    nvml.energy_mj = 600_000
    harness.watch.sample(PID, "parity")
    assert harness.watch.energy(30) is None


def test_a_run_that_never_ended_has_no_energy() -> None:
    harness = Harness(Nvml())
    harness.run()
    assert harness.watch.energy(300) is None


def test_reasons_for_lower_clocks_are_told_in_words() -> None:
    nvml = Nvml()
    nvml.reasons = 0x1 | 0x4 | 0x40
    harness = Harness(nvml)
    harness.run()
    assert harness.watch.slowdowns == {"power cap", "temperature, by the hardware"}


@pytest.mark.parametrize(
    ("pids", "others"), [([PID], 0), ([PID, 8], 1), ([4242], 0), ([4242, 8], 1), ([], 0)]
)
def test_neighbours_are_counted_also_where_ids_are_the_hosts(pids: list[int], others: int) -> None:
    nvml = Nvml()
    nvml.pids = pids
    harness = Harness(nvml)
    harness.run()
    assert harness.watch.other_processes == others


def rail(root: Path, channel: int, label: str, millivolts: str, milliamperes: str) -> None:
    chip = root / "hwmon3"
    chip.mkdir(exist_ok=True)
    (chip / "name").write_text("ina3221\n")
    (chip / f"in{channel}_label").write_text(label)
    (chip / f"in{channel}_input").write_text(millivolts)
    (chip / f"curr{channel}_input").write_text(milliamperes)


def test_a_board_is_read_from_its_own_rail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rail(tmp_path, 1, "VDD_IN", "5000", "3000")
    rail(tmp_path, 2, "VDD_CPU_GPU_CV", "5000", "1000")
    assert read_rails_w(tmp_path) == 15.0
    monkeypatch.setattr(module, "read_rails_w", lambda: read_rails_w(tmp_path))
    harness = Harness(None)
    harness.run()
    harness.watch.sample(PID, "parity")
    energy = harness.watch.energy(10)
    assert energy is not None
    assert (energy.joules_per_step, energy.method) == (3.0, "hwmon-power")


def test_without_a_rail_of_the_board_all_are_added(tmp_path: Path) -> None:
    rail(tmp_path, 1, "VDD_GPU_SOC", "5000", "2000")
    rail(tmp_path, 2, "VDD_CPU_CV", "5000", "1000")
    rail(tmp_path, 3, "VIN_SYS_5V0", "5000", "off")
    assert read_rails_w(tmp_path) == 15.0


def test_a_machine_without_sensors_gives_nothing(tmp_path: Path) -> None:
    assert read_rails_w(tmp_path) is None
