"""What a policy and a camera say, judged before the robot gets any of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.foreign import finite_number, shown

from .causes import Cause

if TYPE_CHECKING:
    from vla_edge.runtime.action import Action

# A camera's driver may round its time stamps up.
_CLOCK_SLACK_MS = 5.0


class RefusalError(VlaError):
    """What the controller itself finds wrong; never leaves it."""

    def __init__(self, problem: str, cause: Cause = Cause.OTHER) -> None:
        super().__init__(problem)
        self.cause = cause


def exceeding(ms: float) -> int:
    """A time that is longer than what is allowed, rounded so that it reads so."""
    return math.ceil(ms - 1e-3)


def started_s(called_s: float, captured_s: float | None) -> float:
    """When the deadline began to run: at the frame's capture, or at the call where that is not told.

    Raises:
        RefusalError: the capture's time is of another clock.
    """
    if captured_s is None:
        return called_s
    captured = finite_number(captured_s)
    if captured is None or (called_s - captured) * 1e3 < -_CLOCK_SLACK_MS:
        raise RefusalError(
            f"captured_s={shown(captured_s)} is not of this controller's clock, which says {called_s}.",
            Cause.CLOCK,
        )
    return min(captured, called_s)


def limited_values(action: Action, expected: tuple[str, ...], limits: tuple[float, ...]) -> tuple[float, ...]:
    """The action within the limits, in plain floats.

    Args:
        action: of the policy, which may be anybody's.
        expected: the names of the components.
        limits: largest absolute value of each.

    Raises:
        RefusalError: its values are not finite numbers, as many as expected, or of other components.
    """
    said: object = action.values
    names: object = getattr(action, "names", expected)
    numbers = [finite_number(value) for value in said] if isinstance(said, (tuple, list)) else []
    values = [value for value in numbers if value is not None]
    if not len(values) == len(numbers) == len(expected):
        raise RefusalError(f"the policy returned {shown(said)}.", Cause.NOT_FINITE)
    if not isinstance(names, (tuple, list)) or tuple(names) != expected:
        raise RefusalError(f"the policy returned values for {shown(names)}, not for {shown(expected)}.")
    return tuple([max(-limit, min(limit, value)) for value, limit in zip(values, limits, strict=True)])
