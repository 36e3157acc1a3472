"""The errors of a value that holds one sample in every row, relative and largest. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .relative import relative_l2


def compare(
    value: np.ndarray, reference: np.ndarray, scale: Sequence[float] | float = 1.0
) -> tuple[float, float]:
    """Relative and largest error over a batch that repeats one sample.

    Args:
        value: [B, ...].
        reference: [...], float32.
        scale: the unit of the second figure, per component of the last axis.

    Returns:
        (`relative_l2` of the worst row, max |value - reference| * scale), in float64; infinity where a value is
        NaN or infinite.
    """
    difference = value.astype(np.float64) - reference[None]
    worst = max(relative_l2(row, reference) for row in value)
    return worst, _or_infinite(np.abs(difference * np.asarray(scale)).max())


def _or_infinite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.inf
