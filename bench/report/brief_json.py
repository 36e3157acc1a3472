"""JSON that is kept in git: a line for each part that can change, and no field that only says its default."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from vla_edge.runtime.command.json_text import plain

# levels that have a line for each of their parts: of a report those down to a bundle's rows
OPEN_LEVELS = 4


def brief_json(struct: Struct) -> bytes:
    """The struct as JSON in UTF-8, which reads back as the same struct."""
    return _laid_out(plain(without_defaults(struct)), OPEN_LEVELS) + b"\n"


def without_defaults(value: Any) -> Any:
    """Structs as dictionaries, without the fields whose value is what a reader puts there anyway."""
    if isinstance(value, Struct):
        pairs = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
        return {field.encode_name: without_defaults(item) for field, item in pairs if item != _default(field)}
    if isinstance(value, list | tuple):
        return [without_defaults(item) for item in value]
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _laid_out(value: Any, levels: int, indent: str = "\n") -> bytes:
    if not value or levels == 0 or not isinstance(value, dict | list):
        return msgspec.json.encode(value)
    inner = indent + " "
    if isinstance(value, dict):
        parts = [
            msgspec.json.encode(key) + b": " + _laid_out(item, levels - 1, inner)
            for key, item in value.items()
        ]
        ends = b"{}"
    else:
        parts, ends = [_laid_out(item, levels - 1, inner) for item in value], b"[]"
    between = b"," + inner.encode()
    return ends[:1] + inner.encode() + between.join(parts) + indent.encode() + ends[1:]
