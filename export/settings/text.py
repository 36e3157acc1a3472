"""Settings as people write them: a YAML or JSON file, and `--set name=value`.

The texts come from outside. Only what JSON can say is read, in YAML's notation too: no tags (which make Python
objects), no anchors (of which a few lines make gigabytes), no dates; bounded in bytes, depth and number of
values. Whatever is wrong is an InputError that names the file or the option.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.regular_file import read_regular

MAX_BYTES = 1 << 20
MAX_DEPTH = 4  # a mapping of lists is 2
MAX_VALUES = 10_000
_ONE_A_LINE = "Write one 'name: value' a line."
MAX_NUMBER_LETTERS = 64
_WHOLE = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_WORDS |= {".nan": float("nan"), ".inf": float("inf"), "-.inf": float("-inf")}


class _UnreadableError(ValueError):
    """Why a text is refused, without its origin."""


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON settings file into a dictionary.

    Raises:
        InputError: unreadable, not YAML or JSON, too large, not a mapping, or with something that JSON cannot say.
    """
    try:
        data = read_regular(path.resolve(), MAX_BYTES)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the settings file {path}: {reason}.", "Check the path.") from error
    if len(data) > MAX_BYTES:
        raise InputError(
            f"the settings file {path} has more than {MAX_BYTES} bytes.", "Settings fit into a few lines."
        )
    try:
        content = _parse(data.decode("utf-8-sig"), is_json=path.suffix.lower() == ".json")
        _check(content)
    except Exception as error:  # parsers raise whatever they like; a list of it would not be complete
        raise InputError(f"{path} is not YAML or JSON: {_reason(error)}.", _ONE_A_LINE) from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path} holds {kind}, not a mapping.", _ONE_A_LINE)
    return content


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn `--set name=value` texts into values; JSON where it parses as JSON, else plain text.

    Raises:
        InputError: a text without "=" or name, a name given twice, too long, or a value of bytes that are no UTF-8.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        if len(pair) > MAX_BYTES:
            raise InputError(
                f"--set {pair[:40]!r}... has {len(pair):,} letters.", "Settings fit into a few lines."
            )
        name, sign, text = pair.partition("=")
        name = name.strip()
        if not sign or not name:
            problem = "has no '='" if not sign else "has no name before its '='"
            raise InputError(
                f"--set {pair!r} {problem}.", "Write --set name=value, such as --set pooling=mean."
            )
        if name in result:
            raise InputError(f"--set {name} is given twice.", "Give each setting once.")
        try:
            result[name] = _json_or_text(text)
            _check(result[name])
        except Exception as error:  # as above
            raise InputError(f"--set {name} cannot be read: {_reason(error)}.", "Give plain JSON.") from error
    return result


def _json_or_text(text: str) -> Any:
    try:
        return _from_json(text)
    except json.JSONDecodeError:
        return text


def _parse(text: str, is_json: bool) -> Any:
    if is_json or text.lstrip().startswith("{"):
        try:
            return _from_json(text)
        except json.JSONDecodeError:
            if is_json:
                raise
    return _from_yaml(text)


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_mapping, parse_int=_whole)


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if not isinstance(name, str):
            raise _UnreadableError(f"the name {name!r} is no text")
        if name in result:
            raise _UnreadableError(f"{name!r} is there twice")
        result[name] = value
    return result


def _from_yaml(text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events = yaml.parse(text, Loader=loader)
    next(events)  # the stream's start
    if isinstance(next(events), yaml.StreamEndEvent):
        return None
    value = _node(next(events), events, 0)
    next(events)  # the document's end
    if not isinstance(next(events), yaml.StreamEndEvent):
        raise _UnreadableError("it holds more than one document")
    return value


def _node(event: Any, events: Iterator[Any], depth: int) -> Any:
    """One value from the parser's events: nothing is built that the events do not spell out."""
    import yaml

    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _UnreadableError(
            f"it has an anchor or alias (line {event.start_mark.line + 1}), which is not read"
        )
    if event.tag is not None:
        raise _UnreadableError(f"it has the tag {event.tag!r}, which is not read")
    if isinstance(event, yaml.ScalarEvent):
        return _plain_scalar(event.value) if event.implicit[0] else event.value
    if depth >= MAX_DEPTH:
        raise _UnreadableError(f"it is nested more than {MAX_DEPTH} deep")
    items = []
    while not isinstance(inner := next(events), (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
        items.append(_node(inner, events, depth + 1))
        if len(items) > 2 * MAX_VALUES:
            raise _UnreadableError(f"it has more than {MAX_VALUES} values")
    if isinstance(event, yaml.SequenceStartEvent):
        return items
    return _mapping(zip(items[::2], items[1::2], strict=True))


def _plain_scalar(text: str) -> Any:
    """A word without quotes: YAML 1.2's core, so that "no" and 12:30 stay text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return _whole(text)
    return float(text) if len(text) <= MAX_NUMBER_LETTERS and _NUMBER.fullmatch(text) else text


def _whole(text: str) -> int:
    number = int(text) if len(text) < 25 else 1 << 64  # int() takes its time over many digits, or refuses
    if number.bit_length() > 63:
        raise _UnreadableError(f"the whole number {text[:25]} has more than 64 bits")
    return number


def _check(value: Any, depth: int = 0) -> int:
    """Refuse what no setting can be; returns how many values there are."""
    if isinstance(value, str):
        value.encode()  # half a surrogate pair, or an argument's bytes that are no UTF-8
        return 1
    if not isinstance(value, (list, dict)):
        return 1
    if depth >= MAX_DEPTH:
        raise _UnreadableError(f"it is nested more than {MAX_DEPTH} deep")
    names = list(value) if isinstance(value, dict) else []
    inner = list(value.values()) if isinstance(value, dict) else value
    count = sum(_check(each, depth + 1) for each in (*names, *inner))
    if count > MAX_VALUES:
        raise _UnreadableError(f"it has more than {MAX_VALUES} values")
    return count


def _reason(error: Exception) -> str:
    """One line of why, with the place where the parser tells it."""
    if isinstance(error, UnicodeError):
        return "it has text that is no UTF-8"
    if isinstance(error, MemoryError):
        return "there is not enough memory to read it"
    if isinstance(error, RecursionError):
        return f"it is nested more than {MAX_DEPTH} deep"
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem and mark:
        return f"{problem} (line {mark.line + 1})"
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
