"""A controller's clock, and whether its seconds pass.

A clock that goes back, stands still or creeps lets a command look fresh for ever. The time by which it is judged
is the machine's own: `time.monotonic`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.foreign import finite_number, shown

_SLOWEST = 0.5  # of the speed asked for: coarse clocks and those that are slewed are no faults


class ClockError(VlaError):
    """The clock cannot keep a deadline; never leaves the controller."""


class ClockWatch:
    """Asks the clock, and refuses what no deadline can be kept by. Any thread may ask.

    Args:
        clock: seconds.
        patience_ms: how long the clock may say the same, in real time.
        real_time_factor: the clock's seconds in one of real time, as simulators call it; None asks for none.
        real: monotonic seconds of real time.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        patience_ms: float,
        real_time_factor: float | None,
        real: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._real = clock, real
        self._patience_s = patience_ms / 1e3
        self._factor = None if clock is real else real_time_factor
        self.reset()

    def reset(self) -> None:
        """From here on the clock may start anew."""
        self._latest_s = -float("inf")
        self._mark: tuple[float, float] | None = None  # of both clocks, replaced as one: threads share it

    def now(self, when: str = "") -> float:
        """The clock's seconds.

        Args:
            when: how the refusal of a clock that goes back ends.

        Raises:
            ClockError: it says no finite number, goes back, stands still or passes too slowly.
        """
        # Before the clock is asked: so another thread's time is older, and a pause in here tells against nobody.
        latest_s, mark, real_s = self._latest_s, self._mark, self.real_s()
        said = self._clock()
        now_s = finite_number(said)
        if now_s is None:
            raise ClockError(f"the clock says {shown(said)}, which is no finite number of seconds.")
        if now_s < latest_s:
            raise ClockError(f"the clock went back by {(latest_s - now_s) * 1e3:.0f} ms{when}.")
        self._latest_s = now_s
        if self._factor is not None:
            self._require_passing(now_s, real_s, mark)
        return now_s

    def real_s(self) -> float:
        """Real time in the clock's seconds; standing where none is asked for, or the clock is real time."""
        return 0.0 if self._factor is None else self._real() * self._factor

    def real_ms(self, clock_ms: float) -> float:
        """How long so many of the clock's milliseconds may take in real time; infinite where none is asked for."""
        if self._clock is self._real:
            return clock_ms
        return clock_ms / self._factor if self._factor else float("inf")

    def _require_passing(self, now_s: float, real_s: float, mark: tuple[float, float] | None) -> None:
        if mark is not None:
            clock_s, passed_s = now_s - mark[0], real_s - mark[1]
            if passed_s <= self._patience_s:
                return
            if clock_s < _SLOWEST * passed_s:
                raise ClockError(
                    f"the controller's clock passed {clock_s * 1e3:.0f} ms where {passed_s * 1e3:.0f} ms of real "
                    f"time (times real_time_factor={self._factor:g}) went by: it stands still or is slow.",
                    "Give a clock that runs, such as time.monotonic. In a simulator that is slow or pauses, set "
                    "ControllerOptions.real_time_factor.",
                )
        self._mark = (now_s, self.real_s())
