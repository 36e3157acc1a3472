"""JSON as every command prints it: numbers are finite or null, text can be written and read by anybody."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

LARGEST_BITS = 1023  # a whole number beyond is infinite for whoever reads JSON's numbers as float64


def json_text(value: Any, indent: int | None = 1) -> str:
    """A value as JSON.

    NaN, infinity and numbers beyond float64 become null, since JSON has no words for them; half a surrogate pair
    becomes "?", since no UTF-8 has it.

    Args:
        value: of dictionaries, sequences, text, numbers, dataclasses, msgspec's structs, and NumPy's scalars and
            arrays; what is none of these is written as its text.
        indent: spaces a level; None for one line.
    """
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """The value in JSON's own types, as `json_text` writes it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() <= LARGEST_BITS else None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "__struct_fields__"):  # msgspec's
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {name: plain(getattr(value, attribute)) for name, attribute in names}
    if hasattr(value, "tolist"):  # NumPy's, which a robot's commands need not import for this
        return plain(value.tolist())
    return _text(str(value))


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()
