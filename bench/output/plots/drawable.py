"""How much of a report is drawn: nobody reads more lanes in one plot, or more names in one legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vla_edge.bench.report.types import StandinReport

LANES_DRAWN = 40
NAMES_DRAWN = 16


def not_drawn(items: Sequence[object], word: str) -> str:
    """How many of a table's items a plot leaves out; "" for none.

    Args:
        word: what they are, such as "backends".
    """
    left = len(items) > LANES_DRAWN
    return f"The first {LANES_DRAWN} of {len(items)} {word} are drawn. The tables have all." * left


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
