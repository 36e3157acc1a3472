"""The scale of a plot: how far along a value lies, in percent, and at which values there are ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LOG_ABOVE = 8  # largest over smallest value, past which a linear axis hides the small ones
LEAST_PART = 1e-9  # of the largest value: below it a value would only stretch the axis
LOG_IN_WORDS = "log scale, not from 0"
MOST_TICKS = 7
BINS = 200


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`.

    Attributes:
        label: with its unit.
        low, high: what is at its ends.
        values: that have a tick.
        scale: makes even steps of what is between.
        names: instead of ticks, what each whole step is called.
    """

    label: str
    low: float
    high: float
    values: tuple[float, ...]
    scale: Callable[[float], float] = float
    names: tuple[str, ...] = ()

    def at(self, value: float) -> float:
        """How far along a value is, in percent; at an end where it is beyond."""
        first, last = self.scale(self.low), self.scale(self.high)
        inside = min(max(value, self.low), self.high)
        return round(100 * (self.scale(inside) - first) / (last - first), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        return [(self.at(value), f"{value:,.10g}") for value in self.values]

    def silhouette(self, samples: Sequence[float]) -> str:
        """How often each value came, as a path in 100 times 100."""
        counts, edges = np.histogram([self.at(value) for value in samples], BINS, (0, 100))
        # the square root keeps a rare value in sight beside a common one
        tops = 100 - 90 * np.sqrt(counts / counts.max())
        held = np.flatnonzero(counts)
        bins = range(held[0], held[-1] + 1)
        return f"M{edges[bins[0]]:g},100{''.join(f'V{tops[at]:.3g}H{edges[at + 1]:g}' for at in bins)}V100Z"

    def line(self, values: Sequence[float], across: Axis) -> str:
        """Values at 0, 1, 2 and so on, as a path in 100 times 100."""
        return (
            f"M{' L'.join(f'{self.at(at):g},{100 - across.at(value):g}' for at, value in enumerate(values))}"
        )


def linear_axis(label: str, high: float, *, room: float = 1.03) -> Axis:
    """From 0 to `room` times the largest value."""
    high = high * room if high > LEAST_PART else 1.0
    size = 10.0 ** math.floor(math.log10(high / MOST_TICKS))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if high / (size * factor) <= MOST_TICKS)
    return Axis(label, 0.0, high, tuple(at * step for at in range(int(high / step) + 1)))


def times_axis(label: str, times: Sequence[float], *, left: float = 1.12, right: float = 1.12) -> Axis:
    """From zero, or logarithmic where the values lie far apart, and then its label says so.

    Args:
        left, right: factors of room beside the values.
    """
    low, high = min(times), max(times)
    if low <= high * LEAST_PART or high / low <= LOG_ABOVE:
        return linear_axis(label, high, room=max(1.03, right if right > 1.12 else 0))
    low, high = low / left, high * right
    decades = math.log10(high / low)
    factors = (1,) if decades > 3 else (1, 3) if decades > 2.4 else (1, 2, 5)
    exponents = range(
        math.floor(math.log10(low)), math.ceil(math.log10(high)), max(1, round(decades / MOST_TICKS))
    )
    values = (factor * 10.0**exponent for exponent in exponents for factor in factors)
    inside = tuple(value for value in values if low <= value <= high)
    return Axis(f"{label} ({LOG_IN_WORDS})", low, high, inside, math.log10)


def errors_axis(label: str, errors: Sequence[float]) -> Axis:
    """Linear up to the smallest error that is none, and logarithmic above, so that 0 has a place."""
    largest = max(errors)
    least = max(min((error for error in errors if error > LEAST_PART), default=1.0), largest * LEAST_PART)
    high = max(largest * 8, least)

    def scale(error: float) -> float:
        return 0.6 * error / least if error < least else 0.6 + math.log10(error / least)

    first, last = math.ceil(math.log10(least)), math.floor(math.log10(high))
    exponents = range(first, last + 1, max(1, round((last - first) / MOST_TICKS)))
    return Axis(label, -0.35 * least, high, (0.0, *(10.0**exponent for exponent in exponents)), scale)
