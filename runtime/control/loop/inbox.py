"""What other threads tell the loop: one slot for the newest frame, nothing that grows.

Each is one assignment, which the loop's thread takes; none waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from vla_edge.runtime.control.causes import Cause, cause_of
from vla_edge.runtime.foreign import words_of


class Shot(NamedTuple):
    """A frame as it came: `captured_s` by the controller's clock, `arrived_s` by the loop's."""

    frame: Any
    captured_s: float
    arrived_s: float
    number: int


class Inbox:
    """Between the camera's thread, the policy's, others, and the loop's.

    Args:
        clock: of the loop, monotonic seconds.

    Attributes:
        news: set when something came; who waits for it clears it before he looks.
        shot: the newest frame; a newer one replaces it.
        frames: that came so far.
        camera_fault: what the camera raised last, with its cause; None once it was taken.
        camera_ended: whether there will be no frame any more.
        answered: the numbers of the frames whose work is done, the latest one.
        reset_asked_s: when somebody wanted a reset that was not done yet.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.news = threading.Event()
        self.shot: Shot | None = None
        self.frames = 0
        self.camera_fault: tuple[str, Cause] | None = None
        self.camera_ended = False
        self.answered = 0
        self.reset_asked_s: float | None = None

    def put_frame(self, frame: Any, captured_s: float, arrived_s: float) -> None:
        """Of the camera's thread."""
        self.frames += 1
        self.shot = Shot(frame, captured_s, arrived_s, self.frames)
        self.news.set()

    def put_camera_fault(self, error: BaseException) -> None:
        """Of the camera's thread."""
        cause = cause_of(error)
        self.camera_fault = (words_of(error), Cause.CAMERA if cause is Cause.OTHER else cause)
        self.news.set()

    def put_camera_end(self) -> None:
        """Of the camera's thread."""
        self.camera_ended = True
        self.news.set()

    def put_answer(self, number: int) -> None:
        """Of the policy's thread: it is done with a frame."""
        self.answered = number
        self.news.set()

    def ask_reset(self) -> None:
        """Of any thread."""
        self.reset_asked_s = self._clock()
        self.news.set()
