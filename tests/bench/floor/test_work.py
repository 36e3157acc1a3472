"""The bytes and operations of a step are those of its graph: by hand, by other counters, at full size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_layouts import LAYOUTS
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

from vla_edge.bench.floor.dtypes import size_bytes
from vla_edge.bench.floor.work import Work, count_work, work_of
from vla_edge.export.graph.precision import FP16, FP32, Precision
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.graph.decoder import PromptShape
from vla_edge.export.kosmos2.graph.policy import GraphOptions, write_policy
from vla_edge.export.kosmos2.reference import build_empty
from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError

FLOAT, HALF, INT32, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64
LENGTH = 80  # tokens of the full-size prompt
DTYPES = {"float16": HALF, "float32": FLOAT, "int32": INT32, "int64": INT64}


def weightless(name: str, dtype: int, shape: Sequence[int]) -> onnx.TensorProto:
    """An initializer whose content lies in a file that does not exist."""
    tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "absent.data"
    return tensor


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, tuple]],
    outputs: dict[str, tuple[int, tuple]],
    weights: dict[str, tuple[int, tuple]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        initializer=[weightless(name, *spec) for name, spec in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def policy_work(
    layout: str,
    size: str,
    precision: Precision = FP16,
    batch: int = 1,
    length: int = LENGTH,
    form: str = "transformers",
    **options: Any,
) -> Work:
    """The work of a sample policy's graph, written from shapes alone."""
    arch = sample_architecture(layout, "none" if layout == "pure" else form, size)
    chosen = RULES.resolve(arch, options=options).values
    text = None
    if "clip_text" in chosen.features:
        text = np.zeros((len(chosen.instructions), arch.clip.embed), np.float32)
    prompt = PromptShape(length, chosen.image_start, tuple(range(40)))
    tensors = build_empty(arch, chosen).state_dict()
    graph = write_policy(arch, chosen, tensors, GraphOptions(precision, prompt, batch, text))
    model = graph.model("test", "policy")
    for weight in graph.weights:
        value = weight.value
        model.graph.initializer.append(weightless(value.name, DTYPES[value.dtype], value.shape))
    return count_work(model, "the written graph")


def torch_operations(arch: Architecture, chosen: PolicySettings) -> int:
    """What PyTorch's own counter finds in the PyTorch policy, run on the meta device."""
    policy = build_empty(arch, chosen).to("meta")
    side = arch.vision.image_size
    with FlopCounterMode(display=False) as counter:
        policy(
            pixel_values=torch.empty(1, 3, side, side, device="meta"),
            input_ids=torch.zeros(1, LENGTH, dtype=torch.int32, device="meta"),
            attention_mask=torch.ones(1, LENGTH, dtype=torch.int32, device="meta"),
        )
    return counter.get_total_flops()


def linear(rows: int, width: int, out: int) -> int:
    return 2 * rows * width * out


def saved_by_the_exporter(arch: Architecture) -> int:
    """Operations of the pure policy in PyTorch that its graph does not have.

    Of the image projection `dense` is folded into the key and value projections, and what depends on the
    latent queries alone is a constant. Of the LSTM's first step from a zero state the recurrent products and
    the forget gate are left out. A patch's numbers are filled up with zeros to a multiple of 8, which costs some.
    """
    patches, numbers = arch.vision.tokens - 1, 3 * arch.vision.patch**2
    filling = linear(patches, -numbers % 8, arch.vision.width)
    seen, latent, vision, text = arch.vision.tokens, arch.image_tokens, arch.vision.width, arch.text.width
    projection = (
        linear(seen, vision, text)
        + 2 * linear(seen + latent, text, text)
        + linear(latent, text, text)
        - linear(seen, vision, 2 * text)
    )
    hidden = arch.lstm.hidden
    sizes = [arch.lstm.input, *[hidden] * (arch.lstm.layers - 1)]
    lstm = sum(linear(1, hidden, 4 * hidden) + linear(1, size, hidden) for size in sizes)
    return projection + lstm - filling


@pytest.mark.parametrize("size", ["tiny", "small", "full"])
def test_the_operations_are_those_of_pytorchs_own_counter_less_what_the_exporter_folds(size: str) -> None:
    arch = sample_architecture("pure", "none", size)
    counted = torch_operations(arch, RULES.resolve(arch).values)
    assert policy_work("pure", size).operations == counted - saved_by_the_exporter(arch)


def test_the_full_size_pure_policy_reads_3_1_gb_in_half_and_does_0_36_tflop() -> None:
    work = policy_work("pure", "full")
    # the weights of the TensorRT plan of this policy were measured as 2946 MiB
    assert work.bytes_read == pytest.approx(2946 * 2**20, rel=0.005)
    assert 0.35e12 < work.operations < 0.37e12
    # FP32 islands are already twice the size, so that FP32 is a little less than twice the bytes
    assert 1.99 < work.in_precision(4).bytes_read / work.bytes_read < 2.0


