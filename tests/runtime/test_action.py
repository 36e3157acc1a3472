"""From the graph's output to commands: scale, offset, limits, names, and no number that is not finite."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.runtime.action import Action, ActionDecoder
from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.engines.session import EngineIdentity
from vla_edge.runtime.errors import NonFiniteActionError

ENGINE = EngineIdentity(
    "onnxruntime", "1.0", "cpu", "CPUExecutionProvider", "fp32", "fp32", "tiny 0123456789ab"
)
SPEC = ActionSpec(
    names=("linear_x", "linear_y"),
    units=("m/s", "m/s"),
    scale=(2.0, 2.0),
    offset=(0.0, 0.1),
    limit=(1.15, 1.15),
)


def decode(output: Any, spec: ActionSpec = SPEC) -> Action:
    timings_ms = {"preprocess": 1.0, "engine": 2.0, "total": 3.0}
    return ActionDecoder(spec)(
        np.array(output, np.float32), instruction="go", engine=ENGINE, timings_ms=timings_ms
    )


def test_a_command_is_scaled_offset_and_named() -> None:
    action = decode([[0.25, -0.5]])
    assert action.values == (0.5, -0.9)
    assert (action.linear_x, action.linear_y) == (0.5, -0.9)
    assert action.raw == (0.25, -0.5)
    assert not action.clamped
    assert not action.held


def test_a_command_beyond_its_limit_is_clamped_and_says_so() -> None:
    action = decode([[0.9, 0.0]])
    assert action.values == (1.15, 0.1)
    assert action.clamped


@pytest.mark.parametrize("step", [[0.1], [0.1, 0.2, 0.3]])
def test_a_step_of_another_size_is_never_cut_to_fit(step: list[float]) -> None:
    with pytest.raises(ValueError, match="zip"):
        decode([step])


def test_all_steps_are_given_and_the_first_is_the_command() -> None:
    action = decode([[0.1, 0.2], [0.3, 0.9]])
    assert action.chunk[0] == action.values
    assert action.chunk[1] == pytest.approx((0.6, 1.15))
    assert not action.clamped  # only a later step was


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [0, 1])
def test_a_number_that_is_not_finite_is_refused_in_any_step(bad: float, step: int) -> None:
    output = np.zeros((2, 2), np.float32)
    output[step, 1] = bad
    with pytest.raises(NonFiniteActionError, match="not finite") as raised:
        decode(output)
    assert raised.value.exit_code == 1
    assert "Stop the robot" in raised.value.hint


def test_a_component_that_is_not_there_is_an_attribute_error_naming_those_that_are() -> None:
    with pytest.raises(AttributeError, match="no component 'angular_z'; it has linear_x, linear_y"):
        _ = decode([[0, 0]]).angular_z


def test_an_action_survives_copying_and_pickling() -> None:
    action = decode([[0.1, 0.2]])
    assert copy.deepcopy(action) == action
    assert pickle.loads(pickle.dumps(action)) == action


def test_an_action_becomes_json_and_back() -> None:
    fields = json.loads(json.dumps(decode([[0.25, 0.0]]).as_dict()))
    assert fields["action"] == {"linear_x": 0.5, "linear_y": 0.1}
    assert fields["unit"] == "m/s"
    assert fields["engine"]["backend"] == "onnxruntime"
    assert fields["timings_ms"]["total"] == 3.0
    assert fields["chunk"] == [[0.5, 0.1]]


@settings(deadline=None)
@given(
    output=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    scale=st.floats(-1e6, 1e6),
    offset=st.floats(-1e6, 1e6),
    limit=st.floats(1e-6, 1e3),
)
def test_no_command_ever_exceeds_its_limit(
    output: list[float], scale: float, offset: float, limit: float
) -> None:
    spec = ActionSpec(
        names=("a", "b"),
        units=("m/s", "m/s"),
        scale=(scale, scale),
        offset=(offset, offset),
        limit=(limit, limit),
    )
    action = decode([output], spec)
    assert all(-limit <= value <= limit for value in action.values)
    exact = [np.float64(np.float32(value)) * scale + offset for value in output]
    assert action.clamped == any(abs(value) > limit for value in exact)
