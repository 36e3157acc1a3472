"""The error of one value against its reference, as every gate is meant. NumPy only: robots use it too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SMALLEST_NORM = 1e-30


def compare(
    value: np.ndarray, reference: np.ndarray, scale: Sequence[float] | float = 1.0
) -> tuple[float, float]:
    """Relative and largest error over a batch that repeats one sample.

    Args:
        value: [B, ...].
        reference: [...], float32.
        scale: the unit of the second figure, per component of the last axis.

    Returns:
        (||value - reference|| / ||reference|| of the worst row, max |value - reference| * scale), in
        float64; infinity where a value is NaN or infinite.
    """
    difference = value.astype(np.float64) - reference[None]
    norm = max(float(np.linalg.norm(reference.astype(np.float64))), SMALLEST_NORM)
    rows = np.linalg.norm(difference.reshape(len(value), -1), axis=1)
    return _or_infinite(rows.max() / norm), _or_infinite(np.abs(difference * np.asarray(scale)).max())


def _or_infinite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.inf
