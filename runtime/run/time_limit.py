"""An end for a graph that computes for ever: its hashes and weights may be right all the same.

The main thread is in native code then, which no exception reaches. So the whole process ends, from another
thread; and should that code hold Python's lock too, from `faulthandler`'s own thread, which needs none.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from types import TracebackType

MOST_SECONDS = 1_000_000  # eleven days; what waits takes a few thousand times that
_LAST_RESORT_S = 5.0
_EXIT_CODE = 1


class TimeLimit:
    """A context in which each piece of work may take so long; the process ends, with code 1, when one takes longer.

    Args:
        seconds: of one piece of work; None for no limit.
        what: names the work in the words that are printed then.
        option: what the user can change.
    """

    def __init__(self, seconds: float | None, what: str, option: str = "--time-limit") -> None:
        self._seconds = seconds
        self._words = (
            f"error: {what} gave nothing for {seconds:g} s, which {option} allows.\n"
            f"Give it more time if this machine is slow; else do not use it: its graph may never end.\n"
            if seconds is not None
            else ""
        ).encode("utf-8", "backslashreplace")
        self._done = threading.Event()
        self._began_s = 0.0

    def __enter__(self) -> TimeLimit:
        if self._seconds is not None:
            self.next()
            threading.Thread(target=self._watch, args=(self._seconds,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()

    def next(self) -> None:
        """One piece of work is done: the next one has all of the time again."""
        if self._seconds is None:
            return
        self._began_s = time.monotonic()
        faulthandler.dump_traceback_later(self._seconds + _LAST_RESORT_S, exit=True)

    def _watch(self, seconds: float) -> None:
        left_s = seconds
        while not self._done.wait(left_s):
            left_s = self._began_s + seconds - time.monotonic()
            if left_s <= 0:
                self._end()

    def _end(self) -> None:
        try:
            os.write(2, self._words)
        finally:  # also where the terminal is closed
            os._exit(_EXIT_CODE)
