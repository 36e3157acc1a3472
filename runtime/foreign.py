"""What other people's objects say, without trusting them: their text may raise, their numbers may be none."""

from __future__ import annotations

import math
import numbers
import reprlib

from .errors import VlaError

_MAX_CHARACTERS = 500


def finite_number(value: object) -> float | None:
    """The value as a plain float; None for what is no finite real number (a bool, text, a date, 10**400)."""
    if type(value) is not float:
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return None
        try:
            value = float(value)
        except Exception:  # too large for a float, or a type of somebody's own
            return None
    return value if math.isfinite(value) else None


def shown(value: object) -> str:
    """A short text of a value, whatever its own `__repr__` does."""
    try:
        return reprlib.repr(value)[:_MAX_CHARACTERS]
    except Exception:  # such as an integer of more digits than Python prints
        return "a value that cannot be shown"


def words_of(error: BaseException) -> str:
    """Why something failed, whatever the exception's own `__str__` does."""
    try:
        if isinstance(error, VlaError):
            text = str(error.problem)
        else:
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:
        text = "an exception whose own text cannot be had"
    return text[:_MAX_CHARACTERS]
