"""Values that a file keeps as text, as safetensors' metadata keeps all: numbers, lists of numbers, dictionaries."""

from __future__ import annotations

import json
import re
from typing import Any

_NUMBER = r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,4})?"
_ONE = re.compile(rf"\s*{_NUMBER}\s*$")
# [1.0, 2.0], (1., 2.), "1 2", tensor([1., 2.], dtype=...), array([1., 2.])
_SEVERAL = re.compile(
    rf"\s*(?:torch\.|np\.|numpy\.)?(?:tensor|array)?[\s(\[]*({_NUMBER}(?:(?:\s*,\s*|\s+){_NUMBER}){{0,63}})"
    r"\s*,?[\s)\]]*(?:,\s*(?:dtype|device)=[\w.':]+[\s)]*){0,2}$"
)
_LONGEST = 4096


def number_in(value: Any) -> Any:
    """A number that is given as text as a number; any other value as it is."""
    return float(value) if isinstance(value, str) and len(value) <= 80 and _ONE.match(value) else value


def numbers_in(value: Any) -> Any:
    """A list of numbers that is given as text as a list; any other value as it is."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return value
    found = _SEVERAL.match(value)
    return [float(each) for each in re.findall(_NUMBER, found[1])] if found else value


def dictionary_in(value: Any) -> Any:
    """A dictionary that is given as JSON as a dictionary; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, dict) else value
