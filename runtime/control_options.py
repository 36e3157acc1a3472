"""What a controller counts as a fault, and the check that these numbers can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InputError
from .foreign import finite_number, shown

if TYPE_CHECKING:
    from .manifest import Manifest


@dataclass(frozen=True)
class ControllerOptions:
    """What counts as a fault.

    Attributes:
        limits: largest absolute value per component, m/s; None takes the manifest's. Never wider than those.
        deadline_ms: longest time from the frame's capture (or the call, where that is not told) to the command.
            A command that comes later is not passed on: the robot stops. Choose it by how far the robot may
            drive on what it saw (speed times deadline), and above the slowest step of this machine (p99 of
            `vla-bench`), else it stops at once.
        late_allowed: how many late commands in a row are single stops; one more is a fault. A late command
            is never passed on, however few they are.
        hold_ms: longest time that `current` repeats a command; None is twice the deadline.
    """

    limits: Mapping[str, float] | None = None
    deadline_ms: float = 100.0
    late_allowed: int = 0
    hold_ms: float | None = None


def limits_of(options: ControllerOptions, manifest: Manifest) -> tuple[float, ...]:
    """The limit of each component, m/s.

    Raises:
        InputError: one of an unknown component, not positive, or wider than the manifest's.
    """
    widest = dict(zip(manifest.action.names, manifest.action.limit, strict=True))
    asked: dict[str, float] = {}
    for name, value in (options.limits or {}).items():
        if name not in widest:
            raise InputError(
                f"There is no component {name!r} to limit.", f"The policy has {', '.join(widest)}."
            )
        limit = finite_number(value)
        if limit is None or not 0 < limit <= widest[name]:
            raise InputError(
                f"The limit {shown(value)} m/s of {name} is not within 0 and the manifest's "
                f"{widest[name]:g} m/s.",
                "Choose a smaller one; a wider one needs another export.",
            )
        asked[name] = limit
    return tuple(asked.get(name, widest[name]) for name in manifest.action.names)


def check_options(options: ControllerOptions) -> float:
    """Refuse times and counts that would switch a stop off unsaid.

    Returns:
        How long a command is held, ms.

    Raises:
        InputError: one that is not positive, not finite, or no number.
    """
    deadline_ms = finite_number(options.deadline_ms) or 0.0
    hold_ms = finite_number(2 * deadline_ms if options.hold_ms is None else options.hold_ms) or 0.0
    late = options.late_allowed
    if not (deadline_ms > 0 and hold_ms > 0 and isinstance(late, int) and late >= 0):
        raise InputError(
            f"deadline_ms={shown(options.deadline_ms)}, hold_ms={shown(options.hold_ms)} and "
            f"late_allowed={shown(late)} cannot be used.",
            "Times must be positive and finite, and late_allowed a whole number that is not negative.",
        )
    return hold_ms
