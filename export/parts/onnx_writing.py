"""Writing an ONNX file around nodes and initialisers that are copied as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.bundle.onnx_wire import BYTES, VARINT

from .onnx_reading import DATA_TYPES, Initialiser, Node

_TYPE_NUMBERS = {dtype: number for number, dtype in DATA_TYPES.items()}


def onnx_bytes(
    frame: Iterable[tuple[int, int | bytes]],
    name: str,
    nodes: Iterable[Node],
    initialisers: Iterable[Initialiser],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> bytes:
    """A model of these nodes.

    Args:
        frame: the fields of the ModelProto beside its graph.
        name: of the graph.
        nodes: in order.
        initialisers: those that the nodes take.
        inputs: of the graph.
        outputs: of the graph.
    """
    graph = [
        *(_field(1, node.content) for node in nodes),
        _field(2, name.encode()),
        *(_field(5, tensor.content) for tensor in initialisers),
        *(_field(11, _value(spec)) for spec in inputs),
        *(_field(12, _value(spec)) for spec in outputs),
    ]
    return b"".join([*(_field(number, value) for number, value in frame), _field(7, b"".join(graph))])


def _value(spec: TensorSpec) -> bytes:
    """A ValueInfoProto: name, then type, tensor type, dtype and dimensions."""
    shape = b"".join(_field(1, _field(1, size)) for size in spec.shape)
    tensor = _field(1, _TYPE_NUMBERS[spec.dtype]) + _field(2, shape)
    return _field(1, spec.name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)
