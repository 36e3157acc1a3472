"""What a controller counts as a fault, and the check that these numbers can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.foreign import finite_number, shown

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.manifest import Manifest


@dataclass(frozen=True)
class ControllerOptions:
    """What counts as a fault.

    Attributes:
        limits: largest absolute value per component, in its unit; None takes the manifest's. Never wider than those.
        deadline_ms: longest time from the frame's capture (or the call, where that is not told) to the command.
            A command that comes later is not passed on: the robot stops. Choose it by how far the robot may
            drive on what it saw (speed times deadline), and above the slowest step of this machine (p99 of
            `vla-bench`), else it stops at once.
        late_allowed: how many late commands in a row are single stops; one more is a fault. A late command
            is never passed on, however few they are.
        hold_ms: longest time that `current` repeats a command; None is twice the deadline.
        repeats_allowed: how many frames in a row may be equal, to the bit, to one of the last eight; one more
            is a fault, since a living sensor has noise. 10 are a third of a second at 30 Hz, and leave room
            for a loop ten times as fast as its camera. None for a camera without noise, such as a simulator's.
        repeats_ms: how long nothing new may come; the same for slow loops: half a second is five frames at
            10 Hz. One frame counts for at most half of it, so no single repeat after a pause stops. None for ever.
        real_time_factor: the seconds of the controller's clock that pass in one of real time. Deadline and hold
            are kept by both, whichever is over first, so a clock that stands still or passes slowly is a fault.
            Leave it on a robot, whatever its clock. In a simulator that runs at a tenth of real time, 0.1; in
            one that pauses or is stepped by hand, None for not at all. The default clock is real time itself.
        least_contrast: how many of 256 grey levels a frame must span (98 % of its pixels, in its liveliest
            channel). Less is a fault at once where the frame is of one colour, dark (below level 32: a covered
            lens, with noise too) or blinded (above 247). A first frame before the exposure has settled may be
            one; read it off before the loop. None for any frame.
        plain_ms: how long a frame may span less where noise shows that the sensor lives and it is neither dark nor
            blinded, such as a white wall that fills the view. A sheet of paper on the lens looks the same, so
            longer is a fault: choose it by how far the robot may drive without seeing. None for ever.
    """

    limits: Mapping[str, float] | None = None
    deadline_ms: float = 100.0
    late_allowed: int = 0
    hold_ms: float | None = None
    repeats_allowed: int | None = 10
    repeats_ms: float | None = 500.0
    least_contrast: float | None = 8.0
    plain_ms: float | None = 1000.0
    real_time_factor: float | None = 1.0


def limits_of(options: ControllerOptions, manifest: Manifest) -> tuple[float, ...]:
    """The limit of each component, in its unit.

    Raises:
        InputError: one of an unknown component, not positive, or wider than the manifest's.
    """
    action = manifest.action
    widest = dict(zip(action.names, action.limit, strict=True))
    asked: dict[str, float] = {}
    for name, value in (options.limits or {}).items():
        if name not in widest:
            raise InputError(
                f"There is no component {name!r} to limit.", f"The policy has {', '.join(widest)}."
            )
        limit = finite_number(value)
        if limit is None or not 0 < limit <= widest[name]:
            unit = action.units[action.names.index(name)]
            raise InputError(
                f"The limit {shown(value)} {unit} of {name} is not within 0 and the manifest's "
                f"{widest[name]:g} {unit}.",
                "Choose a smaller one; a wider one needs another export.",
            )
        asked[name] = limit
    return tuple(asked.get(name, widest[name]) for name in action.names)


def check_options(options: ControllerOptions) -> float:
    """Refuse what would switch a stop off unsaid.

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
    factor = options.real_time_factor
    if factor is not None and (finite_number(factor) or 0.0) <= 0:
        raise InputError(
            f"real_time_factor={shown(factor)} cannot be used.",
            "Give the clock's seconds per second of real time, above 0; None for a simulator that pauses.",
        )
    _check_frame_limits(options)
    return hold_ms


def _check_frame_limits(options: ControllerOptions) -> None:
    repeats, repeats_ms, contrast = options.repeats_allowed, options.repeats_ms, options.least_contrast
    plain_ms = options.plain_ms
    usable = (
        (repeats is None or (isinstance(repeats, int) and not isinstance(repeats, bool) and repeats >= 0))
        and (repeats_ms is None or (finite_number(repeats_ms) or 0.0) > 0)
        and (plain_ms is None or (finite_number(plain_ms) or 0.0) > 0)
        and (contrast is None or 0 < (finite_number(contrast) or 0.0) <= 255)
    )
    if not usable:
        raise InputError(
            f"repeats_allowed={shown(repeats)}, repeats_ms={shown(repeats_ms)}, plain_ms={shown(plain_ms)} and "
            f"least_contrast={shown(contrast)} cannot be used.",
            "Give a whole number of frames, milliseconds above 0, and grey levels up to 255; None for no limit.",
        )
