"""A gate in words, and for a program: the number that it judges, the limit, the room left; of every command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from vla_edge.runtime.checks.gates import Judgement

from .screen import one_line, plain_table

_TITLES = ("stage", "error", "allowed", "room")
_MOST = 1000.0
# Two digits tell nothing where an error is about as large as its limit.
_CLOSE = 1.1


def sentence(judged: Judgement) -> str:
    """Such as "0.0053 m/s of 0.02 m/s allowed, 3.8x room"."""
    return f"{error(judged)} of {limit(judged)} allowed, {room(judged)}"


def error(judged: Judgement) -> str:
    """What was measured, with its unit."""
    if judged.measured is None:
        return "NaN or infinite"
    ratio = _ratio(judged)
    close = ratio is not None and 1 / _CLOSE < ratio < _CLOSE
    return _with_unit(f"{judged.measured:.{4 if close else 2}g}", judged)


def limit(judged: Judgement) -> str:
    return _with_unit(f"{judged.gate.limit:g}", judged)


def room(judged: Judgement) -> str:
    """Such as "3.8x room", or "MISSED, 2.1x over"."""
    ratio = _ratio(judged)
    if not judged.passed:
        return f"MISSED, {_times(1 / ratio)} over" if ratio else "MISSED"
    return "no error" if ratio is None else f"{_times(ratio)} room"


def gate_table(judgements: Sequence[Judgement]) -> Table:
    """All gates, those that are missed marked."""
    table = plain_table(_TITLES, right=_TITLES[1:])
    for judged in judgements:
        style = "" if judged.passed else "bold red"
        allowed = f"{judged.gate.limit:g} {one_line(judged.unit)}"
        left = room(judged).removesuffix(" room")
        table.add_row(one_line(judged.gate.stage), error(judged), allowed, left, style=style)
    return table


def as_json(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Each gate with the number that it judges; `unit` is the action's, such as "m/s", or "relative"."""
    return [
        {
            "stage": judged.gate.stage,
            "unit": judged.unit,
            "measured": judged.measured,
            "limit": judged.gate.limit,
            "passed": judged.passed,
        }
        for judged in judgements
    ]


def _ratio(judged: Judgement) -> float | None:
    """How many times the error would fit its limit, below 1 where it does not; None without an error."""
    return judged.gate.limit / judged.measured if judged.measured else None


def _with_unit(figure: str, judged: Judgement) -> str:
    """A figure without a unit is relative."""
    return f"{figure}{one_line(judged.suffix)}"


def _times(ratio: float) -> str:
    if ratio >= _MOST:
        return f">{_MOST:.0f}x"
    if ratio >= 10:
        return f"{ratio:.0f}x"
    return f"{ratio:.1f}x" if ratio >= 1.05 else f"{ratio:.3f}x"
