"""Curves and bars in percent of their field, so that one drawing serves every width."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_POINTS = 400  # of a curve: a phone has no more pixels across
BARS = 24


@dataclass(frozen=True)
class Curve:
    """A line: its role (its colour), its name, and its path in a field of 100 x 100."""

    role: str
    name: str
    path: str


@dataclass(frozen=True)
class Chart:
    """A field with its axes; ticks are places in percent with their texts."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...] = ()
    bars: tuple[tuple[float, float, float], ...] = ()  # left, width, height


def ticks(low: float, high: float, count: int = 5) -> tuple[tuple[float, str], ...]:
    """Round numbers between two ends: places in percent, and how they are written."""
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(each * magnitude for each in (1, 2, 5, 10) if each * magnitude >= raw * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return tuple(
        (round(100 * (at * step - low) / (high - low), 2), f"{at * step:.{digits}f}") for at in numbers
    )


def thinned(importance: np.ndarray) -> np.ndarray:
    """Indices of at most `MAX_POINTS` steps, of each stretch the one that matters most; int [P], rising."""
    count = len(importance)
    if count <= MAX_POINTS:
        return np.arange(count)
    edges = np.linspace(0, count, MAX_POINTS + 1).astype(int)
    stretches = itertools.pairwise(edges)
    return np.array([start + int(np.argmax(importance[start:end])) for start, end in stretches])


def path_of(x: np.ndarray, y: np.ndarray, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> str:
    """A path of SVG through points, clipped to the field."""
    across = 100 * (x - x_ends[0]) / (x_ends[1] - x_ends[0])
    down = 100 - 100 * np.clip((y - y_ends[0]) / (y_ends[1] - y_ends[0]), 0, 1)
    return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in zip(across, down, strict=True))


def histogram(values: np.ndarray, title: str, unit: str) -> Chart:
    """How many steps have an error of which size, float64 [N] of at least one."""
    high = max(float(values.max()), 1e-6) * 1.0001
    counts = np.histogram(values, BARS, (0, high))[0]
    most = max(int(counts.max()), 1)
    width = 100 / BARS
    bars = tuple(
        (round(at * width, 3), round(width, 3), round(92 * count / most, 2))
        for at, count in enumerate(counts.tolist())
    )
    levels = tuple((round(at * 0.92, 2), text) for at, text in ticks(0, most, 3) if "." not in text)
    return Chart(title, f"error [{unit}]", "steps", ticks(0, high), levels, bars=bars)


def ends_of(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Lowest and highest of some values with a little room, zero within."""
    low = min(0.0, *(float(part.min()) for part in parts))
    high = max(0.0, *(float(part.max()) for part in parts))
    room = 0.06 * max(high - low, 0.1)
    return low - room, high + room
