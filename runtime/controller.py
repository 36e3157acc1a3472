"""Between a policy and a robot's wheels: every fault becomes a stop with its reason, until someone resets.

    controller = Controller(policy, ControllerOptions(deadline_ms=100))
    try:
        while running:
            command = controller.step(camera.read())
            robot.move(*command.values)      # zeros when command.stopped
    finally:
        robot.move(0.0, 0.0)                 # however the loop ends: Ctrl-C, or the camera's own error

A motor loop of its own, faster than the policy, asks `controller.current()` instead; that also stops the
robot when the policy hangs inside the engine.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .errors import InputError, VlaError

if TYPE_CHECKING:
    from .action import Action
    from .manifest import Manifest

_log = logging.getLogger(__name__)

# A camera's driver may round its time stamps up.
_CLOCK_SLACK_MS = 5.0


class ActingPolicy(Protocol):
    """What a controller needs of `Policy`."""

    @property
    def manifest(self) -> Manifest: ...

    def act(self, frame: Any, instruction: str | None = None) -> Action: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class ControllerOptions:
    """What counts as a fault.

    Attributes:
        limits: largest absolute value per component, m/s; None takes the manifest's. Never wider than those.
        deadline_ms: longest time from the frame's capture (or the call, where that is not told) to the command.
        late_allowed: how many late commands in a row are single stops; one more is a fault. A late command
            is never passed on, however few they are.
        hold_ms: longest time that `current` repeats a command; None is twice the deadline.
    """

    limits: Mapping[str, float] | None = None
    deadline_ms: float = 100.0
    late_allowed: int = 0
    hold_ms: float | None = None


@dataclass(frozen=True)
class Command:
    """What the robot is to do now.

    Attributes:
        names: of the components.
        values: m/s; all zero when stopped.
        stopped: whether this is a stop of the controller (a policy may ask for zeros too: then it is False).
        reason: why it is one; empty otherwise.
        action: what the policy said; None where it failed or was late.
        latency_ms: from capture or call to the command.
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    stopped: bool
    reason: str
    action: Action | None
    latency_ms: float


