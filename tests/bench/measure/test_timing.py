"""Warm-up, the timed loop and the statistics, against numpy, scipy and clocks that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.bench.measure.timing import (
    MAX_RUNS,
    MIN_RUNS,
    OVERTIME_FACTOR,
    WARMUP_MAX_CALLS,
    Budget,
    collect,
    summarise,
    warm_up,
)

samples = st.lists(st.floats(1e-3, 1e4, allow_nan=False), min_size=1, max_size=200)


class FakeTime:
    """A clock that moves only when a step is made, by the durations given; the last one repeats."""

    def __init__(self, durations_ms: Iterator[float]) -> None:
        self._durations_ms = durations_ms
        self._last_ms = 0.0
        self.now_ns = 0

    def step(self) -> None:
        self._last_ms = next(self._durations_ms, self._last_ms)
        self.now_ns += round(self._last_ms * 1e6)

    def clock(self) -> int:
        return self.now_ns


def fake(*durations_ms: float) -> FakeTime:
    return FakeTime(iter(durations_ms))


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of scipy, for equal samples
@settings(max_examples=60, deadline=None)
@given(samples)
def test_statistics_are_those_of_numpy_and_scipy(values: list[float]) -> None:
    found = summarise(values)
    assert found is not None
    assert found.runs == len(values)
    for quantile, figure in ((50, found.p50_ms), (90, found.p90_ms), (99, found.p99_ms)):
        assert figure == pytest.approx(np.percentile(values, quantile))
        assert figure == pytest.approx(scipy.stats.scoreatpercentile(values, quantile))
    assert found.max_ms == max(values)
    assert found.mean_ms == pytest.approx(scipy.stats.tmean(values))
    if len(values) > 1:
        assert found.std_ms == pytest.approx(scipy.stats.tstd(values), abs=1e-9)
    assert found.fps == pytest.approx(1000 * len(values) / sum(values))


def test_percentiles_lie_between_samples_by_linear_interpolation() -> None:
    found = summarise([1.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert (found.p50_ms, found.p90_ms) == (2.5, pytest.approx(3.7))
    assert found.std_ms == pytest.approx(1.2909944)


def test_an_outlier_stays_in_every_figure() -> None:
    found = summarise([1.0] * 99 + [1000.0])
    assert found is not None
    assert found.max_ms == 1000.0
    assert found.mean_ms == pytest.approx(10.99)
    assert found.p50_ms == 1.0


def test_no_samples_give_no_statistics() -> None:
    assert summarise([]) is None


def test_the_loop_keeps_every_sample_in_order() -> None:
    time = fake(3.0, 1.0, 2.0)
    assert collect(time.step, Budget(runs=3, seconds=1, warmup=None), time.clock) == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("step_ms", "expected"),
    [
        pytest.param(10.0, 100, id="as many as the seconds hold"),
        pytest.param(100.0, MIN_RUNS, id="at least twenty"),
        pytest.param(0.1, MAX_RUNS, id="at most two thousand"),
        pytest.param(1000.0, OVERTIME_FACTOR, id="fewer when twenty would take far too long"),
        pytest.param(60_000.0, 1, id="but never none"),
    ],
)
def test_the_number_of_runs_follows_the_budget(step_ms: float, expected: int) -> None:
    time = fake(step_ms)
    assert len(collect(time.step, Budget(runs=None, seconds=1.0, warmup=None), time.clock)) == expected


def test_runs_that_were_asked_for_are_taken_exactly() -> None:
    time = fake(1000.0)
    assert len(collect(time.step, Budget(runs=37, seconds=0.1, warmup=None), time.clock)) == 37


def test_warm_up_goes_on_until_two_windows_agree() -> None:
    time = fake(900, 80, 30, 20, 15, 10.4, 10.2, 10.1, 10, 10, 10)
    warmed = warm_up(time.step, Budget(runs=None, seconds=8, warmup=None), time.clock)
    assert warmed.stable
    assert 10 < warmed.calls <= 15
    assert warmed.seconds == pytest.approx(time.now_ns / 1e9)


def test_warm_up_ends_and_says_so_when_times_never_settle() -> None:
    time = FakeTime(1.1**call for call in range(1000))
    warmed = warm_up(time.step, Budget(runs=None, seconds=1e12, warmup=None), time.clock)
    assert (warmed.calls, warmed.stable) == (WARMUP_MAX_CALLS, False)


def test_warm_up_of_a_slow_step_is_three_calls() -> None:
    time = fake(20_000.0)
    assert warm_up(time.step, Budget(runs=None, seconds=8, warmup=None), time.clock).calls == 3


@pytest.mark.parametrize("calls", [0, 1, 50])
def test_warm_up_calls_that_were_asked_for_are_made_exactly(calls: int) -> None:
    time = fake(1.0)
    step: Callable[[], None] = time.step
    assert warm_up(step, Budget(runs=None, seconds=8, warmup=calls), time.clock).calls == calls
