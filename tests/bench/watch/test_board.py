"""Where CPU and GPU share one memory, an engine is seen by what the machine has less."""

from __future__ import annotations

import psutil
import pytest

from vla_edge.bench import cli
from vla_edge.bench.watch import memory
from vla_edge.bench.watch.board import taken_bytes
from vla_edge.bench.watch.memory import DeviceMemory, MemoryWatch, open_reader

MIB = 1 << 20


def test_the_peak_is_the_most_that_was_taken_since_the_start() -> None:
    readings = iter([2000 * MIB, 3000 * MIB, 5500 * MIB, 4000 * MIB, 1000 * MIB])
    unified = DeviceMemory(lambda: next(readings), growth="mem-available")
    assert [unified.sample(1) for _ in range(4)] == [1000, 3500, 2000, 0]
    assert (unified.peak_mib, unified.method) == (3500, "mem-available")


def test_on_a_jetson_the_shared_memory_is_watched_and_cuda_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "is_jetson", lambda: True)
    monkeypatch.setattr(cli, "is_jetson", lambda: True)
    assert open_reader(None).method == "mem-available"
    watch = MemoryWatch(open_reader(None))
    watch.sample(1, "load")
    assert watch.summary().device_method == "mem-available"
    assert cli.default_device() == "cuda"


def test_without_gpu_and_driver_there_is_no_reader() -> None:
    assert open_reader(None) is None


def test_what_is_taken_is_part_of_what_the_machine_has() -> None:
    assert 0 < taken_bytes() <= psutil.virtual_memory().total
