"""One thread at a time, until the end."""

from __future__ import annotations

import contextlib
import sys
from types import FrameType

from vla_edge.runtime.errors import EngineError

from .forked import HomeProcess

Words = tuple[str, str]  # what is wrong, and what to do


class ExclusiveUse:
    """Held, as a context, while a thread uses something. Another one is refused: waiting would make a robot late.

    A turn belongs to the running call (its frame) that took it. A signal handler may raise at any moment, also
    between taking a turn and entering the `with`, or before giving it back: a lock would then be held for ever.
    A call that no thread runs any more has no turn, whatever was left undone.

    Args:
        busy, closed: what a refused thread is told.

    Attributes:
        closed: nobody gets in any more.
        home: the process whose turns these are; a forked child gets none.
    """

    def __init__(self, busy: Words, closed: Words) -> None:
        self.closed = False
        self.home = HomeProcess()
        self._takers: list[FrameType] = []  # the first has the turn
        self._busy_words, self._closed_words = busy, closed

    def __enter__(self) -> None:
        self.home.require()
        taker, takers = sys._getframe(1), self._takers
        takers.append(taker)  # a single step: of two threads one comes first
        if takers[0] is not taker:
            self._drop_ended()
        if takers[0] is not taker:
            takers.remove(taker)
            raise EngineError(*self._busy_words)
        if self.closed:
            takers.remove(taker)
            raise EngineError(*self._closed_words)

    def __exit__(self, *raised: object) -> None:
        self._takers.remove(sys._getframe(1))

    def _drop_ended(self) -> None:
        running: set[FrameType] = set()
        for top in sys._current_frames().values():
            frame: FrameType | None = top
            while frame is not None:
                running.add(frame)
                frame = frame.f_back
        for taker in [each for each in self._takers if each not in running]:
            with contextlib.suppress(ValueError):  # another thread has found it as well
                self._takers.remove(taker)
