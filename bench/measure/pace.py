"""A loop at a fixed rate, as a robot runs its policy: it sleeps until the next tick, and answers it or misses.

Back-to-back timing keeps clocks high and caches warm; a robot that acts ten times a second does neither.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import msgspec

from vla_edge.bench.report.types import Latency, Paced

from .timing import summarise

Clock = Callable[[], int]
Sleep = Callable[[float], object]
NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class PacedSamples:
    """What each tick of a loop brought.

    Attributes:
        rate_hz: ticks a second.
        latency_ms: of the answered ticks, from the tick to the end of its step.
        wake_ms: of the same ticks, from the tick to the start of its step: how late the loop woke.
        late: for every tick in order, whether it was answered after the next one was due, or not at all.
    """

    rate_hz: float
    latency_ms: tuple[float, ...]
    wake_ms: tuple[float, ...]
    late: tuple[bool, ...]


def run_paced(
    step: Callable[[], object],
    rate_hz: float,
    ticks: int,
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
) -> PacedSamples:
    """Call `step` at each tick. Ticks that are due before the last step has ended are dropped, and count as late.

    Args:
        step: one action.
        rate_hz: ticks a second; the deadline of a tick is the next one.
        ticks: at least 1.
        clock: nanoseconds.
        sleep: for that many seconds; may wake late, which counts.
    """
    period_ns = NS_PER_S / rate_hz
    latency_ms: list[float] = []
    wake_ms: list[float] = []
    late: list[bool] = []
    start_ns = clock() + period_ns
    while len(late) < ticks:
        due_ns = start_ns + len(late) * period_ns
        ahead_ns = due_ns - clock()
        if ahead_ns > 0:
            sleep(ahead_ns / NS_PER_S)
        woke_ns = clock()
        step()
        done_ns = clock()
        wake_ms.append(max(0.0, woke_ns - due_ns) / NS_PER_MS)
        latency_ms.append((done_ns - due_ns) / NS_PER_MS)
        overrun = (done_ns - due_ns) / period_ns
        late.append(overrun > 1)
        dropped = max(0, math.ceil(overrun) - 1)
        late.extend([True] * min(dropped, ticks - len(late)))
    return PacedSamples(rate_hz, tuple(latency_ms), tuple(wake_ms), tuple(late))


def summarise_paced(samples: PacedSamples) -> Paced | None:
    """Statistics of a paced loop, or None of one without ticks."""
    latency, wake = summarise(samples.latency_ms), summarise(samples.wake_ms)
    if latency is None or wake is None:
        return None
    return Paced(
        rate_hz=samples.rate_hz,
        deadline_ms=1e3 / samples.rate_hz,
        latency=_at_rate(latency, samples),
        wake=_at_rate(wake, samples),
        ticks=len(samples.late),
        misses=sum(samples.late),
        longest_run_of_misses=max((len(list(run)) for late, run in groupby(samples.late) if late), default=0),
    )


def _at_rate(latency: Latency, samples: PacedSamples) -> Latency:
    """Frames a second are what was answered of the ticks, not the inverse of the latency."""
    return msgspec.structs.replace(latency, fps=samples.rate_hz * len(samples.latency_ms) / len(samples.late))
