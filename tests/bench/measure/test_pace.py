"""The paced loop against a clock of our own: what is late, what is dropped, what is slept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.bench.measure.pace import PacedSamples, run_paced, summarise_paced

MS = 1_000_000


class World:
    """A clock that only steps and sleeps move."""

    def __init__(self, steps_ms: list[float], oversleep_ms: float = 0.0) -> None:
        self.now_ns = 0
        self.slept_s: list[float] = []
        self._steps_ms = iter(steps_ms)
        self._oversleep_ms = oversleep_ms

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9) + round(self._oversleep_ms * MS)

    def step(self) -> None:
        self.now_ns += round(next(self._steps_ms) * MS)

    def run(self, rate_hz: float, ticks: int) -> PacedSamples:
        return run_paced(self.step, rate_hz, ticks, self.clock, self.sleep)


def test_a_fast_step_sleeps_for_the_rest_of_its_period() -> None:
    world = World([20.0] * 5)
    samples = world.run(10, 5)
    assert samples.latency_ms == (20.0,) * 5
    assert world.slept_s == pytest.approx([0.1, 0.08, 0.08, 0.08, 0.08])
    assert not any(samples.late)


def test_waking_late_is_part_of_the_latency() -> None:
    samples = World([20.0] * 3, oversleep_ms=1.5).run(10, 3)
    assert samples.wake_ms == pytest.approx((1.5,) * 3)
    assert samples.latency_ms == pytest.approx((21.5,) * 3)


def test_a_step_over_its_deadline_is_late_and_the_ticks_under_it_are_dropped() -> None:
    samples = World([20.0, 250.0, 20.0, 20.0]).run(10, 6)
    assert samples.late == (False, True, True, True, False, False)
    paced = summarise_paced(samples)
    assert paced is not None
    assert (paced.ticks, paced.misses, paced.longest_run_of_misses) == (6, 3, 3)
    assert paced.deadline_ms == 100


def test_frames_a_second_are_the_answered_ticks() -> None:
    paced = summarise_paced(World([250.0] * 10).run(10, 9))
    assert paced is not None
    assert paced.latency.fps == pytest.approx(10 * 3 / 9)
    assert paced.misses == paced.ticks == 9


def test_no_ticks_have_no_statistics() -> None:
    assert summarise_paced(PacedSamples(10, (), (), ())) is None


@given(st.lists(st.floats(0.1, 500), min_size=1, max_size=40), st.floats(1, 100))
def test_every_tick_is_answered_or_dropped(steps_ms: list[float], rate_hz: float) -> None:
    samples = World(steps_ms * 40).run(rate_hz, len(steps_ms))
    assert len(samples.late) == len(steps_ms)
    assert 1 <= len(samples.latency_ms) == len(samples.wake_ms) <= len(steps_ms)
    in_time = sum(latency <= 1e3 / rate_hz for latency in samples.latency_ms)
    assert samples.late.count(False) == pytest.approx(in_time, abs=1)
