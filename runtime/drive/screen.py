"""One line: whether the robot moves, or why not; its command, rate and latency."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence

import click
from rich.cells import set_cell_size

from vla_edge.runtime.control.loop.health import Health, State
from vla_edge.runtime.printable import one_line

from .watching import Sent

_EVERY_S = 1.0  # in a pipe or a file; at each change too


class Screen:
    """Rewrites its line on a terminal; elsewhere prints one at each change and each second.

    Args:
        units: of the components.
        health: of the loop.
        keyboard: whether Enter resets.
    """

    def __init__(self, units: Sequence[str], health: Callable[[], Health | None], keyboard: bool) -> None:
        self._units, self._health, self._keyboard = units, health, keyboard
        self._terminal = sys.stdout.isatty()
        self._shown, self._shown_s = "", 0.0

    def __call__(self, sent: Sent) -> None:
        health = self._health()
        if health is None:
            return
        text = self.line(health, sent)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            click.echo("\r" + set_cell_size(text, width), nl=False)
            return
        state, now_s = f"{health.state.value} {health.reason}", time.monotonic()
        if state != self._shown or now_s - self._shown_s >= _EVERY_S:
            self._shown, self._shown_s = state, now_s
            click.echo(text)

    def end(self) -> None:
        """The line stays as it is."""
        if self._terminal:
            click.echo()

    def line(self, health: Health, sent: Sent) -> str:
        """What is shown."""
        rate_hz = health.ticks / health.running_s if health.running_s > 0 else 0.0
        figures = f"{rate_hz:.1f} Hz, {health.missed_ticks} missed"
        if health.latency_p50_ms is not None and health.latency_p99_ms is not None:
            figures += f", p50 {health.latency_p50_ms:.0f} p99 {health.latency_p99_ms:.0f} ms"
        if health.state is State.MOVING and not sent.command.stopped:
            return f"moving   {_shown(sent, self._units)}  {figures}"
        enter = "Enter goes on: " if self._keyboard and health.state is State.FAULT else ""
        return f"stopped  {enter}{one_line(health.reason)}  {figures}"


def _shown(sent: Sent, units: Sequence[str]) -> str:
    parts = [f"{value:+.3f} {one_line(unit)}" for value, unit in zip(sent.command.values, units, strict=True)]
    return " ".join(parts)
