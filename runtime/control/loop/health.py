"""How a loop is: its state, its rate, its latency, and what stopped it how often."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_edge.runtime.control.causes import Cause

_KEPT = 1000  # latencies


class State(str, enum.Enum):
    """Of a loop; docs/control.md draws them."""

    WAITING = "waiting"
    MOVING = "moving"
    PAUSED = "paused"
    FAULT = "fault"
    ENDED = "ended"


@dataclass(frozen=True)
class Health:
    """A loop at one moment.

    Attributes:
        state: of the loop.
        reason: why the robot is stopped; empty while it moves.
        cause: the kind of the latched fault, if there is one.
        rate_hz: that was asked for.
        ticks: that were answered.
        missed_ticks: that went by while the loop was kept from running; not caught up.
        frames: that the camera gave.
        dropped_frames: of these, replaced by a newer one before the policy took them.
        actions: commands that the policy gave in time.
        commands: that were sent, stops included.
        moving_commands: of these, those that were none.
        failed_sends: at which the robot's driver raised.
        resets: that were done.
        stops: how often each cause has stopped the robot.
        latency_p50_ms, latency_p99_ms: from a frame's capture to its command, of the last 1,000; None before any.
        running_s: since the loop began.
        engine: that computes the actions.
        bundle: its name.
    """

    state: State
    reason: str
    cause: Cause | None
    rate_hz: float
    ticks: int
    missed_ticks: int
    frames: int
    dropped_frames: int
    actions: int
    commands: int
    moving_commands: int
    failed_sends: int
    resets: int
    stops: Mapping[Cause, int]
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    running_s: float
    engine: str
    bundle: str

    @property
    def answered_hz(self) -> float:
        """The rate that was kept: ticks answered per second."""
        return (self.ticks - 1) / self.running_s if self.ticks > 1 and self.running_s > 0 else 0.0


class Counts:
    """What a loop counts while it runs; bounded, however long that is."""

    def __init__(self) -> None:
        self.frames = self.dropped_frames = self.actions = 0
        self.commands = self.moving_commands = self.failed_sends = self.resets = 0
        self.stops: Counter[Cause] = Counter(dict.fromkeys(Cause, 0))  # of fixed size: any thread may copy it
        self._latencies_ms = np.full(_KEPT, np.nan)

    def add_latency(self, latency_ms: float) -> None:
        self._latencies_ms[self.actions % _KEPT] = latency_ms
        self.actions += 1

    def percentiles(self) -> tuple[float | None, float | None]:
        """p50 and p99 of the latency, ms."""
        known = self._latencies_ms[~np.isnan(self._latencies_ms)]
        if not len(known):
            return None, None
        half, most = np.percentile(known, (50, 99))
        return float(half), float(most)
