"""Which tensors of an ONNX file keep their data elsewhere, read from the protobuf itself.

Engines follow `external_data` on their own, and differ in what they refuse: releases of ONNX Runtime read
absolute paths, "..", and addresses in memory, TensorRT's parser follows links. So the file is walked here
first, without the package onnx, which a robot does not have.

The walk is stricter than a protobuf parser, so that no parser sees more in the bytes than it: a field that
ONNX does not define, one of another wire type, a single field given twice (which parsers merge) and a
group are refused. Fields and numbers are of onnx.proto as of ONNX 1.23 (IR version 14). `Walk` is for
whoever needs more of a graph than its external data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DEPTH = 32  # messages within messages; a graph without subgraphs takes 5
MAX_FIELDS = 2_000_000  # a full-size hybrid has 0.1 million

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


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
class Message:
    """The fields of a message type: single and repeated ones, and those that hold another message to walk."""

    name: str
    single: frozenset[int]
    repeated: frozenset[int]
    children: dict[int, Message] = field(default_factory=dict)


def message_kind(name: str, single: tuple[int, ...], repeated: tuple[int, ...]) -> Message:
    return Message(name, frozenset(single), frozenset(repeated))


_ENTRY = message_kind("StringStringEntryProto", (1, 2), ())
TENSOR = message_kind("TensorProto", (2, 3, 8, 9, 12, 14), (1, 4, 5, 6, 7, 10, 11, 13, 16))
_SPARSE = message_kind("SparseTensorProto", (1, 2), (3,))
ATTRIBUTE = message_kind("AttributeProto", (1, 2, 3, 4, 5, 6, 13, 14, 20, 21, 22), (7, 8, 9, 10, 11, 15, 23))
NODE = message_kind("NodeProto", (3, 4, 6, 7, 8), (1, 2, 5, 9, 10))
GRAPH = message_kind("GraphProto", (2, 10), (1, 5, 11, 12, 13, 14, 15, 16))
_FUNCTION = message_kind("FunctionProto", (1, 8, 10, 13), (4, 5, 6, 7, 9, 11, 12, 14))
_TRAINING = message_kind("TrainingInfoProto", (1, 2), (3, 4))
MODEL = message_kind("ModelProto", (1, 2, 3, 4, 5, 6, 7), (8, 14, 20, 25, 26))

_SPARSE.children.update({1: TENSOR, 2: TENSOR})
ATTRIBUTE.children.update({5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: _SPARSE, 23: _SPARSE})
NODE.children.update({5: ATTRIBUTE})
GRAPH.children.update({1: NODE, 5: TENSOR, 15: _SPARSE})
_FUNCTION.children.update({7: NODE, 11: ATTRIBUTE})
_TRAINING.children.update({1: GRAPH, 2: GRAPH})
MODEL.children.update({7: GRAPH, 20: _TRAINING, 25: _FUNCTION})


def external_tensors(model: bytes) -> list[ExternalTensor]:
    """Every tensor with external data, wherever in the model it stands.

    Raises:
        WireError: the bytes are not a model, or one beyond the limits of this module.
    """
    walk = Walk(model)
    walk.message(MODEL, 0, len(model), 0)
    return walk.found


class Walk:
    """A walk over the bytes of a model, which may have `MAX_FIELDS` fields in all.

    Attributes:
        found: the tensors with external data that it came by.
    """

    def __init__(self, data: bytes) -> None:
        self.found: list[ExternalTensor] = []
        self._data = data
        self._fields_left = MAX_FIELDS

    def message(self, kind: Message, start: int, stop: int, depth: int) -> None:
        """Walk over a message and all within it.

        Raises:
            WireError: as of every method, the bytes do not hold what they must.
        """
        if depth > MAX_DEPTH:
            raise WireError(f"its messages are nested more than {MAX_DEPTH} deep")
        if kind is TENSOR:
            self.tensor(start, stop)
            return
        children = kind.children
        for number, wire, at, end in self.fields(kind, start, stop):
            child = children.get(number)
            if child is not None:
                require(wire, BYTES, kind, number)
                self.message(child, at, end, depth + 1)

    def fields(self, kind: Message, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
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
            if wire == BYTES:
                size, value = self._varint(at, stop)
                end = value + size
            elif wire == VARINT:
                value, end = self._varint(at, stop)
            elif wire in (FIXED32, FIXED64):
                end = at + (4 if wire == FIXED32 else 8)
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

    def text(self, at: int, end: int) -> str:
        """A name: UTF-8, as protobuf has it."""
        try:
            return self._data[at:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError("a name is not UTF-8") from error

    def tensor(self, start: int, stop: int) -> tuple[ExternalTensor, bool]:
        """A tensor, and whether its data is external."""
        numbers: dict[int, int] = {}
        dims: list[int] = []
        entries: dict[str, str] = {}
        name = ""
        for number, wire, at, end in self.fields(TENSOR, start, stop):
            if number == 1:
                dims += self._numbers(wire, at, end)
            elif number in (2, 14):
                require(wire, VARINT, TENSOR, number)
                numbers[number] = at
            elif number == 8:
                require(wire, BYTES, TENSOR, number)
                name = self._data[at:end].decode("utf-8", "replace")
            elif number == 13:
                require(wire, BYTES, TENSOR, number)
                self._entry(entries, at, end)
        location = numbers.get(14, 0)
        if location not in (0, 1):
            raise WireError(f"tensor {name!r} has data location {location}, which ONNX does not define")
        tensor = ExternalTensor(name, tuple(dims), numbers.get(2, 0), entries)
        is_external = location == 1 or bool(entries)
        if is_external:
            self.found.append(tensor)
        return tensor, is_external

    def _entry(self, entries: dict[str, str], start: int, stop: int) -> None:
        pair = {1: "", 2: ""}
        for number, wire, at, end in self.fields(_ENTRY, start, stop):
            require(wire, BYTES, _ENTRY, number)
            try:
                pair[number] = self._data[at:end].decode("utf-8")
            except UnicodeDecodeError as error:
                raise WireError("an entry of external data is not UTF-8") from error
        if pair[1] in entries:
            raise WireError(f"a tensor's external data has two entries {pair[1]!r}")
        entries[pair[1]] = pair[2]

    def _numbers(self, wire: int, at: int, end: int) -> list[int]:
        """Values of a repeated integer, one by one or packed."""
        if wire == VARINT:
            return [at]
        require(wire, BYTES, TENSOR, 1)
        values = []
        while at < end:
            value, at = self._varint(at, end)
            values.append(value)
            self._fields_left -= 1
        return values


def require(wire: int, wanted: int, kind: Message, number: int) -> None:
    """Refuse a field of another wire type."""
    if wire != wanted:
        raise WireError(f"field {number} of a {kind.name} has wire type {wire}, not {wanted}")
