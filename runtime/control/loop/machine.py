"""The loop as a state machine, without threads: `turn` looks at what came, sends, and says when to be called again.

It calls neither camera nor policy, so it never waits for them, and it is all that sends commands: whatever hangs,
the stop is sent. Every moving command comes from `Controller.current`, which gives none after a fault.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from vla_edge.runtime.control.causes import Cause, cause_of
from vla_edge.runtime.control.command import Command, stop_for
from vla_edge.runtime.control.judging import exceeding
from vla_edge.runtime.foreign import words_of

from .health import Counts, State
from .inbox import Inbox, Shot
from .options import RunOptions
from .protocols import Robot, Steered
from .shaping import ChunkError, Shaper
from .ticks import Ticks

_log = logging.getLogger(__name__)

# A fault latched by another thread, such as a halt, is seen within this.
_LOOK_S = 0.01
_LAST_STOP_S = 0.5
# So long a reset waits for the policy to come to rest.
_RESET_S = 1.0


@dataclass(frozen=True)
class Limits:
    """Of the controller, by real time.

    Attributes:
        names: of the components.
        largest: absolute value of each.
        deadline_s: longest time for one answer of the policy.
        hold_s: how long a command may be repeated.
        late_allowed: whether single late answers are single stops.
        time_factor: real seconds in one of the controller's clock; infinite where its clock may pause.
    """

    names: tuple[str, ...]
    largest: tuple[float, ...]
    deadline_s: float
    hold_s: float
    late_allowed: bool
    time_factor: float


class Machine:
    """States and sends. All but `stop_for_good` belongs to one thread.

    Args:
        controller: latches faults, judges actions.
        robot: gets every command.
        rate_hz: commands per second.
        options, limits: see there; checked already.
        work: begins the policy's work on a frame in another thread; its end is `Inbox.put_answer`.
        clock: monotonic seconds of real time.
        parent: the number of the process that started this one, as it is now.
    """

    def __init__(
        self,
        controller: Steered,
        robot: Robot,
        rate_hz: float,
        options: RunOptions,
        limits: Limits,
        work: Callable[[Shot], object],
        clock: Callable[[], float],
        parent: Callable[[], int] = os.getppid,
    ) -> None:
        self._controller, self._robot, self._work = controller, robot, work
        self._options, self._limits = options, limits
        self._clock, self._parent = clock, parent
        self._born_of = parent()
        self.rate_hz = rate_hz
        self.began_s = clock()
        self.ticks = Ticks(rate_hz, self.began_s)
        self.inbox, self.counts = Inbox(clock), Counts()
        self._state, self.reason = State.WAITING, "no command yet."
        self._shaper = Shaper(options, limits.names, limits.largest, 1.0 / rate_hz)
        self._sending = threading.Lock()
        self._wanted = False  # a tick has come, and the policy was not asked since
        self._taken = self._asked = 0  # numbers of frames: the newest one seen, the one given to the policy
        self._pending = False  # an answer is awaited that was not taken yet
        self._asked_s = self._arrived_s = self._next_arrived_s = 0.0
        self._answered: Command | None = None
        self._sent_s = self.began_s
        self._orphaned = False
        self._ended = False  # nothing is sent any more; never unset
        self._unsent = False  # the driver refused a command: it gets a stop at every turn until it takes one
        self._seen_s, self._seen_first = self.began_s, False

    @property
    def state(self) -> State:
        """Of the loop, now."""
        return State.ENDED if self._ended else self._state

    @property
    def working(self) -> bool:
        """Whether the policy is at work."""
        return self._asked != self.inbox.answered

    def begin(self) -> None:
        """Send the first command, a stop."""
        self._send(self._stop(self.reason))

    def turn(self) -> float:
        """Look at what came since the last turn, send what is due.

        Returns:
            Seconds until it wants to be called again; 0 where the loop is to end, by `stop_for_good`.
        """
        if self._ended:
            return 0.0
        now_s = self._clock()
        tick = self.ticks.due(now_s)
        answer = self._take_answer()
        self._take_camera(now_s)
        self._watch(now_s)
        tick = self._take_reset(now_s) or tick
        self._wanted = self._wanted or tick
        self._send_what_is_due(now_s, tick or self._unsent, answer)
        self._ask(now_s)
        if self._has_to_end():
            return 0.0
        return max(1e-4, min(_LOOK_S, self.ticks.next_s - self._clock()))

    def stop_for_good(self) -> None:
        """Send the last command, a stop; nothing follows. From any thread.

        Raises:
            Exception: what the robot's driver raises.
        """
        # Not for ever: the loop's thread may hang in the driver while it holds the lock.
        alone = self._sending.acquire(timeout=_LAST_STOP_S)
        try:
            fault = self._controller.fault
            if fault is not None and self.state is not State.FAULT and not self._ended:
                self._enter_fault(fault)
            self._ended = True
            self.reason = self.reason or "the loop has ended."
            self._robot.send(self._stop(self.reason))
            self.counts.commands += 1
        finally:
            if alone:
                self._sending.release()

    def _take_answer(self) -> bool:
        """Whether the policy has answered since the last turn."""
        answered = self._pending and not self.working
        self._pending = self._pending and not answered
        return answered

    def _take_camera(self, now_s: float) -> None:
        shot = self.inbox.shot
        if shot is not None and shot.number != self._taken:
            self.counts.frames += shot.number - self._taken
            self._taken, self._seen_s, self._seen_first = shot.number, now_s, True
        fault, self.inbox.camera_fault = self.inbox.camera_fault, None
        if fault is not None and self._controller.fault is None:
            self._controller.halt(f"the camera failed: {fault[0]}", fault[1])

    def _watch(self, now_s: float) -> None:
        """Latch what no other part can see."""
        if self._options.watch_parent and not self._orphaned and self._parent() != self._born_of:
            self._orphaned = True
            self._controller.halt("the process that started this one has ended.", Cause.PARENT)
        if self._controller.fault is not None:
            return
        factor = self._limits.time_factor
        worked_s = now_s - self._asked_s if self.working else 0.0
        patience_s = self._limits.deadline_s + (self._limits.hold_s if self._limits.late_allowed else 0.0)
        if worked_s > patience_s:
            self._controller.halt(
                f"the policy has not answered for {exceeding(worked_s * 1e3)} ms, {patience_s * 1e3:g} ms are allowed.",
                Cause.HANG,
            )
        unseen_s = now_s - self._seen_s
        limit_ms = self._options.camera_ms if self._seen_first else self._options.first_frame_ms
        if unseen_s * 1e3 > limit_ms * max(1.0, factor) and not self.inbox.camera_ended:
            self._controller.halt(
                f"the camera has given no new frame for {exceeding(unseen_s * 1e3)} ms, {limit_ms:g} ms are allowed.",
                Cause.CAMERA,
            )

    def _take_reset(self, now_s: float) -> bool:
        """Begin anew, if somebody asked for it just now and the policy is at rest."""
        asked_s = self.inbox.reset_asked_s
        if asked_s is None:
            return False
        late = self._clock() - asked_s > _RESET_S  # who asked has turned away: nothing moves behind his back
        if self.working and not late:
            return False
        self.inbox.reset_asked_s = None
        if late:
            _log.warning("no reset: the policy has not come to rest within %g s", _RESET_S)
            return False
        try:
            self._controller.reset()
        except Exception as error:  # it is latched
            _log.warning("the policy could not be reset: %s", words_of(error))
            return False
        self.counts.resets += 1
        self._asked = self.inbox.answered = self._taken  # frames of before the reset are not acted on
        self._pending, self._answered = False, None
        self._seen_s, self._seen_first = now_s, False
        self._state, self.reason = State.WAITING, "no command yet."
        return True

    def _enter_fault(self, reason: str) -> None:
        self._state, self.reason = State.FAULT, reason
        self.counts.stops[self._controller.cause or Cause.OTHER] += 1

    def _send_what_is_due(self, now_s: float, tick: bool, answer: bool) -> None:
        """A stop at once and at each tick; an action when it is there, and at ticks at which none is about to come."""
        command = self._controller.current()  # asked at every turn: it latches what is stale
        if not command.stopped and self.working and now_s - self._asked_s > self._limits.deadline_s:
            command = self._stop("the policy is late.")
        if command.stopped:
            news = self._controller.fault is not None and self.state is not State.FAULT
            if tick or answer or news or self.state is State.MOVING:
                self._send(command)
        elif answer or (tick and not self._is_expected(now_s)):
            self._send(self._shaped(command, now_s))

    def _is_expected(self, now_s: float) -> bool:
        """Whether the next action will be there before the latest one has been followed for longer than a tick."""
        resting = self.state is State.MOVING and not self.working
        return resting and now_s - self._sent_s < 1.0 / self.rate_hz

    def _shaped(self, command: Command, now_s: float) -> Command:
        """An action as it is sent now."""
        if command is not self._answered:  # that of the frame that was asked for last
            self._answered, self._arrived_s = command, self._next_arrived_s
            self.counts.add_latency(command.latency_ms)
        try:
            return self._shaper.shape(command, self._arrived_s, now_s)
        except ChunkError as error:
            self._controller.halt(words_of(error), cause_of(error))
            return self._stop(error.problem)

    def _send(self, command: Command) -> None:
        """To the robot; the last look at the latch is behind the lock, so that nothing moves after the last stop."""
        with self._sending:
            if self._ended:
                return
            fault = self._controller.fault
            if fault is not None and not command.stopped:
                command = self._stop(fault)
            self._deliver(command)
            fault = self._controller.fault
            if fault is not None and not command.stopped:  # latched while the command was on its way
                command = self._stop(fault)
                self._deliver(command)
            self._note(command, fault)

    def _deliver(self, command: Command) -> None:
        try:
            self._robot.send(command)
        except Exception as error:
            self.counts.failed_sends += 1
            self._unsent = True
            if self._controller.fault is None:
                self._controller.halt(f"the robot's driver failed: {words_of(error)}", Cause.ROBOT)
        else:
            self._unsent, self._sent_s = False, self._clock()
            self.counts.commands += 1
            self.counts.moving_commands += not command.stopped
        if command.stopped:
            self._shaper.stopped(self._clock())

    def _note(self, command: Command, fault: str | None) -> None:
        """The state after a command."""
        if fault is not None:
            if self.state is not State.FAULT:
                self._enter_fault(fault)
        elif not command.stopped:
            self._state, self.reason = State.MOVING, ""
        elif self.state is State.MOVING:
            self._state, self.reason = State.PAUSED, command.reason
            self.counts.stops[Cause.LATE] += 1

    def _ask(self, now_s: float) -> None:
        """Give the newest frame to the policy, once a tick."""
        shot = self.inbox.shot
        if not self._wanted or self.working or shot is None or shot.number <= self._asked:
            return
        if self._controller.fault is not None:
            return
        self._wanted, self._pending = False, True
        self.counts.dropped_frames += shot.number - self._asked - 1
        self._asked, self._asked_s, self._next_arrived_s = shot.number, now_s, shot.arrived_s
        self._work(shot)

    def _has_to_end(self) -> bool:
        fault = self._controller.fault
        if self._orphaned or (fault is not None and self._options.end_on_fault):
            return True
        if not self.inbox.camera_ended or (self.working and fault is None):
            return False
        if fault is None and self.inbox.shot is not None and self._asked != self.inbox.shot.number:
            return False  # the last frame's turn is to come
        self._controller.halt("the camera has ended.", Cause.END)
        return True

    def _stop(self, reason: str) -> Command:
        return stop_for(self._limits.names, reason)
