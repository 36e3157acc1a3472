"""One relative error for export, build, bisection and bench, defined for every input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_edge.bench.measure.parity import ActionErrors
from vla_edge.bench.report.types import LARGEST_NUMBER
from vla_edge.runtime.checks.batch_error import compare
from vla_edge.runtime.checks.relative import relative, relative_l2

ANY_FLOATS = arrays(np.float32, 4, elements=st.floats(width=32))
BAD = (math.nan, math.inf, -math.inf)


def of(value: object, reference: object) -> float:
    return relative_l2(np.asarray(value), np.asarray(reference))


def test_it_is_the_length_of_the_difference_by_that_of_the_reference() -> None:
    assert of([3.0, 4.5], [3.0, 4.0]) == pytest.approx(0.1)


def test_two_that_are_all_zeros_agree() -> None:
    assert of([0.0, -0.0], [0.0, 0.0]) == 0.0
    assert of([], []) == 0.0


@pytest.mark.parametrize("value", [1e-38, -1.0, 3e38])
def test_anything_is_infinitely_far_from_zero(value: float) -> None:
    assert of([value, 0.0], [0.0, 0.0]) == math.inf


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_finite_on_either_side_is_infinitely_wrong(bad: float) -> None:
    assert of([1.0, bad], [1.0, 2.0]) == math.inf
    assert of([1.0, 2.0], [1.0, bad]) == math.inf
    assert of([1.0, bad], [1.0, bad]) == math.inf
    assert relative(bad, 1.0) == relative(1.0, bad) == math.inf


def test_another_shape_is_infinitely_wrong() -> None:
    assert of([1.0], [[1.0]]) == math.inf
    assert of([], [1.0]) == math.inf


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e308])
def test_no_size_of_numbers_overflows_or_vanishes(size: float) -> None:
    assert of([0.6 * size, size], [0.6 * size, size]) == 0.0
    assert of([size / 2, 0.0], [size, 0.0]) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint8, bool])
def test_every_dtype_is_compared_in_double_precision(dtype: type) -> None:
    assert of(np.array([1, 0, 0, 0], dtype), np.array([1, 1, 1, 1], dtype)) == pytest.approx(math.sqrt(3) / 2)


@given(ANY_FLOATS, ANY_FLOATS)
def test_every_caller_gets_the_same_number_and_never_nan(value: np.ndarray, reference: np.ndarray) -> None:
    error = relative_l2(value, reference)
    assert error >= 0
    with np.errstate(all="ignore"):
        assert compare(value[None], reference)[0] == error
        actions = ActionErrors(reference.reshape(1, 1, 4), scale=(1.0,) * 4, unit="m/s")
        actions.add(0, value.reshape(1, 1, 4))
    told = actions.summary().relative_l2
    assert told == (error if error <= LARGEST_NUMBER else None)
