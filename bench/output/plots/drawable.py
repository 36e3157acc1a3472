"""Which parts of a report can be drawn: a report comes from a file, and its figures may be of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from vla_edge.bench.output.format import known
from vla_edge.bench.report.types import Claim, Row, StandinReport, StandinRow

# lanes of one drawing, and names in one legend
LANES_DRAWN = 40
NAMES_DRAWN = 16


def drawable_rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The first rows whose figures are all of a size that can be meant."""
    return tuple(row for row in rows if _sound(msgspec.to_builtins(row)))[:LANES_DRAWN]


def drawable_standin(standin: StandinReport) -> StandinReport:
    """The same without rows and claims that cannot be drawn."""
    rows = tuple(item for item in standin.rows if _sound(msgspec.to_builtins(item)))[:LANES_DRAWN]
    claims: tuple[Claim, ...] = tuple(
        claim for claim in standin.claims if _sound(msgspec.to_builtins(claim))
    )[:LANES_DRAWN]
    return msgspec.structs.replace(standin, rows=rows, claims=claims)


def rows_not_drawn(rows: Iterable[Row]) -> str:
    """How many of a table's rows `drawable_rows` leaves out, and why; "" for none."""
    return _left_out([_sound(msgspec.to_builtins(row)) for row in rows], "backends")


def standin_not_drawn(standin: StandinReport) -> str:
    """The same of what `drawable_standin` leaves out."""
    kinds: tuple[tuple[Iterable[StandinRow | Claim], str], ...] = (
        (standin.rows, "rows"),
        (standin.claims, "published figures"),
    )
    said = (_left_out([_sound(msgspec.to_builtins(item)) for item in items], word) for items, word in kinds)
    return " ".join(filter(None, said))


def _left_out(sound: list[bool], word: str) -> str:
    odd, over = sound.count(False), sound.count(True) - LANES_DRAWN
    said = [f"the first {LANES_DRAWN} of {sound.count(True)} {word} are drawn"] * (over > 0)
    said += [f"{odd} of {len(sound)} {word} have figures too large to draw"] * (odd > 0)
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}. The tables have all." if text else ""


def first_names(names: Iterable[str], word: str) -> tuple[tuple[str, ...], str]:
    """The different names that one drawing has room for, and a sentence on the others, with a space before it.

    Args:
        word: what the names are of, such as "stages".
    """
    every = tuple(dict.fromkeys(names))
    left = (
        f" Only the first {NAMES_DRAWN} of {len(every)} {word} are drawn." if len(every) > NAMES_DRAWN else ""
    )
    return every[:NAMES_DRAWN], left


def _sound(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_sound, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_sound, value))
    return not isinstance(value, int | float) or known(value)
