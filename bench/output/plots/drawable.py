"""Which parts of a report can be drawn: a report comes from a file, and its figures may be of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from vla_edge.bench.output.format import known
from vla_edge.bench.report.types import StandinReport

# lanes of one drawing, and names in one legend
LANES_DRAWN = 40
NAMES_DRAWN = 16

Item = TypeVar("Item")


def drawable(items: Iterable[Item]) -> tuple[Item, ...]:
    """The first items whose figures are all of a size that can be meant."""
    return tuple(item for item in items if _sound(msgspec.to_builtins(item)))[:LANES_DRAWN]


def not_drawn(items: Iterable[object], word: str) -> str:
    """How many of a table's items `drawable` leaves out, and why; "" for none.

    Args:
        word: what they are, such as "backends".
    """
    sound = [_sound(msgspec.to_builtins(item)) for item in items]
    odd, good = sound.count(False), sound.count(True)
    said = [f"the first {LANES_DRAWN} of {good} {word} are drawn"] * (good > LANES_DRAWN)
    said += [f"{odd} of {len(sound)} {word} have figures too large to draw"] * (odd > 0)
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}. The tables have all." if text else ""


def standin_not_drawn(standin: StandinReport) -> str:
    """The same of the stand-in's rows and of what was published."""
    said = not_drawn(standin.rows, "rows"), not_drawn(standin.claims, "published figures")
    return " ".join(filter(None, said))


def first_names(names: Iterable[str], word: str) -> tuple[tuple[str, ...], str]:
    """The different names that one drawing has room for, and a sentence on the others, with a space before it.

    Args:
        word: what the names are of, such as "stages".
    """
    every = tuple(dict.fromkeys(names))
    left = f" Only the first {NAMES_DRAWN} of {len(every)} {word} are drawn." * (len(every) > NAMES_DRAWN)
    return every[:NAMES_DRAWN], left


def _sound(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_sound, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_sound, value))
    return not isinstance(value, int | float) or known(value)
