"""Whether the robot moves, or why not; its command, rate and latency; and what a person can do now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import click
from rich.live import Live
from rich.text import Text

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.loop.health import Health, State
from vla_edge.runtime.printable import one_line

from .watching import Sent

_EVERY_S = 1.0  # in a pipe or a file; at each change too
TRY_LONGER = "To only try it on a slow machine: --deadline 1000. A robot drives blind so long."


class Screen:
    """Rewrites its lines on a terminal that can; elsewhere prints one at each change and each second.

    Args:
        names, units: of the components.
        health: of the loop.
        keyboard: whether Enter resets.
    """

    def __init__(
        self,
        names: Sequence[str],
        units: Sequence[str],
        health: Callable[[], Health | None],
        keyboard: bool,
    ) -> None:
        self._names, self._units, self._health, self._keyboard = names, units, health, keyboard
        # what is logged meanwhile stands above it
        self._live = Live(auto_refresh=False, redirect_stdout=False, redirect_stderr=sys.stderr.isatty())
        self._rewrites = sys.stdout.isatty() and not self._live.console.is_dumb_terminal
        self._shown, self._shown_s = "", 0.0

    def __call__(self, sent: Sent) -> None:
        health = self._health()
        if health is None:
            return
        if self._rewrites:
            self._live.start()  # the first time
            self._live.update(Text("\n".join(self.lines(health, sent))), refresh=True)
            return
        state, now_s = f"{health.state.value} {health.reason}", time.monotonic()
        if state != self._shown or now_s - self._shown_s >= _EVERY_S:
            most = 2 if state == self._shown else None  # what to do is told once
            self._shown, self._shown_s = state, now_s
            click.echo("  ".join(self.lines(health, sent)[:most]))

    def end(self) -> None:
        """The lines stay as they are."""
        self._live.stop()

    def lines(self, health: Health, sent: Sent) -> list[str]:
        """What is shown: the state, the figures, and what can be done about a fault."""
        figures = f"{health.answered_hz:.1f} Hz, {health.missed_ticks} missed"
        if health.latency_p50_ms is not None and health.latency_p99_ms is not None:
            figures += f", latency p50 {health.latency_p50_ms:.0f} p99 {health.latency_p99_ms:.0f} ms"
        if health.state is State.MOVING and not sent.command.stopped:
            return [f"moving   {_shown(sent, self._names, self._units)}", figures]
        lines = [f"stopped  {one_line(health.reason)}", figures]
        if health.state is State.FAULT:
            lines.append("Enter goes on, Ctrl-C ends." if self._keyboard else "Ctrl-C ends.")
            lines += what_to_do(health)
        return lines


def what_to_do(health: Health) -> list[str]:
    """About the fault that stopped the robot, where there is something to be said."""
    return [TRY_LONGER] if health.cause in (Cause.LATE, Cause.HANG) else []


def _shown(sent: Sent, names: Sequence[str], units: Sequence[str]) -> str:
    each = zip(names, sent.command.values, units, strict=True)
    return "  ".join(f"{one_line(name)} {value:+.3f} {one_line(unit)}" for name, value, unit in each)
