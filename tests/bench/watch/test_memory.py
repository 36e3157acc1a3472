"""Memory readings, of real processes and of a device that NVML would describe."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from vla_edge.bench.watch.memory import MemoryWatch, open_reader, read_host
from vla_edge.bench.watch.nvml import NvmlGpu

MIB = 1 << 20


class Child:
    """A Python process that does as it is told, one statement at a time."""

    def __init__(self) -> None:
        code = "import sys\nfor line in sys.stdin:\n    exec(line)\n    print('done', flush=True)"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
        self.pid = self._process.pid

    def run(self, statement: str) -> None:
        print(statement, file=self._process.stdin, flush=True)
        self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    process = Child()
    yield process
    process.end()


def test_anonymous_memory_of_another_process_is_read(child: Child) -> None:
    child.run("block = bytearray(64 << 20)")
    memory = read_host(child.pid)
    assert memory is not None
    assert 64 < memory.anonymous < 110
    assert memory.anonymous <= memory.resident <= memory.peak


def test_the_high_water_mark_outlives_the_memory(child: Child) -> None:
    child.run("block = bytearray(64 << 20)")
    child.run("del block")
    memory = read_host(child.pid)
    assert memory is not None
    assert memory.resident < 60 < 64 < memory.peak


def test_a_small_process_does_not_inherit_the_peak_of_a_large_parent() -> None:
    block = bytearray(256 * MIB)
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        memory = read_host(process.pid)
        process.kill()
    assert len(block) == 256 * MIB
    assert memory is not None
    assert memory.peak < 128


def test_a_process_that_is_gone_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert read_host(process.pid) is None


def test_a_process_that_nobody_waited_for_has_no_memory() -> None:
    process = subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    while read_host(process.pid) is not None:
        pass
    process.wait()


def test_a_watch_keeps_the_peak_of_each_phase(child: Child) -> None:
    watch = MemoryWatch(None)
    child.run("block = bytearray(64 << 20)")
    watch.sample(child.pid, "load")
    child.run("del block")
    watch.sample(child.pid, "load")
    watch.sample(child.pid, "measure")
    found = watch.summary()
    phases = {phase.phase: phase for phase in found.phases}
    assert list(phases) == ["load", "measure"]
    assert phases["measure"].host_mib < 60 < 64 < phases["load"].host_mib
    assert found.host_anonymous_peak_mib == phases["load"].host_anonymous_mib
    assert (found.device_peak_mib, found.device_method) == (None, None)


def test_a_watch_that_saw_nothing_claims_nothing() -> None:
    found = MemoryWatch(None).summary()
    assert (found.host_peak_mib, found.host_anonymous_peak_mib, found.phases) == (None, None, ())


@dataclass
class FakeNvml:
    """One GPU; `processes` maps a process id to its bytes."""

    used: int = 0
    processes: dict[int, int | None] = field(default_factory=dict)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes.items()]


def test_device_memory_is_the_process_s_own_where_nvml_knows_it() -> None:
    nvml = FakeNvml(used=500 * MIB, processes={1: 500 * MIB})
    device = open_reader(NvmlGpu(nvml, 0))
    for own in (0, 900, 700):
        nvml.processes = {1: 4000 * MIB, 42: own * MIB}
        nvml.used = (4000 + own) * MIB
        device.sample(42)
    assert (device.peak_mib, device.method) == (900, "nvml-process")


@pytest.mark.parametrize("processes", [{}, {42: None}, {7: 800 * MIB}])
def test_device_memory_is_the_growth_of_the_device_where_processes_are_hidden(processes) -> None:
    nvml = FakeNvml(used=300 * MIB)
    device = open_reader(NvmlGpu(nvml, 0))
    for used in (1100, 900):
        nvml.used, nvml.processes = used * MIB, processes
        device.sample(42)
    assert (device.peak_mib, device.method) == (800, "nvml-device-growth")
