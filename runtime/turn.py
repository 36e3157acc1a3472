"""One thread at a time, until the end."""

from __future__ import annotations

import threading

from .errors import EngineError

Words = tuple[str, str]  # what is wrong, and its mend


class Turn:
    """Held, as a context, while a thread uses something. Another one is refused: waiting would make a robot late.

    Args:
        busy, closed: what a refused thread is told.

    Attributes:
        closed: nobody gets in any more.
    """

    def __init__(self, busy: Words, closed: Words) -> None:
        self.closed = False
        self._lock = threading.Lock()
        self._busy_words, self._closed_words = busy, closed

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise EngineError(*self._busy_words)
        if self.closed:
            self._lock.release()
            raise EngineError(*self._closed_words)

    def __exit__(self, *raised: object) -> None:
        self._lock.release()
