"""Between a policy and a robot's wheels: every fault becomes a stop with its reason, until someone resets.

    controller = Controller(policy, ControllerOptions(deadline_ms=100))
    with stop_on_exit(lambda: robot.move(0.0, 0.0), controller):     # however the loop ends
        while running:
            command = controller.step(camera.read())
            robot.move(*command.values)                              # zeros when command.stopped

A motor loop of its own, faster than the policy, asks `controller.current()` instead; that also stops the
robot when the policy hangs inside the engine.

Fail closed: whatever leaves `Policy.act`, whatever it returns, whatever the clock says, the fault is latched
before anything else is done with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.foreign import words_of

from .causes import Cause, cause_of
from .clock_watch import ClockWatch
from .command import Command
from .followed import Followed
from .frame_watch import FrameWatch
from .judging import RefusalError, exceeding, limited_values, started_s
from .latch import Fault, FaultLatch
from .options import ControllerOptions, check_options, limits_of

if TYPE_CHECKING:
    from vla_edge.runtime.action import Action
    from vla_edge.runtime.bundle.manifest import Manifest

    from .loop.health import Health
    from .loop.options import RunOptions
    from .loop.protocols import Camera, Robot
    from .loop.run import Loop

__all__ = ["ActingPolicy", "Command", "Controller", "ControllerOptions"]

_log = logging.getLogger(__name__)


class ActingPolicy(Protocol):
    """What a controller needs of `Policy`."""

    @property
    def manifest(self) -> Manifest: ...

    def act(self, frame: Any, instruction: str | None = None) -> Action: ...

    def reset(self) -> None: ...


class _Published(NamedTuple):
    """A command for `current`; that of an earlier episode is none."""

    at_s: float
    real_s: float
    command: Command
    episode: object


class Controller:
    """Wraps a policy for a robot: clamps, refuses what is not finite or late or blind, stops on any fault.

    A fault latches: from then on every command is a stop with the first reason, until `reset`. `step`
    and `reset` belong to one thread at a time; `current` and `fault` may be called from any, `halt` from any
    and from signal handlers: it never blocks.
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
            clock: monotonic seconds. One that goes back, raises or says no finite number is a fault, and so is
                one that stands still or passes slowly while real time goes on (`real_time_factor`).

        Raises:
            InputError: a limit of an unknown component, not positive, or wider than the manifest's;
                or a time that is not positive.
        """
        self._policy = policy
        self._options = options or ControllerOptions()
        self._names = tuple(policy.manifest.action.names)
        self._limits = limits_of(self._options, policy.manifest)
        self._hold_ms = check_options(self._options)
        self._clock = ClockWatch(clock, self._hold_ms, self._options.real_time_factor)
        self._watch = FrameWatch(
            self._options.repeats_allowed,
            self._options.repeats_ms,
            self._options.least_contrast,
            self._options.plain_ms,
        )
        self._latch = FaultLatch()
        self._unfinished = _unfinished()
        self._logged: Fault | None = None
        self._late_in_row = 0
        self._episode = object()
        self._followed = Followed(policy)
        self._latest: _Published | None = None
        self._loop: Loop | None = None

    @property
    def fault(self) -> str | None:
        """The reason of the latched fault, if there is one."""
        fault = self._latch.fault
        return None if fault is None else fault.reason

    @property
    def cause(self) -> Cause | None:
        """The kind of the latched fault, if there is one."""
        fault = self._latch.fault
        return None if fault is None else fault.cause

    def step(self, frame: Any, instruction: str | None = None, captured_s: float | None = None) -> Command:
        """The command for a frame. Never raises on a fault of policy, engine, frame or clock: it stops.

        What is no `Exception`, such as KeyboardInterrupt or SystemExit, is latched as well and then raised.

        Args:
            frame: as `Policy.act` takes it. One that shows nothing, or repeats the last ones for too long, is
                a fault (see `ControllerOptions`).
            instruction: as `Policy.act` takes it; None for that of `instruct`.
            captured_s: when the frame was taken, by this controller's clock. A time that is not (a wall
                clock's, one to come, NaN, a date) is a fault: no deadline could be kept by it.
        """
        latch, started = self._latch, None
        try:
            fault = latch.fault
            if fault is not None:
                return self._stop(fault.reason)
            episode = self._episode
            called, real = self._clock.now(), self._clock.real_s()
            started = called
            started = started_s(called, captured_s)
            looked_at = self._watch.look(frame, called)
            action = self._policy.act(looked_at, self._followed.now() if instruction is None else instruction)
            return self._judge(action, started, real, episode)
        except BaseException as error:
            # No call stands between the exception and these assignments, so no second one can come first.
            seen, latch.latest = latch.latest, self._unfinished
            latch.set(words_of(error), after=seen, cause=cause_of(error))
            if not isinstance(error, Exception):
                raise
            return self._stop_for(error, started)

    def current(self) -> Command:
        """The latest command while it is fresh, for a motor loop; a stop and a fault once it is not."""
        latch = self._latch
        try:
            return self._current()
        except BaseException as error:
            seen, latch.latest = latch.latest, self._unfinished
            latch.set(words_of(error), after=seen, cause=cause_of(error))
            if not isinstance(error, Exception):
                raise
            return self._stop_for(error)

    def halt(self, reason: str, cause: Cause = Cause.HALT) -> None:
        """Stop from outside, such as by an emergency button; latched like any fault.

        Takes no lock, asks no clock and writes no log (the next `step` or `current` does), so that a signal
        handler may call it in the middle of either.
        """
        plain = reason if isinstance(reason, str) else f"halt was given a {type(reason).__name__}."
        self._latch.set(plain or "halt was called.", cause=cause)

    def instruct(self, text: str | None) -> None:
        """Follow another instruction from the next frame on, which begins an episode; from any thread.

        A fault that stands is not cleared, and the robot is not stopped. An `instruction` of `step` goes before it.

        Args:
            text: as `Policy.act` takes it; None for the bundle's default.

        Raises:
            InstructionError: the policy cannot follow it; it goes on with the last one.
        """
        self._followed.ask(text)

    def reset(self) -> None:
        """Clear the fault and start a new episode; the next command comes from the next `step`.

        What is latched while this runs, such as another thread's `halt`, is not cleared.

        Raises:
            EngineError: the policy cannot be reset, which is a fault; an older fault stays.
        """
        self._unfinished = _unfinished()  # before any forgiving: the one in use must not be forgiven later
        try:
            self._latch.begin()
            self._followed.reset()
        except BaseException as error:
            self._latch.abandon()
            self._latch.set(words_of(error), cause=cause_of(error))
            raise
        self._latest = None
        self._watch.reset()
        self._late_in_row = 0
        self._clock.reset()
        self._episode = object()
        self._latch.forgive()

    def run(self, camera: Camera, robot: Robot, rate_hz: float, options: RunOptions | None = None) -> Health:
        """Drive at a fixed rate until the camera ends; every fault is a stop, latched until `ask_reset`.

        The first and the last thing that the robot is sent is a stop. Commands are sent from this thread, which
        waits for neither camera nor policy: a stop is sent though the engine never returns. Frames are read by
        another thread, the newest one wins; the policy acts in a third one, at most once a tick. Signals, an
        exception and the parent's death end the loop, stopped: `stop_on_exit` is part of it. What is latched, also
        by the end of an earlier run, stays so: `reset` before another one.

        Args:
            camera: gives frames and their times.
            robot: gets each command, from this thread.
            rate_hz: commands per second; tick k is at k / rate_hz, missed ones are counted and not caught up.
            options: of the loop.

        Returns:
            How it was; `health` tells it meanwhile.

        Raises:
            InputError: not in the main thread, or a value that cannot be used.
            KeyboardInterrupt, SystemExit: a signal ended it, as `stop_on_exit` says.
        """
        from .loop.opening import open_loop

        if options is not None and options.instruction is not None:
            self._followed.ask(options.instruction, checked=False)  # a fault of the first frame, as ever
        self._loop = open_loop(
            self, self._policy, self._clock, self._options, camera, robot, rate_hz, options
        )
        return self._loop.drive()

    def health(self) -> Health | None:
        """How the latest `run` is, from any thread; None before any."""
        return None if self._loop is None else self._loop.health()

    def ask_reset(self) -> None:
        """Have `run` reset within a second, if the policy comes to rest by then; from any thread."""
        if self._loop is not None:
            self._loop.machine.inbox.ask_reset()

    def _current(self) -> Command:
        latest, fault = self._latest, self._latch.fault
        if fault is not None:
            return self._stop(fault.reason)
        if latest is None or latest.episode is not self._episode:
            return self._stop("no command yet.")
        age_ms = max(self._clock.now() - latest.at_s, self._clock.real_s() - latest.real_s) * 1e3
        if age_ms > self._hold_ms:
            raise RefusalError(
                f"no new command for {exceeding(age_ms)} ms, {self._hold_ms:g} ms are allowed.", Cause.STALE
            )
        # Asked last: a halt of meanwhile counts. So does a whole reset, after which this command is none.
        fault = self._latch.fault
        if fault is not None:
            return self._stop(fault.reason)
        return latest.command if latest.episode is self._episode else self._stop("no command yet.")

    def _judge(self, action: Action, started: float, real_started: float, episode: object) -> Command:
        values = limited_values(action, self._names, self._limits)
        now, real = self._clock.now(" while the policy worked"), self._clock.real_s()
        latency_ms = max(now - started, real - real_started) * 1e3
        if latency_ms > self._options.deadline_ms:
            command = self._late(latency_ms)
        else:
            self._late_in_row = 0
            command = Command(self._names, values, False, "", action, latency_ms)
        if episode is not self._episode:
            raise RefusalError("the controller was reset while the policy worked.")
        self._latest = _Published(now, real, command, episode)
        # Asked last: what another thread or a signal latched meanwhile is not overtaken by this command.
        fault = self._latch.fault
        return command if fault is None else self._stop(fault.reason)

    def _late(self, latency_ms: float) -> Command:
        self._late_in_row += 1
        reason = f"the command took {exceeding(latency_ms)} ms, {self._options.deadline_ms:g} ms are allowed."
        if self._late_in_row > self._options.late_allowed:
            raise RefusalError(reason, Cause.LATE)
        return Command(self._names, (0.0,) * len(self._names), True, reason, None, latency_ms)

    def _stop_for(self, error: Exception, started: float | None = None) -> Command:
        """The stop for a fault that was just latched."""
        fault = self._latch.fault
        unforeseen = None if isinstance(error, VlaError) else error
        # Forgiven already where another thread reset it meanwhile: a stop nevertheless.
        return self._stop(fault.reason if fault is not None else words_of(error), started, unforeseen)

    def _stop(
        self, reason: str, started: float | None = None, unforeseen: Exception | None = None
    ) -> Command:
        command = Command(
            self._names, (0.0,) * len(self._names), True, reason, None, self._elapsed_ms(started)
        )
        self._log_once(unforeseen)
        return command

    def _elapsed_ms(self, started: float | None) -> float:
        if started is None:
            return 0.0
        try:
            return max(0.0, (self._clock.now() - started) * 1e3)
        except Exception:  # the clock; if that is the fault, it is latched already
            return 0.0

    def _log_once(self, unforeseen: Exception | None) -> None:
        fault = self._latch.fault
        if fault is None or fault is self._logged:
            return
        self._logged = fault
        try:
            level = logging.INFO if fault.cause is Cause.OPERATOR else logging.ERROR
            _log.log(level, "stopped: %s", fault.reason, exc_info=unforeseen)
        except Exception:  # a log handler that fails must not keep the stop from the robot
            self._logged = None


def _unfinished() -> Fault:
    return Fault("the controller was interrupted.")
