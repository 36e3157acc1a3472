"""What is needed of an ONNX file to cut it: nodes, initialisers, inputs and outputs, with the bytes of each.

Read from the protobuf itself (`runtime/bundle/onnx_wire.py`), as a robot has no package onnx. What could be cut
wrongly is refused: subgraphs, which take tensors from outside without telling, functions, and values that are
defined twice or used before they are made.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import TypeVar

from vla_edge.runtime.bundle.external_data import byte_range
from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.bundle.onnx_wire import (
    ATTRIBUTE,
    BYTES,
    GRAPH,
    MODEL,
    NODE,
    TENSOR,
    VARINT,
    Walk,
    WireError,
    message_kind,
    require,
)
from vla_edge.runtime.printable import one_line

# TensorProto.DataType of what crosses a border
DATA_TYPES = {1: "float32", 10: "float16", 6: "int32", 2: "uint8"}
_SUBGRAPHS = (6, 11)  # fields of an AttributeProto: a graph, and graphs
_LEFT_OUT = {15: "sparse initialisers", 14: "quantisation annotations"}  # fields of a GraphProto
_MOST_SHOWN = 100
MOST_NODES = 100_000  # and initialisers; a full-size hybrid has 2,494 nodes

_VALUE = message_kind("ValueInfoProto", (1, 2, 3), (4,))
_TYPE = message_kind("TypeProto", (1, 4, 5, 6, 7, 8, 9), ())
_TENSOR_TYPE = message_kind("TypeProto.Tensor", (1, 2), ())
_SHAPE = message_kind("TensorShapeProto", (), (1,))
_DIMENSION = message_kind("Dimension", (1, 2, 3), ())

_Any = TypeVar("_Any")


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its bytes as they stand in the file, and what they say.

    Attributes:
        content: of the NodeProto.
        inputs: names of tensors; "" for one that is left out.
        outputs: the same.
        meaning: operator, domain, overload, then the attributes' bytes, sorted: all but the names of values.
    """

    content: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    meaning: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Initialiser:
    """A weight or constant.

    Attributes:
        content: of the TensorProto.
        size_bytes: of its data.
        meaning: all fields but its name, its description and where its data lies, in the order of the file.
        offset: where in the data file, or None for data that is in `content`.
    """

    name: str
    content: bytes
    size_bytes: int
    meaning: tuple[bytes, ...]
    offset: int | None


@dataclass(frozen=True)
class OnnxFile:
    """The content of a model.

    Attributes:
        content: of the whole file.
        frame: the model's own fields beside the graph, encoded: (number, value).
        nodes: in their order, each behind what it needs.
        initialisers: by name.
        inputs: of the graph, as the file declares them; None where it is not of static shape or of another dtype.
        outputs: the same.
    """

    content: bytes
    frame: tuple[tuple[int, int | bytes], ...]
    nodes: tuple[Node, ...]
    initialisers: dict[str, Initialiser]
    inputs: dict[str, TensorSpec | None]
    outputs: dict[str, TensorSpec | None]


def read_onnx(content: bytes) -> OnnxFile:
    """Read a model.

    Raises:
        WireError: not a model, or one that cannot be cut; a clause that says why.
    """
    reading = _Reading(content)
    reading.model()
    file = OnnxFile(
        content,
        tuple(reading.frame),
        tuple(reading.nodes),
        reading.initialisers,
        reading.inputs,
        reading.outputs,
    )
    _check_order(file)
    return file


