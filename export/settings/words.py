"""Why a value of a setting does not fit, in words instead of the validator's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
}
_SIZES = {"array": "value", "str": "letter"}
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.(?P<name>\w+)(?:\[(?P<at>\d+|\.\.\.)\])?.*`", re.DOTALL)
_EXPECTED = re.compile(
    r"Expected `(?P<kind>\w+)`(?P<length> of length)?(?: (?P<sign>>=|<=|>|<)? ?(?P<limit>[\d.]+))?"
)
_BOUNDS = {">=": "at least ", "<=": "at most ", ">": "above ", "<": "below ", None: ""}
_LONGEST_VALUE = 60


def in_words(message: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a setting that was refused, and the sentence why.

    Args:
        message: msgspec's, such as "Expected `int` >= 1 - at `$.lstm_window`".
        values: what was refused.

    Returns:
        Such as ("lstm_window", "setting lstm_window cannot be 0: it takes a whole number, at least 1."); the name
        is empty where the message is of a form that is not known, and stands in the sentence as it is.
    """
    place = _PLACE.fullmatch(message)
    if not place or place["name"] not in values:
        return "", f"a setting does not fit: {message}."
    name, value = place["name"], values[place["name"]]
    inner = place["at"] is not None and place["at"].isdigit() and isinstance(value, (list, tuple))
    if inner and int(place["at"]) < len(value):
        problem = (
            f"setting {name} cannot have {_shown(value[int(place['at'])])} as value {int(place['at']) + 1}"
        )
    else:
        problem = f"setting {name} cannot be {_shown(value)}"
    reason = _reason(place["what"])
    return name, f"{problem}{': ' if reason else ''}{reason}."


def _reason(what: str) -> str:
    """Empty where the choices that follow say all."""
    if "out of range" in what:
        return "it is too large"
    found = _EXPECTED.match(what)
    if not found or found["kind"] not in _KINDS:
        return ""
    kind, limit = _KINDS[found["kind"]], found["limit"]
    if limit is None:
        return f"it takes {kind}"
    bound = _BOUNDS[found["sign"]]
    if not found["length"]:
        return f"it takes {kind}, {bound}{float(limit):g}"
    unit = _SIZES.get(found["kind"], "")
    return f"it takes {kind} of {bound}{limit} {unit}{'s' * (limit != '1')}"


def _shown(value: Any) -> str:
    """A text in quotes, all else as JSON has it."""
    try:
        text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a whole number of more digits than are written out
        return "this"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
