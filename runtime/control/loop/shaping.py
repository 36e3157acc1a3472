"""From what the policy said to what is sent now: its chunk by time, smoothing, the limit of acceleration.

Stops do not come here: nothing softens them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.command import Command
from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.foreign import finite_number, shown

from .options import RunOptions


class ChunkError(VlaError):
    """A chunk that cannot be played; never leaves the loop."""

    def __init__(self, problem: str, cause: Cause) -> None:
        super().__init__(problem)
        self.cause = cause


class Shaper:
    """Remembers what was sent last.

    Args:
        options: of the loop.
        names: of the components.
        limits: largest absolute value of each, in its unit: those of the controller.
        period_s: between two ticks. Twice that is the most for which one command may accelerate.
    """

    def __init__(
        self, options: RunOptions, names: tuple[str, ...], limits: tuple[float, ...], period_s: float
    ) -> None:
        given = options.acceleration or {}
        self._growth = tuple(float(given.get(name, math.inf)) for name in names)
        self._limits, self._most_s = limits, 2 * period_s
        self._smoothing_s = options.smoothing_ms / 1e3
        self._step_s = None if options.chunk_step_ms is None else options.chunk_step_ms / 1e3
        self._off = not (given or self._smoothing_s or self._step_s)
        self.stopped(0.0)

    def stopped(self, now_s: float) -> None:
        """A stop was sent: the next command begins at rest."""
        self._sent, self._smooth = (0.0,) * len(self._limits), (0.0,) * len(self._limits)
        self._sent_s = now_s

    def shape(self, command: Command, arrived_s: float, now_s: float) -> Command:
        """The command to send now.

        Args:
            command: the controller's latest, which moves.
            arrived_s: when its frame came, by the clock of `now_s`.
            now_s: monotonic seconds.

        Raises:
            ChunkError: the steps are over, or are none.
        """
        if self._off:
            return command
        passed_s = min(max(now_s - self._sent_s, 0.0), self._most_s)
        wanted = self._smoothed(self._played(command, arrived_s, now_s), passed_s)
        values = tuple(
            accelerated(before, value, growth * passed_s if growth < math.inf else math.inf)
            for before, value, growth in zip(self._sent, wanted, self._growth, strict=True)
        )
        self._sent, self._sent_s = values, now_s
        return command if values == command.values else replace(command, values=values)

    def _smoothed(self, wanted: tuple[float, ...], passed_s: float) -> tuple[float, ...]:
        if self._smoothing_s:
            share = 1.0 - math.exp(-passed_s / self._smoothing_s)
            pairs = zip(self._smooth, wanted, strict=True)
            self._smooth = wanted = tuple(before + share * (value - before) for before, value in pairs)
        return wanted

    def _played(self, command: Command, arrived_s: float, now_s: float) -> tuple[float, ...]:
        chunk = getattr(command.action, "chunk", None)
        if self._step_s is None or chunk is None:
            return command.values
        at = max(0, math.floor((now_s - arrived_s) / self._step_s))
        if at == 0:
            return command.values
        if at >= len(chunk):
            raise ChunkError(
                f"the latest action is over after its last step, of {len(chunk)}, and no newer one came.",
                Cause.STALE,
            )
        values = [finite_number(value) for value in chunk[at]]
        known = [value for value in values if value is not None]
        if not len(known) == len(values) == len(self._limits):
            raise ChunkError(f"step {at} of an action is {shown(chunk[at])}.", Cause.NOT_FINITE)
        return tuple(max(-most, min(most, value)) for value, most in zip(known, self._limits, strict=True))


def accelerated(before: float, wanted: float, growth: float) -> float:
    """At most `growth` further from zero than before; toward zero at once; another direction begins at zero."""
    start = abs(before) if before * wanted > 0 else 0.0
    return wanted if abs(wanted) <= start + growth else math.copysign(start + growth, wanted)
