"""The proof of stops: a short run of it finds nothing, and what it would find is found."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vla_edge.bench.proof.faults.driving import FAULTS
from vla_edge.bench.proof.faults.report import Life, judge
from vla_edge.bench.proof.faults.robot import ENDINGS, run


@pytest.fixture
def started_by_nohup() -> Iterator[None]:
    """Its children inherit that SIGHUP and SIGINT are ignored, as of a job in a shell's background."""
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("started_by_nohup")
def test_nothing_moves_after_any_fault(bundle_of: Callable[..., Path]) -> None:
    report = run(bundle_of("pure"), 10.0, 0.0)
    assert report.failures == []
    assert set(report.faults) == {*FAULTS, *ENDINGS}
    assert sum(found.moving_after for found in report.faults.values()) == 0
    assert report.moving > 4 * len(FAULTS)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([(1.05, True), (1.1, False), (1.2, True)], "nan: 1 commands moved after it"),
        ([(1.1, True), (1.9, True)], "nan: 1 commands moved after it"),
        ([(1.1, True), (1.9, False)], "nan: stopped after 900 ms, 450 ms are allowed"),
        ([], "nan: stopped never"),
    ],
)
def test_what_moves_after_a_fault_is_found(sent: list[tuple[float, bool]], words: str) -> None:
    told = [{"fault": "nan", "at_s": 1.0}, {"reset": "nan", "at_s": 2.0, "cause": "not finite"}, {"done": 1}]
    life = Life([(at_s, moving, "") for at_s, moving in sent], told)
    assert words in " ".join(judge([life], 10.0, 1.0).failures)


def test_a_process_that_a_kill_leaves_driving_is_found() -> None:
    life = Life([(9.9, True, ""), (11.0, True, "")], [{"done": 0}], ending="SIGKILL", ended_s=10.0)
    assert "SIGKILL: 1 commands moved after it" in judge([life], 10.0, 1.0).failures


def test_memory_that_grows_is_found() -> None:
    life = Life(told=[{"done": 0}], resident=[(float(at), at << 20) for at in range(100)])
    report = judge([life], 10.0, 100.0)
    assert report.memory_growth_mib == 79
    assert report.failures == ["memory grew by 79.0 MiB"]
