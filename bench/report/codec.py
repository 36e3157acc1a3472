"""A report as JSON and back, whatever else the JSON may be."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

from .brief_json import brief_json
from .types import LONGEST_WORDS, SCHEMA_VERSION, Report
from .version_2 import from_version_2


def encode(report: Report) -> bytes:
    """The report as JSON: UTF-8, indented; a summary with a line for each row, without fields of no value."""
    if report.summarised:
        return brief_json(report)
    try:
        data = msgspec.json.encode(report)
    except UnicodeEncodeError:  # a name that is no text: what was measured must not be lost for it
        data = json_text(report, indent=None).encode()
    return msgspec.json.format(data, indent=1) + b"\n"


def decode(data: bytes, origin: str) -> Report:
    """Read a report back, also one of the schema version before.

    Raises:
        InputError: not JSON, or not a report of this schema version; names the field.
    """
    try:
        if msgspec.json.decode(data, type=_Version).schema_version == 2:
            data = from_version_2(data)
        return msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        reason = _what_else(data) or one_line(str(error))[:LONGEST_WORDS]
        raise InputError(
            f"{one_line(origin)} is not a bench report: {reason}.",
            "Name the report.json that vla-bench wrote with --out, or the file of its --json.",
        ) from error


class _Version(Struct):
    """All of a report that is looked at before its types are known; the rest is passed over."""

    schema_version: int = 0


class _Head(Struct):
    """What tells a report of another version, and a file that is something else."""

    schema_version: Any = None
    tool: Any = None
    bundles: Any = None
    parity: Any = None
    files: Any = None


def _what_else(data: bytes) -> str:
    """What a JSON object is that is no report of this version; "" where it seems to be one, with a fault in it."""
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    if head.tool is None or head.bundles is None:
        is_manifest = head.parity is not None and head.files is not None
        return "it is a bundle's manifest" if is_manifest else "it has none of a report's figures"
    if head.schema_version not in (2, SCHEMA_VERSION):
        version = one_line(str(head.schema_version))[:LONGEST_WORDS]
        return f"its schema_version is {version}, and this vla-bench reads 2 and {SCHEMA_VERSION}"
    return ""
