"""Whatever a machine refuses to tell, before the first row or in the middle of one, the report is made."""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest
from bench_examples import example_report

from vla_edge.bench.harness.process import run_job
from vla_edge.bench.harness.rows import row_of
from vla_edge.bench.measure.jobs import Measured
from vla_edge.bench.output.facts import machine_facts
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.run import run_bench
from vla_edge.bench.watch import board, machine, memory, telemetry
from vla_edge.bench.watch import gpu as gpu_watch
from vla_edge.bench.watch.board import read_rails_w, taken_bytes
from vla_edge.bench.watch.gpu import GpuWatch
from vla_edge.bench.watch.machine import describe_machine, other_load
from vla_edge.bench.watch.memory import DeviceMemory, MemoryWatch, open_reader, read_host
from vla_edge.bench.watch.nvml import NvmlGpu

PID = os.getpid()
MIB = 1 << 20
NVML: dict[str, Callable[..., Any]] = {
    "nvmlInit": lambda: None,
    "nvmlShutdown": lambda: None,
    "nvmlDeviceGetCount": lambda: 1,
    "nvmlDeviceGetHandleByIndex": lambda index: 7,
    "nvmlDeviceGetName": lambda handle: "Orin (nvgpu)",
    "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=300 * MIB, total=8000 * MIB),
    "nvmlDeviceGetCudaComputeCapability": lambda handle: (8, 7),
    "nvmlSystemGetDriverVersion": lambda: "540.4.0",
    "nvmlDeviceGetClockInfo": lambda handle, kind: 918,
    "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 918,
    "nvmlDeviceGetPowerManagementLimit": lambda handle: 25_000,
    "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=PID, usedGpuMemory=90 * MIB)],
    "nvmlDeviceGetPowerUsage": lambda handle: 12_000,
    "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 5_000_000,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0,
}