class _Reading:
    def __init__(self, content: bytes) -> None:
        self.frame: list[tuple[int, int | bytes]] = []
        self.nodes: list[Node] = []
        self.initialisers: dict[str, Initialiser] = {}
        self.inputs: dict[str, TensorSpec | None] = {}
        self.outputs: dict[str, TensorSpec | None] = {}
        self._content = content
        self._walk = Walk(content)

    def model(self) -> None:
        for number, wire, at, end in self._walk.fields(MODEL, 0, len(self._content)):
            if number == 7:
                require(wire, BYTES, MODEL, number)
                self._graph(at, end)
            elif number in (20, 25):
                raise WireError("it has functions or training information, which are not cut")
            elif wire == VARINT:
                self.frame.append((number, at))
            else:
                require(wire, BYTES, MODEL, number)
                self.frame.append((number, self._content[at:end]))

    def _graph(self, start: int, stop: int) -> None:
        for number, wire, at, end in self._walk.fields(GRAPH, start, stop):
            require(wire, BYTES, GRAPH, number)
            if number == 1:
                self.nodes.append(self._node(at, end))
                _bound(self.nodes, "nodes")
            elif number == 5:
                tensor = self._initialiser(at, end)
                _put(self.initialisers, tensor.name, tensor, "initialiser")
                _bound(self.initialisers, "initialisers")
            elif number in (11, 12):
                name, spec = self._value(at, end)
                _put(self.inputs if number == 11 else self.outputs, name, spec, "input or output")
            elif number in _LEFT_OUT:
                raise WireError(f"it has {_LEFT_OUT[number]}, which are not cut")

    def _node(self, start: int, stop: int) -> Node:
        walk, data = self._walk, self._content
        inputs: list[str] = []
        outputs: list[str] = []
        texts = {4: b"", 7: b"", 8: b""}
        attributes: list[bytes] = []
        for number, wire, at, end in walk.fields(NODE, start, stop):
            require(wire, BYTES, NODE, number)
            if number == 1:
                inputs.append(walk.text(at, end))
            elif number == 2:
                outputs.append(walk.text(at, end))
            elif number in texts:
                texts[number] = data[at:end]
            elif number == 5:
                self._attribute(at, end)
                attributes.append(data[at:end])
        meaning = (*texts.values(), *sorted(attributes))
        return Node(data[start:stop], tuple(inputs), tuple(outputs), meaning)

    def _attribute(self, start: int, stop: int) -> None:
        walk = self._walk
        before = len(walk.found)
        for number, wire, at, end in walk.fields(ATTRIBUTE, start, stop):
            if number in _SUBGRAPHS:
                raise WireError(
                    "a node has a subgraph (If, Loop, Scan), which may take tensors from outside it"
                )
            if number in ATTRIBUTE.children:
                require(wire, BYTES, ATTRIBUTE, number)
                walk.message(ATTRIBUTE.children[number], at, end, 4)
        if len(walk.found) > before:
            raise WireError("a node's attribute has external data, which is not cut")

    def _initialiser(self, start: int, stop: int) -> Initialiser:
        tensor, is_external = self._walk.tensor(start, stop)
        kept = []
        for number, wire, at, end in self._walk.fields(TENSOR, start, stop):
            if number not in (8, 12, 13, 14):
                value = b"%d" % at if wire == VARINT else self._content[at:end]
                kept.append(b"%d:%d:%s" % (number, wire, value))
        content = self._content[start:stop]
        offset, size = byte_range(tensor) if is_external else (None, len(content))
        if "\ufffd" in tensor.name:  # stands for bytes that are no text
            raise WireError("an initialiser's name is not UTF-8")
        return Initialiser(tensor.name, content, size, tuple(kept), offset)

    def _value(self, start: int, stop: int) -> tuple[str, TensorSpec | None]:
        name, spec = "", None
        for number, wire, at, end in self._walk.fields(_VALUE, start, stop):
            require(wire, BYTES, _VALUE, number)
            if number == 1:
                name = self._walk.text(at, end)
            elif number == 2:
                spec = self._type(at, end)
        return name, spec and TensorSpec(name=name, dtype=spec.dtype, shape=spec.shape)

    def _type(self, start: int, stop: int) -> TensorSpec | None:
        """Of a tensor of a known dtype and static shape."""
        walk, dtype, dims = self._walk, 0, list[int]()
        for number, wire, at, end in walk.fields(_TYPE, start, stop):
            if number != 1:
                return None
            require(wire, BYTES, _TYPE, number)
            for inner, inner_wire, inner_at, inner_end in walk.fields(_TENSOR_TYPE, at, end):
                if inner == 1:
                    require(inner_wire, VARINT, _TENSOR_TYPE, inner)
                    dtype = inner_at
                else:
                    require(inner_wire, BYTES, _TENSOR_TYPE, inner)
                    dims = [self._dimension(*place) for place in walk.fields(_SHAPE, inner_at, inner_end)]
        if dtype not in DATA_TYPES or not dims or not all(0 < dim < 1 << 28 for dim in dims):
            return None
        return TensorSpec(name="", dtype=DATA_TYPES[dtype], shape=tuple(dims))  # type: ignore[arg-type]

    def _dimension(self, number: int, wire: int, at: int, end: int) -> int:
        require(wire, BYTES, _SHAPE, number)
        fields = {inner: (kind, value) for inner, kind, value, _ in self._walk.fields(_DIMENSION, at, end)}
        kind, value = fields.get(1, (VARINT, 0))
        require(kind, VARINT, _DIMENSION, 1)
        return value


def _put(into: dict[str, _Any], name: str, value: _Any, kind: str) -> None:
    if name in into or not name:
        raise WireError(f"it has two {kind}s {shown(name)}, or one without a name")
    into[name] = value


def _bound(listed: Sized, kind: str) -> None:
    if len(listed) > MOST_NODES:
        raise WireError(f"it has more than {MOST_NODES} {kind}")


def _check_order(file: OnnxFile) -> None:
    """Every tensor is made once, before it is used, and what the graph returns is made by a node."""
    if both := file.inputs.keys() & file.initialisers.keys():
        raise WireError(f"its input {shown(min(both))} is an initialiser, too")
    known = file.inputs.keys() | file.initialisers.keys()
    made = set[str]()
    for node in file.nodes:
        for name in node.inputs:
            if name and name not in known and name not in made:
                raise WireError(f"a node takes {shown(name)}, which nothing before it makes")
        for name in filter(None, node.outputs):
            if name in known or name in made:
                raise WireError(f"{shown(name)} is made twice")
            made.add(name)
    if unmade := file.outputs.keys() - made:
        raise WireError(f"its output {shown(min(unmade))} is made by no node")


def shown(name: str) -> str:
    """A name from a file, for a message."""
    return repr(one_line(name)[:_MOST_SHOWN])
