"""Errors of actions, and the gates that they miss."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from bench_examples import measured_row
from plan_bundles import tiny_manifest

from vla_edge.bench.harness.rows import with_agreement
from vla_edge.bench.measure.parity import ActionErrors, missed_gate, missed_on_frames
from vla_edge.bench.report.types import Agreement, Parity
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


def test_carried_state_is_judged_by_its_own_gate() -> None:
    errors = ActionErrors(REFERENCE, scale=(2.0, 0.5), unit="m/s")
    errors.add(0, np.array([[[0.3, 0.4]]], np.float32))
    state = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)  # two layers
    gates = [Gate(stage="h_out", metric="relative_l2", limit=0.03), GATE]
    errors.add_state("h_out", np.stack([state, state], axis=1), state)
    assert errors.summary().state == {"h_out": 0.0}
    assert missed_gate(errors.summary(), gates) == ""
    errors.add_state("h_out", np.stack([state, state * 1.5], axis=1), state)
    assert missed_gate(errors.summary(), gates) == "carried state h_out off by 0.5 of its size, 0.03 allowed"
    errors.add_state("h_out", np.full((2, 1, 2), np.nan, np.float32), state)
    assert errors.summary().state == {"h_out": None}
    assert "h_out off by NaN or infinity" in missed_gate(errors.summary(), gates)


def test_the_users_own_frames_are_held_to_the_same_gate() -> None:
    agreement = Agreement(
        frames=3, reference="torch-fp32", unit="m/s", max_abs=0.61, mean_abs=0.21, errors=(0.01, 0.61, 0.01)
    )
    told = "action off by 0.61 m/s, 0.02 m/s allowed, at frame 2 of 3 of --images"
    assert missed_on_frames(agreement, [GATE], carried=False) == told
    drift = "; its state is carried from frame to frame, where errors add up"
    assert missed_on_frames(agreement, [GATE], carried=True) == told + drift
    assert missed_on_frames(agreement, [], carried=False) == ""
    near = msgspec.structs.replace(agreement, max_abs=0.02, errors=(0.02, 0.0, 0.0))
    assert missed_on_frames(near, [GATE], carried=False) == ""


@pytest.mark.parametrize(("baseline", "status"), [("ok", "wrong"), ("wrong", "ok")])
def test_where_pytorch_itself_is_wrong_nothing_is_judged_by_it(baseline: str, status: str) -> None:
    rows = [measured_row("torch-fp32", (1.0,), status=baseline), measured_row("onnxruntime", (1.0,))]
    actions = {"torch-fp32": [[[0.0, 0.0]]], "onnxruntime": [[[0.5, 0.0]]]}
    judged = with_agreement(rows, actions, tiny_manifest([]))
    assert (judged[1].status, judged[1].agreement.max_abs) == (status, 1.0)
    assert with_agreement(rows, {"onnxruntime": actions["onnxruntime"]}, tiny_manifest([]))[1].status == "ok"
