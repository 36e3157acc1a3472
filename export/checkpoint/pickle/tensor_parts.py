"""What a pickled tensor is described by: sizes, strides and devices, checked before torch is given any of them."""

from __future__ import annotations

import math
from typing import Any

from vla_edge.export.checkpoint.file.archive import Record

from .limits import PickleLimitError, UnreadablePickleError

MAX_AXES = 64
_MAX_SIZE = 1 << 60
# A view can say that one value is a billion. Real ones that repeat values, such as an expanded mask, are small.
_MAX_REPEATED_BYTES = 64 << 20
_MAX_NAME = 40
_MAX_DEVICE_INDEX = 1 << 16


def size_of(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_SIZE:
        # never the text of a value that holds others: it may be of any length
        raise UnreadablePickleError(f"{what} of it is {value if type(value) is int else _kind(value)}")
    return value


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) <= MAX_AXES
        and all(type(size) is int and abs(size) <= _MAX_SIZE for size in value)
    )


def device_of(args: tuple[Any, ...]) -> str:
    """The name of a device and perhaps its number, as in "cuda:1"."""
    name, index = args if len(args) == 2 else (*args, None) if len(args) == 1 else ("", None)
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
        raise UnreadablePickleError("a torch.device of it has no proper name")
    if index is None:
        return name
    if type(index) is not int or abs(index) > _MAX_DEVICE_INDEX:
        raise UnreadablePickleError("a torch.device of it has no proper number")
    return f"{name}:{index}"


def sizes_of(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > MAX_AXES:
        raise UnreadablePickleError(f"{what} of it is no short tuple")
    return tuple(size_of(size, what) for size in value)


def check_extent(
    record: Record, itemsize: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    """Whether every value of a view lies in its record, and none is repeated without end."""
    if len(shape) != len(stride):
        raise UnreadablePickleError("a tensor of it has a shape and strides of different lengths")
    if math.prod(max(size, 1) for size in shape) > _MAX_SIZE:
        raise UnreadablePickleError(f"a tensor of it has the shape {list(shape)}")
    count = math.prod(shape)
    last = (
        offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if count else offset
    )
    available = record.size_bytes // itemsize
    if last > available - bool(count):
        raise UnreadablePickleError(
            f"a tensor of shape {list(shape)} reaches beyond its storage of {available:,} values"
        )
    if count * itemsize > max(record.size_bytes, _MAX_REPEATED_BYTES):
        raise PickleLimitError(
            f"a tensor of shape {list(shape)} repeats the {available:,} values of its storage without end; "
            f"at most {_MAX_REPEATED_BYTES:,} bytes are read"
        )
