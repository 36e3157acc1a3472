"""What one step must read and compute, counted in the graph that an engine is built from.

The least that any engine has to do, not what one does:

* Every weight is read once a step, whatever reads it how often. Of a table that is only ever gathered from
  (the token embedding), the gathered rows are read, and no row is taken for another's double.
* Inputs and outputs cross the memory once. Values in between are not counted: they could stay in caches
  and registers. Nor are constants that say what to do (shapes, axes, bounds): an engine folds them when it is
  built. All others count, whatever their dtype; one whose size is not known is an error.
* Operations are two for each multiply-add of MatMul, Gemm and Conv. Elementwise work, normalisation and
  softmax are left out: they run beside the products, on other units, and are about 0.3 % of the operations
  of a full-size policy.

What the exporter folds into weights is not in the graph, so neither is it here, and PyTorch rows have the
same work as the engines: it is the task's. `torch.utils.flop_counter` on the PyTorch policy agrees within
1.4 % at full size, and to the last operation once what was folded or left out is added (`test_work.py`).

onnx-tool counts ONNX graphs too, is kept up, and finds the same products (tried on a tiny policy). But it
counts a gathered table whole and every value in between as memory, and adds elementwise operations to the
products, so that little more than a loop over the nodes would be left to use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import MODEL_NAME
from vla_edge.runtime.errors import BundleError

from .dtypes import dtype_name, follows_precision, is_settled, size_bytes

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]

# Operators with products inside that `_PRODUCTS` does not know, or with a body that runs an unknown number
# of times: to pass over one would make a floor that is too low look like a measured one.
_UNCOUNTED = (
    "Attention ConvInteger ConvTranspose DFT DeformConv Einsum GRU If LSTM Loop MatMulInteger QLinearConv "
    "QLinearMatMul RNN Scan"
)
UNCOUNTED = frozenset(_UNCOUNTED.split())


class Numbers(Struct, frozen=True, kw_only=True):
    """Numbers that cross the memory.

    Attributes:
        elements: how many of FP16 to FP64 there are.
        size_bytes: the size of these.
        fixed_bytes: of all others, the same in every precision: integers, FP8 and less.
    """

    elements: int = 0
    size_bytes: int = 0
    fixed_bytes: int = 0

    def in_precision(self, precision_bytes: int) -> Numbers:
        return replace(self, size_bytes=self.elements * precision_bytes)

    def __add__(self, other: Numbers) -> Numbers:
        return Numbers(
            elements=self.elements + other.elements,
            size_bytes=self.size_bytes + other.size_bytes,
            fixed_bytes=self.fixed_bytes + other.fixed_bytes,
        )


class Work(Struct, frozen=True, kw_only=True):
    """The work of one step, of all frames of its batch.

    Attributes:
        operations: two for each multiply-add of the matrix products and convolutions.
        weights: each counted once.
        ends: inputs and outputs.
    """

    operations: int
    weights: Numbers
    ends: Numbers

    @property
    def bytes_read(self) -> int:
        """All bytes that must cross the memory: weights, inputs and outputs."""
        both = self.weights + self.ends
        return both.size_bytes + both.fixed_bytes

    def in_precision(self, precision_bytes: int) -> Work:
        """The same work with all numbers of FP16 to FP64 in this size: 4 in FP32, 2 in FP16."""
        weights, ends = (numbers.in_precision(precision_bytes) for numbers in (self.weights, self.ends))
        return Work(operations=self.operations, weights=weights, ends=ends)

    def times_ms(self, memory_gb_s: float, rate_tflops: float) -> tuple[float, float]:
        """Milliseconds that reading and computing take at these rates, 10^9 bytes and 10^12 operations a second."""
        return self.bytes_read / memory_gb_s / 1e6, self.operations / rate_tflops / 1e9


def work_of(bundle: Bundle) -> Work:
    """Count the work of a bundle's graph; its weights are not read.

    Raises:
        BundleError: the graph cannot be read, has shapes that are not fixed, or an operator whose work
            is not known.
    """
    path = bundle.folder / MODEL_NAME  # without its data file, which a check of the graph would want
    return count_work(_load(path), str(path))


def count_work(model: onnx.ModelProto, origin: str) -> Work:
    """Count the work of a model whose shapes are all fixed; the content of its weights may be absent.

    Raises:
        BundleError: as for `work_of`; names `origin`.
    """
    graph = _Graph(model, origin)
    ends = [value for value in model.graph.input if value.name not in graph.constants]
    ends += model.graph.output
    return Work(
        operations=sum(map(graph.operations, model.graph.node)),
        weights=sum((graph.describe_weight(*constant) for constant in graph.constants.items()), Numbers()),
        ends=sum(map(graph.describe, ends), Numbers()),
    )


class _Graph:
    """A model with the shape of every value, and who reads it."""

    def __init__(self, model: onnx.ModelProto, origin: str) -> None:
        self._origin = origin
        if model.graph.sparse_initializer:
            self._refuse("it has sparse weights")
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants |= dict(self._constant_nodes(model.graph.node))
        self._shapes = self._infer(model)
        self._readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in model.graph.node:
            for at, name in enumerate(node.input):
                self._readers.setdefault(name, []).append((node, at))
        self._outputs = {value.name for value in model.graph.output}

    def shape(self, name: str) -> Shape:
        if name not in self._shapes:
            self._refuse(f"the shape of {name!r} is not known")
        return self._shapes[name]

    def describe_weight(self, name: str, tensor: onnx.TensorProto) -> Numbers:
        """What a step reads of a constant: all, the rows gathered, or nothing if no step reads it."""
        whole = math.prod(self.shape(name))
        readers = [
            (node, place)
            for node, place in self._readers.get(name, [])
            if not is_settled(node.op_type, place)
        ]
        if name not in self._outputs and all(
            node.op_type == "Gather" and place == 0 for node, place in readers
        ):
            whole = min(whole, sum(math.prod(self.shape(node.output[0])) for node, _ in readers))
        return self._value(name, whole, tensor.data_type)

    def operations(self, node: onnx.NodeProto) -> int:
        if not isinstance(node.op_type, str):  # bytes, where they are no UTF-8
            self._refuse("the name of an operator is no text")
        if node.domain not in ("", "ai.onnx") or node.op_type in UNCOUNTED:
            self._refuse(f"the work of its operator {node.domain or 'ai.onnx'}::{node.op_type} is not known")
        if node.op_type not in _PRODUCTS:
            return 0
        # every output number sums so many products
        summed = _PRODUCTS[node.op_type](node, [self.shape(name) for name in node.input if name])
        return 2 * math.prod(self.shape(node.output[0])) * summed

    def describe(self, value: onnx.ValueInfoProto) -> Numbers:
        dtype = value.type.tensor_type.elem_type
        elements = math.prod(self.shape(value.name))
        if elements < 1:
            self._refuse(f"{value.name!r} is empty")
        return self._value(value.name, elements, dtype)

    def _value(self, name: str, elements: int, dtype: int) -> Numbers:
        size = size_bytes(elements, dtype)
        if size is None:
            self._refuse(f"{name!r} has the dtype {dtype_name(dtype)}, whose size is not known")
        if follows_precision(dtype):
            return Numbers(elements=elements, size_bytes=size)
        return Numbers(fixed_bytes=size)

    def _constant_nodes(self, nodes: Sequence[onnx.NodeProto]) -> Iterator[tuple[str, onnx.TensorProto]]:
        """Constants that stand in nodes of their own; a number or two in an attribute are no weight."""
        for node in nodes:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name == "sparse_value":
                    self._refuse("it has sparse weights")
                if attribute.name == "value":
                    yield node.output[0], attribute.t

    def _infer(self, model: onnx.ModelProto) -> dict[str, Shape]:
        from onnx import shape_inference

        try:
            graph = shape_inference.infer_shapes(model, strict_mode=True).graph
        except (shape_inference.InferenceError, ValueError) as error:
            self._refuse(f"its shapes contradict each other: {error}")
        shapes = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            sizes = tuple(size.dim_value for size in tensor.shape.dim)
            if not tensor.HasField("shape") or not all(
                size.HasField("dim_value") for size in tensor.shape.dim
            ):
                self._refuse(f"the shape of {value.name!r} is not fixed")
            shapes[value.name] = sizes
        for name, sizes in shapes.items():
            if any(size < 0 for size in sizes):
                self._refuse(f"the shape of {name!r} is {list(sizes)}")
        return shapes

    def _refuse(self, problem: str) -> NoReturn:
        raise BundleError(f"cannot count the work of {self._origin}: {problem}.", "Export the bundle again.")


def _load(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}.", "Export the bundle again.") from error


def _gemm(node: onnx.NodeProto, shapes: Sequence[Shape]) -> int:
    """A' @ B' + C with A [M, K], or [K, M] where `transA` is set; C is not counted."""
    transposed = any(item.name == "transA" and item.i for item in node.attribute)
    return shapes[0][0 if transposed else 1]


# how many products each number of an operator's output sums, from its node and the shapes of its inputs
_PRODUCTS: Mapping[str, Callable[[onnx.NodeProto, Sequence[Shape]], int]] = {
    "Conv": lambda node, shapes: math.prod(shapes[1][1:]),  # [out channels, in channels / groups, *window]
    "Gemm": _gemm,
    "MatMul": lambda node, shapes: shapes[0][-1],  # [.., M, K] @ [.., K, N]
}
