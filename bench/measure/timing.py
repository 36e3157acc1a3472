"""Warm-up, the timed loop, and statistics over its samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from vla_edge.bench.report.types import JUDGED_CALLS, Latency, Warmup

MIN_RUNS = 20
# p99 of 2000 samples rests on 20 of them; more would only make small policies take longer
MAX_RUNS = 2000
# a step so slow that MIN_RUNS do not fit this many budgets is reported with fewer
OVERTIME_FACTOR = 5

WARMUP_WINDOW_CALLS = JUDGED_CALLS // 2
WARMUP_MIN_CALLS = 3
WARMUP_MAX_CALLS = 200
WARMUP_AGREEMENT = 0.05

Step = Callable[[], object]
Clock = Callable[[], int]


@dataclass(frozen=True)
class Budget:
    """How long to sample.

    Attributes:
        runs: exactly this many samples; None for as many as `seconds` holds, within
            [MIN_RUNS, MAX_RUNS], and no longer than OVERTIME_FACTOR * seconds.
        seconds: of sampling, and the bound of warming up.
        warmup: exactly this many calls before sampling; None to go on until stable.
    """

    runs: int | None
    seconds: float
    warmup: int | None

    def part(self, share: float) -> Budget:
        """The same with a share of the runs or of the time, but at least MIN_RUNS."""
        runs = None if self.runs is None else min(self.runs, max(MIN_RUNS, round(self.runs * share)))
        return Budget(runs, self.seconds * share, self.warmup)

    def is_spent(self, samples: int, elapsed_s: float) -> bool:
        if self.runs is not None:
            return samples >= self.runs
        if samples >= MAX_RUNS or elapsed_s >= self.seconds * OVERTIME_FACTOR:
            return samples > 0
        return samples >= MIN_RUNS and elapsed_s >= self.seconds


def warm_up(step: Step, budget: Budget, clock: Clock = time.perf_counter_ns) -> Warmup:
    """Call `step` until the medians of two consecutive windows agree within 5 %, apart from the samples.

    At most 200 calls or `budget.seconds`, whichever comes first, but at least three calls.
    """
    start = clock()
    times: list[int] = []
    while not _is_warm(times, (clock() - start) / 1e9, budget):
        before = clock()
        step()
        times.append(clock() - before)
    return Warmup(calls=len(times), seconds=(clock() - start) / 1e9, stable=_is_stable(times))


def _is_warm(times: Sequence[int], elapsed_s: float, budget: Budget) -> bool:
    if budget.warmup is not None:
        return len(times) >= budget.warmup
    if len(times) < WARMUP_MIN_CALLS:
        return False
    return len(times) >= WARMUP_MAX_CALLS or elapsed_s >= budget.seconds or _is_stable(times)


def _is_stable(times: Sequence[int]) -> bool:
    if len(times) < JUDGED_CALLS:
        return False
    latest = median(times[-WARMUP_WINDOW_CALLS:])
    before = median(times[-2 * WARMUP_WINDOW_CALLS : -WARMUP_WINDOW_CALLS])
    return abs(latest - before) <= WARMUP_AGREEMENT * before


def collect(step: Step, budget: Budget, clock: Clock = time.perf_counter_ns) -> list[float]:
    """Call `step` back to back and return the wall-clock milliseconds of every call, in order.

    The garbage collector stays as it is: its pauses are part of what a robot would see.
    """
    samples: list[float] = []
    start = now = clock()
    while not budget.is_spent(len(samples), (now - start) / 1e9):
        before = clock()
        step()
        now = clock()
        samples.append((now - before) / 1e6)
    return samples


def summarise(samples_ms: Sequence[float]) -> Latency | None:
    """Statistics of all samples, or None of none: see `Latency` for how each is defined."""
    if not samples_ms:
        return None
    values = np.asarray(samples_ms, dtype=np.float64)
    p50, p90, p99 = np.percentile(values, (50, 90, 99), method="linear")
    mean = float(values.mean())
    return Latency(
        runs=len(values),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        max_ms=float(values.max()),
        mean_ms=mean,
        std_ms=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        fps=1e3 / mean if mean else 0.0,
    )
