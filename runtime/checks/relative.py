"""The relative error of one value against its reference, as every gate is meant. NumPy only: robots use it too."""

from __future__ import annotations

import math

import numpy as np


def relative_l2(value: np.ndarray, reference: np.ndarray) -> float:
    """||value - reference|| / ||reference||, in float64, and never NaN.

    Where that has no meaning the answer is on the side of an error: infinity if either holds NaN or infinity, if
    their shapes differ, or if the reference is all zeros and the value is not. Two that are all zeros, or empty,
    agree: 0.

    Args:
        value, reference: of the same shape, any floating-point or integer dtype.
    """
    if value.shape != reference.shape:
        return math.inf
    if not value.size:
        return 0.0
    found, wanted = value.astype(np.float64), reference.astype(np.float64)
    largest = float(np.abs(wanted).max())
    # lets squares neither overflow nor vanish; NaN and infinity go on to the norms
    unit = largest if 0 < largest < math.inf else 1.0
    with np.errstate(all="ignore"):  # what overflows here is infinite below
        distance, norm = np.linalg.norm(found / unit - wanted / unit), np.linalg.norm(wanted / unit)
    return relative(float(distance), float(norm))


def relative(distance: float, norm: float) -> float:
    """The quotient of two norms, with the same answers where it has no meaning as `relative_l2`."""
    if not (math.isfinite(distance) and math.isfinite(norm)):
        return math.inf
    if norm == 0:
        return math.inf if distance else 0.0
    return distance / norm
