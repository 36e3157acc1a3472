"""Numbers from a command line that are really numbers."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteFloat(click.FloatRange):
    """A finite number within bounds: `click.FloatRange` lets NaN through, and infinity where it has no bound.

    NaN compares false with everything, so that a limit of NaN would call everything wrong, or nothing.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number
