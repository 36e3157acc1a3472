"""What a loop at a fixed rate may be told, and the check that it can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.foreign import finite_number, shown

MOST_HZ = 1000.0


@dataclass(frozen=True)
class RunOptions:
    """How `Controller.run` drives.

    Attributes:
        instruction: as `Policy.act` takes it, until `Controller.instruct`; None for the latest one of that, else the
            bundle's default.
        camera_ms: longest time without a new frame, in real time; longer is a fault.
        first_frame_ms: the same before the first frame, and after a reset: cameras take their time to start.
        acceleration: most that a component may grow per second, in its unit per second; components that are not
            named are not limited. It holds away from zero only: braking is never delayed, and a stop never ramped.
        smoothing_ms: time constant of a low-pass over the policy's actions; 0 for none. It delays what the policy
            says, its braking too, but no stop of the controller.
        chunk_step_ms: time between two steps of what the policy predicts (`Action.chunk`), as it was trained.
            While no newer action is there, its steps are then played by time, counted from the frame's arrival;
            the rest is dropped when one comes. None repeats the first step. Either ends after `hold_ms`.
        watch_parent: whether the death of the process that started this one is a stop and ends the loop.
        end_on_fault: whether the loop ends at the first fault, stopped, instead of waiting for a reset.
    """

    instruction: str | None = None
    camera_ms: float = 500.0
    first_frame_ms: float = 10_000.0
    acceleration: Mapping[str, float] | None = None
    smoothing_ms: float = 0.0
    chunk_step_ms: float | None = None
    watch_parent: bool = True
    end_on_fault: bool = False


def check_run(rate_hz: float, options: RunOptions, names: tuple[str, ...], hold_ms: float) -> float:
    """Refuse what would drive in another way than it says.

    Args:
        rate_hz: commands per second.
        options: of the loop.
        names: of the action's components.
        hold_ms: how long the controller lets a command be repeated, in real time.

    Returns:
        The rate.

    Raises:
        InputError: names the value.
    """
    rate = finite_number(rate_hz) or 0.0
    if not 0 < rate <= MOST_HZ:
        raise InputError(f"rate_hz={shown(rate_hz)} is no rate.", f"Give a number up to {MOST_HZ:g}.")
    if 1e3 / rate > hold_ms:
        raise InputError(
            f"rate_hz={rate:g} leaves {1e3 / rate:g} ms between two commands, and a command holds for "
            f"{hold_ms:g} ms.",
            "Choose a higher rate, or a longer hold_ms (--hold of vla-drive).",
        )
    for name in ("camera_ms", "first_frame_ms"):
        _require(name, getattr(options, name), above_zero=True)
    _require("smoothing_ms", options.smoothing_ms, above_zero=False)
    if options.chunk_step_ms is not None:
        _require("chunk_step_ms", options.chunk_step_ms, above_zero=True)
    for component, limit in (options.acceleration or {}).items():
        if component not in names:
            raise InputError(
                f"there is no component {component!r} to limit.", f"There are {', '.join(names)}."
            )
        _require(f"the acceleration of {component}", limit, above_zero=True)
    return rate


def _require(name: str, value: object, *, above_zero: bool) -> None:
    number = finite_number(value)
    if number is None or number < 0 or (above_zero and number == 0):
        least = "above 0" if above_zero else "of 0 or more"
        raise InputError(f"{name}={shown(value)} cannot be used.", f"Give a finite number {least}.")
