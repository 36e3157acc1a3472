"""Commands as velocities, and what is told of each new action."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.control.command import Command
from vla_edge.runtime.errors import InputError

from .stamped import StampedPolicy
from .transport import Transport

FORWARD, LEFT = "linear_x", "linear_y"
_UNIT = "m/s"
_NS = 1_000_000_000


def check_components(names: Sequence[str], units: Sequence[str]) -> None:
    """Refuse an action that a Twist without rotation does not hold.

    Raises:
        InputError: another component than linear x and y, or another unit than m/s.
    """
    if not set(names) <= {FORWARD, LEFT} or not names or set(units) != {_UNIT}:
        found = ", ".join(f"{name} in {unit}" for name, unit in zip(names, units, strict=True))
        raise InputError(
            f"the action of this bundle is {found}; a Twist gets {FORWARD} and {LEFT} in {_UNIT}.",
            "Drive it by code of your own, as in examples/.",
        )


def velocity_of(command: Command) -> tuple[float, float]:
    """m/s forward and to the left; exactly zero in a stop."""
    if command.stopped:
        return 0.0, 0.0
    values = dict(zip(command.names, command.values, strict=True))
    return values.get(FORWARD, 0.0), values.get(LEFT, 0.0)


class Wheels:
    """The loop's robot.

    Args:
        transport: that says it.
        policy: that knows the frame of an action.

    Attributes:
        news: set when the robot begins to move, or stops, or for another reason.
    """

    def __init__(self, transport: Transport, policy: StampedPolicy) -> None:
        self._transport, self._policy = transport, policy
        self._told: object = None
        self._reason: str | None = None
        self.news = threading.Event()

    def send(self, command: Command) -> None:
        """The velocity first; then, once for each action, what it came from. What is raised is a fault."""
        x, y = velocity_of(command)
        self._transport.send_velocity(x, y)
        if command.action is not None and command.action is not self._told:
            self._told = command.action
            self._transport.send_result(result_text(command, self._policy.stamp_ns, x, y))
        if command.reason != self._reason:
            self._reason = command.reason
            self.news.set()


def result_text(command: Command, stamp_ns: int, x: float, y: float) -> str:
    """JSON of an action and of the velocity that it became; docs/ros2.md has its fields."""
    action: Any = command.action
    return json_text(
        {
            "stamp": {"sec": stamp_ns // _NS, "nanosec": stamp_ns % _NS},
            "instruction": action.instruction,
            "linear_x": x,
            "linear_y": y,
            "policy": dict(zip(action.names, action.values, strict=True)),
            "clamped": action.clamped,
            "held": action.held,
            "latency_ms": command.latency_ms,
            "timings_ms": action.timings_ms,
        },
        indent=None,
    )