def test_the_full_size_hybrid_policy_reads_clip_on_top() -> None:
    # the weights of its TensorRT plan were measured as 3126 MiB
    assert policy_work("hybrid-a", "full").bytes_read == pytest.approx(3126 * 2**20, rel=0.005)


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
def test_every_layout_is_counted(layout: str, form: str) -> None:
    work = policy_work(layout, "tiny", length=32, form=form)
    assert work.operations > work.weights.elements > 0
    side = sample_architecture(layout, form, "tiny").vision.image_size
    assert work.ends.size_bytes == 4 * work.ends.elements == 4 * (3 * side**2 + 2)


def test_a_batch_multiplies_operations_and_inputs_but_not_the_weights() -> None:
    one, three = (policy_work("pure", "tiny", batch=batch, length=32) for batch in (1, 3))
    assert three.ends.size_bytes == 3 * one.ends.size_bytes
    assert three.operations == 3 * one.operations
    # only the gathered embedding rows grow
    assert 0 <= three.weights.elements - one.weights.elements <= 2 * 32 * 192


def test_a_graph_in_fp32_has_the_work_of_a_graph_in_fp16_read_as_fp32() -> None:
    single, half = (policy_work("hybrid-a", "tiny", precision, length=32) for precision in (FP32, FP16))
    assert single.operations == half.operations
    assert single.weights.size_bytes == pytest.approx(half.in_precision(4).weights.size_bytes, rel=1e-4)


def test_a_window_of_the_lstm_reads_the_recurrent_weights_once_and_multiplies_them_at_each_step() -> None:
    arch = sample_architecture("pure", "none", "tiny")
    three, five = (policy_work("pure", "tiny", length=32, lstm="window", lstm_window=w) for w in (3, 5))
    assert three.weights.elements == five.weights.elements
    recurrent = arch.lstm.layers * linear(2, arch.lstm.hidden, 4 * arch.lstm.hidden)
    stacked = linear(2, arch.lstm.hidden, 4 * arch.lstm.hidden)  # the second layer's input at two steps more
    assert five.operations - three.operations == recurrent + stacked


@pytest.mark.parametrize(("layout", "form"), [("pure", "none"), ("hybrid-c", "open_clip")])
def test_a_bundle_is_counted_and_reads_nearly_its_data_file(
    bundle_of: Callable[..., Path], layout: str, form: str
) -> None:
    bundle = Bundle.open(bundle_of(layout, form, "fp16"), verify="size")
    work = work_of(bundle)
    stored = (bundle.folder / "model.onnx.data").stat().st_size
    assert 0.9 * stored < work.weights.size_bytes <= stored + (bundle.folder / "model.onnx").stat().st_size
    assert work.ends.size_bytes == 4 * work.ends.elements


def test_no_weight_is_read_to_count_the_work(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_of("pure", "none", "fp16"), verify="size")
    (tmp_path / "model.onnx").write_bytes(bundle.model_path.read_bytes())
    assert work_of(Bundle(tmp_path, bundle.manifest, bundle.manifest_sha256)) == work_of(bundle)


sizes = st.integers(1, 9)


@settings(max_examples=30, deadline=None)
@given(st.lists(sizes, max_size=2), sizes, sizes, sizes)
def test_a_product_has_two_operations_for_each_multiply_add(
    batch: list[int], rows: int, inner: int, columns: int
) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = model_of(
        [node],
        {"x": (HALF, (*batch, rows, inner))},
        {"y": (HALF, (*batch, rows, columns))},
        {"w": (HALF, (inner, columns))},
    )
    work = count_work(model, "it")
    assert work.operations == 2 * math.prod(batch) * rows * inner * columns
    assert work.weights.size_bytes == 2 * inner * columns
    moved = inner * columns + math.prod(batch) * rows * (inner + columns)
    assert work.bytes_read == 2 * moved
    assert work.in_precision(4).bytes_read == 4 * moved


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_sums_over_the_inner_axis_transposed_or_not(transposed: int) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=transposed)
    given_shape = (5, 3) if transposed else (3, 5)
    weights = {"w": (FLOAT, (5, 7)), "b": (FLOAT, (7,))}
    model = model_of([node], {"x": (FLOAT, given_shape)}, {"y": (FLOAT, (3, 7))}, weights)
    assert count_work(model, "it").operations == linear(3, 5, 7)


def test_a_grouped_convolution_has_the_products_of_its_group_alone() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, kernel_shape=[3, 3])
    model = model_of(
        [node], {"x": (FLOAT, (1, 4, 8, 8))}, {"y": (FLOAT, (1, 6, 6, 6))}, {"w": (FLOAT, (6, 2, 3, 3))}
    )
    assert count_work(model, "it").operations == 2 * (6 * 6 * 6) * (2 * 3 * 3)


