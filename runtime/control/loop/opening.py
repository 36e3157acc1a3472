"""From a controller and its options to a loop."""

from __future__ import annotations

from typing import Any

from vla_edge.runtime.control.clock_watch import ClockWatch
from vla_edge.runtime.control.options import ControllerOptions, check_options, limits_of
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

from .machine import Limits
from .options import RunOptions, check_run
from .protocols import Camera, Robot, Steered
from .run import Loop


def open_loop(
    controller: Steered,
    policy: Any,
    clock: ClockWatch,
    controlled: ControllerOptions,
    camera: Camera,
    robot: Robot,
    rate_hz: float,
    options: RunOptions | None,
) -> Loop:
    """Check everything before anything moves.

    Args:
        policy: of the controller.
        clock: of the controller.
        controlled: the controller's options.

    Raises:
        InputError: a value that cannot be used.
    """
    options = options or RunOptions()
    action = policy.manifest.action
    hold_ms = check_options(controlled)
    rate = check_run(rate_hz, options, tuple(action.names), clock.real_ms(hold_ms))
    _check_chunk(rate, options.chunk_step_ms, policy.manifest)
    limits = Limits(
        names=tuple(action.names),
        largest=limits_of(controlled, policy.manifest),
        deadline_s=clock.real_ms(controlled.deadline_ms) / 1e3,
        hold_s=clock.real_ms(hold_ms) / 1e3,
        late_allowed=controlled.late_allowed > 0,
        time_factor=clock.real_ms(1.0),
    )
    engine = getattr(policy, "identity", None)
    bundle = getattr(policy.manifest, "name", "")
    return Loop(
        controller,
        camera,
        robot,
        rate,
        options,
        limits,
        "" if engine is None else one_line(str(engine)),
        one_line(str(bundle)),
        None if getattr(policy.manifest, "camera", None) is None else getattr(policy, "frame", None),
    )


def _check_chunk(rate_hz: float, step_ms: float | None, manifest: Any) -> None:
    """Refuse steps that are over before a newer action can be there.

    Raises:
        InputError: says how long they last.
    """
    actions = getattr(manifest, "actions", None)
    if step_ms is None or actions is None:
        return
    steps = actions.shape[1]
    if steps * step_ms < 1e3 / rate_hz:
        raise InputError(
            f"the policy predicts {steps} step{'s' if steps > 1 else ''}, which chunk_step_ms={step_ms:g} ends after "
            f"{steps * step_ms:g} ms, and rate_hz={rate_hz:g} leaves {1e3 / rate_hz:g} ms between two commands.",
            "Leave chunk_step_ms (--chunk-step) out, or give the time between two steps that it was trained with.",
        )
