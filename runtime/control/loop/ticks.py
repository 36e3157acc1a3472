"""Moments at a fixed rate."""

from __future__ import annotations

import math


class Ticks:
    """The k-th tick is at start + k / rate, whenever the ones before were answered: no error adds up.

    Args:
        rate_hz: ticks per second.
        start_s: monotonic seconds of tick 0.

    Attributes:
        count: ticks that were answered.
        missed: ticks that went by unanswered; they are not caught up.
    """

    def __init__(self, rate_hz: float, start_s: float) -> None:
        self._rate_hz, self._start_s = rate_hz, start_s
        self._at = -1
        self.count = self.missed = 0

    @property
    def next_s(self) -> float:
        """When the next tick is."""
        return self._start_s + (self._at + 1) / self._rate_hz

    def due(self, now_s: float) -> bool:
        """Whether a tick has come since the last one that was answered; True answers it."""
        if now_s < self.next_s:
            return False
        # the sum may round the tick that has come to one below
        at = max(self._at + 1, math.floor((now_s - self._start_s) * self._rate_hz))
        self.count += 1
        self.missed += at - self._at - 1
        self._at = at
        return True