def gathering(more: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0), *more]
    outputs = {"rows": (HALF, (5, 8))} | ({"sums": (HALF, (8,))} if more else {})
    return model_of(nodes, {"ids": (INT32, (5,))}, outputs, {"table": (HALF, (1000, 8))})


def test_of_a_gathered_table_only_the_rows_are_read() -> None:
    work = count_work(gathering(), "it")
    assert (work.weights.elements, work.weights.size_bytes, work.ends.fixed_bytes) == (
        5 * 8,
        5 * 8 * 2,
        5 * 4,
    )


def test_a_table_that_something_else_reads_too_is_read_whole() -> None:
    whole = helper.make_node("ReduceMax", ["table", "axes"], ["sums"], keepdims=0)
    model = gathering([whole])
    model.graph.initializer.append(helper.make_tensor("axes", INT64, [1], [0]))
    assert count_work(model, "it").weights.elements == 1000 * 8


def test_a_weight_is_read_once_however_many_read_it_and_an_unused_one_never() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "w"], ["y"]),
    ]
    square = (FLOAT, (4, 4))
    model = model_of(nodes, {"x": square}, {"y": square}, {"w": square, "spare": (FLOAT, (99, 99))})
    assert count_work(model, "it").weights.elements == 16


@pytest.mark.parametrize(
    ("node", "named"),
    [
        (helper.make_node("Einsum", ["x", "x"], ["y"], equation="ij,jk->ik"), "ai.onnx::Einsum"),
        (
            helper.make_node("FusedGemm", ["x", "x"], ["y"], domain="com.microsoft"),
            "com.microsoft::FusedGemm",
        ),
    ],
)
def test_an_operator_whose_work_is_not_known_is_refused_by_name(node: onnx.NodeProto, named: str) -> None:
    model = model_of([node], {"x": (FLOAT, (4, 4))}, {"y": (FLOAT, (4, 4))}, {})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(BundleError, match=f"cannot count the work of the file: the work of .*{named}"):
        count_work(model, "the file")


def test_a_shape_that_is_not_fixed_is_refused_by_name() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = model_of([node], {"x": (FLOAT, ("frames", 4))}, {"y": (FLOAT, ("frames", 4))}, {})
    with pytest.raises(BundleError, match="the shape of 'x' is not fixed"):
        count_work(model, "it")


def test_an_empty_input_is_refused_by_name() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = model_of([node], {"x": (FLOAT, (0, 4))}, {"y": (FLOAT, (0, 4))}, {})
    with pytest.raises(BundleError, match="'x' is empty"):
        count_work(model, "it")


def test_shapes_that_contradict_each_other_are_refused() -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    model = model_of([node], {"x": (FLOAT, (3, 4))}, {"y": (FLOAT, (3, 4))}, {})
    with pytest.raises(BundleError, match="its shapes contradict each other"):
        count_work(model, "it")


def test_a_file_that_is_no_model_is_refused_with_its_path(
    bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = Bundle.open(bundle_of("pure", "none", "fp16"), verify="size")
    (tmp_path / "model.onnx").write_bytes(b"\xff not a model")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read") as caught:
        work_of(Bundle(tmp_path, bundle.manifest, bundle.manifest_sha256))
    assert "Export the bundle again" in caught.value.hint


# bits of a number as onnx.proto packs it; the numbers of the enumeration, so that an older onnx knows them too
PACKED = {
    "INT8": (3, 8),
    "UINT8": (2, 8),
    "INT4": (22, 4),
    "UINT4": (21, 4),
    "INT2": (26, 2),
    "FLOAT4E2M1": (23, 4),
    "FLOAT8E4M3FN": (17, 8),
    "FLOAT8E5M2": (19, 8),
    "FLOAT8E8M0": (24, 8),
    "FLOAT6E2M3": (27, 6),
    "INT16": (5, 16),
    "INT32": (INT32, 32),
    "INT64": (INT64, 64),
    "BOOL": (9, 8),
    "COMPLEX64": (14, 64),
}


def cast_weight(dtype: int, elements: int) -> onnx.ModelProto:
    """A graph that widens one weight of a dtype and adds it to its input."""
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=FLOAT),
        helper.make_node("Add", ["x", "wide"], ["y"]),
    ]
    shape = (FLOAT, (elements,))
    return model_of(nodes, {"x": shape}, {"y": shape}, {"w": (dtype, (elements,))})


