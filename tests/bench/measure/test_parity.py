"""Errors of actions, and the gates that they miss."""

from __future__ import annotations

import numpy as np
import pytest

from vla_edge.bench.measure.parity import ActionErrors, missed_gate
from vla_edge.bench.report.types import Parity
from vla_edge.runtime.bundle.manifest import Gate

REFERENCE = np.array([[[0.3, 0.4]], [[-0.6, 0.8]]], np.float32)
GATE = Gate(stage="action", metric="max_abs", limit=0.02)


def errors_of(*calls: tuple[int, list[float]]) -> Parity:
    errors = ActionErrors(REFERENCE, scale=(2.0, 0.5), unit="m/s")
    for sample, action in calls:
        errors.add(sample, np.array([[action]], np.float32))
    return errors.summary()


def test_golden_actions_have_no_error() -> None:
    found = errors_of((0, [0.3, 0.4]), (1, [-0.6, 0.8]))
    assert (found.max_abs, found.relative_l2) == (0.0, 0.0)
    assert (found.calls, found.samples, found.finite) == (2, 2, True)


def test_the_error_is_in_metres_per_second_of_the_scaled_component() -> None:
    assert errors_of((0, [0.31, 0.4])).max_abs == pytest.approx(0.02, rel=1e-5)
    assert errors_of((0, [0.3, 0.41])).max_abs == pytest.approx(0.005, rel=1e-5)


def test_the_relative_error_is_by_the_length_of_the_reference() -> None:
    assert errors_of((0, [0.3, 0.45])).relative_l2 == pytest.approx(0.1, rel=1e-5)


def test_the_largest_error_of_all_calls_counts() -> None:
    found = errors_of((1, [-0.5, 0.8]), (0, [0.3, 0.4]))
    assert found.max_abs == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_never_forgotten(bad: float) -> None:
    found = errors_of((0, [bad, 0.4]), (1, [-0.6, 0.8]), (0, [0.3, 0.4]))
    assert (found.finite, found.max_abs, found.relative_l2) == (False, None, None)
    assert missed_gate(found, [GATE]) == "actions are NaN or infinite"


def test_a_batch_is_as_wrong_as_its_worst_row() -> None:
    errors = ActionErrors(REFERENCE, scale=(1.0, 1.0), unit="m/s")
    errors.add(0, np.array([[[0.3, 0.4]], [[0.3, 0.9]]], np.float32))
    assert errors.summary().relative_l2 == pytest.approx(1.0, rel=1e-5)


def test_a_missed_gate_says_by_how_much() -> None:
    found = errors_of((0, [0.35, 0.4]))
    assert missed_gate(found, [GATE]) == "action off by 0.1 m/s, 0.02 m/s allowed"


def test_a_relative_gate_of_the_action_counts_as_well() -> None:
    gate = Gate(stage="action", metric="relative_l2", limit=0.05)
    assert missed_gate(errors_of((0, [0.3, 0.45])), [gate]) == "action off by 0.1 of its size, 0.05 allowed"


@pytest.mark.parametrize(
    ("measured", "shown"), [(0.0669, "0.067"), (0.0201, "0.0201"), (0.0200004, "0.0200004"), (3.14159, "3.1")]
)
def test_an_error_is_never_rounded_to_what_is_allowed(measured: float, shown: str) -> None:
    parity = Parity(calls=1, samples=1, finite=True, unit="m/s", max_abs=measured, relative_l2=0.0)
    assert missed_gate(parity, [GATE]) == f"action off by {shown} m/s, 0.02 m/s allowed"


def test_gates_of_other_stages_do_not_judge_the_action() -> None:
    gate = Gate(stage="vision", metric="relative_l2", limit=1e-9)
    assert missed_gate(errors_of((0, [0.3, 0.45])), [gate]) == ""


def test_kept_gates_say_nothing() -> None:
    assert missed_gate(errors_of((0, [0.301, 0.4])), [GATE]) == ""
