"""Reports of schema version 2, from before errors had a unit of their own: all were in m/s."""

from __future__ import annotations

import re

_KEY = re.compile(rb'"(unit|max_abs_mps|max_mps|mean_mps|error_mps)"(\s*:\s*)')
_NOW = {
    b"max_abs_mps": b'"unit": "m/s", "max_abs"',
    b"max_mps": b'"unit": "m/s", "max_abs"',
    b"mean_mps": b'"mean_abs"',
    b"error_mps": b'"errors"',
    # was not there: no field has this name
    b"unit": b'"unit of another version"',
}
_VERSION = re.compile(rb'("schema_version"\s*:\s*)2\b')


def from_version_2(data: bytes) -> bytes:
    """The JSON of version 3 that says the same; what was no sound version 2 is left for the types to refuse.

    Keys are renamed in the text, so that a report from anywhere is still read by its types alone: a quote inside a
    JSON string has a backslash before it, so nothing but a key can look like one.
    """
    renamed = _KEY.sub(lambda found: _NOW[found[1]] + found[2], data)
    return _VERSION.sub(rb"\g<1>3", renamed, count=1)
