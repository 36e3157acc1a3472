"""JSON as every command prints it: numbers are finite or null, text can be written and read by anybody."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from vla_edge.runtime.printable import is_harmless

DEEPEST = 100  # levels; a reader recurses too, and nobody nests settings so
LARGEST_BITS = 1023  # a whole number beyond is infinite for whoever reads JSON's numbers as float64


def json_text(value: Any, indent: int | None = 1) -> str:
    """A value as JSON.

    NaN, infinity and numbers beyond float64 become null, since JSON has no words for them, and so does what is
    nested deeper than `DEEPEST`; half a surrogate pair becomes "?", since no UTF-8 has it. What could command a
    terminal is written as `\\u009b`, which reads as the same text.

    Args:
        value: of dictionaries, sequences, text, numbers, dataclasses, msgspec's structs, and NumPy's scalars and
            arrays; what is none of these is written as its text.
        indent: spaces a level; None for one line.
    """
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() and "\x7f" not in text else _BEYOND_ASCII.sub(_harmless, text)


def plain(value: Any, levels: int = DEEPEST) -> Any:
    """The value in JSON's own types, as `json_text` writes it; null where it has more than `levels`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() <= LARGEST_BITS else None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if levels == 0:
        return None
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, levels - 1) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), levels - 1) for field in fields(value)}
    if hasattr(value, "__struct_fields__"):  # msgspec's
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {name: plain(getattr(value, attribute), levels - 1) for name, attribute in names}
    if hasattr(value, "tolist"):  # NumPy's, which a robot's commands need not import for this
        return plain(value.tolist(), levels - 1)
    return _text(str(value))


# outside of texts JSON has ASCII only, and within them control characters below 0x20 are escaped already
_BEYOND_ASCII = re.compile("[\x7f-\U0010ffff]+")


def _harmless(found: re.Match[str]) -> str:
    text = found[0]
    return text if text.isprintable() else "".join(map(_letter, text))


def _letter(letter: str) -> str:
    if is_harmless(letter):
        return letter
    return json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"  # which JSON's writer takes for plain


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()
