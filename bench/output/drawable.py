"""Which parts of a report can be drawn: a report comes from a file, and its figures may be of any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..report import Claim, Row, StandinReport
from .format import known

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


def _sound(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_sound, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_sound, value))
    return not isinstance(value, int | float) or known(value)
