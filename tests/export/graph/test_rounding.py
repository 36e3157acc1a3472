"""Half precision made explicit: what ONNX Runtime hides on a CPU must show."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vla_edge.export.graph.rounding import rounded

SIZE = 64


def chain(factor: float) -> onnx.ModelProto:
    """x * factor (a half matmul), then back: factor 4096 on values near 100 overflows half."""
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["x16", "up"], ["big"]),
        helper.make_node("MatMul", ["big", "down"], ["y16"]),
        helper.make_node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [
        numpy_helper.from_array((np.eye(SIZE) * factor).astype(np.float16), "up"),
        numpy_helper.from_array((np.eye(SIZE) / factor).astype(np.float16), "down"),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", info[:1], info[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def test_an_overflow_in_half_is_seen_although_the_plain_graph_hides_it() -> None:
    x = np.full((1, SIZE), 100, np.float32)
    model = chain(4096.0)
    assert np.isfinite(run(model, x)).all(), "ONNX Runtime now rounds by itself: this module can go"
    assert not np.isfinite(run(rounded(model), x)).any()


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=SIZE, max_size=SIZE))
@settings(max_examples=20, deadline=None)
def test_values_are_rounded_as_numpy_rounds_to_half(values: list[float]) -> None:
    x = np.array([values], np.float32)
    half = (x.astype(np.float16).astype(np.float32) * 3).astype(np.float16).astype(np.float32)
    third = np.float32(np.float16(1 / 3))
    expected = (half * third).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(run(rounded(chain(3.0)), x), expected)


def test_a_graph_without_half_is_left_alone() -> None:
    model = chain(2.0)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        )
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = TensorProto.FLOAT
    assert rounded(model) is model


def test_the_copy_holds_no_half_but_between_its_casts() -> None:
    copy = rounded(chain(2.0))
    onnx.checker.check_model(copy, full_check=True)
    types = {node.output[0]: node.op_type for node in copy.graph.node}
    inferred = onnx.shape_inference.infer_shapes(copy)
    half = [
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    ]
    assert half
    assert all(types[name] == "Cast" for name in half)


@pytest.mark.parametrize("op", ["Reshape", "Transpose"])
def test_moving_numbers_is_not_rounding(op: str) -> None:
    from vla_edge.export.graph.rounding import MOVES

    assert op in MOVES
