"""What the words on `/mobile_vla/system_control` do.

A reset does not start: as with an emergency stop (ISO 13850), one word takes back the fault and another one moves
the robot. What is not understood stops it: who writes "halt" or "STOP!" means it.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.printable import one_line

_log = logging.getLogger(__name__)

WORDS = ("start", "stop", "reset")
WAITING = "waits for start."
STOPPED = "was told to stop; waits for start."
_SHOWN = 40
_MOST_CHARACTERS = 2000  # of a task, as instructions of a bundle


class Controlled(Protocol):
    """What it needs of `Controller`."""

    @property
    def fault(self) -> str | None: ...

    @property
    def cause(self) -> Cause | None: ...

    def halt(self, reason: str, cause: Cause = Cause.HALT) -> None: ...

    def ask_reset(self) -> None: ...


class Tasked(Protocol):
    """What it needs of `TaskedPolicy`."""

    task: str | None


class Operator:
    """Whoever drives the robot by words. Any thread may call.

    Args:
        controller: that runs the loop.
        policy: that gets the tasks.
        autostart: whether nobody has to say start.

    Attributes:
        answer: to the latest word or task.
    """

    def __init__(self, controller: Controlled, policy: Tasked, autostart: bool) -> None:
        self._controller, self._policy = controller, policy
        self._started = autostart
        self._one_at_a_time = threading.Lock()
        self.answer = ""
        self.at_reset()

    @property
    def holds(self) -> bool:
        """Whether the robot is stopped by words alone."""
        return self._controller.cause is Cause.OPERATOR

    def at_reset(self) -> None:
        """Within each reset: what was said meanwhile, or by `reset`, holds the robot."""
        if not self._started:
            self._controller.halt(WAITING, Cause.OPERATOR)

    def say(self, text: str) -> None:
        """One of `WORDS`; anything else stops."""
        word = text.strip().lower() if len(text) <= _SHOWN else text
        with self._one_at_a_time:
            if word == "start":
                self.answer = self._start()
            elif word == "reset":
                self._started = False
                self._controller.halt(WAITING, Cause.OPERATOR)  # now, not when the policy is at rest
                self._controller.ask_reset()
                self.answer = "reset: waits for start, unless the fault goes on."
            else:
                self._started = False  # before the halt: a reset under way must not forgive it
                self._controller.halt(STOPPED, Cause.OPERATOR)
                unknown = f"{one_line(text[:_SHOWN])!r} is none of {', '.join(WORDS)}: "
                self.answer = f"{'' if word == 'stop' else unknown}stopped."
        _log.info("told %r: %s", one_line(text[:_SHOWN]), self.answer)

    def set_task(self, text: str) -> None:
        """The next frame begins an episode with it; what cannot be one stops."""
        with self._one_at_a_time:
            if 0 < len(text.strip()) <= _MOST_CHARACTERS:
                self._policy.task = text.strip()
                self.answer = f"task: {one_line(self._policy.task)}"
            else:
                self._started = False
                self._controller.halt(STOPPED, Cause.OPERATOR)
                self.answer = f"a task of {len(text.strip())} characters is none: stopped."
        _log.info("%s", self.answer)

    def _start(self) -> str:
        if self._controller.fault is None:
            self._started = True
            return "started already."
        if not self.holds:
            return "not started: a fault stands, say reset first."
        self._started = True
        self._controller.ask_reset()
        return "starts."