class NotSupported(Exception):
    """As `pynvml.NVMLError_NotSupported`, which a stub of NVML need not even have."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words either")


def refuse(error: Exception) -> Callable[..., Any]:
    def function(*arguments: Any, **options: Any) -> Any:
        raise error

    return function


# ways to say nothing; None is a function that is missing
REFUSALS: dict[str, Callable[..., Any] | None] = {
    "not supported": refuse(NotSupported("Not Supported")),
    "any exception": refuse(RuntimeError("driver/library version mismatch")),
    "without words": refuse(Mute()),
    "missing": None,
    "nothing": lambda *arguments: None,
    "negative": lambda *arguments: -1,
    "all bits": lambda *arguments: (1 << 64) - 1,
    "no number": lambda *arguments: math.nan,
    "text": lambda *arguments: "[N/A]",
    "mark in a structure": lambda *arguments: SimpleNamespace(used=(1 << 64) - 1, total=-1),
    "half a character": lambda *arguments: "\ud800 GPU",
    "bytes": lambda *arguments: b"\xff GPU",
    "pairs": lambda *arguments: [SimpleNamespace(pid="?", usedGpuMemory=(1 << 64) - 1)],
}


class Nvml:
    """NVML as a module, some of whose functions refuse."""

    NVML_CLOCK_GRAPHICS = 0
    NVML_CLOCK_MEM = 2

    def __init__(self, *refusing: str, how: Callable[..., Any] | None = REFUSALS["not supported"]) -> None:
        self.functions = dict(NVML)
        for name in refusing:
            self.refuse(name, how)

    def refuse(self, name: str, how: Callable[..., Any] | None) -> None:
        if how is None:
            self.functions.pop(name, None)
        else:
            self.functions[name] = how

    def __getattr__(self, name: str) -> Any:
        if name not in self.functions:
            raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
        return self.functions[name]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_said", set())


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Nvml], Nvml]:
    def plant(nvml: Nvml) -> Nvml:
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return plant


def watched(nvml: Nvml, in_mid_run: Callable[[], object] = lambda: None) -> bytes:
    """All that is read of a GPU for one row, as JSON."""
    times = iter(range(1000))
    gpu = NvmlGpu(nvml, 7)
    host, device = MemoryWatch(open_reader(gpu)), GpuWatch(gpu, clock=lambda: float(next(times)))
    for phase in ("load", "warm-up", "measure", "measure", "parity"):
        host.sample(PID, phase)
        device.sample(PID, phase)
        if phase == "measure":
            in_mid_run()
    found = (host.summary(), device.energy(10), host.growth("measure", 10), sorted(device.slowdowns))
    return msgspec.json.encode(found)


def reported(**changes: Any) -> str:
    """A report of this machine, written, read back, and shown."""
    report = msgspec.structs.replace(example_report(), machine=describe_machine(), **changes)
    back = decode(encode(report), "written")
    assert machine_facts(back.machine, back.options)
    return to_markdown(back)


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("name", NVML)
def test_any_one_function_of_nvml_may_refuse_in_any_way(name: str, how: str, plant) -> None:
    nvml = plant(Nvml(name, how=REFUSALS[how]))
    assert reported()
    assert b"null" in watched(nvml)  # the torch allocator's, at least


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("name", NVML)
def test_a_function_may_begin_to_refuse_while_steps_are_timed(name: str, how: str) -> None:
    nvml = Nvml()
    assert b'"device_peak_mib":90.0' in watched(nvml, lambda: nvml.refuse(name, REFUSALS[how]))


def test_any_two_functions_and_any_random_set_of_them_may_refuse(monkeypatch, plant) -> None:
    monkeypatch.setattr(machine, "library_versions", dict)  # takes longer than all that is tested
    names, seeded = list(NVML), random.Random(1)
    sets = [
        *itertools.combinations(names, 2),
        *(seeded.sample(names, seeded.randint(3, 15)) for _ in range(200)),
    ]
    for refusing in sets:
        how = seeded.choice(list(REFUSALS))
        nvml = plant(Nvml(*refusing, how=REFUSALS[how]))
        assert encode(msgspec.structs.replace(example_report(), machine=describe_machine())), (refusing, how)
        assert watched(nvml), (refusing, how)


def test_a_gpu_that_tells_nothing_is_listed_with_nothing(plant) -> None:
    plant(Nvml(*NVML.keys() - {"nvmlInit", "nvmlDeviceGetCount"}))
    (gpu,) = describe_machine().gpus
    told = {name: value for name, value in msgspec.structs.asdict(gpu).items() if value is not None}
    assert told == {"index": 0}


def test_a_gpu_that_tells_all_but_its_memory_has_no_device_figure_and_no_method(plant) -> None:
    nvml = plant(Nvml("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses"))
    found = msgspec.json.decode(watched(nvml))[0]
    assert (found["device_peak_mib"], found["device_method"]) == (None, None)
    assert [gpu.name for gpu in describe_machine().gpus] == ["Orin (nvgpu)"]


def test_a_whole_run_goes_on_where_the_gpu_does_not_tell_its_memory(options, quiet, plant) -> None:
    plant(Nvml("nvmlDeviceGetMemoryInfo"))
    report = run_bench(options(), quiet)
    assert [row.status for row in report.bundles[0].rows] == ["ok"]
    assert report.machine.gpus[0].memory_mib is None


def test_a_row_survives_a_gpu_that_falls_silent_while_it_is_timed(job) -> None:
    nvml = Nvml()
    gpu = NvmlGpu(nvml, 7)
    host, device = MemoryWatch(open_reader(gpu)), GpuWatch(gpu)

    def fall_silent(phase: str) -> None:
        for name in NVML if phase == "measure" else ():
            nvml.refuse(name, refuse(NotSupported("GPU is lost")))

    result = run_job(job, Measured, watches=(host.sample, device.sample), on_phase=fall_silent)
    row = row_of("onnxruntime", "sample: x", result, None, host, device)
    assert row.status == "ok"
    assert row.step.runs == 30


def test_the_reason_is_said_once_however_often_it_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    gpu = NvmlGpu(Nvml("nvmlDeviceGetMemoryInfo"), 7)
    with caplog.at_level(logging.INFO, logger="vla_edge"):
        assert [gpu.used_bytes() for _ in range(5)] == [None] * 5
    assert [record.getMessage() for record in caplog.records] == [
        "unknown: GPU memory in use: NotSupported: Not Supported"
    ]


def test_an_end_of_the_process_is_no_missing_reading() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        telemetry.reading("anything", interrupted)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1 << 64, True, "12", None, [], object(), 10**400])
def test_what_is_no_sensible_number_is_none(value: object) -> None:
    assert telemetry.number("anything", lambda: value, most=1e6) is None


PSUTIL = ("cpu_freq", "cpu_count", "virtual_memory", "cpu_percent")
PSUTIL_ERRORS = {
    "no frequency": NotImplementedError("can't find current frequency file"),
    "no file": FileNotFoundError(2, "No such file or directory", "/proc/stat"),
    "no permission": PermissionError(13, "Permission denied", "/proc/stat"),
    "its own": psutil.Error(),
    "of parsing": IndexError("list index out of range"),
}


@pytest.mark.parametrize("how", PSUTIL_ERRORS)
@pytest.mark.parametrize("name", PSUTIL)
def test_any_function_of_psutil_may_refuse(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, name, refuse(PSUTIL_ERRORS[how]))
    assert reported()
    assert other_load() is None or name != "cpu_percent"
    assert taken_bytes() is None or name != "virtual_memory"


@pytest.mark.parametrize(
    "clock", [None, SimpleNamespace(current=0.0, max=0.0), SimpleNamespace(current=math.nan, max=-1)]
)
def test_a_clock_that_is_not_known_is_none(clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: clock)
    found = describe_machine()
    assert (found.cpu_clock_mhz, found.cpu_clock_max_mhz) == (None, None)


def test_a_load_average_and_a_processor_that_cannot_be_read_are_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getloadavg", refuse(OSError("Load averages are unobtainable")))
    monkeypatch.setattr(Path, "read_text", refuse(PermissionError(13, "Permission denied")))
    found = describe_machine()
    assert found.load_average_1min is None
    assert found.cpu
    assert read_host() is None


@pytest.mark.parametrize(
    "status", ["", "VmRSS:\nRssAnon:\nVmHWM:\n", "RssAnon:\t12 kB\n", "VmRSS: x kB\nRssAnon: y\n"]
)
def test_a_process_s_file_without_figures_is_no_reading(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *arguments, **options: status)
    assert read_host() is None


def test_shared_memory_that_is_not_told_gives_no_figure() -> None:
    told: Iterator[float | None] = iter([1e9, None, 2e9, None])
    reader = DeviceMemory(lambda: next(told), growth="mem-available")
    assert [reader.sample(1), reader.sample(1), reader.sample(1)] == [
        None,
        pytest.approx(953.67, abs=0.1),
        None,
    ]
    assert reader.peak_mib == pytest.approx(953.67, abs=0.1)
    assert DeviceMemory(lambda: None).sample(1) is None


@pytest.mark.parametrize("told", ["²", "-5", "", "12 mA", "9" * 5000, "\x00", "1e3"])
def test_a_rail_that_gives_no_plain_number_is_left_out(told: str, tmp_path: Path) -> None:
    chip = tmp_path / "hwmon0"
    chip.mkdir()
    for name, text in {"name": "ina3221", "in1_input": told, "curr1_input": "1000", "in1_label": "A"}.items():
        (chip / name).write_text(text)
    assert read_rails_w(tmp_path) is None
    (chip / "name").write_bytes(b"\xff\xfe")
    assert read_rails_w(tmp_path) is None


@pytest.mark.parametrize("end_mj", [4_000_000, 5_000_000, 1 << 62])
def test_an_energy_counter_that_stood_still_or_jumped_is_left_for_the_power(end_mj: int) -> None:
    nvml = Nvml()
    watched_energy = msgspec.json.decode(
        watched(nvml, lambda: nvml.refuse("nvmlDeviceGetTotalEnergyConsumption", lambda handle: end_mj))
    )[1]
    assert (watched_energy["method"], watched_energy["mean_power_w"]) == ("nvml-power", 12.0)


def test_all_readings_of_these_modules_go_through_one_wrapper() -> None:
    for module in (gpu_watch, machine, memory, board):
        source = Path(str(module.__file__)).read_text()
        assert "from .telemetry import" in source
        assert "NVMLError" not in source
