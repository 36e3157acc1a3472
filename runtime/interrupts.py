"""Ends that come from outside: Ctrl-C, SIGTERM (systemd, `docker stop`), a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what ends a process, for a block of a few moments; it arrives at the block's end.

    For steps that must not be torn apart, and for clean-up that a second Ctrl-C must not break. Only the
    main thread gets signals: elsewhere there is nothing to hold back. SIGKILL cannot be held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    previous: list[tuple[int, Any]] = []
    try:
        for number in ENDING_SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # None: another language's handler, not ours to move
                previous.append((number, handler))
                signal.signal(number, hold)
        yield
    finally:
        _restore(previous)
        for number in dict.fromkeys(held):
            signal.raise_signal(number)


def _restore(previous: list[tuple[int, Any]]) -> None:
    """Put all handlers back, also when one that is back already raises meanwhile."""
    try:
        while previous:
            signal.signal(*previous[-1])
            previous.pop()
    finally:
        if previous:
            _restore(previous)
