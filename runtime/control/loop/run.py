"""The loop's threads: the camera's, the policy's, and this one, which alone speaks to the robot."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.exits.stop_on_exit import stop_on_exit
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.foreign import finite_number, shown, words_of

from .health import Health
from .inbox import Inbox, Shot
from .machine import Limits, Machine
from .options import RunOptions
from .protocols import Camera, Robot, Steered

_AGAIN_S = 0.1  # after a camera has failed
_JOIN_S = 0.5


class Loop:
    """One run of `Controller.run`.

    Args:
        controller, camera, robot, rate_hz, options: as there.
        limits: of the controller.
        engine, bundle: for `health`.
        engines_own: the engine's own memory for a frame, where it has one: no frame may lie there.
    """

    def __init__(
        self,
        controller: Steered,
        camera: Camera,
        robot: Robot,
        rate_hz: float,
        options: RunOptions,
        limits: Limits,
        engine: str,
        bundle: str,
        engines_own: np.ndarray | None = None,
    ) -> None:
        self._controller, self._camera, self._engines_own = controller, camera, engines_own
        self._engine, self._bundle = engine, bundle
        self._jobs: queue.SimpleQueue[Shot | None] = queue.SimpleQueue()  # of one at most
        self._over = threading.Event()
        self._started: list[threading.Thread] = []
        clock: Callable[[], float] = time.monotonic
        self.machine = Machine(controller, robot, rate_hz, options, limits, self._jobs.put, clock)

    def drive(self) -> Health:
        """Until the camera ends, the parent dies, or a signal asks to; the robot is stopped before it returns.

        Raises:
            InputError: not in the main thread.
            KeyboardInterrupt, SystemExit: a signal, as `stop_on_exit` says.
        """
        machine = self.machine
        try:
            with stop_on_exit(machine.stop_for_good, _Signals(self._controller)), self._threads():
                try:
                    self._turn_after_turn(machine)
                except Exception as error:
                    self._controller.halt(f"the loop failed: {words_of(error)}", Cause.OTHER)
                    raise
        finally:
            self._join()
        return self.health()

    def _turn_after_turn(self, machine: Machine) -> None:
        machine.begin()
        wait_s = 1.0
        while wait_s > 0:
            machine.inbox.news.clear()
            wait_s = machine.turn()
            if wait_s > 0:
                machine.inbox.news.wait(wait_s)

    def health(self) -> Health:
        """At this moment; from any thread."""
        machine, counts = self.machine, self.machine.counts
        half_ms, most_ms = counts.percentiles()
        return Health(
            state=machine.state,
            reason=machine.reason,
            cause=self._controller.cause,
            rate_hz=machine.rate_hz,
            ticks=machine.ticks.count,
            missed_ticks=machine.ticks.missed,
            frames=counts.frames,
            dropped_frames=counts.dropped_frames,
            actions=counts.actions,
            commands=counts.commands,
            moving_commands=counts.moving_commands,
            failed_sends=counts.failed_sends,
            resets=counts.resets,
            stops={cause: times for cause, times in counts.stops.copy().items() if times},
            latency_p50_ms=half_ms,
            latency_p99_ms=most_ms,
            running_s=time.monotonic() - machine.began_s,
            engine=self._engine,
            bundle=self._bundle,
        )

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """The camera's and the policy's. Neither is waited for long: what hangs must not keep the program."""
        inbox = self.machine.inbox
        self._started = [
            threading.Thread(target=self._look, args=(inbox,), name="camera", daemon=True),
            threading.Thread(target=self._act, args=(inbox,), name="policy", daemon=True),
        ]
        try:
            for thread in self._started:
                thread.start()
            yield
        finally:
            self._over.set()
            self._jobs.put(None)

    def _join(self) -> None:
        """Wait a moment for the threads' last work, so that the policy can be closed; the robot is stopped."""
        for thread in self._started:
            if thread.ident is not None:
                thread.join(_JOIN_S)

    def _look(self, inbox: Inbox) -> None:
        """The camera's thread."""
        while not self._over.is_set() and self._look_once(inbox):
            pass

    def _look_once(self, inbox: Inbox) -> bool:
        """Put what the camera gives; whether there may be more."""
        try:
            found = self._camera.read()
            if found is None:
                inbox.put_camera_end()
                return False
            frame, captured_s = found
            number = finite_number(captured_s)
            if number is None:
                raise TypeError(f"the camera's time is {shown(captured_s)}")
            self._require_own_memory(frame)
        except BaseException as error:
            inbox.put_camera_fault(error)
            self._over.wait(_AGAIN_S)
        else:
            inbox.put_frame(frame, number, time.monotonic())
        return True

    def _require_own_memory(self, frame: object) -> None:
        """Refuse what the camera's thread would overwrite while the policy's acts on it."""
        own = self._engines_own
        if own is not None and isinstance(frame, np.ndarray) and np.may_share_memory(frame, own):
            raise InputError(
                "the camera gives policy.frame, which the engine reads while the next frame is written.",
                "Give Controller.run frames in memory of their own; policy.frame is for Controller.step.",
            )

    def _act(self, inbox: Inbox) -> None:
        """The policy's thread."""
        while (shot := self._jobs.get()) is not None:
            self._act_once(shot)
            inbox.put_answer(shot.number)

    def _act_once(self, shot: Shot) -> None:
        try:
            self._controller.step(shot.frame, captured_s=shot.captured_s)
        except BaseException as error:  # what is no Exception is latched, and raised nevertheless
            self._controller.halt(words_of(error), Cause.OTHER)


class _Signals:
    """What `stop_on_exit` halts."""

    def __init__(self, controller: Steered) -> None:
        self._controller = controller

    def halt(self, reason: str) -> None:
        self._controller.halt(reason, Cause.SIGNAL)
