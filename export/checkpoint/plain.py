"""Values from a checkpoint as JSON could hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_edge.export.checkpoint.pickle.arrays import LISTED_VALUES, Array, ArrayType
from vla_edge.export.checkpoint.pickle.limits import LongText
from vla_edge.export.checkpoint.pickle.names import Described, Reference
from vla_edge.export.checkpoint.pickle.stored_tensors import Storage, UnreadableTensor

# Deeper nesting than any configuration has; also what ends a value that contains itself.
_DEEPEST = 20
# More values than anybody reads; also what ends lists that contain one list many times.
_MOST = 100_000
_LONGEST_BYTES = 64
_LONGEST_KEY = 200


def plain(value: Any, mentioned: Mapping[int, str] | None = None) -> Any:
    """A value from a container as plain data: larger tensors and arrays become a description.

    What is nested deeper than 20 levels, and what follows the first 100,000 values, becomes "...".

    Args:
        value: from `Container.content`.
        mentioned: by their `id`, parts of it that a text stands for.
    """
    return _Plain(mentioned or {}).of(value, _DEEPEST)


class _Plain:
    def __init__(self, mentioned: Mapping[int, str]) -> None:
        self._left = _MOST
        self._mentioned = mentioned

    def of(self, value: Any, levels: int) -> Any:
        self._left -= 1
        if levels == 0 or self._left < 0:
            return "..."
        if id(value) in self._mentioned:
            return self._mentioned[id(value)]
        if isinstance(value, Mapping):
            return {key_text(key): self.of(item, levels - 1) for key, item in self._some(value.items())}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.of(item, levels - 1) for item in self._some(value)]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        return _leaf(value)

    def _some(self, items: Any) -> Any:
        """The items while there is something left to spend, and one more."""
        for item in items:
            yield item
            if self._left < 0:
                return


def key_text(key: Any) -> str:
    """A key as text: at most 200 letters of one that is none, which a tuple could make of any length."""
    if isinstance(key, str):
        return key
    if isinstance(key, tuple):
        parts = (repr(part[:_LONGEST_KEY]) if isinstance(part, (str, bytes)) else repr(part) for part in key)
        text = f"({', '.join(parts)}{',' if len(key) == 1 else ''})"
    else:
        text = (
            key.name
            if isinstance(key, Reference)
            else str(key[:_LONGEST_KEY] if isinstance(key, bytes) else key)
        )
    return text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}..."


def _leaf(value: Any) -> Any:
    """A value without others in it; what a library cannot turn into plain values is named by its kind."""
    try:
        return _leaf_value(value)
    except (ArithmeticError, LookupError, RuntimeError, SystemError, TypeError, ValueError):
        return f"{type(value).__name__} that cannot be shown"


def _leaf_value(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        description = f"tensor {list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        return plain(value.tolist()) if value.numel() <= LISTED_VALUES else description
    if isinstance(value, Array):
        # once more, since JSON has no complex numbers and no bytes
        return plain(value.plain())
    if isinstance(value, bytes):
        return repr(value) if len(value) <= _LONGEST_BYTES else f"{len(value):,} bytes"
    if isinstance(value, LongText):
        return f"{value.size_bytes:,} bytes"
    if isinstance(value, (Described, UnreadableTensor)):
        return str(value)
    if isinstance(value, (ArrayType, Reference)):
        return value.kind if isinstance(value, ArrayType) else value.name
    if isinstance(value, Storage):
        return f"{value.values:,} stored values"
    return repr(value)
