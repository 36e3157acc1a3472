"""The error that every gate is held against."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.runtime.checks.batch_error import compare

NUMBERS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4)


def test_a_known_difference_has_its_known_error() -> None:
    reference = np.array([3.0, 4.0], np.float32)
    value = np.array([[3.0, 4.0], [3.0, 4.5]], np.float32)
    assert compare(value, reference) == (pytest.approx(0.1), pytest.approx(0.5))
    assert compare(value, reference, scale=(2.0, 4.0))[1] == pytest.approx(2.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_infinitely_wrong(bad: float) -> None:
    value = np.array([[1.0, bad]], np.float32)
    assert compare(value, np.ones(2, np.float32)) == (math.inf, math.inf)


@given(NUMBERS, NUMBERS)
@settings(max_examples=100, deadline=None)
def test_it_agrees_with_numpy_in_double_precision(value: list[float], reference: list[float]) -> None:
    a, b = np.array([value], np.float32), np.array(reference, np.float32)
    relative, largest = compare(a, b)
    wide = a.astype(np.float64)[0] - b
    norm = np.linalg.norm(b.astype(np.float64))
    if norm:
        assert relative == pytest.approx(np.linalg.norm(wide) / norm)
    else:
        assert relative == (math.inf if wide.any() else 0.0)
    assert largest == pytest.approx(np.abs(wide).max())