@pytest.mark.parametrize("name", [name for name in PACKED if name in dict(TensorProto.DataType.items())])
@pytest.mark.parametrize("elements", [8192, 7])
def test_a_weight_of_every_dtype_counts_as_the_format_packs_it(name: str, elements: int) -> None:
    dtype, bits = PACKED[name]
    work = count_work(cast_weight(dtype, elements), "it")
    assert (work.weights.fixed_bytes, work.weights.size_bytes) == (math.ceil(elements * bits / 8), 0)
    assert work.bytes_read == work.weights.fixed_bytes + 2 * 4 * elements
    assert work.in_precision(2).bytes_read == work.weights.fixed_bytes + 2 * 2 * elements


@pytest.mark.parametrize("dtype", [FLOAT, HALF, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_a_weight_that_follows_the_precision_has_the_size_of_the_precision(dtype: int) -> None:
    work = count_work(cast_weight(dtype, 100), "it")
    assert (work.weights.fixed_bytes, work.weights.elements, work.in_precision(4).weights.size_bytes) == (
        0,
        100,
        400,
    )


def test_an_int8_weight_behind_its_scale_counts_and_not_the_scale_alone() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["wide"]),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    weights = {"w": (TensorProto.INT8, (64, 128)), "scale": (FLOAT, ())}
    model = model_of(nodes, {"x": (FLOAT, (1, 64))}, {"y": (FLOAT, (1, 128))}, weights)
    work = count_work(model, "it")
    assert (work.weights.fixed_bytes, work.weights.size_bytes) == (8192, 4)


def test_every_dtype_that_onnx_has_is_known_or_refused_by_name() -> None:
    unknown = {name for name, dtype in TensorProto.DataType.items() if size_bytes(8, dtype) is None}
    assert unknown == {"UNDEFINED", "STRING"}


@pytest.mark.parametrize(("dtype", "named"), [(0, "UNDEFINED"), (8, "STRING"), (99, "number 99")])
def test_a_weight_whose_size_is_not_known_is_refused_by_name(dtype: int, named: str) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = model_of([node], {"x": (FLOAT, (4,))}, {"y": (FLOAT, (4,))}, {"words": (dtype, (3,))})
    with pytest.raises(BundleError, match=f"'words' has the dtype {named}, whose size is not known"):
        count_work(model, "it")


@pytest.mark.parametrize("operator", ["Reshape", "Expand", "ReduceSum", "Unsqueeze"])
def test_constants_that_say_what_to_do_are_read_by_no_step(operator: str) -> None:
    shapes = {"Reshape": (2, 2), "Expand": (3, 4), "ReduceSum": (1,), "Unsqueeze": (1, 4)}
    values = {"Reshape": [2, 2], "Expand": [3, 4], "ReduceSum": [0], "Unsqueeze": [0]}[operator]
    node = helper.make_node(operator, ["x", "what"], ["y"])
    model = model_of([node], {"x": (FLOAT, (4,))}, {"y": (FLOAT, shapes[operator])}, {})
    model.graph.initializer.append(helper.make_tensor("what", INT64, [len(values)], values))
    assert count_work(model, "it").weights.fixed_bytes == 0


def test_a_table_of_integers_counts_by_its_gathered_rows() -> None:
    node = helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0)
    table = {"table": (TensorProto.INT8, (1000, 8))}
    model = model_of([node], {"ids": (INT32, (5,))}, {"rows": (TensorProto.INT8, (5, 8))}, table)
    assert count_work(model, "it").weights.fixed_bytes == 5 * 8


@pytest.mark.parametrize(
    ("dtype", "elements", "counted"), [(FLOAT, 6, (24, 0)), (TensorProto.INT8, 6, (0, 6))]
)
def test_a_weight_in_a_node_of_its_own_counts_like_any_other(
    dtype: int, elements: int, counted: tuple[int, int]
) -> None:
    value = helper.make_tensor("v", dtype, [elements], [1] * elements)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=value),
        helper.make_node("Cast", ["w"], ["wide"], to=FLOAT),
        helper.make_node("Add", ["x", "wide"], ["y"]),
    ]
    model = model_of(nodes, {"x": (FLOAT, (elements,))}, {"y": (FLOAT, (elements,))}, {})
    work = count_work(model, "it")
    assert (work.weights.size_bytes, work.weights.fixed_bytes) == counted


def test_sparse_weights_are_refused() -> None:
    model = cast_weight(FLOAT, 4)
    model.graph.sparse_initializer.add()
    with pytest.raises(BundleError, match="it has sparse weights"):
        count_work(model, "it")


def test_a_graph_whose_operator_is_no_text_is_not_taken_for_one_without_work() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y]))
    odd = onnx.load_model_from_string(model.SerializeToString().replace(b"Relu", b"Re\xff\xfe"))
    with pytest.raises(BundleError, match="cannot count the work of it"):
        count_work(odd, "it")
