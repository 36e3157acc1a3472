"""A small typed writer of ONNX graphs.

Every value knows its dtype and static shape, so a cast that is missing or a shape that does not fit is an
error here, with the name of the place, and not a parser's error on a robot. Large weights are not held:
each is a recipe (`Weight.load`) that is run once, while the data file is written (`weights.py`).

Writing the graph from shapes instead of tracing the modules is what keeps an export small and quick: no
module has to be materialised, every cast is stated, and the same input gives the same bytes. (The model
builder of onnxruntime-genai works the same way.) The price is that the forward pass stands here a second
time; parity with transformers' own modules on every export is what that is paid with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # Gelu needs 20; TensorRT 10.3 (JetPack 6.1) parses it
IR_VERSION = 10
INLINE_BYTES = 1024  # constants up to this size live in model.onnx

_ONNX_TYPE = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
_MOVE_VALUES = {"Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"} | {
    "Transpose",
    "Unsqueeze",
}


@dataclass(frozen=True)
class Value:
    """A tensor in the graph."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """An initializer kept in the data file; `load` gives its final content."""

    value: Value
    load: Callable[[], np.ndarray]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.value.shape) * np.dtype(self.value.dtype).itemsize


class GraphError(RuntimeError):
    """The graph is written wrongly: a fault of this package, not of its input."""


class GraphWriter:
    """Collects nodes, weights, inputs and outputs; `model` assembles them."""

    def __init__(self) -> None:
        self.weights: list[Weight] = []
        self.stages: dict[str, Value] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._results: list[Value] = []  # of the nodes, in their order
        self._cuts: dict[str, int] = {}  # number of nodes before each
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._scope: list[str] = []
        self._names: dict[str, int] = {}

    # Structure

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of what is written inside with a module's full path; the innermost scope counts."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> Value:
        value = Value(name, dtype, tuple(shape))
        self._inputs.append(value)
        return value

    def output(self, name: str, value: Value) -> Value:
        named = self.alias(name, value)
        self._outputs.append(named)
        return named

    def stage(self, name: str, value: Value) -> Value:
        """Give an intermediate value a stable name, so that parity can be measured there."""
        self.stages[name] = value
        return value

    def alias(self, name: str, value: Value) -> Value:
        """The same value under a name of the caller's, as which it can cross a cut."""
        return self._emit("Identity", [value], Value(name, value.dtype, value.shape))

    def cut(self, name: str) -> None:
        """Mark a place where the graph may be cut in two: what was written so far, and what will be.

        Worth it where little crosses; the graph itself stays as it is.
        """
        self._cuts[name] = len(self._nodes)

    def precompute(self, name: str, called: str, write: Callable[[], Value]) -> None:
        """Compute an input of the graph in it, by nodes that come before all others: no name of those changes.

        Args:
            name: of the input, which becomes the first stage, and all that crosses the first cut.
            called: the name of both.
            write: writes the nodes, their weights and inputs, and returns the value of that name.
        """
        before = next(value for value in self._inputs if value.name == name)
        self._inputs.remove(before)
        lists: tuple[list[Any], ...] = (self._nodes, self._results, self.weights, self._inputs)
        counts = [len(each) for each in lists]
        if (made := write()) != before:
            raise GraphError(f"{made} is precomputed in place of {before}")
        for each, count in zip(lists, counts, strict=True):
            each[:] = each[count:] + each[:count]
        added = len(self._nodes) - counts[0]
        self._cuts = {called: added, **{cut: count + added for cut, count in self._cuts.items()}}
        self.stages = {called: made, **self.stages}

    def weight(self, name: str, dtype: str, shape: Sequence[int], load: Callable[[], np.ndarray]) -> Value:
        if name in self._names:
            raise GraphError(f"weight {name} is written twice")
        self._names[name] = 1
        return self._add_weight(Value(name, dtype, tuple(shape)), load)

    def constant(self, array: np.ndarray) -> Value:
        """A small constant, shared when written again; a large one goes to the data file."""
        array = np.ascontiguousarray(array)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            value = Value(f"constants/{len(self._constants)}", str(array.dtype), array.shape)
            self._constants[key] = value
            if array.nbytes > INLINE_BYTES:
                self._add_weight(value, lambda: array)
        return self._constants[key]

    def scalar(self, number: float, dtype: str) -> Value:
        return self.constant(np.array(number, dtype=dtype))

    def node(
        self, op: str, inputs: Sequence[Value], dtype: str, shape: Sequence[int], **attributes: Any
    ) -> Value:
        return self._emit(op, inputs, Value(self._unique(op), dtype, tuple(shape)), **attributes)

    # Operations

    def cast(self, x: Value, dtype: str) -> Value:
        return x if x.dtype == dtype else self.node("Cast", [x], dtype, x.shape, to=_ONNX_TYPE[dtype])

    def matmul(self, a: Value, b: Value) -> Value:
        if a.shape[-1] != b.shape[-2]:
            raise GraphError(f"{self._place()}: matmul of {a.shape} and {b.shape}")
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return self.node("MatMul", [a, b], self._same_dtype(a, b), (*batch, a.shape[-2], b.shape[-1]))

    def binary(self, op: str, a: Value, b: Value) -> Value:
        return self.node(op, [a, b], self._same_dtype(a, b), np.broadcast_shapes(a.shape, b.shape))

    def add(self, a: Value, b: Value) -> Value:
        return self.binary("Add", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.binary("Mul", a, b)

    def unary(self, op: str, x: Value) -> Value:
        return self.node(op, [x], x.dtype, x.shape)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if math.prod(shape) != math.prod(x.shape):
            raise GraphError(f"{self._place()}: reshape of {x.shape} to {tuple(shape)}")
        if tuple(shape) == x.shape:
            return x
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], x.dtype, shape)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        return self.node("Transpose", [x], x.dtype, [x.shape[axis] for axis in perm], perm=list(perm))

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        if len(values) == 1:
            return values[0]
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.node("Concat", values, self._same_dtype(*values), shape, axis=axis)

    def slice(self, x: Value, axis: int, start: int, stop: int) -> Value:
        """x[..., start:stop, ...] along one axis; static bounds."""
        if not 0 <= start < stop <= x.shape[axis]:
            raise GraphError(f"{self._place()}: slice {start}:{stop} of {x.shape} on axis {axis}")
        if (start, stop) == (0, x.shape[axis]):
            return x
        shape = list(x.shape)
        shape[axis] = stop - start
        bounds = [self.constant(np.array([number], np.int64)) for number in (start, stop, axis)]
        return self.node("Slice", [x, *bounds], x.dtype, shape)

    def pick(self, x: Value, axis: int, index: int) -> Value:
        """x[..., index, ...]: like `slice` of one, without the axis."""
        one = self.slice(x, axis, index, index + 1)
        return self.reshape(one, [size for at, size in enumerate(x.shape) if at != axis])

    def broadcast(self, x: Value, shape: Sequence[int]) -> Value:
        if x.shape == tuple(shape):
            return x
        return self.node("Expand", [x, self.constant(np.array(shape, np.int64))], x.dtype, shape)

    def gather_rows(self, table: Value, ids: Value) -> Value:
        return self.node("Gather", [table, ids], table.dtype, (*ids.shape, table.shape[-1]), axis=0)

    def softmax(self, x: Value) -> Value:
        return self.node("Softmax", [x], x.dtype, x.shape, axis=-1)

    def layer_norm(self, x: Value, gain: Value, bias: Value, epsilon: float) -> Value:
        self._same_dtype(x, gain, bias)
        return self.node("LayerNormalization", [x, gain, bias], x.dtype, x.shape, axis=-1, epsilon=epsilon)

    def reduce(self, op: str, x: Value, axis: int, keepdims: bool = False) -> Value:
        shape = [size for at, size in enumerate(x.shape) if at != axis % len(x.shape)]
        if keepdims:
            shape.insert(axis % len(x.shape), 1)
        axes = self.constant(np.array([axis], np.int64))
        return self.node(op, [x, axes], x.dtype, shape, keepdims=int(keepdims))

    # Result

    def model(self, producer_version: str, graph_name: str) -> onnx.ModelProto:
        """The model without the content of its weights (see `weights.write_weights`)."""
        graph = helper.make_graph(
            self._nodes,
            graph_name,
            [_info(value) for value in self._inputs],
            [_info(value) for value in self._outputs],
            initializer=[
                _inline(value, key) for key, value in self._constants.items() if not self._is_weight(value)
            ],
            value_info=[_info(value) for value in self.stages.values() if value not in self._outputs],
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="vla-edge", opset_imports=opset, ir_version=IR_VERSION)
        model.producer_version = producer_version
        return model

    @property
    def float32_operators(self) -> tuple[str, ...]:
        """The operators whose results are float32, sorted; without those that only move or convert values."""
        computed = zip(self._nodes, self._results, strict=True)
        return tuple(
            sorted({node.op_type for node, value in computed if value.dtype == "float32"} - _MOVE_VALUES)
        )

    @property
    def cuts(self) -> dict[str, tuple[Value, ...]]:
        """By the name of each cut all tensors that cross it, but for the graph's own inputs."""
        found = {}
        for cut, count in self._cuts.items():
            needed = {name for node in self._nodes[count:] for name in node.input}
            found[cut] = tuple(value for value in self._results[:count] if value.name in needed)
        return found

    @property
    def inputs(self) -> tuple[Value, ...]:
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(self._outputs)

    def _add_weight(self, value: Value, load: Callable[[], np.ndarray]) -> Value:
        self.weights.append(Weight(value, load))
        return value

    def _emit(self, op: str, inputs: Sequence[Value], out: Value, **attributes: Any) -> Value:
        names = [value.name for value in inputs]
        self._nodes.append(helper.make_node(op, names, [out.name], name=f"{out.name}", **attributes))
        self._results.append(out)
        return out

    def _unique(self, leaf: str) -> str:
        name = f"{self._scope[-1]}/{leaf}" if self._scope else leaf
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    def _same_dtype(self, *values: Value) -> str:
        dtypes = {value.dtype for value in values}
        if len(dtypes) != 1:
            raise GraphError(f"{self._place()}: mixed dtypes {[(v.name, v.dtype) for v in values]}")
        return dtypes.pop()

    def _is_weight(self, value: Value) -> bool:
        return any(weight.value is value for weight in self.weights)

    def _place(self) -> str:
        return self._scope[-1] if self._scope else "graph"


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, _ONNX_TYPE[value.dtype], value.shape)


def _inline(value: Value, key: tuple[str, tuple[int, ...], bytes]) -> onnx.TensorProto:
    array = np.frombuffer(key[2], dtype=key[0]).reshape(key[1])
    return numpy_helper.from_array(array, value.name)