class Controller:
    """Wraps a policy for a robot: clamps, refuses what is not finite or late, stops on any fault.

    A fault latches: from then on every command is a stop with the first reason, until `reset`. `step`
    and `reset` belong to one thread at a time; `current`, `halt` and `fault` may be called from any.
    """

    def __init__(
        self,
        policy: ActingPolicy,
        options: ControllerOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take charge of a policy.

        Args:
            policy: a loaded and warmed-up `Policy`; the caller closes it.
            options: what counts as a fault.
            clock: monotonic seconds.

        Raises:
            InputError: a limit of an unknown component, not positive, or wider than the manifest's;
                or a time that is not positive.
        """
        self._policy = policy
        self._options = options or ControllerOptions()
        self._clock = clock
        self._names = tuple(policy.manifest.action.names)
        self._limits = _limits(self._options, policy.manifest)
        self._hold_ms = _hold_ms(self._options)
        self._lock = threading.Lock()
        self._fault: str | None = None
        # The first reason since the last reset began: a halt during it must outlive it.
        self._fault_since_reset: str | None = None
        self._late_in_row = 0
        self._latest: tuple[float, Command] | None = None

    @property
    def fault(self) -> str | None:
        """The reason of the latched fault, if there is one."""
        return self._fault

    def step(self, frame: Any, instruction: str | None = None, captured_s: float | None = None) -> Command:
        """The command for a frame. Never raises on a fault of policy, engine or frame: it stops.

        Args:
            frame: as `Policy.act` takes it.
            instruction: as `Policy.act` takes it.
            captured_s: when the frame was taken, by this controller's clock. A time that is not (a wall
                clock's, one to come, NaN) is a fault: no deadline could be kept by it.
        """
        called = self._clock()
        started = called if captured_s is None else captured_s
        if self._fault is not None:
            return self._stop(self._fault, started)
        # NaN compares false.
        if not (called - started) * 1e3 >= -_CLOCK_SLACK_MS:
            return self._latch(
                f"captured_s={started} is not of this controller's clock, which says {called}.", called
            )
        try:
            action = self._policy.act(frame, instruction)
        except VlaError as error:
            return self._latch(error.problem, started)
        # A fault of any kind must stop the robot, the unforeseen ones above all.
        except Exception as error:
            _log.exception("the policy failed in an unforeseen way")
            return self._latch(f"{type(error).__name__}: {error}", started)
        return self._judge(action, started)

    def current(self) -> Command:
        """The latest command while it is fresh, for a motor loop; a stop and a fault once it is not."""
        with self._lock:
            latest = self._latest
        now = self._clock()
        if self._fault is not None:
            return self._stop(self._fault, now)
        if latest is None:
            return self._stop("no command yet.", now)
        age_ms = (now - latest[0]) * 1e3
        if age_ms > self._hold_ms:
            return self._latch(
                f"no new command for {age_ms:.0f} ms, {self._hold_ms:.0f} ms are allowed.", latest[0]
            )
        return latest[1]

    def halt(self, reason: str) -> None:
        """Stop from outside, such as by an emergency button; latched like any fault."""
        self._latch(reason, self._clock())

    def reset(self) -> None:
        """Clear the fault and start a new episode; the next command comes from the next `step`.

        What is latched while this runs, such as another thread's `halt`, is not cleared.

        Raises:
            EngineError: the policy cannot be reset; the fault stays.
        """
        with self._lock:
            self._fault_since_reset = None
        self._policy.reset()
        with self._lock:
            self._latest = None
            self._late_in_row = 0
            self._fault = self._fault_since_reset

    def _judge(self, action: Action, started: float) -> Command:
        now = self._clock()
        latency_ms = (now - started) * 1e3
        if len(action.values) != len(self._names) or not all(map(math.isfinite, action.values)):
            return self._latch(f"the policy returned {action.values}.", started)
        if latency_ms > self._options.deadline_ms:
            return self._late(latency_ms, started)
        self._late_in_row = 0
        values = tuple(
            max(-limit, min(limit, value)) for value, limit in zip(action.values, self._limits, strict=True)
        )
        return self._keep(Command(self._names, values, False, "", action, latency_ms), now)

    def _late(self, latency_ms: float, started: float) -> Command:
        self._late_in_row += 1
        reason = f"the command took {latency_ms:.0f} ms, {self._options.deadline_ms:.0f} ms are allowed."
        if self._late_in_row > self._options.late_allowed:
            return self._latch(reason, started)
        return self._keep(self._stop(reason, started), self._clock())

    def _latch(self, reason: str, started: float) -> Command:
        with self._lock:
            if self._fault_since_reset is None:
                self._fault_since_reset = reason
                _log.error("stopped: %s", reason)
            if self._fault is None:
                self._fault = reason
            first = self._fault
        return self._keep(self._stop(first, started), self._clock())

    def _keep(self, command: Command, now: float) -> Command:
        with self._lock:
            # A fault that another thread latched meanwhile must not be overtaken by this command.
            if self._fault is not None and not command.stopped:
                command = self._stop(self._fault, now)
            self._latest = (now, command)
        return command

    def _stop(self, reason: str, started: float) -> Command:
        return Command(
            self._names, (0.0,) * len(self._names), True, reason, None, (self._clock() - started) * 1e3
        )


def _limits(options: ControllerOptions, manifest: Manifest) -> tuple[float, ...]:
    widest = dict(zip(manifest.action.names, manifest.action.limit, strict=True))
    asked = dict(options.limits or {})
    for name, limit in asked.items():
        if name not in widest:
            raise InputError(
                f"There is no component {name!r} to limit.", f"The policy has {', '.join(widest)}."
            )
        if not 0 < limit <= widest[name]:
            raise InputError(
                f"The limit {limit:g} m/s of {name} is not within 0 and the manifest's {widest[name]:g} m/s.",
                "Choose a smaller one; a wider one needs another export.",
            )
    return tuple(asked.get(name, widest[name]) for name in manifest.action.names)


def _hold_ms(options: ControllerOptions) -> float:
    hold_ms = 2 * options.deadline_ms if options.hold_ms is None else options.hold_ms
    if not (options.deadline_ms > 0 and hold_ms > 0 and options.late_allowed >= 0):
        raise InputError(
            f"deadline_ms={options.deadline_ms:g}, hold_ms={hold_ms:g} and late_allowed={options.late_allowed} "
            "cannot be used.",
            "Times must be positive, and late_allowed not negative.",
        )
    return hold_ms
