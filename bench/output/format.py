"""How figures and names are written, the same in every kind of report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from vla_edge.bench.report.types import Parity, Row
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.printable import one_line

NOTHING = "-"
# letters of what files name, past which a mark stands for the rest: of a name, and of a sentence
NAME_LIMIT = 120
TEXT_LIMIT = 2000
UNIT_LIMIT = 40
CUT = "…"
# past these a figure is no time, no size and no ratio; written out it could have 300 digits
LARGEST, SMALLEST = 1e12, -1e12
TRAINED = "checkpoint"

# By the beginnings of backends' names; the longest first: one engine's name begins like another's.
_LABELS = {name: engine.label for name, engine in ENGINES.items()} | {"torch": "PyTorch"}
_ENGINES = {name: _LABELS[name] for name in sorted(_LABELS, key=len, reverse=True)}
_WORDS = {
    "compile": "compiled",
    "cpu": "CPU",
    "cuda": "CUDA",
    "fp16": "FP16",
    "fp32": "FP32",
    "tf32": "TF32",
    "graph": "CUDA graph",
}
# what a table's cell says of a status: what must not be overlooked stands in capitals
_STATUS_WORDS = {"wrong": "WRONG", "failed": "FAILED"}


def known(value: float | None) -> TypeGuard[float]:
    """Whether a figure is one: there, finite, and of a size that can be meant."""
    return value is not None and math.isfinite(value) and SMALLEST < value < LARGEST


def significant(value: float | None) -> str:
    """Three digits, and never an exponent."""
    digits = 3 if value is None or value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return formatted(value, f".{digits}f")


def formatted(value: float | None, spec: str = ",.0f") -> str:
    """As Python's `format` does; whole and with commas, if not told otherwise."""
    return format(value, spec) if known(value) else NOTHING


def giga(value: float | None) -> str:
    """Bytes or operations in billions."""
    return significant(None if value is None else value / 1e9)


def exponent(value: float | None) -> str:
    """Two digits and an exponent, for errors; a plain 0 where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.1e}" if value else "0"


def share(value: float) -> str:
    """A part of 1 as a percentage; below one percent with a decimal."""
    return formatted(value, ".1%" if 0 < value < 0.01 else ".0%")


def times(value: float) -> str:
    """A ratio as a sentence says it: two digits, more only before the point."""
    return formatted(value, ",.0f" if value >= 10 else ".1f")


def error_in_words(parity: Parity) -> str:
    """An action error as a sentence says it, such as "0.004 m/s"."""
    figure = plain_error(parity)
    return NOTHING if figure == NOTHING else f"{figure} {unit_word(parity.unit)}"


def unit_word(unit: str) -> str:
    """What an error is in, also where many components are in many units."""
    return clipped(printable(unit), UNIT_LIMIT)


def units_of(rows: Iterable[Row]) -> str:
    """What the errors of some rows are in: of one bundle, one unit; "" where none was compared."""
    compared = [found for row in rows for found in (row.parity, row.agreement) if found]
    return ", ".join(dict.fromkeys(unit_word(found.unit) for found in compared))


def plain_error(parity: Parity | None) -> str:
    """The largest difference in its unit as a decimal, where one can be read, and never rounded down to nothing."""
    if parity is None or not parity.finite or parity.max_abs is None:
        return largest_error(parity)
    if not known(parity.max_abs):
        return NOTHING
    if parity.max_abs == 0:
        return "0"
    return f"{parity.max_abs:.3f}" if parity.max_abs >= 0.001 else f"{parity.max_abs:.1e}"


def largest_error(parity: Parity | None) -> str:
    """The largest difference in its unit."""
    return _error(parity, "max_abs")


def relative_error(parity: Parity | None) -> str:
    return _error(parity, "relative_l2")


def _error(parity: Parity | None, field: str) -> str:
    if parity is None:
        return NOTHING
    return exponent(getattr(parity, field)) if parity.finite else "NaN/inf"


def last_error(errors: Sequence[float]) -> str:
    return exponent(errors[-1] if errors else None)


def status_word(status: str) -> str:
    return _STATUS_WORDS.get(status, status)


def weights_word(origin: str) -> str:
    """Whether the weights are real, in one word: "checkpoint", "sample", "random"."""
    return printable(clipped(origin.split(":", 1)[0].strip(), 24)) or "unknown"


def has_trained_weights(origin: str) -> bool:
    """Only what is called a checkpoint's counts as trained."""
    return weights_word(origin) == TRAINED


def backend_label(row: Row) -> str:
    """A backend as a person calls it: "torch-fp16-graph" is "PyTorch FP16 CUDA graph".

    An engine has its graph's precision, and what it was computed in where that is another.
    """
    engine = next((name for name in _ENGINES if re.match(rf"{name}(-|$)", row.kind)), None)
    if engine is None:
        return clipped(row.backend)
    rest = row.kind[len(engine) :].strip("-")
    words = [_WORDS.get(word, word) for word in rest.split("-")] if rest else []
    if row.identity and engine != "torch" and row.identity.precision not in rest:
        words.append(_WORDS.get(row.identity.precision, row.identity.precision))
    label = clipped(" ".join([_ENGINES[engine], *words]))
    if row.identity and engine != "torch" and row.identity.computes != row.identity.precision:
        return f"{label} (in {_WORDS.get(row.identity.computes, row.identity.computes)})"
    return label


def printable(text: str) -> str:
    """Text on one line in which nothing commands a terminal, turns a word round or makes an SVG unreadable.

    Names in a report come from files. Line breaks, which sentences may have, become blanks; see `one_line`.
    """
    return one_line(" ".join(re.split(r"\r\n|[\r\n\t\v\f\x85\u2028\u2029]", text)))


def name(text: str | None) -> str:
    """A name as a table or a sentence shows it."""
    return NOTHING if text is None else clipped(text)


def clipped(text: str, limit: int = NAME_LIMIT) -> str:
    """A text of at most `limit` letters; what is cut off leaves a mark."""
    return text if len(text) <= limit else f"{text[: limit - 1]}{CUT}"
