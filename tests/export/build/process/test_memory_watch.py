"""Memory of the process that builds, seen from outside: of processes that are planted, and of this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vla_edge.export.build.process import memory_watch
from vla_edge.export.build.process.memory_watch import MemoryWatch, Peaks

MIB = 1 << 20


@pytest.fixture(autouse=True)
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_watch, "INTERVAL_S", 0.0)


def status(proc: Path, anonymous_mib: int, swap_mib: int = 0) -> None:
    (proc / "7").mkdir(exist_ok=True)
    text = (
        f"Name:\tx\nVmRSS:\t999999 kB\nRssAnon:\t{anonymous_mib * 1024} kB\nVmSwap:\t{swap_mib * 1024} kB\n"
    )
    (proc / "7" / "status").write_text(text)


def readings(*mib: int) -> Iterator[int]:
    return (each * MIB for each in mib)


def test_host_and_gpu_have_their_peaks_and_the_sum_its_own(tmp_path: Path) -> None:
    free = readings(1000, 900, 400, 700)
    watch = MemoryWatch(lambda: next(free), shared=False, proc=tmp_path)
    for anonymous in (500, 100, 400):
        status(tmp_path, anonymous)
        watch.sample(7)
    assert watch.peaks() == Peaks(host=500, gpu=600, together=700)


def test_on_a_board_the_fall_of_its_memory_is_the_sum(tmp_path: Path) -> None:
    available = readings(8000, 7000, 3000, 7500)
    watch = MemoryWatch(lambda: next(available), shared=True, proc=tmp_path)
    for anonymous, swap in ((800, 0), (3000, 1000), (400, 0)):
        status(tmp_path, anonymous, swap)
        watch.sample(7)
    assert watch.peaks() == Peaks(host=4000, gpu=1000, together=5000)


def test_what_others_give_back_is_not_counted_against_it(tmp_path: Path) -> None:
    status(tmp_path, 10)
    free = readings(1000, 5000)
    watch = MemoryWatch(lambda: next(free), shared=False, proc=tmp_path)
    watch.sample(7)
    assert watch.peaks() == Peaks(host=10, gpu=0, together=10)


def test_on_a_board_the_sum_is_never_less_than_the_process_holds(tmp_path: Path) -> None:
    """The user stops the desktop meanwhile, as he was told to."""
    status(tmp_path, 5120)
    free = readings(8000, 9000)
    watch = MemoryWatch(lambda: next(free), shared=True, proc=tmp_path)
    watch.sample(7)
    assert watch.peaks() == Peaks(host=5120, gpu=0, together=5120)


@pytest.mark.parametrize("line", ["RssAnon:", "RssAnon: x kB", "RssAnon:\t٣ kB", "RssAnon", ""])
def test_a_status_that_says_nothing_is_no_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text(f"{line}\nVmSwap:\t2048 kB\n")
    watch = MemoryWatch(None, shared=False, proc=tmp_path)
    watch.sample(7)
    assert watch.peaks().host == 2


def test_a_process_that_has_ended_and_a_gpu_that_tells_nothing_are_no_error(tmp_path: Path) -> None:
    watch = MemoryWatch(lambda: None, shared=True, proc=tmp_path)
    watch.sample(7)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nState:\tZ (zombie)\n")
    watch.sample(7)
    assert watch.peaks() == Peaks(host=0, gpu=None, together=None)


def test_this_process_is_seen() -> None:
    watch = MemoryWatch(None, shared=False)
    watch.sample(os.getpid())
    before = watch.peaks().host
    block = np.ones(80 * MIB, np.uint8)
    watch.sample(os.getpid())
    assert watch.peaks().host >= before + 60
    del block
