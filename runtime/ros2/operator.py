"""What the words on `/mobile_vla/system_control` do.

A reset does not start: as with an emergency stop (ISO 13850), one word takes back the fault and another one moves
the robot. What is not understood stops it: who writes "halt" or "STOP!" means it.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.errors import InstructionError
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

    def instruct(self, text: str | None) -> None: ...


class Operator:
    """Whoever drives the robot by words. Any thread may call.

    Args:
        controller: that runs the loop.
        task: until another one comes; None for the bundle's default.
        autostart: whether nobody has to say start.

    Attributes:
        answer: to the latest word or task.
        task: that is followed.

    Raises:
        InstructionError: the policy does not know the task.
    """

    def __init__(self, controller: Controlled, task: str | None, autostart: bool) -> None:
        controller.instruct(task)
        self._controller, self.task = controller, task
        self._started = autostart
        self._refused = False  # the latest task was: nobody wants the one before
        self._one_at_a_time = threading.Lock()
        self.answer = ""
        self.at_reset()

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
        """The next frame begins an episode with it; one that the policy does not know stops until another one comes."""
        wanted = text.strip()
        with self._one_at_a_time:
            try:
                if not 0 < len(wanted) <= _MOST_CHARACTERS:
                    raise InstructionError(f"a task of {len(wanted)} characters is none.")
                self._controller.instruct(wanted)
            except InstructionError as error:
                self._refused, self._started = True, False
                self._controller.halt(f"the task was refused: {error.problem}", Cause.OPERATOR)
                self.answer = f"task refused: {error}"
            else:
                self._refused, self.task = False, wanted
                self.answer = f"task: {one_line(wanted)}"
        _log.info("%s", self.answer)

    def _start(self) -> str:
        if self._controller.fault is None:
            self._started = True
            return "started already."
        if self._controller.cause is not Cause.OPERATOR:
            return "not started: a fault stands, say reset first."
        if self._refused:
            return "not started: the latest task was refused, set another one."
        self._started = True
        self._controller.ask_reset()
        return "starts."
