"""The node's state in words and figures: `/mobile_vla/status` and `/diagnostics`, each second and at each change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.loop.health import Health, State
from vla_edge.runtime.foreign import words_of

from .transport import ERROR, OK, WARN, Diagnosis, Transport

_log = logging.getLogger(__name__)

_EVERY_S = 1.0
_LEAST_S = 0.05  # between two that changes cause
_JOIN_S = 1.0
STOPPED = "stopped"


def state_word(health: Health) -> str:
    """The loop's state, where a stop by words is no fault."""
    held = health.state is State.FAULT and health.cause is Cause.OPERATOR
    return STOPPED if held else health.state.value


def status_text(health: Health, state: str, task: str | None, answer: str, replaced: int) -> str:
    """JSON; docs/ros2.md has its fields."""
    return json_text(
        {
            "state": state,
            "reason": health.reason,
            "cause": None if state == STOPPED or health.cause is None else health.cause.value,
            "task": task,
            "answer": answer,
            "replaced_images": replaced,
            **_figures(health),
            "engine": health.engine,
            "bundle": health.bundle,
        },
        indent=None,
    )


def diagnosis_of(health: Health, state: str, name: str) -> Diagnosis:
    """What `rqt_robot_monitor` and its like show: moving is well, a fault is an error, everything else a warning."""
    level = {State.MOVING.value: OK, State.FAULT.value: ERROR}.get(state, WARN)
    message = state if not health.reason else f"{state}: {health.reason}"
    figures = _figures(health)
    figures["stops"] = ", ".join(f"{cause} {times}" for cause, times in figures["stops"].items())
    values = {key: "" if value is None else str(value) for key, value in figures.items()}
    values |= {"engine": health.engine, "bundle": health.bundle}
    return Diagnosis(level, name, message, values)


def _figures(health: Health) -> dict[str, Any]:
    return {
        "rate_hz": health.rate_hz,
        "ticks": health.ticks,
        "missed_ticks": health.missed_ticks,
        "frames": health.frames,
        "actions": health.actions,
        "commands": health.commands,
        "moving_commands": health.moving_commands,
        "resets": health.resets,
        "stops": {cause.value: times for cause, times in health.stops.items()},
        "latency_p50_ms": health.latency_p50_ms,
        "latency_p99_ms": health.latency_p99_ms,
        "running_s": round(health.running_s, 3),
    }


class Reporter:
    """A thread of its own: what it says never keeps a command waiting.

    Args:
        transport: that says it.
        look: the status as text, and the diagnosis; None before there is any.
        news: set when it is to look at once.
    """

    def __init__(
        self, transport: Transport, look: Callable[[], tuple[str, Diagnosis] | None], news: threading.Event
    ) -> None:
        self._transport, self._look, self._news = transport, look, news
        self._over = threading.Event()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Until the block's end, which is reported last."""
        thread = threading.Thread(target=self._work, name="reports", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._news.set()
            thread.join(_JOIN_S)

    def _work(self) -> None:
        failed = False
        while True:
            over = self._over.is_set()  # before the look: the last one sees the end
            self._news.clear()
            try:
                self._tell()
                failed = False
            except Exception as error:
                if not failed:
                    _log.warning("the status could not be told: %s", words_of(error))
                failed = True
            if over:
                return
            self._over.wait(_LEAST_S)
            self._news.wait(_EVERY_S - _LEAST_S)

    def _tell(self) -> None:
        found = self._look()
        if found is not None:
            self._transport.send_status(found[0])
            self._transport.send_diagnosis(found[1])
