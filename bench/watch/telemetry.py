"""Readings that a machine may refuse: the value, or None and, once, a reason in the log.

All that the bench reads beside its own clocks is optional: NVML of an integrated GPU answers "Not Supported" to
half of its questions, a driver may lack a function, a virtual machine has no clocks, sensors come and go, and
counters give the largest number where they mean "unknown". None of it may cost a figure, before the first row
or in the middle of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from vla_edge.runtime.foreign import finite_number, shown, words_of

T = TypeVar("T")

# beyond what any machine has: a larger number is a mark for "unknown", or a fault
MOST_BYTES = float(1 << 56)
MOST_MHZ = 1e5
MOST_W = 1e5
MOST_COUNT = 1e6
LONGEST_TEXT = 256

logger = logging.getLogger(__name__)
# what has been said in this process: a reading is tried twenty times a second
_said: set[str] = set()


def reading(what: str, read: Callable[[], T]) -> T | None:
    """A value, or None where this machine, its driver or a library does not tell it.

    Args:
        what: is read, for the log.
        read: asks; whatever it raises is the reason, but for an end of the process.
    """
    try:
        return read()
    except Exception as error:  # bindings to drivers share no base, and a stub may raise anything
        _say_once(what, words_of(error))
        return None


def number(what: str, read: Callable[[], object], most: float, least: float = 0.0) -> float | None:
    """A finite number within bounds, or None; see `reading`.

    Args:
        what: is read, for the log.
        read: asks.
        most, least: the bounds, themselves included.
    """
    return sensible(what, reading(what, read), most, least)


def sensible(what: str, value: object, most: float, least: float = 0.0) -> float | None:
    """A value that has been read, where it is a finite number within bounds; None is an answer, too."""
    if value is None:
        return None
    found = finite_number(value)
    if found is None or not least <= found <= most:
        _say_once(what, f"it gave {shown(value)}")
        return None
    return found


def whole_number(
    what: str, read: Callable[[], object], most: float = MOST_COUNT, least: int = 0
) -> int | None:
    """As `number`, without a fraction."""
    value = number(what, read, most, least)
    return None if value is None else round(value)


def text(what: str, read: Callable[[], object]) -> str | None:
    """A name of at most `LONGEST_TEXT` characters, or None; UTF-8 can say it. See `reading`."""
    value = reading(what, read)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if value is not None and not isinstance(value, str):
        _say_once(what, f"it gave {shown(value)}, no text")
        return None
    return (value or "").encode(errors="replace").decode().strip("\0 \n")[:LONGEST_TEXT] or None


def _say_once(what: str, reason: str) -> None:
    if what not in _said:
        _said.add(what)
        logger.info("unknown: %s: %s", what, reason)
