"""Every combination of settings that is tried."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from vla_edge.export.checkpoint.checkpoint import Checkpoint
from vla_edge.export.checkpoint.text_values import numbers_in
from vla_edge.export.family_search import Axis, Search
from vla_edge.runtime.errors import InputError

MAX_TRIED = 2_000_000  # of which each takes some hundred bytes, and a good part of a millisecond


def parse_tried(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read `--try NAME=VALUE,VALUE`; a list in JSON where a value has commas itself.

    Raises:
        InputError: not of that form, or a name given twice.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        name = name.strip()
        if not sign or not name or not values.strip():
            raise InputError(f"--try {text!r} is not NAME=VALUE,VALUE.", "Such as: --try pooling=max,mean")
        if name in found:
            raise InputError(f"--try {name} is given twice.", "Give all its values at once.")
        found[name] = _values(name, values.strip())
    return found


def _values(name: str, text: str) -> list[Any]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return [_word(word.strip()) for word in text.split(",")]
    # [2.0, 2.0] is one value of a setting that is a list; [["text"], ["vision"]] are two
    if isinstance(whole, list) and whole and all(isinstance(each, list) for each in whole):
        return whole
    return [whole]


def _word(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return word


def combinations(
    checkpoint: Checkpoint, search: Search, tried: Mapping[str, Sequence[Any]], first_only: bool
) -> tuple[Any, ...]:
    """All settings that fit the checkpoint's shapes, each forward pass once, the defaults first.

    Args:
        checkpoint: what to find the settings of; what stands in it is not varied.
        search: of its family.
        tried: values by setting, in place of the family's own.
        first_only: leave out what looks at other frames than an episode's first.

    Raises:
        InputError: a name or value that is none, too many combinations, or none that fits.
    """
    family, arch = checkpoint.family, checkpoint.architecture
    values = {
        name: [family.settings.value_of(name, value) for value in given] for name, given in tried.items()
    }
    beside = {name: numbers_in(value) for name, value in checkpoint.extra.items()}
    base = family.settings.resolve(arch, checkpoint=family.carried(beside, given=set(values)))
    carried = {name for name, origin in base.origins.items() if origin == "checkpoint"}
    axes = _axes(search.axes(arch), {*values, *carried})
    axes += [tuple({name: value} for value in given) for name, given in values.items()]
    count = 1
    for axis in axes:
        count *= len(axis)
    if count > MAX_TRIED:
        raise InputError(
            f"{count:,} combinations are too many: at most {MAX_TRIED:,}.",
            "Give fewer values with --try.",
        )
    found: dict[Any, None] = {}
    for settings in _fitting(checkpoint, base.values, axes):
        each = search.canonical(settings)
        if not first_only or search.looks_at_first(each):
            found[each] = None
    if not found:
        raise InputError(
            "no combination of these settings fits the checkpoint's shapes.", "Give other values with --try."
        )
    ordered = sorted(found, key=lambda each: len(changes(base.values, each)))
    return tuple(ordered)


def changes(base: Any, settings: Any) -> tuple[str, ...]:
    """Names of the settings that are other than those of `base`."""
    return tuple(name for name in base.__struct_fields__ if getattr(base, name) != getattr(settings, name))


def plain(settings: Any) -> dict[str, Any]:
    """Settings by name, in JSON's own types."""
    found: dict[str, Any] = to_builtins(settings)
    return found


def plain_value(settings: Any, name: str) -> Any:
    """One of them."""
    return to_builtins(getattr(settings, name))


def _axes(axes: Sequence[Axis], without: set[str]) -> list[Axis]:
    """The axes without some settings; alternatives that are then the same are one."""
    kept = []
    for axis in axes:
        rest = [
            {name: value for name, value in alternative.items() if name not in without}
            for alternative in axis
        ]
        kept.append(tuple(each for at, each in enumerate(rest) if each not in rest[:at]))
    return [axis for axis in kept if axis != ({},)]


def _fitting(checkpoint: Checkpoint, base: Any, axes: Sequence[Axis]) -> Iterator[Any]:
    check = checkpoint.family.settings.check
    for chosen in itertools.product(*axes):
        merged: dict[str, Any] = {}
        for alternative in chosen:
            merged |= alternative
        settings = replace(base, **merged)
        try:
            check(checkpoint.architecture, settings, {})
        except InputError:  # what does not fit is no candidate
            continue
        yield settings
