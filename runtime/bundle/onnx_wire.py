"""Which tensors of an ONNX file keep their data elsewhere, read from the protobuf itself.

Engines follow `external_data` on their own, and differ in what they refuse: releases of ONNX Runtime read
absolute paths, "..", and addresses in memory, TensorRT's parser follows links. So the file is walked here
first, without the package onnx, which a robot does not have.

The walk is stricter than a protobuf parser, so that no parser sees more in the bytes than it: a field that
ONNX does not define, one of another wire type, a single field given twice (which parsers merge) and a
group are refused. Fields and numbers are of onnx.proto as of ONNX 1.23 (IR version 14).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DEPTH = 32  # messages within messages; a graph without subgraphs takes 5
MAX_FIELDS = 2_000_000  # a full-size hybrid has 0.1 million

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not an ONNX model that every parser reads alike; a clause that says why."""


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor whose data is not in the file: its shape, data type number, and entries as they stand."""

    name: str
    dims: tuple[int, ...]
    data_type: int
    entries: dict[str, str]


@dataclass(frozen=True)
class _Message:
    """The fields of a message type: single and repeated ones, and those that hold another message to walk."""

    name: str
    single: frozenset[int]
    repeated: frozenset[int]
    children: dict[int, _Message] = field(default_factory=dict)


def _message(name: str, single: tuple[int, ...], repeated: tuple[int, ...]) -> _Message:
    return _Message(name, frozenset(single), frozenset(repeated))


_ENTRY = _message("StringStringEntryProto", (1, 2), ())
_TENSOR = _message("TensorProto", (2, 3, 8, 9, 12, 14), (1, 4, 5, 6, 7, 10, 11, 13, 16))
_SPARSE = _message("SparseTensorProto", (1, 2), (3,))
_ATTRIBUTE = _message("AttributeProto", (1, 2, 3, 4, 5, 6, 13, 14, 20, 21, 22), (7, 8, 9, 10, 11, 15, 23))
_NODE = _message("NodeProto", (3, 4, 6, 7, 8), (1, 2, 5, 9, 10))
_GRAPH = _message("GraphProto", (2, 10), (1, 5, 11, 12, 13, 14, 15, 16))
_FUNCTION = _message("FunctionProto", (1, 8, 10, 13), (4, 5, 6, 7, 9, 11, 12, 14))
_TRAINING = _message("TrainingInfoProto", (1, 2), (3, 4))
_MODEL = _message("ModelProto", (1, 2, 3, 4, 5, 6, 7), (8, 14, 20, 25, 26))

_SPARSE.children.update({1: _TENSOR, 2: _TENSOR})
_ATTRIBUTE.children.update({5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE})
_NODE.children.update({5: _ATTRIBUTE})
_GRAPH.children.update({1: _NODE, 5: _TENSOR, 15: _SPARSE})
_FUNCTION.children.update({7: _NODE, 11: _ATTRIBUTE})
_TRAINING.children.update({1: _GRAPH, 2: _GRAPH})
_MODEL.children.update({7: _GRAPH, 20: _TRAINING, 25: _FUNCTION})


def external_tensors(model: bytes) -> list[ExternalTensor]:
    """Every tensor with external data, wherever in the model it stands.

    Raises:
        WireError: the bytes are not a model, or one beyond the limits of this module.
    """
    walk = _Walk(model)
    walk.message(_MODEL, 0, len(model), 0)
    return walk.found


class _Walk:
    def __init__(self, data: bytes) -> None:
        self.found: list[ExternalTensor] = []
        self._data = data
        self._fields_left = MAX_FIELDS

    def message(self, kind: _Message, start: int, stop: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise WireError(f"its messages are nested more than {MAX_DEPTH} deep")
        if kind is _TENSOR:
            self._tensor(start, stop)
            return
        children = kind.children
        for number, wire, at, end in self._fields(kind, start, stop):
            child = children.get(number)
            if child is not None:
                _require(wire, _BYTES, kind, number)
                self.message(child, at, end, depth + 1)

    def _fields(self, kind: _Message, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type and the place of each field's value; for a varint the value stands in for its start."""
        data, at, single, repeated = self._data, start, kind.single, kind.repeated
        seen = set()
        while at < stop:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise WireError(f"it has more than {MAX_FIELDS} fields")
            tag, at = (data[at], at + 1) if data[at] < 0x80 else self._varint(at, stop)
            number, wire = tag >> 3, tag & 7
            if number in single:
                if number in seen:
                    raise WireError(f"field {number} of a {kind.name} is given twice")
                seen.add(number)
            elif number not in repeated:
                raise WireError(f"a {kind.name} has a field {number}, which ONNX does not define")
            value = at
            if wire == _BYTES:
                size, value = self._varint(at, stop)
                end = value + size
            elif wire == _VARINT:
                value, end = self._varint(at, stop)
            elif wire in (_FIXED32, _FIXED64):
                end = at + (4 if wire == _FIXED32 else 8)
            else:
                raise WireError(f"a {kind.name} has a field of wire type {wire}")
            if end > stop:
                raise WireError(f"a {kind.name} is cut short")
            yield number, wire, value, end
            at = end

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= stop:
                raise WireError("a number is cut short")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise WireError("a number has more than ten bytes")

    def _tensor(self, start: int, stop: int) -> None:
        numbers: dict[int, int] = {}
        dims: list[int] = []
        entries: dict[str, str] = {}
        name = ""
        for number, wire, at, end in self._fields(_TENSOR, start, stop):
            if number == 1:
                dims += self._numbers(wire, at, end)
            elif number in (2, 14):
                _require(wire, _VARINT, _TENSOR, number)
                numbers[number] = at
            elif number == 8:
                _require(wire, _BYTES, _TENSOR, number)
                name = self._data[at:end].decode("utf-8", "replace")
            elif number == 13:
                _require(wire, _BYTES, _TENSOR, number)
                self._entry(entries, at, end)
        location = numbers.get(14, 0)
        if location not in (0, 1):
            raise WireError(f"tensor {name!r} has data location {location}, which ONNX does not define")
        if location == 1 or entries:
            self.found.append(ExternalTensor(name, tuple(dims), numbers.get(2, 0), entries))

    def _entry(self, entries: dict[str, str], start: int, stop: int) -> None:
        pair = {1: "", 2: ""}
        for number, wire, at, end in self._fields(_ENTRY, start, stop):
            _require(wire, _BYTES, _ENTRY, number)
            try:
                pair[number] = self._data[at:end].decode("utf-8")
            except UnicodeDecodeError as error:
                raise WireError("an entry of external data is not UTF-8") from error
        if pair[1] in entries:
            raise WireError(f"a tensor's external data has two entries {pair[1]!r}")
        entries[pair[1]] = pair[2]

    def _numbers(self, wire: int, at: int, end: int) -> list[int]:
        """Values of a repeated integer, one by one or packed."""
        if wire == _VARINT:
            return [at]
        _require(wire, _BYTES, _TENSOR, 1)
        values = []
        while at < end:
            value, at = self._varint(at, end)
            values.append(value)
            self._fields_left -= 1
        return values


def _require(wire: int, wanted: int, kind: _Message, number: int) -> None:
    if wire != wanted:
        raise WireError(f"field {number} of a {kind.name} has wire type {wire}, not {wanted}")
