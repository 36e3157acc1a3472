"""Make half precision explicit, so that a CPU computes what a GPU will.

ONNX Runtime has no FP16 kernels on x86: it widens FP16 nodes to FP32 and then removes the casts in
between, even those that the graph states. A graph that overflows in half returns finite numbers there.
`rounded` therefore rewrites a graph with FP32 types, and rounds every value that was FP16 by a cast to
FP16 and back, which ONNX Runtime keeps: infinity appears where half would have it.

What it does not show is the order of accumulation inside one matrix product; GPUs accumulate FP16
products in FP32 too.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
# Operations that only move numbers: what goes in rounded comes out rounded.
MOVES = {
    "Concat",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in FP32 types whose FP16 values are rounded to half after each operation.

    Args:
        model: with its weights external or inline; FP16 weights stay FP16 in the file and are widened by a
            cast (which is exact), so the data file serves both.
    """
    half = _half_values(model)
    if not half:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    rename: dict[str, str] = {}
    for tensor in result.graph.initializer:
        if tensor.data_type == HALF:
            _widen_initializer(tensor, nodes, rename)
    for node in model.graph.node:
        nodes += _rewritten(node, half, rename)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]
    return result


def _half_values(model: onnx.ModelProto) -> set[str]:
    """Names of all FP16 values that nodes write."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    return {value.name for value in values if value.type.tensor_type.elem_type == HALF}


def _widen_initializer(tensor: onnx.TensorProto, nodes: list[onnx.NodeProto], rename: dict[str, str]) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        rename[tensor.name] = f"{tensor.name}/widened"
        nodes.append(helper.make_node("Cast", [tensor.name], [rename[tensor.name]], to=SINGLE))
    else:
        array = numpy_helper.to_array(tensor).astype("float32")
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _rewritten(node: onnx.NodeProto, half: set[str], rename: dict[str, str]) -> list[onnx.NodeProto]:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for at, name in enumerate(copy.input):
        copy.input[at] = rename.get(name, name)
    if node.op_type == "Cast":
        # To FP32 as it stands: from half, which is FP32 already here, or from integers, a real cast.
        if helper.get_node_attr_value(node, "to") != HALF:
            return [copy]
        inner = f"{node.output[0]}/half"
        copy.output[0] = inner
        return [copy, helper.make_node("Cast", [inner], [node.output[0]], to=SINGLE)]
    if node.op_type in MOVES or not half.intersection(node.output):
        return [copy]
    after = []
    for at, name in enumerate(node.output):
        if name in half:
            copy.output[at] = f"{name}/exact"
            after.append(helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=HALF))
            after.append(helper.make_node("Cast", [f"{name}/half"], [name], to=SINGLE))
    return [copy, *after]
