"""A clock by which no deadline can be kept is refused; one that runs never is."""

from __future__ import annotations

import random
import threading
import time

import pytest

from vla_edge.runtime.control.clock_watch import ClockError, ClockWatch


class Hands:
    """Two clocks, moved by hand: the controller's and real time."""

    def __init__(self, factor: float | None = 1.0, patience_ms: float = 200.0) -> None:
        self.said_s, self.real_s = 1000.0, 5.0
        self.watch = ClockWatch(lambda: self.said_s, patience_ms, factor, lambda: self.real_s)
        self.watch.now()

    def pass_ms(self, said_ms: float, real_ms: float) -> float:
        self.said_s += said_ms / 1e3
        self.real_s += real_ms / 1e3
        return self.watch.now()

    def run(self, times: int, rate: float, real_ms: float) -> None:
        for _ in range(times):
            self.pass_ms(real_ms * rate, real_ms)


@pytest.mark.parametrize(("rate", "factor"), [(0.0, 1.0), (0.001, 1.0), (0.1, 1.0), (0.4, 1.0), (0.04, 0.1)])
def test_a_clock_that_stands_still_or_creeps_is_refused_soon(rate: float, factor: float) -> None:
    hands = Hands(factor)
    with pytest.raises(ClockError, match="it stands still or is slow") as raised:
        hands.run(50, rate, 10 / factor)
    assert "real_time_factor" in raised.value.hint
    assert hands.real_s - 5.0 < 0.3 / factor


def test_one_that_stops_after_it_ran_is_refused_soon() -> None:
    hands = Hands()
    hands.run(100, 1.0, 33)
    stopped_s = hands.real_s
    with pytest.raises(ClockError):
        hands.run(50, 0.0, 33)
    assert hands.real_s - stopped_s < 0.5


@pytest.mark.parametrize(
    ("rate", "factor"), [(1.0, 1.0), (0.9, 1.0), (1.1, 1.0), (0.1, 0.1), (0.0, None), (3.0, 3)]
)
def test_one_that_runs_as_said_passes(rate: float, factor: float | None) -> None:
    hands, rng = Hands(factor), random.Random(1)
    for _ in range(2000):
        real_ms = rng.choice([0.0, 1.0, 33.0, 150.0, 10_000.0])
        hands.pass_ms(real_ms * rate, real_ms)


def test_a_clock_in_steps_of_100_ms_passes() -> None:
    hands = Hands()
    for at in range(1000):
        hands.pass_ms(100.0 if at % 10 == 9 else 0.0, 10)


def test_after_a_reset_it_may_start_anew() -> None:
    hands = Hands()
    with pytest.raises(ClockError, match="the clock went back by 500000 ms"):
        hands.pass_ms(-500_000, 0)
    hands.real_s += 10
    hands.watch.reset()
    assert hands.pass_ms(0, 0) == 500.0


def test_threads_that_ask_at_once_find_no_fault_with_a_good_clock() -> None:
    watch = ClockWatch(lambda: time.monotonic(), 60_000.0, 1.0)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(5000):
                watch.now()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
